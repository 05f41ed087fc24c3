"""What people thought of answers, as preference data: pairs where a better answer is known, else KTO's labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ragtune.answering.guard import find_amounts
from ragtune.answering.prompt import neutralise
from ragtune.datasets.prefer import build_labels
from ragtune.errors import RunError
from ragtune.files import read_jsonl
from ragtune.records import ANSWER, REFUSAL, Message, Pair, Passage, Record

Verdict = Literal["up", "down"]


@dataclass(frozen=True)
class Thumb(Record):
    """One judgement: the prompt as the model saw it, what it wrote, what was shown of it, and, where it was said, the
    completion that would have been right."""

    id: str
    verdict: Verdict
    question: str
    prompt: tuple[Message, ...]
    completion: str
    answer: str
    model: str
    index_id: str
    prompt_hash: str
    right_answer: str = ""
    right_completion: str = ""
    caller: str = ""
    created: float = 0.0


@dataclass(frozen=True)
class Preferences:
    """Pairs, KTO's rows (those of the pairs and thumbs without a counterpart), and what gave neither, by reason."""

    pairs: tuple[Pair, ...]
    labels: tuple[dict[str, Any], ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


def read_thumbs(path: Path) -> list[Thumb]:
    """Return the judgements of a file. Raises RunError where there is none, or for a line that is no judgement."""
    if not path.is_file():
        raise RunError(f"there is no feedback at {path}. It is written when somebody judges an answer of ragtune serve.")
    thumbs = []
    for number, row in read_jsonl(path):
        try:
            thumbs.append(Thumb.from_dict(row))
        except TypeError as error:
            raise RunError(f"{path}:{number}: no judgement of an answer ({error}). Each line is one as ragtune serve "
                           "writes it.") from error
    return thumbs


def complete_answer(right: str, passages: Sequence[Passage]) -> str:
    """Return a completion, as models are tuned to write them, whose answer is ``right``: the first line of a passage that
    holds its figure goes before it, cited. A refusal is the refusal."""
    text = neutralise(right.strip())
    if not text or ANSWER in text:
        return text
    if text.casefold().rstrip(".") == REFUSAL.casefold().rstrip("."):
        return REFUSAL
    wanted = set(find_amounts(text))
    for passage in passages:
        for line in passage.text.split("\n"):
            if wanted and wanted <= set(find_amounts(line)):
                return f"{line.strip()} [{passage.number}]\n{ANSWER} {text}"
    return f"{ANSWER} {text}"


def build_preferences(thumbs: Sequence[Thumb], prompt_hash: str) -> Preferences:
    """Return what judgements teach under a prompt.

    Of one caller's judgements of the same completion the last counts. Under the same prompt every completion that was liked,
    or said to be right, is chosen over every one that was not; what is liked by one and not by another is left out.
    """
    skipped: Counter[str] = Counter()
    latest: dict[tuple[str, str, str], Thumb] = {}
    for thumb in thumbs:
        if thumb.prompt_hash != prompt_hash:
            skipped["asked by another prompt"] += 1
        elif not thumb.completion.strip():
            skipped["nothing was written"] += 1
        else:
            latest[repr(thumb.prompt), thumb.completion, thumb.caller] = thumb
    prompts: dict[str, list[Thumb]] = {}
    for (prompt, _, _), thumb in latest.items():
        prompts.setdefault(prompt, []).append(thumb)
    pairs: dict[tuple[str, str, str], Pair] = {}
    alone: list[dict[str, Any]] = []
    for prompt, judged in prompts.items():
        good = {thumb.right_completion: ("right_answer", thumb) for thumb in judged if thumb.right_completion}
        good |= {thumb.completion: ("thumb", thumb) for thumb in judged if thumb.verdict == "up"}
        bad = {thumb.completion: thumb for thumb in judged if thumb.verdict == "down"}
        torn = good.keys() & bad.keys()
        skipped["liked by one and not by another"] += len(torn)
        for chosen, (reason, by) in good.items():
            for rejected, disliked in bad.items():
                if chosen not in torn and rejected not in torn:
                    pairs[prompt, chosen, rejected] = Pair(by.prompt, chosen, rejected, _trace(disliked, reason))
        if not (good.keys() - torn and bad.keys() - torn):
            alone += [_label(by.prompt, text, True, _trace(by, "")) for text, (_, by) in good.items() if text not in torn]
            alone += [_label(by.prompt, text, False, _trace(by, "thumb")) for text, by in bad.items() if text not in torn]
    ordered = tuple(pairs[key] for key in sorted(pairs))
    return Preferences(ordered, (*build_labels(ordered), *alone), dict(sorted((+skipped).items())))


def _trace(thumb: Thumb, reason: str) -> dict[str, Any]:
    return {"source": "feedback", "reason": reason, "kind": "feedback", "question": thumb.question, "thumb_id": thumb.id,
            "model": thumb.model}


def _label(prompt: Sequence[Message], text: str, is_good: bool, trace: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": [dict(message) for message in prompt], "completion": [{"role": "assistant", "content": text}],
            "label": is_good, "provenance": dict(trace)}
