"""The time and the kind of report a question asks about: fiscal years and ranges, quarters, dates, forms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ragtune.documents.packparts import Report
from ragtune.records import Record

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_YEAR = r"((?:19|20)\d\d)"
_DATES = (
    (re.compile(rf"\b{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?:of\s+)?{_YEAR}\b", re.IGNORECASE), "mdy"),
    (re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+{_YEAR}\b", re.IGNORECASE), "dmy"),
    (re.compile(rf"\b{_YEAR}[-/.](\d{{1,2}})[-/.](\d{{1,2}})\b"), "ymd"),
    (re.compile(r"\b(\d{1,2})[-/.](\d{1,2})[-/.]((?:19|20)?\d\d)\b"), "mdy"),
    (re.compile(rf"\b{_MONTH},?\s+(?:of\s+)?{_YEAR}\b", re.IGNORECASE), "my"),
)
_MENTION = re.compile(
    rf"(?:\bf(?:iscal\s*)?(?:y|\s*years?)?|\bfiscal(?:\s+years?)?|\bfy)(?:\s+ending|\s+ended)?\s*['’]?{_YEAR}(?!\d)"
    r"|(?:\bfy|\bfiscal(?:\s+years?)?)\s*['’]?(\d\d)(?!\d|[.,]\d|%)"
    rf"|(?<![^\W_])(?<![$€£.,]){_YEAR}(?![\d%]|[.,]\d|\s*(?:million|billion|thousand|shares|units|employees|stores|people)\b)"
    rf"|(?<=[qh][1-4]){_YEAR}(?!\d)|(?<=[qh][1-4]['’\-/])(\d\d)(?!\d)|(?<=\d[qh])(\d\d)(?!\d)|(?<=\d[qh])\s?{_YEAR}(?!\d)"
    r"|(?<!\w)['’](\d\d)(?![\d\w])", re.IGNORECASE)
_SHORT_END = re.compile(rf"(?<![\d$€£.,]){_YEAR}\s?[-–—/]\s?(\d\d)(?![\d%])(?![-/.]\d)")
_QUARTER = re.compile(
    r"\bq\s?([1-4])(?!\d{3}(?!\d))|\b([1-4])\s?q(?![a-z])|\bquarter\s+([1-4])\b"
    r"|\b(first|second|third|fourth|1st|2nd|3rd|4th)[\s-]+(?:fiscal[\s-]+)?quarter", re.IGNORECASE)
_ORDINALS = {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4}
_BETWEEN = re.compile(r"^[\s,]*(?:-|–|—|to|through|thru|until|till|up to)\s*(?:the\s+)?(?:end\s+of\s+)?$", re.IGNORECASE)
_BETWEEN_FIRST = re.compile(r"\bbetween\s+(?:the\s+)?$", re.IGNORECASE)
_JOINED = re.compile(r"^[\s,]*(?:and|&)\s*$", re.IGNORECASE)
_MAX_RANGE = 15


@dataclass(frozen=True)
class Period(Record):
    """What a question says of time and form: all years it speaks of (ascending), quarters, ISO dates, kinds of report.

    ``year`` is the latest year, whose report holds the earlier ones too; ``implied_quarter`` that of a quarter's last day.
    """

    years: tuple[int, ...] = ()
    quarters: tuple[int, ...] = ()
    dates: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def year(self) -> int | None:
        """The latest year."""
        return self.years[-1] if self.years else None

    @property
    def implied_quarter(self) -> int | None:
        """The calendar quarter that ends on a date of the question, the last of the year aside."""
        ends = [int(date[5:7]) for date in self.dates if date[8:] in ("28", "29", "30", "31", "00")]
        return next((month // 3 for month in ends if month in (3, 6, 9)), None)

    @property
    def is_new_year(self) -> bool:
        """Whether the latest date lies in the first days of a year, where a fiscal year of the year before may end."""
        return bool(self.dates) and self.dates[-1][5:7] in ("01", "02") and self.dates[-1][:4] == str(self.year)


def parse_period(question: str, reports: Mapping[str, Report] | None = None) -> Period:
    """Return the years, quarters, dates and, of ``reports``, the kinds of report that a question names."""
    question = " ".join(question.split())
    dates = sorted({date for pattern, order in _DATES for match in pattern.finditer(question)
                    if (date := _read_date(match.groups(), order))})
    named = {int(date[:4]) for date in dates}
    quarters = sorted({int(match[1] or match[2] or match[3] or _ORDINALS[match[4].lower()])
                       for match in _QUARTER.finditer(question)})
    dates = [date for date in dates if not (date.endswith("00") and any(d[:7] == date[:7] and d != date for d in dates))]
    years = tuple(sorted(named | _find_years(question)))
    return Period(years, tuple(quarters), tuple(dates), find_kinds(question, reports or {}))


def _read_date(groups: Sequence[str], order: str) -> str | None:
    """Return an ISO date, day 00 where only the month is named; None where it is none."""
    parts = dict(zip(order, groups))
    month = _MONTHS.index(parts["m"][:3].lower()) + 1 if not parts["m"].isdigit() else int(parts["m"])
    year, day = int(parts["y"]), int(parts.get("d", 0))
    if month > 12 >= day:
        month, day = day, month
    year += (2000 if year < 70 else 1900) if year < 100 else 0
    return f"{year:04}-{month:02}-{day:02}" if 1 <= month <= 12 and day <= 31 else None


def _find_years(question: str) -> set[int]:
    """Return the years named and those inside the ranges named."""
    mentions: list[tuple[int, int, int]] = []
    for match in _MENTION.finditer(question):
        digits = next(group for group in match.groups() if group)
        year = int(digits) if len(digits) == 4 else 2000 + int(digits) if int(digits) < 70 else 1900 + int(digits)
        mentions.append((match.start(), match.end(), year))
    years = {year for *_, year in mentions}
    for match in _SHORT_END.finditer(question):
        last = int(match[1][:2] + match[2])
        if 0 < last - int(match[1]) <= _MAX_RANGE:
            years |= set(range(int(match[1]), last + 1))
    for (start, end, first), (next_start, _, last) in pairwise(mentions):
        gap, before = question[end:next_start], question[max(0, start - 20) : start]
        is_range = _BETWEEN.match(gap) or (_JOINED.match(gap) and _BETWEEN_FIRST.search(before))
        if is_range and 0 < last - first <= _MAX_RANGE:
            years |= set(range(first, last + 1))
    return years


def find_kinds(question: str, reports: Mapping[str, Report]) -> tuple[str, ...]:
    """Return the kinds of report a question names ('annual', 'quarterly', ...), in the order of the pack."""
    return tuple(kind for kind, report in reports.items() if report.asked.search(question))
