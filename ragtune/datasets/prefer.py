"""Preference pairs without an annotator: the grounded completion of a row against what a model gets wrong about it.

Both halves are judged by the project's scorer, which the caller passes in, and by the check of citations: only a chosen
half that is right and a rejected half that is not make a pair. From pairs, these or those of sampled answers
(datasets/sampled.py), come KTO's labels and, as they are, the rows of a reward model.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtune.answering.prompt import REFUSAL
from ragtune.answering.quote import verify_citations
from ragtune.datasets.elsewhere import Elsewhere
from ragtune.datasets.folder import parse_row
from ragtune.datasets.forms import own_operands, parse_stated, restate
from ragtune.datasets.lineage import shown_passages
from ragtune.datasets.mistakes import MISTAKES, Grounded
from ragtune.errors import RunError
from ragtune.files import read_jsonl
from ragtune.models.rows import parse_prompt
from ragtune.recipe.schema import Pairs
from ragtune.records import ANSWER, Example, Message, Outcome, Pair, Passage, Question
from ragtune.seams import Progress

OutcomeOf = Callable[[Question, str], Outcome]
"""Scores a whole completion against its question's reference; an empty reference is answered rightly by a refusal only."""


@dataclass(frozen=True)
class PairsResult:
    """Pairs in the order of their rows. ``skipped`` counts rows or mistakes that gave no pair, by reason."""

    pairs: tuple[Pair, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


def build_pairs(
    examples: Sequence[Example], questions: Sequence[Question], outcome_of: OutcomeOf, settings: Pairs,
    progress: Progress | None = None, elsewhere: Elsewhere | None = None,
) -> PairsResult:
    """Return the preference pairs of tuning rows; ``questions`` are those the rows were built from.

    ``elsewhere`` are rows of the index that figures of another company are taken from where a row shows none.

    Each row is taken through all of MISTAKES; a mistake is kept by its share in ``settings``, and of those kept
    ``settings.per_row`` are drawn. Each row has a draw of its own, so that a pair does not depend on other rows:
    deterministic under ``settings.seed``. No two pairs are the same.
    """
    known = {question.id: question for question in questions}
    pairs: dict[tuple[str, str, str], Pair] = {}
    skipped: Counter[str] = Counter()
    for done, example in enumerate(examples, start=1):
        question = known.get(str(example.provenance.get("question_id")))
        if question is None:
            skipped["the row's question is not among the questions"] += 1
            continue
        row = read_row(example, question, elsewhere or Elsewhere())
        for pair in _pair_row(example, question, row, outcome_of, settings, skipped):
            key = (pair.prompt[-1]["content"], pair.chosen, pair.rejected)
            skipped["the same pair was made before"] += key in pairs
            pairs.setdefault(key, pair)
        if progress and (done % 50 == 0 or done == len(examples)):
            progress(done, len(examples))
    return PairsResult(tuple(pairs.values()), dict(sorted((+skipped).items())))


def _pair_row(
    example: Example, question: Question, row: Grounded, outcome_of: OutcomeOf, settings: Pairs, skipped: Counter[str]
) -> list[Pair]:
    """Return the pairs of one row, in the order of MISTAKES."""
    asked = as_shown(question, example)
    chosen = judge_completion(asked, example.completion, row.passages, outcome_of)
    if chosen != "correct":
        skipped["the row's own completion is not scored correct"] += 1
        return []
    found: list[Pair] = []
    for reason, mistakes in MISTAKES.items():
        draw = random.Random(f"{settings.seed}:{question.id}:{example.provenance.get('row')}:{example.prompt[-1]}:{reason}")
        if draw.random() >= getattr(settings, reason):
            continue
        tried = 0
        for tried, rejected in enumerate(mistakes(row, draw), start=1):  # noqa: B007
            outcome = judge_completion(asked, rejected, row.passages, outcome_of)
            is_guess = asked is not question and question.is_answerable and outcome_of(question, rejected) == "correct"
            if outcome != chosen and not is_guess:
                found.append(_pair(example, rejected, reason, chosen, outcome))
                break
        else:
            skipped[f"{reason}: {'none was wrong' if tried else 'no occasion'}"] += 1
    draw = random.Random(f"{settings.seed}:{question.id}:{example.provenance.get('row')}:{example.prompt[-1]}")
    kept = sorted(draw.sample(range(len(found)), min(settings.per_row, len(found))))
    return [found[place] for place in kept]


def as_shown(question: Question, example: Example) -> Question:
    """Return the question, unanswerable where the row's passages do not hold the answer: the right reply is the refusal."""
    return question if example.completion != REFUSAL else dataclasses.replace(question, answer="")


def read_row(example: Example, question: Question, elsewhere: Elsewhere = Elsewhere()) -> Grounded:  # noqa: B008
    """Return a row with its prompt and its answer taken apart, as far as they are of the forms that ragtune writes."""
    prompt = parse_prompt(example.prompt[-1]["content"])
    refuses = example.completion == REFUSAL
    text = f"{question.justification}\n{ANSWER} {question.answer}" if refuses and question.answer else example.completion
    stated = parse_stated(text)
    own = own_operands(stated, prompt.rows) if stated and not refuses else None
    if not refuses and (stated is None or own is None or restate(stated, own) != example.completion):
        stated, own = None, None  # worded otherwise: what would be said of other rows cannot be known
    return Grounded(example.completion, prompt, shown_passages(example), stated, own or (), elsewhere)


def judge_completion(
    question: Question, completion: str, passages: Sequence[Passage], outcome_of: OutcomeOf
) -> Outcome:
    """Return the outcome of a completion; a right answer is wrong where a row of it stands in another passage than cited."""
    outcome = outcome_of(question, completion)
    if outcome == "correct" and verify_citations(completion, passages)[1]:
        return "wrong"
    return outcome


def _pair(example: Example, rejected: str, reason: str, chosen: Outcome, outcome: Outcome) -> Pair:
    trace = {**example.provenance, "reason": reason, "chosen_outcome": chosen, "rejected_outcome": outcome}
    return Pair(example.prompt, example.completion, rejected, trace)


def build_labels(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return KTO's rows: each completion of the pairs once under its prompt, True where it was chosen.

    A completion that is chosen in one pair and rejected in another, as judges' numbers allow, is left out.
    """
    labels: dict[tuple[str, str], dict[str, Any]] = {}
    torn: set[tuple[str, str]] = set()
    for pair in pairs:
        for text, is_chosen in ((pair.chosen, True), (pair.rejected, False)):
            key = (repr(pair.prompt), text)
            if key in labels and labels[key]["label"] != is_chosen:
                torn.add(key)
            trace = {**pair.provenance, "reason": "" if is_chosen else pair.provenance.get("reason", "")}
            trace = {name: value for name, value in trace.items() if not name.startswith(("chosen_", "rejected_"))}
            labels.setdefault(key, {"prompt": _messages(pair.prompt), "completion": _reply(text), "label": is_chosen,
                                    "provenance": trace})
    return [row for key, row in labels.items() if key not in torn]


def render_pair(pair: Pair) -> dict[str, Any]:
    """Return the row of a pair as pairs.jsonl holds it: the conversational shape of TRL's DPO and reward trainers."""
    return {"prompt": _messages(pair.prompt), "chosen": _reply(pair.chosen), "rejected": _reply(pair.rejected),
            "provenance": dict(pair.provenance)}


def _messages(prompt: Sequence[Message]) -> list[dict[str, Any]]:
    return [dict(message) for message in prompt]


def _reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def read_pairs(path: Path) -> list[Pair]:
    """Return the pairs of a pairs.jsonl. Raises RunError naming file and line of a row of another shape."""
    pairs = []
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        if not {"prompt", "chosen", "rejected"} <= set(row):
            raise RunError(f"{where}: found the keys {', '.join(sorted(row)) or 'none'}; a preference row has prompt, "
                           "chosen and rejected, each a list of messages.")
        parts = {key: value for key, value in row.items() if key in ("prompt", "provenance")}
        halves = [parse_row({**parts, "completion": row[half]}, where) for half in ("chosen", "rejected")]
        pairs.append(Pair(halves[0].prompt, halves[0].completion, halves[1].completion, halves[0].provenance))
    return pairs
