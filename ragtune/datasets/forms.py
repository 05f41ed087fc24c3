"""The form of an answer: which rows it restates, what it calculates, what it concludes; and the same said of other rows.

What a model gets wrong is said in the form of what is right: another row or year, with its own amounts, its own calculation
and its own conclusion. Only the figures tell the two apart, not the style.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ragtune.answering.quote import CITED_ROW
from ragtune.models.rows import Row, Shown
from ragtune.records import ANSWER

Kind = Literal["lookup", "difference", "growth", "ratio", "moved", "beside"]
Operands = Sequence[tuple[Row, str]]
"""Rows with the year of each whose amount is used, in the order the answer restates them."""
_NUMBER = r"-?[\d,]*\.?\d+%?"
_DIFFERENCE = re.compile(rf"{_NUMBER} - {_NUMBER} = {_NUMBER}")
_GROWTH = re.compile(rf"{_NUMBER} / {_NUMBER} - 1 = (?P<result>{_NUMBER})")
_RATIO = re.compile(rf"{_NUMBER} / {_NUMBER} = (?P<result>{_NUMBER})")
_MOVED = re.compile(r"(?P<said>Yes|No), (?P<name>.+) (?P<move>rose|fell) from \S.* to \S.*?(?P<end>\.?)")
_BESIDE = re.compile(
    r"(?P<said>Yes|No), (?P<name>.+?) of \S.*? (?P<be>was|were) (?P<move>above|below) (?P<other>.+) of \S.*?(?P<end>\.?)")
_UP = ("rose", "above")


@dataclass(frozen=True)
class Stated:
    """An answer taken apart: (label, year, amount, cited passage or 0) of each row it restates, calculation, conclusion."""

    kind: Kind
    rows: tuple[tuple[str, str, str, int], ...]
    calculation: str
    answer: str

    @property
    def years(self) -> tuple[str, ...]:
        """The year of each restated row."""
        return tuple(year for _, year, _, _ in self.rows)


def parse_stated(completion: str) -> Stated | None:
    """Return the parts of a completion, cited or not; None where it is not made of rows, a calculation and an answer."""
    *lines, last = completion.strip().split("\n")
    if not lines or not last.startswith(ANSWER):
        return None
    rows: list[tuple[str, str, str, int]] = []
    calculation = ""
    for line in map(str.strip, lines):
        if row := CITED_ROW.fullmatch(line):
            rows.append((row["label"], row["year"], row["amount"], int(row["number"] or 0)))
        elif " = " in line and not calculation:
            calculation = line
        else:
            return None
    answer = last.removeprefix(ANSWER).strip()
    kind = _find_kind(len(rows), len({label for label, *_ in rows}), calculation, answer)
    return Stated(kind, tuple(rows), calculation, answer) if kind else None


def _find_kind(rows: int, labels: int, calculation: str, answer: str) -> Kind | None:
    """Return what is done with so many rows of so many labels; None for what cannot be done with others."""
    if rows == 1 and not calculation:
        return "lookup"
    if rows != 2:
        return None
    if not calculation:
        if labels == 1 and _MOVED.fullmatch(answer):
            return "moved"
        return "beside" if labels == 2 and _BESIDE.fullmatch(answer) else None
    if labels == 1 and _DIFFERENCE.fullmatch(calculation):
        return "difference"
    if labels == 1 and _GROWTH.fullmatch(calculation):
        return "growth"
    return "ratio" if labels == 2 and _RATIO.fullmatch(calculation) else None


def restate(stated: Stated, operands: Operands, is_swapped: bool = False) -> str | None:
    """Return the completion that says of ``operands`` what ``stated`` says of its own rows; None where it cannot be said.

    With ``is_swapped`` the calculation takes its two operands in the wrong order.
    """
    lines = [row.cite(year) for row, year in operands]
    said = _conclude(stated, operands[::-1] if is_swapped else operands)
    if said is None:
        return None
    calculation, answer = said
    return "\n".join([*lines, *([calculation] if calculation else []), f"{ANSWER} {answer}"])


def _conclude(stated: Stated, operands: Operands) -> tuple[str, str] | None:
    """Return (calculation, answer)."""
    values = [row.value(year) for row, year in operands]
    rows = [row for row, _ in operands]
    if stated.kind == "lookup":
        return "", rows[0].show_answer(values[0])
    first, second = values
    left, right = (row.show_number(value) for row, value in zip(rows, values))
    if stated.kind == "difference":
        return f"{left} - {right} = {rows[0].show_number(first - second)}", rows[0].show_answer(first - second)
    if stated.kind in ("growth", "ratio"):
        if second <= 0 or (stated.kind == "growth" and first <= 0):
            return None
        match = (_GROWTH if stated.kind == "growth" else _RATIO).fullmatch(stated.calculation)
        assert match is not None  # the kind was told by it
        result = _round_as(match["result"], first / second - (1 if stated.kind == "growth" else 0))
        return f"{left} / {right}{' - 1' if stated.kind == 'growth' else ''} = {result}", result
    return _compare(stated, rows, first, second)


def _compare(stated: Stated, rows: Sequence[Row], first: Decimal, second: Decimal) -> tuple[str, str] | None:
    """Return the conclusion of a comparison; its yes or no turns where the figures turn."""
    if first == second or min(first, second) <= 0:
        return None
    match = (_MOVED if stated.kind == "moved" else _BESIDE).fullmatch(stated.answer)
    assert match is not None  # the kind was told by it
    asks_more = (match["said"] == "Yes") == (match["move"] in _UP)
    yes = "Yes" if (first > second) == asks_more else "No"
    shown = [row.show_answer(value) for row, value in zip(rows, (first, second))]
    if stated.kind == "moved":
        move = "rose" if first > second else "fell"
        return "", f"{yes}, {match['name']} {move} from {shown[1]} to {shown[0]}{match['end']}"
    place = "above" if first > second else "below"
    return "", (f"{yes}, {match['name']} of {shown[0]} {match['be']} {place} {match['other']} of {shown[1]}{match['end']}")


def _round_as(shown: str, value: Decimal) -> str:
    """Return a value with the decimals, and the percent sign, of a shown result."""
    decimals = len(shown.rstrip("%").partition(".")[2])
    return f"{100 * value:.{decimals}f}%" if shown.endswith("%") else f"{value:.{decimals}f}"


def own_operands(stated: Stated, rows: Sequence[Row]) -> list[tuple[Row, str]] | None:
    """Return the shown rows that an answer restates, None where one is not shown in the passage it is cited to."""
    found = []
    for label, year, amount, number in stated.rows:
        row = next((row for row in rows if row.passage.number == number and row.label == label
                    and row.cells.get(year) == amount), None)
        if row is None:
            return None
        found.append((row, year))
    return found


def show_unlike(row: Row, passage: Shown) -> Row:
    """Return the row as if it stood in another passage, so that it is cited to that."""
    return Row(row.label, row.cells, passage)
