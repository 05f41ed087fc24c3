"""Facts a question can be asked about: statement rows of an index's pages, as far as they speak for themselves.

Which words do so is said by the domain pack in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ragtune.documents.pack import PackPattern
from ragtune.documents.statements import YEAR, Head, parse_columns, parse_row, row_cells
from ragtune.records import Document, Page

_TELLING = PackPattern(lambda pack: pack.facts.telling)
_VAGUE = PackPattern(lambda pack: pack.facts.vague)
_COUNTED = PackPattern(lambda pack: pack.facts.counted)
_ANCHOR = PackPattern(lambda pack: pack.facts.anchors)
_BALANCE = PackPattern(lambda pack: pack.facts.balances)
_HANGING = re.compile(
    r"(?:\b(?:of|and|to|the|for|in|by|from|on|with|or|at|as|than|net of|including)|[,(&$-])$", re.IGNORECASE)
_AMOUNT = re.compile(r"^\(?\d[\d,]*(?:\.\d+)?\)?%?\)?$")


@dataclass(frozen=True)
class Fact:
    """A row: its label, the amounts by year as printed, its page and the line as it stands there."""

    label: str
    cells: tuple[tuple[str, str], ...]
    document: str
    page: int
    line: str
    unit: str
    is_balance: bool
    is_primary: bool

    @property
    def years(self) -> tuple[str, ...]:
        """The years that have an amount, in the order of the columns."""
        return tuple(year for year, amount in self.cells if _AMOUNT.match(amount))

    def amount(self, year: str) -> str:
        """Return the amount of a year as printed."""
        return dict(self.cells)[year]

    def restated(self, year: str) -> str:
        """Return the row as a passage shows it: ``Net sales 2021: 4,210``."""
        return f"{self.label} {year}: {self.amount(year)}"


class Pages(Protocol):
    """What facts are found in: an opened index, or a stand-in."""

    def documents(self) -> list[Document]:
        """Return the documents with their metadata."""
        ...

    def document(self, name: str) -> Document:
        """Return a document with its pages."""
        ...


def find_facts(document: Document) -> list[Fact]:
    """Return the facts of a document, in reading order.

    A row counts when its label speaks for itself and stands once on its page, and the amounts match distinct years in
    number. A primary statement's row must not be contradicted by another primary statement; any other row must be the
    only one of its label in the document, and its label have more than one word.
    """
    found = [fact for page in document.pages for fact in _find_on_page(document, page)]
    rows: dict[str, set[tuple[str, ...]]] = {}
    for line in document.text.splitlines():
        row = parse_row(line)
        if row is not None:
            rows.setdefault(row.label.lower(), set()).add(row.amounts)
    primary: dict[tuple[str, str], set[str]] = {}
    for fact in found:
        for year, amount in fact.cells if fact.is_primary else ():
            primary.setdefault((fact.label.lower(), year), set()).add(amount)

    def is_clear(fact: Fact) -> bool:
        if fact.is_primary:
            return all(len(primary[fact.label.lower(), year]) == 1 for year, _ in fact.cells)
        return " " in fact.label and len(rows[fact.label.lower()]) == 1

    return [fact for fact in found if is_clear(fact)]


def _find_on_page(document: Document, page: Page) -> list[Fact]:
    """Return the usable rows of a page."""
    rows = list(_rows(page.text))
    labels = [label.lower() for label, _, _, _ in rows]
    anchors = [label for label in labels if _ANCHOR.match(label)]
    is_primary = len(set(anchors)) >= 2 and len(rows) >= 8
    is_balance = is_primary and sum(bool(_BALANCE.match(label)) for label in labels) >= 2
    facts = []
    for label, years, amounts, (line, unit) in rows:
        is_once = labels.count(label.lower()) == 1
        if is_once and is_usable_label(label) and is_usable_row(label, amounts, unit):
            cells = tuple(zip(years, amounts))
            facts.append(Fact(label, cells, document.name, page.number, line, unit, is_balance, is_primary))
    return facts


def _rows(text: str) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, str]]]:
    """Yield (label, years, amounts, (line, unit)) of the rows whose amounts match distinct years in number."""
    head = Head()
    for line in text.split("\n"):
        head, row = head.after(line), parse_row(line)
        if row is None or parse_columns(line):
            continue
        cells = [(column, amount) for column, amount in row_cells(row, head.columns) if YEAR.fullmatch(column)]
        if len(cells) > 1:
            yield row.label, tuple(c for c, _ in cells), tuple(a for _, a in cells), (line.strip(), head.unit)


def is_usable_label(label: str) -> bool:
    """Tell whether a label can be asked for: a financial quantity that is whole and not too long."""
    return (
        3 <= len(label) <= 80 and label[0].isupper() and bool(_TELLING.search(label))
        and not _VAGUE.match(label) and not _HANGING.search(label) and label.count("(") == label.count(")")
        and not re.search(r"\d{4}|\d,\d|[:;$%]|\.\s|\.{3}|\(\d+\)$|^\(?note", label, re.IGNORECASE)
    )


def is_usable_row(label: str, amounts: Sequence[str], unit: str) -> bool:
    """Tell whether the amounts can be answered with a unit: money, or percentages; counts and footnotes cannot."""
    amounts = [amount for amount in amounts if _AMOUNT.match(amount)]
    if not amounts or all(re.fullmatch(r"(?:19|20)\d\d", amount) for amount in amounts):
        return False
    if all(amount.endswith(("%", "%)")) for amount in amounts):
        return True
    is_per_share = bool(re.search(r"per (?:common |ordinary |diluted |basic )?share", label, re.IGNORECASE))
    if is_per_share:
        return all("." in amount for amount in amounts)
    return bool(unit) and not _COUNTED.search(label) and not any("%" in amount for amount in amounts)
