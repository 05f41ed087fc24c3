"""Facts a question can be asked about: statement rows of an index's pages, as far as they speak for themselves.

Which words do so is said by the domain pack in force.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ragtune.datasets.tables import HANGING, TableRow, pages_of_others, read_rows, title_of_page
from ragtune.documents.pack import PackPattern, current_pack
from ragtune.documents.statements import is_paid_out, parse_row
from ragtune.records import Document, Page

_TELLING = PackPattern(lambda pack: pack.facts.telling)
_VAGUE = PackPattern(lambda pack: pack.facts.vague)
_COUNTED = PackPattern(lambda pack: pack.facts.counted)
_ANCHOR = PackPattern(lambda pack: pack.facts.anchors)
_BALANCE = PackPattern(lambda pack: pack.facts.balances)
_FLOW = PackPattern(lambda pack: pack.facts.flows)
_ELSEWHERE = PackPattern(lambda pack: pack.facts.elsewhere)
_INNER = PackPattern(lambda pack: pack.facts.inner)
_WHOLE = PackPattern(lambda pack: pack.facts.whole)
_OPENING = PackPattern(lambda pack: pack.facts.opening)
_DEDUCTED = PackPattern(lambda pack: pack.facts.deducted)
_EITHER = PackPattern(lambda pack: pack.facts.either)
_SIGNED = PackPattern(lambda pack: pack.tables.signed)
_MOVEMENT = PackPattern(lambda pack: pack.facts.movements)
_SPOKEN = re.compile(r"\b(?:our|we|us|ours|above|below|herein|see)\b", re.IGNORECASE)
_DATED = re.compile(
    r"\b(?:january|february|march|april|may|june|july|august|september|october|november|december) \d{1,2}\b", re.IGNORECASE)
_AMOUNT = re.compile(r"^\(?\d[\d,]*(?:\.\d+)?\)?%?\)?$")


@dataclass(frozen=True)
class Fact:
    """A row: its label, the amounts by year as printed, its page and the line as it stands there.

    ``is_movement`` tells that the amounts are changes already (``Increase in cash``), of which nobody asks the change.
    """

    label: str
    cells: tuple[tuple[str, str], ...]
    document: str
    page: int
    line: str
    unit: str
    is_balance: bool
    is_primary: bool
    is_movement: bool = False

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
    only one of its label in the document, and its label have more than one word. Statements of somebody else than the
    document's owner (a parent alone, a subsidiary, an investee) and years to come are left out.
    """
    owner = str(document.metadata.get(current_pack().metadata.owner.column) or "")
    others = pages_of_others(document.pages, owner)
    found = [fact for page in document.pages if page.number not in others for fact in _find_on_page(document, page)]
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
    title = title_of_page(page.text)
    if _ELSEWHERE.search(title):
        return []
    rows = list(read_rows(page.text))
    labels = [row.label.lower() for row in rows]
    anchors = [label for label in labels if _ANCHOR.match(label)]
    is_primary = len(set(anchors)) >= 2 and len(rows) >= 8
    balances = is_primary and sum(bool(_BALANCE.match(label)) for label in labels) >= 2
    is_mixed = balances and any(map(_FLOW.match, labels))  # a summary: of each row its own label tells
    own_year = document.metadata.get(current_pack().metadata.year)
    last = str(own_year) if isinstance(own_year, int) else "9999"
    facts = []
    for row in rows:
        is_schedule = max(row.years) > last  # of what falls due
        if labels.count(row.label.lower()) == 1 and _is_usable(row) and not is_schedule:
            is_balance = bool(_BALANCE.match(row.label)) if is_mixed else balances
            facts.append(Fact(row.label, tuple(zip(row.years, row.amounts)), document.name, page.number, row.line, row.unit,
                              is_balance, is_primary, bool(_MOVEMENT.match(row.label))))
    return facts


def _is_usable(row: TableRow) -> bool:
    """Tell whether a row can be asked about: by label, amounts and what stands over its table."""
    if row.is_change or _ELSEWHERE.search(row.over) or (_INNER.search(row.over) and not _WHOLE.match(row.label)):
        return False
    return (is_usable_label(row.label) and is_usable_row(row.label, row.amounts, row.unit)
            and is_sign_clear(row.label, row.amounts))


def is_usable_label(label: str) -> bool:
    """Tell whether a label can be asked for: a financial quantity that is whole and not too long."""
    return (
        3 <= len(label) <= 80 and label[0].isupper() and bool(_TELLING.search(label))
        and not _VAGUE.match(label) and not HANGING.search(label) and label.count("(") == label.count(")")
        and not _OPENING.search(label) and not _SPOKEN.search(label) and not _DATED.search(label)
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


def is_deducted(label: str) -> bool:
    """Tell whether amounts in parentheses are such because they are taken off: a provision, an allowance, a liability."""
    return bool(_DEDUCTED.match(label))


def is_sign_clear(label: str, amounts: Sequence[str]) -> bool:
    """Tell whether parentheses around amounts say what a reader takes them for.

    They do where the label says that its amounts can be negative, and where it is paid out or taken off in every year;
    elsewhere it is the table's layout that sets them.
    """
    printed = [amount.startswith("(") for amount in amounts if _AMOUNT.match(amount) and re.search("[1-9]", amount)]
    if not any(printed):
        return True
    if is_deducted(label) or is_paid_out(label):
        return all(printed)
    return bool(_SIGNED.search(label) or _EITHER.search(label))
