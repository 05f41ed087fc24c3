"""Line items are recognised under their many names, and the sentence beside a question says what the passages call them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.prompt import prompt_hash, render_prompt
from ragtune.documents.terms import TERMS, find_terms, name_rows, render_names
from ragtune.records import Passage

CASH = """Net income 2018: 5,363
Purchases of property, plant and equipment (PP&E) 2018: (1,577)
Dividends paid 2018: (3,193)"""


def term_of(name: str) -> int:
    return next(i for i, term in enumerate(TERMS) if name in (n.rstrip("*") for n in term.names))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("capex", "Purchases of property, plant and equipment (PP&E)"),
        ("capex", "Payments for acquisition of property, plant and equipment"),
        ("capex", "Additions to property and equipment"),
        ("revenue", "Total net revenues"),
        ("revenue", "Net sales"),
        ("cost of goods sold", "Cost of sales"),
        ("net income", "Net income attributable to 3M"),
        ("net income", "Net Income (Loss)"),
        ("pre-tax income", "Income before provision for income taxes"),
        ("income tax expense", "Provision for (benefit from) income taxes"),
        ("net PP&E", "Property, plant and equipment — net"),
        ("accounts receivable", "Accounts receivable, less allowances of $53 and $63, respectively"),
        ("inventory", "Total inventories"),
        ("operating cash flow", "Net cash provided by (used in) operating activities"),
        ("shareholders' equity", "Total stockholders’ equity"),
        ("diluted EPS", "Earnings per share—diluted"),
        ("dividends", "Payments of dividends to stockholders"),
        ("share buybacks", "Payments for repurchases of common stock"),
    ],
)
def test_a_name_stands_for_its_labels(name: str, label: str) -> None:
    assert TERMS[term_of(name)].names_row(label)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("revenue", "Cost of revenue"),
        ("revenue", "Deferred revenue"),
        ("net income", "Net income attributable to noncontrolling interests"),
        ("net PP&E", "Property and equipment, gross"),
        ("shareholders' equity", "Total liabilities and shareholders’ equity"),
        ("diluted EPS", "Weighted average shares outstanding, diluted"),
        ("accounts payable", "Accounts payable, accrued expenses and other liabilities"),
        ("operating income", "Operating expenses"),
        ("total assets", "Total current assets"),
    ],
)
def test_near_labels_are_not_taken_for_it(name: str, label: str) -> None:
    assert not TERMS[term_of(name)].names_row(label)


def test_a_name_within_a_longer_one_does_not_count() -> None:
    assert [phrase for phrase, _ in find_terms("What were the cost of revenue and the deferred revenue of Acme?")] == [
        "cost of revenue", "deferred revenue"]
    assert find_terms("Does Acme pay its capexical staff?") == []


def test_the_row_is_named_where_the_question_words_it_otherwise() -> None:
    said = render_names(name_rows("What is the FY2018 capex of 3M?", [CASH]))
    assert said == "In the passages, capex is called Purchases of property, plant and equipment (PP&E)."
    assert name_rows("What was net income in 2018?", [CASH]) == []  # the row's own name
    assert name_rows("What was the headcount in 2018?", [CASH]) == []  # no such row
    assert render_names([]) == ""


def test_a_segment_that_has_a_row_of_its_own_is_left_alone() -> None:
    rows = "Net sales 2018: 10\nEurope revenue 2018: 4"
    assert name_rows("What was Europe revenue in 2018?", [rows]) == []
    assert name_rows("What was revenue in 2018?", [rows]) == [("revenue", ("Net sales",))]


def test_two_line_items_and_several_rows_in_one_sentence() -> None:
    rows = "Net sales 2018: 10\nTotal revenues 2018: 12\nCapital expenditures 2018: 3"
    assert render_names(name_rows("What is the ratio of capex to turnover?", [rows])) == (
        "In the passages, capex is called Capital expenditures; turnover is called Net sales or Total revenues.")


def test_the_prompt_carries_the_sentence_unless_switched_off() -> None:
    passage = Passage(1, CASH, "c", "3M_2018_10K", 60, 0, 10, title="3M 10-K 2018, page 60 (in millions)")
    question = "What is the FY2018 capex of 3M?"
    told, bare = (render_prompt(question, [passage], names)[1]["content"] for names in (True, False))
    assert told == f"{bare}\nIn the passages, capex is called Purchases of property, plant and equipment (PP&E)."
    assert prompt_hash(True) != prompt_hash(False)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_read_without_error_and_only_rows_are_named(question: str, passage: str) -> None:
    for phrase, labels in name_rows(question, [passage, CASH]):
        assert phrase in question
        assert all(re.search(rf"{re.escape(label)} (?:19|20)\d\d: ", f"{passage}\n{CASH}") for label in labels)
