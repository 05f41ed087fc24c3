"""Statement rows and the heads over them: which column an amount belongs to, and where it cannot be said."""

from __future__ import annotations

import time
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.statements import (
    Head,
    Row,
    carry_head,
    parse_columns,
    parse_row,
    parse_unit,
    restate_rows,
    row_cells,
)


def head_before(lines: list[str]) -> Head:
    """The head in force after these lines."""
    return reduce(Head.after, lines, Head())


@pytest.mark.parametrize(("line", "label", "amounts"), [
    ("Net sales $ 4,210 $ (3,900) —", "Net sales", ("4,210", "(3,900)", "—")),
    ("Americas $ 1,758 -7% -6% $ 1,889", "Americas", ("1,758", "-7%", "-6%", "1,889")),
    ("Gains on investments 115 (91)% 1,343 ** 268", "Gains on investments", ("115", "(91)%", "1,343", "**", "268")),
    ("Income taxes 12 NM 15", "Income taxes", ("12", "NM", "15")),
    ("Reorganization items, net (Note 2) 108 — —", "Reorganization items, net (Note 2)", ("108", "—", "—")),
    ("Cash at December 31 $ 1,577 $ 456", "Cash at December 31", ("1,577", "456")),
    ("Senior notes due 2024 3.450% 750", "Senior notes due 2024", ("3.450%", "750")),
    ("General 1,003 — % 1,005 3 % 979", "General", ("1,003", "—%", "1,005", "3%", "979")),
    ("Loss (67) (60)", "Loss", ("(67)", "(60)")),
])
def test_rows(line: str, label: str, amounts: tuple[str, ...]) -> None:
    assert parse_row(line) == Row(label, amounts)


@pytest.mark.parametrize("line", ["As of December 31, 2021", "Prose that ends in a word", "2018 2017", "Exhibit NM", ""])
def test_no_rows(line: str) -> None:
    assert parse_row(line) is None


@pytest.mark.parametrize(("line", "columns"), [
    ("Years ended December 31, (Millions) 2018 2017 2016", ("2018", "2017", "2016")),
    ("(In Millions, Except Par Value) Dec 26, 2020 Dec 28, 2019", ("2020", "2019")),
    ("December 31, 2022 December 31, 2021", ("2022", "2021")),
    ("December 31, 2017 January 1, 2017", ("December 31, 2017", "January 1, 2017")),
    ("Three Months Ended June 30, 2023 2022", ("2023", "2022")),
    ("Three Months Ended Six Months Ended 2023 2022 2023 2022",
     ("three months 2023", "three months 2022", "six months 2023", "six months 2022")),
    ("(Dollars in millions) 2018 Actual Constant 2017 Actual Constant 2016",
     ("2018", "Actual Constant", "2017", "Actual Constant", "2016")),
    ("2022 % Change 2021", ("2022", "Change", "2021")),
    ("2022 2021 2022 vs. 2021", ("2022", "2021", "2022v2021")),
    ("(in millions) Note 2022 2021", ("Note", "2022", "2021")),
    ("Balance Sheet Location 2016 2015", ("2016", "2015")),
    ("except interest rates) 2020 2021 2022 Thereafter Total", ("2020", "2021", "2022", "Thereafter Total")),
    ("For the Years Ended May 31, 2016, 2015 and 2014", ()),
    ("Floating-rate notes 2019 – 2020 1,507 1.87% – 2.64%", ()),
    ("In 2020 and 2019 we grew", ()),
    ("2020 compared to 2019 was a year of growth 2021", ()),
    ("Sales 2020 1,999 1998", ()),
    ("2018", ()),
])
def test_heads(line: str, columns: tuple[str, ...]) -> None:
    assert parse_columns(line) == columns


@pytest.mark.parametrize(("line", "unit"), [
    ("(Dollars in thousands, except per share)", "thousands"),
    ("(In millions, except number of shares which are reflected in thousands)", "millions"),
    ("The table shows what was sold in each of the years, in the words of the segments it was sold by, and what was left "
     "of it in each of them as the year ended (in millions):", "millions"),
    ("Millions of dollars", "millions"),
    ("In millions 2021 2020", "millions"),
    ("thousands):", ""),
    ("(EUR million)", "millions"),
    ("We invest hundreds of millions in research", ""),
    ("Sales grew in Europe (by $5 million)", ""),
    ("in 2021 we sold 3 million cars", ""),
])
def test_units(line: str, unit: str) -> None:
    assert parse_unit(line) == unit


@pytest.mark.parametrize(("line", "columns", "cells"), [
    ("Sales 5 4", ("2021", "2020"), (("2021", "5"), ("2020", "4"))),
    ("Sales 5 4 3", ("2021", "2020"), ()),
    ("Sales (1) 5 4", ("2021", "2020"), (("2021", "5"), ("2020", "4"))),
    ("Inventories 7 16,865 16,105", ("Note", "2022", "2021"), (("2022", "16,865"), ("2021", "16,105"))),
    ("Inventories 16,865 16,105", ("Note", "2022", "2021"), (("2022", "16,865"), ("2021", "16,105"))),
    ("Americas 8 -7% -6% 9", ("2020", "Actual Constant", "2019"),
     (("2020", "8"), ("Actual Constant", "-7% -6%"), ("2019", "9"))),
    ("Americas (1) 8 -7% -6% 9", ("2020", "Actual Constant", "2019"),
     (("2020", "8"), ("Actual Constant", "-7% -6%"), ("2019", "9"))),
    ("Margin 51% 50%", ("2020", "Change", "2019"), (("2020", "51%"), ("2019", "50%"))),
    ("Leases 1 2 3 4 5", ("2020", "2021", "Thereafter"), ()),
    ("Oil 1 2 3 4", ("2020", "2019", "2020", "2019"), ()),
    ("Balance at December 31, 2015 690", ("2018",), ()),
])
def test_cells(line: str, columns: tuple[str, ...], cells: tuple[tuple[str, str], ...]) -> None:
    row = parse_row(line)
    assert row is not None
    assert row_cells(row, columns) == cells


def test_heads_of_several_lines() -> None:
    assert head_before(["(In millions)", "Year Ended December 31,", "2022 2021 2020"]) == Head(
        ("2022", "2021", "2020"), "millions", "(In millions) Year Ended December 31, 2022 2021 2020")
    assert head_before(["September 29,", "2018", "September 30,", "2017", "Assets:"]).columns == ("2018", "2017")
    two = head_before(["Three Months Ended June 30, Six Months Ended June 30,", "2023 2022 2023 2022"])
    assert two.columns == ("three months 2023", "three months 2022", "six months 2023", "six months 2022")


def test_a_single_year_holds_over_rows_of_one_amount_only() -> None:
    assert restate_rows("December 31,\n2020\nCash $ 327\nOther 6") == "December 31,\n2020\nCash 2020: 327\nOther 2020: 6"
    assert "2020:" not in restate_rows("December 31,\n2020\nCash $ 327 $ 5\nOther 6")
    assert "2020:" not in restate_rows("December 31,\n2020\nFiscal 2021 $ 327\nThereafter $ 6")
    assert "2020:" not in restate_rows("December 31,\n2020\nItem 7. Discussion 35")


def test_years_that_are_rows_or_end_a_sentence_are_no_heads() -> None:
    assert head_before(["Fiscal year:", "2019 $ 49", "2020 34", "2021 9"]).columns == ()
    assert head_before(["as of December 31, 2018 and", "2017 (in millions):", "December 31, 2018", "Gross"]).columns == ()


def test_a_sentence_ends_the_columns_but_not_the_unit() -> None:
    sentence = "The remainder of this page speaks of things that have no years over them."
    head = head_before(["(in millions) 2021 2020", "Sales 5 4", sentence])
    assert head.columns == ()
    assert head.unit == "millions"


def test_a_table_goes_on_over_the_page() -> None:
    head = Head(("2021", "2020"), "millions")
    last = "Cash flows\nSales 5 4"
    assert carry_head(head, last, "Supplemental disclosures\nInterest paid 3 2") == head
    assert carry_head(head, last, "ACME\nBALANCE SHEETS (continued)\n(in millions)\nInterest paid 3 2") == head
    assert carry_head(head, last, "BALANCE SHEETS\nInterest paid 3 2") == Head()
    assert carry_head(head, last, "Interest paid 3 2 1") == Head()
    assert carry_head(head, last, "2019 2018\nInterest paid 3 2") == Head()
    sentence = "A sentence that follows the table and says what is to be said of it."
    assert carry_head(head, f"{last}\n{sentence}", "Interest 3 2") == Head()


def test_restated() -> None:
    text = "(Dollars in millions) 2018 Change 2017\nNet cash $ 15,386 9% $ 14,126\nMargin 51% 50%\nOther\nOdd 1 2 3 4"
    assert restate_rows(text).split("\n") == [
        "Net cash 2018: 15,386", "Net cash Change: 9%", "Net cash 2017: 14,126", "Margin 2018: 51%", "Margin 2017: 50%",
        "Other", "Odd 1 2 3 4"]


@given(st.lists(st.text("aZ 20189,$()%-—*\n.", max_size=60), max_size=20).map("\n".join))
def test_any_text_is_restated_without_losing_rows(text: str) -> None:
    head = Head()
    for line in text.split("\n"):
        head = head.after(line)
        row = parse_row(line)
        if row and (cells := row_cells(row, head.columns)):
            assert len(row.amounts) - sum(len(amount.split()) for _, amount in cells) in (0, 1)
    restate_rows(text)


@pytest.mark.parametrize("line", ["a " + "1 " * 200, "a(" * 150, "2018 " * 40, "a " + "(1 " * 130, "* " * 200, "in " * 130])
def test_hostile_lines_take_no_time(line: str) -> None:
    started = time.perf_counter()
    for _ in range(20):
        parse_row(line)
        parse_columns(line)
        parse_unit(line)
        Head().after(line)
    assert time.perf_counter() - started < 1.0
