"""Statement rows with what stands over them on their page: the unit and the words of their own table.

A page often holds several tables, and what is said over one does not hold for the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ragtune.documents.names import fold_name, split_name
from ragtune.documents.pack import PackPattern, current_pack
from ragtune.documents.statements import YEAR, Head, parse_columns, parse_row, parse_unit, row_cells, spare_words
from ragtune.records import Page

_CHANGES = PackPattern(lambda pack: pack.facts.changes)
_CHANGES_END = PackPattern(lambda pack: pack.facts.changes_end)
HANGING = re.compile(
    r"(?:\b(?:of|and|to|the|for|in|by|from|on|with|or|at|as|than|net of|including)|[,(&$-])$", re.IGNORECASE)
"""How a piece of a label ends that goes on elsewhere."""
_TITLE_LINES = 5  # of a page, where its title stands
_OVER_LINES = 10  # above a table's first row that belong to it
_LONG = 90  # characters; a longer line is prose


@dataclass(frozen=True)
class TableRow:
    """A row of years: label, years, amounts, the line as printed and the unit of its table, '' where that is not sure.

    ``over`` is what stands between the table before and this one; ``is_change`` tells that a heading above it in the table
    says its amounts are changes of what it names.
    """

    label: str
    years: tuple[str, ...]
    amounts: tuple[str, ...]
    line: str
    unit: str
    over: str
    is_change: bool


@dataclass
class _Reader:
    """What is known at a line of a page."""

    page_unit: str
    head: Head = field(default_factory=Head)
    lead: list[str] = field(default_factory=list)  # lines since the last row
    is_new: bool = True  # a head stands among them, or there was no row yet
    unit: str = ""
    over: str = ""
    is_change: bool = False

    def pass_line(self, line: str) -> None:
        """Take a line that is no row."""
        before, self.head = self.head, self.head.after(line)
        is_repeated = len(YEAR.findall(self.head.dates)) > 1
        if self.head.columns and (parse_columns(line) or self.head.columns != before.columns or is_repeated):
            self.is_new = True
        if line.strip():
            self.lead.append(line.strip())
        if _CHANGES.match(line.strip()):
            self.is_change = True
        elif self.is_change and _CHANGES_END.search(line):
            self.is_change = False

    def pass_row(self, line: str, label: str) -> None:
        """Take a row; the first one under a head begins a table."""
        self.head = self.head.after(line)
        if self.is_new:
            lead = self.lead[-_OVER_LINES:]
            self.over, self.is_new = " ".join(lead), False
            units = {unit for unit in map(parse_unit, lead) if unit}
            self.unit = units.pop() if len(units) == 1 else "" if units else self.page_unit
            self.is_change = any(map(_CHANGES.match, self.lead[-2:]))
        self.page_unit = _plural_unit(self.lead) or self.page_unit
        self.is_change = self.is_change and not _CHANGES_END.search(label)
        self.lead = []


def _plural_unit(lead: Sequence[str]) -> str:
    """Return the unit that a sentence gives for the tables below it (``The following tables show ... (in millions)``)."""
    for place, line in enumerate(lead):
        if (unit := parse_unit(line)) and re.search(r"\btables\b", " ".join(lead[max(0, place - 2) : place + 1])):
            return unit
    return ""


def _title_unit(lines: Sequence[str]) -> str:
    """Return the unit in a page's title, which holds for all its tables, else ''."""
    for line in lines[:_TITLE_LINES]:
        if parse_row(line) or len(line) > _LONG:
            return ""
        if not YEAR.search(line) and (unit := parse_unit(line)):
            return unit
    return ""


def read_rows(text: str) -> Iterator[TableRow]:
    """Yield the rows of a page whose amounts match distinct years in number, and whose label stands whole on its line."""
    lines = text.split("\n")
    reader = _Reader(_title_unit([line for line in lines if line.strip()]))
    for place, line in enumerate(lines):
        row = None if parse_columns(line) else parse_row(line)
        if row is None or not spare_words(row.label):  # For the years ended December 31
            reader.pass_line(line)
            continue
        above = reader.lead[-1] if reader.lead else ""
        below = lines[place + 1].strip() if place + 1 < len(lines) else ""
        reader.pass_row(line, row.label)
        cells = [(column, amount) for column, amount in row_cells(row, reader.head.columns) if YEAR.fullmatch(column)]
        if len(cells) > 1 and not _is_cut(above, below):
            yield TableRow(row.label, tuple(c for c, _ in cells), tuple(a for _, a in cells), line.strip(), reader.unit,
                           reader.over, reader.is_change)


def _is_cut(above: str, below: str) -> bool:
    """Tell whether a label began on the line above or goes on below."""
    if above and not YEAR.search(above) and HANGING.search(above) and not parse_unit(above):
        return True
    return below[:1].islower() and len(below) < 60 and not parse_row(below) and not parse_unit(below)


def title_of_page(text: str) -> str:
    """Return the short lines at the top of a page."""
    lines = [line.strip() for line in text.split("\n") if line.strip()][:_TITLE_LINES]
    return "\n".join(line for line in lines if len(line) <= _LONG and not parse_row(line))


def pages_of_others(pages: Sequence[Page], owner: str) -> set[int]:
    """Return the numbers of the pages whose title names another one than the owner: a parent and its subsidiary may file
    together.

    A name is a line that ends with a legal form. Nothing is returned where no page names the owner so.
    """
    names = current_pack().names
    wanted = fold_name(" ".join(split_name(owner, names)))
    others, is_named = set(), False
    for page in pages:
        named = {fold_name(" ".join(split_name(line, names))) for line in title_of_page(page.text).split("\n")
                 if _is_name(line)}
        is_owner = any(name.startswith(wanted) or wanted.startswith(name) for name in named if name)
        is_named |= is_owner and bool(wanted)
        if named and not is_owner:
            others.add(page.number)
    return others if is_named else set()


def _is_name(line: str) -> bool:
    """Tell whether a line is a company's name: a few words, each with a capital, the last of them a legal form."""
    words = re.findall(r"[^\s,]+", line)
    if not 2 <= len(words) <= 7 or any(word[0].islower() and len(word) > 3 for word in words):
        return False
    return words[-1][0].isupper() and words[-1].strip(".").lower() in current_pack().names.legal
