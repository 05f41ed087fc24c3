"""Rows with what stands over them: each table's own unit, headings that change what a row means, pages of others."""

from __future__ import annotations

import pytest
from dataset_fakes import STATEMENT, make_document
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.facts import find_facts, is_sign_clear
from ragtune.datasets.tables import pages_of_others, read_rows, title_of_page
from ragtune.documents.statements import parse_row
from ragtune.records import Page

TWO_TABLES = """Selected data
We sold more in each region than in the year before, as the table below shows for all of them.
(in millions)
2021 2020
Regional sales 410 390
Regional costs 260 245
Prices rose again, and the average price paid for a unit of each product is shown in the next table.
2021 2020
Export sales 31 30
"""
CASH_FLOW = """Statements of Cash Flows
(in millions)
2021 2020
Net income 518 470
Depreciation expense 90 80
Changes in operating assets and liabilities:
Accounts receivable (40) 12
Inventories (8) (3)
Net cash provided by operating activities 560 559
Purchases of property (189) (203)
Cash paid during the year for:
Income taxes 101 99
"""


def units(text: str) -> dict[str, str]:
    return {row.label: row.unit for row in read_rows(text)}


def labels(*pages: str, **metadata: str) -> set[str]:
    return {fact.label for fact in find_facts(make_document("D", *pages, **metadata))}


def test_a_unit_holds_for_its_own_table_only() -> None:
    assert units(TWO_TABLES) == {"Regional sales": "millions", "Regional costs": "millions", "Export sales": ""}
    assert units(TWO_TABLES.replace("the next table", "it (in thousands)"))["Export sales"] == "thousands"
    both = "The following tables show sales of each\nregion (in millions):\n2021 2020\nSales 4 3\nCosts\n2021 2020\n" \
           "Costs of sales 2 1"
    assert units(both) == {"Sales": "millions", "Costs of sales": "millions"}
    dated = "Sales\n(in millions)\nFor the years ended December 31\n2021 2020\nExport sales 31 30"
    assert units(dated) == {"Export sales": "millions"}
    titled = "Acme Inc.\n(in thousands)\n" + TWO_TABLES.replace("(in millions)\n", "")
    assert set(units(titled).values()) == {"thousands"}


def test_two_units_over_a_table_leave_it_without_one() -> None:
    text = "Balances (in millions, except the backlog,\nwhich is presented in billions)\n2021 2020\nUnearned revenue 17 15"
    assert units(text) == {"Unearned revenue": ""}


def test_rows_below_a_heading_of_changes_are_changes() -> None:
    changes = {"Accounts receivable", "Inventories", "Income taxes"}
    assert {row.label for row in read_rows(CASH_FLOW) if row.is_change} == changes
    assert not changes & labels(STATEMENT, CASH_FLOW)
    assert {"Depreciation expense", "Purchases of property"} <= labels(STATEMENT, CASH_FLOW)


def test_a_label_over_two_lines_is_no_row() -> None:
    text = "(in millions)\n2021 2020\nProceeds from sales of\nInvestment property 4 3\nCosts of sales 2 1\nof services\n" \
           "Net sales 9 8"
    assert [row.label for row in read_rows(text)] == ["Net sales"]


@pytest.mark.parametrize("title", [
    "Schedule I - Condensed Financial Information of Registrant", "(Parent Company Only)", "Unaudited pro forma results",
    "Summarized financial information of equity method investees", "Assets and liabilities held for sale",
])
def test_statements_of_somebody_else_are_left_out(title: str) -> None:
    assert "Net sales" in labels(STATEMENT)
    assert labels(f"{title}\n{STATEMENT}") == set()


def test_rows_of_tables_that_mean_nothing_outside_are_left_out_but_totals_are_not() -> None:
    text = "The components of deferred tax assets were as follows (in millions):\n2021 2020\nAccrued costs 12 11\n" \
           "Leased property 4 3\nTotal deferred tax assets 16 14"
    assert labels(text) == {"Total deferred tax assets"}


def test_a_subsidiary_that_files_with_its_parent_is_told_by_the_title() -> None:
    head = "Consolidated Statements of Income"
    pages = [Page(1, f"Voltane Corporation\n{head}\nNet sales 3 2"), Page(2, f"Lakeside Power Company\n{head}\nSales 2 1"),
             Page(3, "Notes\nSales are made to customers."), Page(4, "This is what the Company\ndid.")]
    assert pages_of_others(pages, "Voltane") == pages_of_others(pages, "VOLTANE CORP") == {2}
    assert pages_of_others(pages, "Another") == set()  # no page names it so: nothing is known
    assert title_of_page(pages[0].text) == f"Voltane Corporation\n{head}"


@pytest.mark.parametrize(("label", "amounts", "clear"), [
    ("Net sales", ("4", "3"), True),
    ("Net income", ("(4)", "3"), True),
    ("Provision for income taxes", ("(4)", "(3)"), True),
    ("Provision for income taxes", ("(4)", "3"), False),
    ("Total deferred tax liabilities", ("(4)", "(3)"), True),
    ("Repayments of debt", ("(4)", "—"), True),
    ("Repayments of debt", ("(4)", "0"), True),
    ("Repayments of debt", ("(4)", "3"), False),
    ("Foreign currency debt", ("(4)", "(3)"), False),
    ("Accumulated deficit", ("(4)", "(3)"), True),
])
def test_parentheses_are_read_only_where_the_label_says_how(label: str, amounts: tuple[str, ...], clear: bool) -> None:
    assert is_sign_clear(label, amounts) == clear


LINES = st.lists(st.sampled_from([*TWO_TABLES.split("\n"), *CASH_FLOW.split("\n"), "2021", "", "(in", "Sales (1) 2", "of"]))


@given(LINES)
def test_any_page_gives_rows_that_stand_on_it(lines: list[str]) -> None:
    for row in read_rows("\n".join(lines)):
        printed = parse_row(row.line)
        assert row.line in lines
        assert printed is not None
        assert len(row.years) == len(row.amounts) > 1
        assert row.label == printed.label
