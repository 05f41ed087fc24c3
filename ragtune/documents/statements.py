"""Rows of financial statements: finding the years over the numbers, and saying them beside each number.

``Net sales $ 32,765 $ 31,657`` under ``2018 2017`` becomes ``Net sales 2018: 32,765`` and ``Net sales 2017: 31,657``,
so that a reader finds a figure by matching words instead of counting columns. Which words make a table's head, its units and
its outflows is said by the pack in force.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from ragtune.documents.pack import PackPattern, current_pack

YEAR = re.compile(r"\b(?:19[89]\d|20[0-4]\d)\b")
_AMOUNT = (
    r"(?:[$€£]\s*)?(?:[-–−](?=[\d$€£]))?"
    r"(?:(?:\(\s*)?(?:[$€£]\s*)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*\))?(?:\s*%)?(?:\s*\))?|[—–-](?!\d)(?:\s*%)?)"
)
_CELL = rf"(?:{_AMOUNT}|\*+(?!\S)|[Nn]/?[MmAa](?!\S))"
# White space parts the amounts: without it a run of digits could be read in exponentially many ways.
_ROW = re.compile(rf"^(?P<label>.*?[A-Za-z)].*?)[\s:.]+(?P<amounts>{_AMOUNT}(?:\s+{_CELL})*)\s*$")
_CELLS = re.compile(_CELL)
_HEADER_WORDS = PackPattern(lambda pack: pack.tables.header_words)
_ASIDE = re.compile(r"\((?![^()]*\b(?:19|20)\d\d\b)[^()]*\)?")  # (in millions, except par value), (1): no columns
_COMPARED = re.compile(
    rf"({YEAR.pattern})\s*(?:vs\.?|versus|to|over|compared (?:to|with)|/)\s*({YEAR.pattern})", re.IGNORECASE)
_LISTED = re.compile(
    rf"{YEAR.pattern}(?:,?\s+(?:and|or|through)\s+|\s*[–—-]\s*|,\s+){YEAR.pattern}", re.IGNORECASE)
_PERIOD = re.compile(r"\b(three|six|nine|twelve|\d{1,2})[\s-]+(months?|weeks?)\b|\b(quarters?|years?)\s+end(?:ed|ing)\b",
                     re.IGNORECASE)
_DAY_OF = re.compile(r"\b(?:january|february|march|april|may|june|july|august|september|october|november|december) \d{1,2}$",
                     re.IGNORECASE)
_YEAR_OF = re.compile(rf"\b(?:due|in|of|for|to|through|from|since|until|by|fiscal) {YEAR.pattern}$", re.IGNORECASE)
_UNCLOSED = re.compile(r"\([^()]*\d\)$")
_YEAR_ROW = re.compile(rf"(?:[A-Za-z]+ )?{YEAR.pattern}\s+\$?\s*\(?(?!{YEAR.pattern})[\d—–]")
_PROSE_END = re.compile(r"\.[\"”’')]*$")
_ANNOUNCED = re.compile(r"\bfollow(?:s|ing)\b.*:$", re.IGNORECASE)
_PAID_OUT = PackPattern(lambda pack: pack.tables.paid_out)
_SIGNED = PackPattern(lambda pack: pack.tables.signed)
_UNIT_ASIDE = PackPattern(lambda pack: pack.tables.unit_aside)
_UNIT_BARE = PackPattern(lambda pack: pack.tables.unit_bare)


NOTE = "Note"
"""The column of the numbers of notes; its amounts are no amounts and are left out."""


@dataclass(frozen=True)
class Row:
    """A statement row: its label and the amounts as printed, currency signs and inner spaces removed."""

    label: str
    amounts: tuple[str, ...]


def parse_row(line: str) -> Row | None:
    """Return the row a line holds, or None where it is not a label followed only by amounts.

    Marks such as ``*`` or ``NM`` count as amounts after the first one.
    """
    line = line.strip()
    if len(line) > 400 or not line or line[-1] not in "0123456789)%—–-*mMaA":  # cheap, and most lines end here
        return None
    match = _ROW.match(line)
    if not match or len(match["label"]) > 160:
        return None
    printed = _CELLS.findall(match["amounts"])
    label = match["label"].strip(" .:$€£")
    joined = f"{label} {printed[0]}"
    is_dated = _DAY_OF.search(joined) or _YEAR_OF.search(joined)
    if len(printed) > 1 and (is_dated or ("(" not in printed[0] and _UNCLOSED.search(joined))):
        label, printed = joined, printed[1:]  # (Note 2), December 31, notes due 2024: a part of the label
    amounts = tuple(re.sub(r"[$€£\s]", "", amount) for amount in printed)
    if not label or (all(map(YEAR.fullmatch, amounts)) and not spare_words(YEAR.sub(" ", _ASIDE.sub(" ", label)))):
        return None  # December 31, 2021
    return Row(label, amounts)


def parse_columns(line: str) -> tuple[str, ...]:
    """Return the columns of a table head such as ``Years ended December 31, (Millions) 2018 2017 2016``, else ().

    A line is a head when it holds two to eight years and, these aside, only the words of dates and units; or when the
    years follow one another and what stands before or between them is a few words that name columns: ``Useful life 2018
    2017``, ``2018 Change 2017``. Such words between or after the years are columns too. Years that repeat are told apart
    by their dates or periods (``three months 2018``) where the line names them. A list in a sentence (``2018, 2017 and
    2016``) is no head.
    """
    return _parse_columns(line, line)


def _parse_columns(line: str, periods_in: str) -> tuple[str, ...]:
    """Return the columns of a head whose periods stand in ``periods_in``: the line itself and the lines of dates above."""
    if len(line) > 200 or not YEAR.search(line) or _LISTED.search(line):
        return ()
    bare = _COMPARED.sub(r"\1v\2", _ASIDE.sub(" ", re.sub(r"^[^()]*\)", " ", line)))
    years = YEAR.findall(bare)
    if not 2 <= len(years) <= 8:
        return ()
    lead, *gaps = (spare_words(part) for part in YEAR.split(bare))
    if lead or any(gaps):
        steps = {int(later) - int(earlier) for earlier, later in itertools.pairwise(years)}
        words = [word for gap in gaps for word in gap]
        if steps not in ({1}, {-1}) or len(line) > 120 or len(lead) > 6 or any(len(gap) > 6 for gap in gaps):
            return ()
        if _PROSE_END.search(line) or (lead and not lead[0][0].isupper()):
            return ()
        if any((word.isalpha() and word.islower()) or word.isdigit() for word in words):
            return ()
    names = _tell_apart(years, bare, periods_in)
    columns = [NOTE] if re.search(r"\bnotes?\W*$", YEAR.split(bare)[0], re.IGNORECASE) else []
    for name, gap in zip(names, gaps):
        columns += [name, " ".join(gap)] if gap else [name]
    return tuple(columns)


def spare_words(text: str) -> list[str]:
    """Return the words of a piece of a head that say neither date nor unit."""
    return re.sub(r"[|,;:\s]+", " ", _HEADER_WORDS.sub(" ", text)).split()


def _tell_apart(years: list[str], line: str, periods_in: str) -> list[str]:
    """Return a name for each year's column: the year, with its period or date where years repeat."""
    if len(set(years)) == len(years):
        return years
    periods = [" ".join(part for part in match.groups() if part).lower() for match in _PERIOD.finditer(periods_in)]
    if len(periods) > 1 and len(years) % len(periods) == 0:
        each = len(years) // len(periods)
        return [f"{periods[place // each]} {year}" for place, year in enumerate(years)]
    dates = [" ".join(date.split()) for date in re.findall(rf"[A-Za-z]{{3,9}}\.? \d{{1,2}},? {YEAR.pattern}", line)]
    return dates if len(dates) == len(years) else years


def parse_unit(line: str) -> str:
    """Return the pack's unit (``thousands``, ``millions``) that the line names for its table, else ''."""
    match = _UNIT_ASIDE.search(line) or (_UNIT_BARE.search(line) if len(line) < 160 else None)
    said = match[1].lower().rstrip("s") if match else ""
    return next((unit for unit in current_pack().tables.rules.units if unit.lower().rstrip("s") == said), "") if said else ""


def row_cells(row: Row, columns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return (column, amount) for each amount of a row, () where the amounts do not fit the columns.

    A row may leave out all columns that are no years, the number of a note, or have a footnote mark before its amounts.
    Words between the years can name several columns (``Actual Constant``): their amounts are then said together. Columns
    of the same name say nothing, and neither does a single year over a label that has its own.
    """
    amounts, columns = row.amounts, columns or ()
    is_year = [bool(YEAR.search(column)) for column in columns]
    years = sum(is_year)
    if not years or len(set(filter(YEAR.search, columns))) < years or (len(columns) == 1 and YEAR.search(row.label)):
        return ()
    if columns[0] == NOTE:
        columns, is_year = columns[1:], is_year[1:]
        if len(amounts) == len(columns) + 1 and re.fullmatch(r"\d{1,2}", amounts[0]):
            amounts = amounts[1:]
    names = [column for column, has_year in zip(columns, is_year) if not has_year]
    width = _width(len(amounts) - years, names)
    if width < 0 and years > 1 and re.fullmatch(r"\(\d\)", amounts[0]):
        amounts, width = amounts[1:], _width(len(amounts) - 1 - years, names)
    if width < 0 or all(map(YEAR.fullmatch, amounts)):
        return ()
    cells, place = [], 0
    for column, has_year in zip(columns, is_year):
        size = 1 if has_year else width
        if size:
            cells.append((column, " ".join(amounts[place : place + size])))
        place += size
    return tuple(cells)


def _width(spare: int, names: list[str]) -> int:
    """Return how many of a row's spare amounts each of the columns without a year takes, -1 where they do not fit."""
    if spare == 0 or not names:
        return -1 if spare else 0
    width = spare // len(names)
    return width if spare % len(names) == 0 and 0 < width <= min(len(name.split()) for name in names) else -1


def is_paid_out(label: str) -> bool:
    """Tell whether a row is an outflow: its amounts stand in parentheses, and people ask for them as positive ones."""
    return bool(_PAID_OUT.search(label)) and not _SIGNED.search(label)


@dataclass(frozen=True)
class Head:
    """What stands over the numbers at a place in a page: the columns, mostly years, and the unit.

    ``dates`` gathers short lines of dates (``December 26,`` / ``2015`` / ``December 27,`` / ``2014``) that make a head
    only together. ``single`` is the one year such lines gave, which holds once a row with one amount follows.
    """

    columns: tuple[str, ...] = ()
    unit: str = ""
    dates: str = ""
    single: str = ""

    def after(self, line: str) -> Head:
        """Return the head in force below this line. A sentence ends the table and so the columns, not the unit."""
        unit = parse_unit(line) or self.unit
        if not line.strip():
            return self
        is_year_row = bool(_YEAR_ROW.match(line)) and not _parse_columns(line, line)
        # "2017 (in millions):" is the end of a sentence.
        is_date = len(line) < 90 and not is_year_row and not line.endswith("):") and not spare_words(
            YEAR.sub(" ", _ASIDE.sub(" ", line)))
        dates = f"{self.dates} {line}".strip() if is_date else ""
        found = _parse_columns(line, dates or f"{self.dates} {line}") or (_parse_columns(dates, dates) if dates else ())
        if found:
            return Head(found, unit, dates)
        if is_date:
            years = YEAR.findall(dates)
            return Head(self.columns, unit, dates, years[0] if len(years) == 1 else self.single)
        if ends_table(line):
            return Head((), unit)
        if is_year_row and len(self.columns) < 2:
            return Head((), unit)  # the rows have years of their own
        if self.single:
            row = parse_row(line)
            if row and len(row.amounts) == 1 and re.search(r"[$€£,%]", line[len(row.label) :]):
                return Head((self.single,), unit)
            if row:
                return Head(self.columns, unit)
        return Head(self.columns, unit, "", self.single)


def ends_table(line: str) -> bool:
    """Tell whether a line is a sentence, which no table's rows go on after under the same head."""
    if parse_row(line) or len(line) < 60:
        return False
    return bool(_PROSE_END.search(line) or _ANNOUNCED.search(line[-300:]))


def carry_head(head: Head, last_page: str, page: str) -> Head:
    """Return the head at the top of a page: that at the end of the last one where a table goes on, else an empty one.

    It goes on where the last page ends with rows and this one begins with them: before the first row stand only short lines
    without a year, of which one says ``continued`` or none is a title in capitals or names a unit.
    """
    bottom = [line for line in last_page.split("\n") if line.strip()][-3:]
    if not head.columns or not any(map(parse_row, bottom)) or any(map(ends_table, bottom)):
        return Head()
    above: list[str] = []
    for line in page.split("\n"):
        if not line.strip():
            continue
        row = None if parse_columns(line) else parse_row(line)
        if row:
            is_continued = any("continued" in text.lower() for text in above) or (
                len(above) < 4 and not any(parse_unit(text) or text.isupper() for text in above))
            return Head(head.columns, head.unit) if is_continued and row_cells(row, head.columns) else Head()
        above.append(line)
        if len(above) > 5 or len(line) > 90 or _PROSE_END.search(line) or YEAR.search(line) or parse_columns(line):
            return Head()
    return Head()


def restate_rows(text: str, columns: tuple[str, ...] = ()) -> str:
    """Return the text with each statement row written as one ``label year: amount`` line a column.

    ``columns`` are the columns in force before the text. Rows whose amounts do not match them in number
    and all other lines stay as they are; heads that were read into the rows are dropped.
    """
    head, written = Head(columns), []
    for line in text.split("\n"):
        head, row = head.after(line), parse_row(line)
        if parse_columns(line):
            continue
        cells = row_cells(row, head.columns) if row else ()
        if row and cells:
            written += [f"{row.label} {column}: {amount}" for column, amount in cells]
        else:
            written.append(line)
    return "\n".join(written)
