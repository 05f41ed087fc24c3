"""A row as a person reads it: question, passages folded to a line each, completion, where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ragtune.errors import QuestionError, nearest
from ragtune.records import Example, Record

_QUESTION = "Question: "
_UNFOLDED = ("question_id", "kind", "mode", "passages", "ranks", "gold")


@dataclass(frozen=True)
class FoldedPassage(Record):
    """A passage without its text. ``rank`` is that of the search, None where the search did not find it."""

    number: int
    title: str
    first_line: str
    lines: int
    chunk_id: str = ""
    is_gold: bool = False
    rank: int | None = None


@dataclass(frozen=True)
class FoldedRow(Record):
    """A row with its passages folded; ``provenance`` is what is not said elsewhere."""

    question: str
    passages: tuple[FoldedPassage, ...]
    completion: str
    question_id: str = ""
    kind: str = ""
    mode: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)


def fold_row(example: Example) -> FoldedRow:
    """Return the row as a person reads it. A prompt of another form than ours is shown whole, as the question."""
    passages, question = split_prompt(example.prompt[-1]["content"])
    provenance = example.provenance
    chunks, ranks = list(provenance.get("passages") or ()), list(provenance.get("ranks") or ())
    gold = set(provenance.get("gold") or ())
    folded = []
    for place, (number, title, text) in enumerate(passages):
        lines = text.split("\n") if text else []
        chunk = str(chunks[place]) if place < len(chunks) else ""
        folded.append(FoldedPassage(number, title, next((line for line in lines if line.strip()), ""), len(lines), chunk,
                                    chunk in gold, ranks[place] if place < len(ranks) else None))
    question_id, kind, mode = (str(provenance.get(key) or "") for key in ("question_id", "kind", "mode"))
    return FoldedRow(question, tuple(folded), example.completion, question_id, kind, mode,
                     {key: value for key, value in provenance.items() if key not in _UNFOLDED})


def split_prompt(content: str) -> tuple[list[tuple[int, str, str]], str]:
    """Return the passages of a user message as (number, title, text), and the question with what stands below it.

    Passages are numbered from 1 in order, so that a line such as ``[7]`` inside one is not taken for the next.
    """
    body, found, question = content.rpartition(f"\n\n{_QUESTION}")
    if not found or not body.startswith("[1] "):
        return [], content.removeprefix(_QUESTION).strip()
    passages, number, rest = [], 1, f"\n\n{body}"
    while rest:
        _, _, rest = rest.partition(f"\n\n[{number}] ")
        number += 1
        end = rest.find(f"\n\n[{number}] ")
        title, _, text = (rest if end < 0 else rest[:end]).partition("\n")
        passages.append((number - 1, title, text))
        rest = "" if end < 0 else rest[end:]
    return passages, question.strip()


def choose_rows(examples: Sequence[Example], count: int, kind: str | None = None, mode: str | None = None) -> list[Example]:
    """Return up to ``count`` rows of a kind and a mode, spread evenly over the file, so that documents differ.

    Raises QuestionError for a kind or mode that no row has, naming those there are.
    """
    kept = list(examples)
    for key, wanted in (("kind", kind), ("mode", mode)):
        if wanted is None:
            continue
        there = sorted({str(example.provenance.get(key) or "") for example in examples})
        if wanted not in there:
            raise QuestionError(f"no row has the {key} '{wanted}'. There are: {', '.join(there) or 'no rows at all'}."
                                f"{nearest(wanted, there)}")
        kept = [example for example in kept if str(example.provenance.get(key) or "") == wanted]
    count = min(count, len(kept))
    return [kept[number * len(kept) // count] for number in range(count)]
