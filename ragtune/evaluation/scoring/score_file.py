"""A file of answers beside their references: read with its faults named by line, scored, and given back whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import RunError
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.evaluation.scoring.rules import kind_of_gold
from ragtune.files import read_jsonl
from ragtune.records import Outcome, Question

REFERENCE = ("gold_answer", "reference")
ANSWER = ("model_answer", "answer")
ID = ("id", "question_id", "financebench_id")
ADDED = ("outcome", "confidence", "reason")
_NEEDED = "Each line needs 'question', 'gold_answer' or 'reference', and 'model_answer' or 'answer'."


@dataclass(frozen=True)
class ScoredRow:
    """One line of the file with its score; ``kind`` is what the reference is (number, yes_no, text, none)."""

    line: int
    kind: str
    outcome: Outcome
    confidence: float
    reason: str
    given: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the line's own fields with ``outcome``, ``confidence`` and ``reason`` added (or replaced)."""
        added = dict(zip(ADDED, (self.outcome, round(self.confidence, 4), self.reason)))
        return {**{name: value for name, value in self.given.items() if name not in ADDED}, **added}


def read_answers(path: Path) -> tuple[tuple[int, Question, str, Mapping[str, Any]], ...]:
    """Return (line number, question with its reference, answer, the line's fields) for each line that is not blank.

    An empty reference says that the question has no answer, so that a refusal is the right one; an answer of null is an
    empty one. Raises RunError naming the line where it is not a JSON object or a field is missing or of another kind.
    """
    if not path.is_file():
        raise RunError(f"no file {path}. {_NEEDED}")
    try:
        return tuple(_read_row(path, number, row) for number, row in read_jsonl(path))
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). {_NEEDED}") from error


def _read_row(path: Path, number: int, row: Mapping[str, Any]) -> tuple[int, Question, str, Mapping[str, Any]]:
    place = f"{path}:{number}"
    question = _text(place, row, ("question",))
    if not question.strip():
        raise RunError(f"{place}: 'question' is empty. {_NEEDED}")
    reference = _text(place, row, REFERENCE)
    answer = _text(place, row, ANSWER, is_null_allowed=True)
    return number, Question(_id_of(row, number), question, reference), answer, row


def _text(place: str, row: Mapping[str, Any], names: Sequence[str], is_null_allowed: bool = False) -> str:
    """Return the first of the fields that is there as text; numbers are written out."""
    name = next((name for name in names if name in row), "")
    wanted = " or ".join(f"'{name}'" for name in names)
    if not name:
        raise RunError(f"{place}: no field {wanted}; found {', '.join(map(repr, row)) or 'none'}. {_NEEDED}")
    value = row[name]
    if value is None and is_null_allowed:
        return ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not isinstance(value, str) and not is_number:
        shown = "null" if value is None else str(value) if isinstance(value, (bool, float)) else type(value).__name__
        raise RunError(f"{place}: '{name}' is {shown}. It must be a text or a number. {_NEEDED}")
    return str(value)


def _id_of(row: Mapping[str, Any], number: int) -> str:
    return next((str(row[name]) for name in ID if row.get(name) not in (None, "")), f"line {number}")


def score_rows(rows: Sequence[tuple[int, Question, str, Mapping[str, Any]]]) -> Iterator[ScoredRow]:
    """Score each row, in order."""
    for number, question, answer, given in rows:
        score = score_answer(question, answer)
        assert score.outcome is not None
        assert score.confidence is not None
        yield ScoredRow(number, kind_of_gold(question), score.outcome, score.confidence, score.reason, given)
