"""Rows of financial statements: finding the years over the numbers, and saying them beside each number.

``Net sales $ 32,765 $ 31,657`` under ``2018 2017`` becomes ``Net sales 2018: 32,765`` and ``Net sales 2017: 31,657``,
so that a reader finds a figure by matching words instead of counting columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

YEAR = re.compile(r"\b(?:19[89]\d|20[0-4]\d)\b")
_AMOUNT = (
    r"(?:[$€£]\s*)?(?:(?:\(\s*)?(?:[$€£]\s*)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*\))?(?:\s*%)?(?:\s*\))?|[—–-](?!\d))"
)
# White space parts the amounts: without it a run of digits could be read in exponentially many ways.
_ROW = re.compile(rf"^(?P<label>.*?[A-Za-z)].*?)[\s:.]+(?P<amounts>{_AMOUNT}(?:\s+{_AMOUNT})*)\s*$")
_AMOUNTS = re.compile(_AMOUNT)
_HEADER_WORDS = re.compile(
    r"\b(?:january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul"
    r"|aug|sept?|oct|nov|dec|fiscal|years?|ended|ending|as|of|at|the|for|three|six|nine|twelve|months?|weeks?|quarters?|and"
    r"|in|millions?|thousands?|billions?|dollars?|except|per|share|amounts?|data|unaudited|audited|usd|u\.s\.|note|restated"
    r"|fy|\d{1,2})\b|[^A-Za-z0-9\s]",
    re.IGNORECASE,
)
_PAID_OUT = re.compile(
    r"^(?:net )?(?:cash )?(?:purchases?|payments?|repayments?|additions?|repurchases?|acquisitions?|dividends?|"
    r"capital (?:expenditures|spending)|expenditures|investments? in)\b|\bused (?:in|for)\b|\bpaid\b|"
    r"\b(?:expenses?|costs?)\b", re.IGNORECASE)
_SIGNED = re.compile(r"income|earnings|profit|provided|\(|gain|benefit|change", re.IGNORECASE)
_UNIT = re.compile(r"\b(thousands|millions|billions)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """A statement row: its label and the amounts as printed, currency signs and inner spaces removed."""

    label: str
    amounts: tuple[str, ...]


def parse_row(line: str) -> Row | None:
    """Return the row a line holds, or None where it is not a label followed only by amounts."""
    line = line.strip()
    if len(line) > 400 or not line or line[-1] not in "0123456789)%—–-":  # cheap, and most lines end here
        return None
    match = _ROW.match(line)
    if not match or len(match["label"]) > 160:
        return None
    amounts = tuple(re.sub(r"[$€£\s]", "", amount) for amount in _AMOUNTS.findall(match["amounts"]))
    label = match["label"].strip(" .:$€£")
    return Row(label, amounts) if label and amounts else None


def parse_columns(line: str) -> tuple[str, ...]:
    """Return the years of a table head such as ``Years ended December 31, (Millions) 2018 2017 2016``, else ().

    A line counts as a head when it holds two to eight years and, these aside, only the words of dates and units.
    """
    years = tuple(YEAR.findall(line))
    if not 2 <= len(years) <= 8 or len(line) > 200:
        return ()
    return () if re.search(r"[A-Za-z0-9]", _HEADER_WORDS.sub(" ", YEAR.sub(" ", line))) else years


def parse_unit(line: str) -> str:
    """Return 'thousands', 'millions' or 'billions' where the line is short and names one, else ''."""
    match = _UNIT.search(line) if len(line) < 160 and re.search(r"\bin\b|\(|dollars", line, re.IGNORECASE) else None
    return match[1].lower() if match else ""


def is_paid_out(label: str) -> bool:
    """Tell whether a row is an outflow: its amounts stand in parentheses, and people ask for them as positive ones."""
    return bool(_PAID_OUT.search(label)) and not _SIGNED.search(label)


@dataclass(frozen=True)
class Head:
    """What stands over the numbers at a place in a page: the years of the columns and the unit.

    ``dates`` gathers short lines of dates (``December 26,`` / ``2015`` / ``December 27,`` / ``2014``) that make a head
    only together.
    """

    columns: tuple[str, ...] = ()
    unit: str = ""
    dates: str = ""

    def after(self, line: str) -> Head:
        """Return the head in force below this line."""
        is_date = len(line) < 60 and not re.search(r"[A-Za-z0-9]", _HEADER_WORDS.sub(" ", YEAR.sub(" ", line)))
        dates = f"{self.dates} {line}" if is_date else ""
        return Head(parse_columns(line) or parse_columns(dates) or self.columns, parse_unit(line) or self.unit, dates)


def head_before(lines: list[str], head: Head | None = None) -> Head:
    """Return the head in force after these lines, beginning from ``head``."""
    head = head or Head()
    for line in lines:
        head = head.after(line)
    return head


def restate_rows(text: str, columns: tuple[str, ...] = ()) -> str:
    """Return the text with each statement row written as one ``label year: amount`` line a column.

    ``columns`` are the years in force before the text. Rows whose amounts do not match the years in number
    and all other lines stay as they are; heads that were read into the rows are dropped.
    """
    head, written = Head(columns), []
    for line in text.split("\n"):
        head, row = head.after(line), parse_row(line)
        if parse_columns(line):
            continue
        if row and head.columns and len(row.amounts) == len(head.columns):
            written += [f"{row.label} {year}: {amount}" for year, amount in zip(head.columns, row.amounts)]
        else:
            written.append(line)
    return "\n".join(written)
