"""How well each document of one entity fits the years, quarter, date and kind of report a question asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ragtune.documents.packparts import Report
from ragtune.records import Value
from ragtune.retrieval.periods import Period

YEAR_WEIGHTS = {0: 1.0, 1: 0.6, 2: 0.4, -1: 0.35}
"""How far a report of the year asked for plus n may hold the figures: reports show one or two years before theirs."""
MANY = 3
"""How many documents are searched, at least, where none fits."""


@dataclass(frozen=True)
class Filed:
    """What the router knows of a document: its year, quarter, kind of report and the date in its name."""

    name: str
    entity: Value
    year: int | None
    raw_year: Value
    quarter: int | None
    kind: Report | None
    date: str


@dataclass(frozen=True)
class Weighing:
    """The weights of one entity's candidates, why, and whether what was asked for is missing."""

    weights: Mapping[str, float]
    reasons: tuple[str, ...]
    is_fallback: bool


def weigh_reports(reports: Sequence[Filed], period: Period, name: str, year_called: str) -> Weighing:
    """Weigh one entity's documents by how well year, quarter, date and kind of report fit. Never returns none.

    ``name`` and ``year_called``, the column of the year, stand in the reasons.
    """
    reasons: list[str] = []
    is_fallback = False
    years = {report.year for report in reports}
    asked = period.year
    if asked is None:
        by_year = _by_recency(reports)
        reasons.append(f"no year in the question: all {len(reports)} document(s) of {name}, the latest first")
    else:
        by_year = {report.name: weight for report in reports if (weight := _weigh_year(report, period))}
        is_near = period.is_new_year and asked - 1 in years
        is_fallback = asked not in years and not is_near
        if is_fallback:
            by_year |= _nearest(reports, asked, by_year)
            there = sorted({str(report.raw_year) for report in reports if report.name in by_year and report.year})
            reasons.append(f"no document of {asked} for {name}: fell back to {', '.join(there) or 'those without a year'}")
        else:
            fitting = asked if asked in years else asked - 1
            reasons.append(f"{year_called.replace('_', ' ')} {fitting} matched documents of {name}")
    kept = [report for report in reports if report.name in by_year]
    if period.kinds and not any(report.kind and report.kind.kind in period.kinds for report in kept):
        is_fallback = True
        reasons.append(f"no {' or '.join(period.kinds)} report among them: other kinds of report are searched")
        period = replace(period, kinds=())
    elif period.kinds:
        reasons.append(f"{' or '.join(period.kinds)} report asked for")
    if period.quarters and not any(report.quarter in period.quarters for report in kept):
        reasons.append(f"no document of quarter {period.quarters[-1]} among them: reports that may cover it are searched")
    return Weighing({report.name: by_year[report.name] * _weigh_kind(report, period) for report in kept},
                    tuple(reasons), is_fallback)


def _by_recency(reports: Sequence[Filed]) -> dict[str, float]:
    """Weigh documents where no year is asked for: the latest 1, older ones a little less, down to a half."""
    order = sorted({report.year for report in reports if report.year is not None}, reverse=True)
    return {report.name: 0.7 if report.year is None else max(0.5, 1 - 0.05 * order.index(report.year)) for report in reports}


def _weigh_year(report: Filed, period: Period) -> float:
    """Weigh a document's year against those asked for; 0 where it cannot hold them."""
    if report.year is None:
        return 0.5
    asked = period.year or report.year
    weight = YEAR_WEIGHTS.get(report.year - asked, 0.0)
    if report.date and report.date in period.dates:
        return 1.0
    if report.year == asked - 1 and period.is_new_year:
        return 0.9
    if report.year in period.years:
        return max(weight, 0.45)
    return weight


def _nearest(reports: Sequence[Filed], asked: int, weights: Mapping[str, float]) -> dict[str, float]:
    """Weigh the documents of the nearest years where the year is missing, later ones first: they look back."""
    near: dict[str, float] = {}
    years = sorted({report.year for report in reports if report.year is not None}, key=lambda year: abs(year - asked - 0.4))
    for rank, year in enumerate(years):
        if len(near) >= MANY:
            break
        names = [report.name for report in reports if report.year == year]
        near |= {name: max(weights.get(name, 0.0), 0.8 - 0.15 * rank) for name in names}
    return near


def _weigh_kind(report: Filed, period: Period) -> float:
    """Weigh a document's kind of report and quarter against what is asked for."""
    quarter, kind = report.quarter, report.kind.kind if report.kind else None
    entry = report.kind.entry if report.kind else None
    if report.date and report.date in period.dates:
        return 1.0
    fits = quarter in period.quarters
    if period.kinds:
        is_like = entry is None or bool(set(entry.like) & set(period.kinds))
        weight = 1.0 if kind in period.kinds else 0.7 if is_like else 0.4
        return weight if fits or not period.quarters or quarter is None else weight * 0.5
    if period.quarters:
        if entry and entry.covers == "year":
            return 1.0 if period.quarters[-1] == 4 else 0.6
        is_open = quarter is None and not (entry and entry.covers == "moment")
        return 1.0 if fits else 0.8 if is_open else 0.6 if quarter is None else 0.4
    if period.implied_quarter and entry and entry.covers == "quarter":
        return 0.9 if quarter in (None, period.implied_quarter) else 0.6
    if entry is None or entry.covers == "year":
        return 1.0
    return 0.9 if entry.sums_up and quarter in (None, 4) else 0.6
