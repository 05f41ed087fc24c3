"""Periods: years, ranges, quarters, dates and kinds of report in questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.pack import open_pack
from ragtune.documents.packfile import ReportEntry
from ragtune.documents.packparts import Report
from ragtune.retrieval.periods import Period, find_kinds, parse_period


@pytest.mark.parametrize(
    ("question", "years"),
    [
        ("FY2018", (2018,)),
        ("FY18?", (2018,)),
        ("FY'18, in percent", (2018,)),
        ("fiscal 2018", (2018,)),
        ("fiscal year 2018", (2018,)),
        ("fiscal year ended 2018", (2018,)),
        ("in 2018.", (2018,)),
        ("2018's", (2018,)),
        ("'19 sales", (2019,)),
        ("2Q23", (2023,)),
        ("Q2'23", (2023,)),
        ("Q22023", (2023,)),
        ("FY99", (1999,)),
        ("FY2016 - FY2018", (2016, 2017, 2018)),
        ("FY2015 to FY2017", (2015, 2016, 2017)),
        ("from 2020 to 2022", (2020, 2021, 2022)),
        ("2018–2020", (2018, 2019, 2020)),
        ("between 2018 and 2020", (2018, 2019, 2020)),
        ("2018 and 2020", (2018, 2020)),
        ("2018-20", (2018, 2019, 2020)),
        ("2018/19", (2018, 2019)),
        ("FY 2019, 2020 and 2021", (2019, 2020, 2021)),
        ("year ended June 30, 2022", (2022,)),
        ("$2018 million", ()),
        ("2,018", ()),
        ("2018.5", ()),
        ("2018%", ()),
        ("2000 units", ()),
        ("2019 employees", ()),
        ("12018", ()),
        ("1900 to 2020", (1900, 2020)),
        ("see 3M_2018_10K", (2018,)),
        ("", ()),
        ("v2.2018", ()),
        ("8/30/22", (2022,)),
    ],
)
def test_years(question: str, years: tuple[int, ...]) -> None:
    period = parse_period(question)
    assert period.years == years
    assert period.year == (years[-1] if years else None)


@pytest.mark.parametrize(
    ("question", "quarters"),
    [
        ("Q2 of FY2023", (2,)),
        ("2Q23", (2,)),
        ("Q2 2023", (2,)),
        ("Q2023", ()),
        ("second quarter", (2,)),
        ("4th quarter", (4,)),
        ("third fiscal quarter", (3,)),
        ("Q1 and Q3", (1, 3)),
        ("quarter 4", (4,)),
        ("10-Q", ()),
        ("10Q", ()),
        ("4 quarters", ()),
        ("Q22023", (2,)),
        ("Q5", ()),
    ],
)
def test_quarters(question: str, quarters: tuple[int, ...]) -> None:
    assert parse_period(question).quarters == quarters


@pytest.mark.parametrize(
    ("question", "dates"),
    [
        ("dated 8/30/2022", ("2022-08-30",)),
        ("2022-08-30", ("2022-08-30",)),
        ("June 30, 2022", ("2022-06-30",)),
        ("30 June 2022", ("2022-06-30",)),
        ("30/6/2022", ("2022-06-30",)),
        ("Aug. 2022", ("2022-08-00",)),
        ("May 1st, 2020", ("2020-05-01",)),
        ("13/13/2022", ()),
        ("2/3", ()),
        ("8/30/22", ("2022-08-30",)),
    ],
)
def test_dates(question: str, dates: tuple[str, ...]) -> None:
    assert parse_period(question).dates == dates


def test_what_dates_imply() -> None:
    assert parse_period("as of June 30, 2022").implied_quarter == 2
    assert parse_period("as of December 31, 2022").implied_quarter is None
    assert parse_period("as of June 12, 2022").implied_quarter is None
    assert parse_period("year ended January 1, 2023").is_new_year
    assert not parse_period("year ended January 1, 2022, and FY2023").is_new_year
    assert not Period().is_new_year


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("the 10-K", ("annual",)),
        ("see 3M_2018_10K.", ("annual",)),
        ("10 K filings and 10Qs", ("annual", "quarterly")),
        ("its annual report", ("annual",)),
        ("8K dated", ("event",)),
        ("earnings release", ("earnings",)),
        ("Press-release", ("earnings",)),
        ("10-Kx", ()),
        ("earnings", ()),
    ],
)
def test_kinds(question: str, kinds: tuple[str, ...]) -> None:
    assert find_kinds(question, open_pack().reports) == kinds


def test_own_forms() -> None:
    assert find_kinds("see the user guides", {"guide": Report("guide", ReportEntry(phrases=("user guide",)))}) == ("guide",)
    assert parse_period("10-K of 2018").kinds == ()


@given(st.text(alphabet="FYQfyq 0123456789-/'’.,adnotJuen$%\n", max_size=60))
def test_any_text_has_a_period(question: str) -> None:
    period = parse_period(question)
    assert list(period.years) == sorted(set(period.years))
    assert all(1900 <= year <= 2099 for year in period.years)
    assert set(period.quarters) <= {1, 2, 3, 4}


@given(
    first=st.integers(1990, 2040),
    span=st.integers(1, 10),
    word=st.sampled_from(["to", "-", "through", "–", " - "]),
    mark=st.sampled_from(["FY", "fiscal ", ""]),
)
def test_a_range_is_filled(first: int, span: int, word: str, mark: str) -> None:
    assert parse_period(f"{mark}{first} {word} {mark}{first + span}").years == tuple(range(first, first + span + 1))


def test_a_long_question_is_read_quickly() -> None:
    assert parse_period("fiscal " + " " * 100_000 + "year").years == ()
    assert parse_period("2018 " * 5_000).years == (2018,)
