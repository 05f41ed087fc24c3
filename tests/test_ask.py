"""Questions asked from statement rows: right, clear, varied, the same again under a seed."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from dataset_fakes import ACME, CASH, RIVAL, STATEMENT, ZENITH, MemoryPages, make_document
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.ask import KINDS, ask_questions, documents_kept
from ragtune.datasets.facts import Fact, find_facts, is_usable_label, is_usable_row
from ragtune.datasets.questions import is_calculation, is_restated
from ragtune.datasets.wording import call_line, lower_first, possessive, read_value, show_answer
from ragtune.documents.statements import restate_rows
from ragtune.errors import QuestionError
from ragtune.records import Question

PAGES = MemoryPages(ACME, ZENITH)


def fact(label: str, *amounts: str, unit: str = "millions") -> Fact:
    return Fact(label, tuple(zip(("2021", "2020"), amounts)), "D", 1, "line", unit, False, True)


def amount(text: str) -> float:
    value = float(re.sub(r"[^\d.]", "", text))
    return -value if text.startswith(("(", "-")) else value


def test_facts_are_the_rows_that_speak_for_themselves() -> None:
    labels = {f.label for f in find_facts(ACME)}
    assert {"Net sales", "Interest expense", "Purchases of property, plant and equipment", "Net income",
            "Net income per share, basic"} <= labels
    sales = next(f for f in find_facts(ACME) if f.label == "Net sales")
    assert (sales.page, sales.unit, sales.is_primary) == (2, "millions", True)
    assert sales.restated("2020") == "Net sales 2020: 3,900"
    assert sales.line == "Net sales $ 4,210 $ 3,900"


@pytest.mark.parametrize("label", [
    "Total", "Other, net", "Total other", "Basic", "United States", "Level 2", "provided by sales",
    "Proceeds from sale of", "Net cash provided by", "Sales (Note",
    "Foreign exchange contracts Cost of sales", "Warrants and other rights Other assets", "Cash at December 31",
    "Principal due on our debt", "Cash, beginning of year",
    "Revenue 2019", "Income, $5", "x" * 90 + " income", "(Loss) income", "Note 5 Debt",
])
def test_labels_that_mean_nothing_alone_are_not_asked(label: str) -> None:
    assert not is_usable_label(label)


@pytest.mark.parametrize(("label", "amounts", "unit", "usable"), [
    ("Net sales", ("4,210", "3,900"), "millions", True),
    ("Net sales", ("4,210", "3,900"), "", False),
    ("Operating margin", ("13.0%", "12.1%"), "", True),
    ("Debt maturing", ("2021", "2020"), "millions", False),
    ("Weighted-average shares of income", ("112.1", "110.0"), "millions", False),
    ("Net income per share", ("3.05", "2.99"), "millions", True),
    ("Dividends", ("—", "—"), "millions", False),
])
def test_amounts_must_be_answerable_with_a_unit(label: str, amounts: tuple[str, ...], unit: str, usable: bool) -> None:
    assert is_usable_row(label, amounts, unit) == usable


def test_label_twice_on_a_page_or_contradicted_elsewhere_is_left_out() -> None:
    twice = make_document("T", STATEMENT + "\nNet sales 1 2", company="T")
    assert "Net sales" not in {f.label for f in find_facts(twice)}
    other = "Regions\n(in millions)\n2021 2020\nNet sales 100 90\nEuropean sales 40 30\nCost of sales"
    found = {f.label: f.page for f in find_facts(make_document("R", STATEMENT, other, company="R"))}
    assert found["Net sales"] == 1, "the primary statement counts, the note is contradicted"
    assert found["European sales"] == 2
    again = make_document("A", STATEMENT, STATEMENT.replace("4,210", "4,211"), company="A")
    assert "Net sales" not in {f.label for f in find_facts(again)}


def test_repeated_years_over_columns_are_left_out() -> None:
    text = "Quarter and year\n(in millions)\n2021 2020 2021 2020\nNet sales 1,100 1,000 4,210 3,900"
    assert find_facts(make_document("Q", text)) == []


@pytest.mark.parametrize(("label", "printed", "value", "answer"), [
    ("Net sales", "4,210", 4210, "$4,210 million"),
    ("Purchases of property, plant and equipment", "(189)", 189, "$189 million"),
    ("Interest expense", "(52)", 52, "$52 million"),
    ("Dividends paid", "(120)", 120, "$120 million"),
    ("Net cash used in investing activities", "(500)", 500, "$500 million"),
    ("Net income (loss)", "(78)", -78, "-$78 million"),
    ("Net loss", "(78)", -78, "-$78 million"),
    ("Other income (expense), net", "(5)", -5, "-$5 million"),
    ("Accumulated other comprehensive loss", "(7)", -7, "-$7 million"),
    ("Provision for income taxes", "(9)", 9, "$9 million"),
    ("Total deferred tax liabilities", "(51)", 51, "$51 million"),
    ("Less accumulated depreciation", "(6)", 6, "$6 million"),
])
def test_what_is_paid_out_is_positive_and_a_loss_negative(label: str, printed: str, value: float, answer: str) -> None:
    row = fact(label, printed, printed)
    assert read_value(row, "2021") == value
    assert show_answer(row, value) == answer


def test_answers_carry_the_unit_of_their_row() -> None:
    assert show_answer(fact("Net sales", "421,034", "1", unit="thousands"), 421034) == "$421,034 thousand"
    assert show_answer(fact("Net income per share", "3.05", "2.99"), 3.05) == "$3.05"
    assert show_answer(fact("Effective tax rate", "21.4%", "20.0%"), 21.4) == "21.4%"
    assert show_answer(fact("Backlog of sales", "12.3", "11.0", unit="billions"), -1.3) == "-$1.3 billion"


def test_lines_have_more_than_one_name() -> None:
    row = fact("Purchases of property, plant and equipment", "(189)", "(203)")
    names = {call_line(row, random.Random(seed)).phrase for seed in range(30)}
    assert {"purchases of property, plant and equipment", "capex", "capital expenditure"} <= names
    assert call_line(fact("Goodwill", "1", "2"), random.Random(0)).be == "was"
    assert call_line(fact("Dividend income of plants", "1", "2"), random.Random(0)).be == "was"
    assert (lower_first("TOTAL ASSETS"), lower_first("EBITDA income"), lower_first("Net sales")) == (
        "total assets", "EBITDA income", "net sales")
    assert lower_first("Total Liabilities and Shareholders' Equity of PG&E") == (
        "total liabilities and shareholders' equity of PG&E")
    assert lower_first("Increase/(Decrease) in cash") == "increase/(decrease) in cash"
    assert (possessive("Acme"), possessive("Norvane Industries")) == ("Acme's", "Norvane Industries'")


@pytest.mark.parametrize("label", ["Net cash used in investing activities", "Deferred revenue, non-current", "Net loss"])
def test_a_label_that_says_more_keeps_its_name(label: str) -> None:
    assert {call_line(fact(label, "(5)", "(4)"), random.Random(seed)).phrase for seed in range(20)} == {lower_first(label)}


def test_no_change_of_a_change_is_asked() -> None:
    moved = make_document("M_2021_10K", STATEMENT + "\nNet change in cash 31 22\nIncrease in net debt 7 5", company="M")
    asked = [q for seed in range(8) for q in ask_questions(MemoryPages(moved), 80, seed) if q.evidence]
    of_changes = {q.kind for q in asked if "change in cash" in q.evidence[0].text or "net debt" in q.evidence[0].text}
    assert "lookup" in of_changes
    assert not of_changes & {"difference", "growth", "yes_no"}


@pytest.mark.parametrize("label", ["Tea and Other net revenues", "Net Interest Income", "Cost of Services Sold"])
def test_names_within_a_label_do_not_make_it_two(label: str) -> None:
    assert is_usable_label(label)


def test_years_to_come_are_no_facts() -> None:
    due = "Repayments\n(in millions)\n2022 2023\nTotal senior debt 40 50"
    assert {f.label for f in find_facts(make_document("D", due))} == {"Total senior debt"}
    assert find_facts(make_document("D", due, fiscal_year=2021)) == []


def test_a_summary_with_flows_and_balances_is_asked_by_label() -> None:
    summary = STATEMENT + "\nTotal assets 9,000 8,000\nTotal liabilities 4,000 3,900"
    balance = {f.label: f.is_balance for f in find_facts(make_document("S", summary, company="S"))}
    assert balance["Total assets"]
    assert balance["Total liabilities"]
    assert not balance["Net sales"]


def check(question: Question, pages: MemoryPages) -> None:
    """Check a question against the documents it was asked from."""
    lines = question.justification.split("\n")
    assert bool(question.evidence) == question.is_answerable == (question.kind != "unanswerable")
    restated: list[str] = []
    for evidence in question.evidence:
        text = pages.document(evidence.document).pages[evidence.page - 1].text
        assert evidence.text in text.split("\n")
        restated += restate_rows(text).split("\n")
    if not question.is_answerable:
        return
    rows = [line for line in lines if line in restated]
    values = [abs(amount(line.rpartition(": ")[2])) for line in rows]
    if question.kind == "lookup":
        assert [abs(amount(re.sub(r" [a-z]+$", "", question.answer)))] == values
    elif question.kind == "multi_span":
        assert len(rows) == 2
        said = [re.sub(r"( [a-z]+)? in \d{4}$", "", part) for part in question.answer.split(" and ")]
        assert [abs(amount(text)) for text in said] == values
    elif question.kind in ("yes_no", "versus"):
        assert len(rows) == 2
        rises = bool(re.search("increase|higher", question.text))
        assert question.answer.startswith("Yes" if (values[0] > values[1]) == rises else "No")
        assert ("above" in question.answer or "rose" in question.answer) == (values[0] > values[1])
    else:
        assert len(rows) == 2
        assert is_calculation(lines[2])
        left, right = lines[2].split(" = ")
        result = eval(left.replace(",", "")) * (100 if right.endswith("%") else 1)
        assert result == pytest.approx(amount(right), abs=0.051 if right.endswith("%") else 0.0051)
    assert all(is_restated(line) for line in rows)


def test_questions_are_right_distinct_and_of_all_kinds() -> None:
    questions = ask_questions(PAGES, 120, seed=3)
    assert len(questions) >= 60
    assert len({q.text for q in questions}) == len({q.id for q in questions}) == len(questions)
    assert set(Counter(q.kind for q in questions)) == set(KINDS)
    assert {q.metadata["document"] for q in questions} == {"ACME_2021_10K", "ZENITH_2021_10K"}
    for question in questions:
        check(question, PAGES)
        assert question.metadata["fiscal_year"] == 2021


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_any_seed_asks_right_questions_and_the_same_again(seed: int, count: int) -> None:
    questions = ask_questions(PAGES, count, seed)
    assert len(questions) <= count
    assert questions == ask_questions(PAGES, count, seed)
    for question in questions:
        check(question, PAGES)


def test_unanswerable_questions_have_no_answer_in_the_documents() -> None:
    vain = [q for seed in range(60) for q in ask_questions(PAGES, 40, seed) if q.kind == "unanswerable"]
    assert len(vain) > 40
    own_labels = {f.label.lower() for f in find_facts(ACME)}
    for question in vain:
        year = re.search(r"(?:19|20)\d\d", question.text)
        about_acme = "Acme" in question.text
        in_covered_year = year is not None and year[0] in ("2020", "2021")
        if about_acme and in_covered_year:
            assert not any(label in question.text.lower() for label in own_labels), question.text
    assert any("Total assets of segments".lower() in q.text.lower() for q in vain if "Acme" in q.text)


def test_filter_keeps_the_documents_questions_are_about() -> None:
    assert {q.metadata["company"] for q in ask_questions(PAGES, 30, 0, "company = 'Zenith'")} == {"Zenith"}
    kept = documents_kept(PAGES, "fiscal_year > 2020 and document != 'ACME_2021_10K'")
    assert [document.name for document in kept] == ["ZENITH_2021_10K"]
    with pytest.raises(QuestionError, match="keeps none of 2 documents"):
        ask_questions(PAGES, 5, 0, "company = 'Nobody'")
    with pytest.raises(QuestionError, match="no column 'compny'.*company"):
        ask_questions(PAGES, 5, 0, "compny = 'Acme'")


def test_documents_without_statement_rows_are_an_error() -> None:
    with pytest.raises(QuestionError, match=r"no statement row.*dataset\.questions"):
        ask_questions(MemoryPages(make_document("P", "Only prose here.", company="P")), 5, 0)


def test_document_without_metadata_is_asked_about_by_its_name() -> None:
    question = ask_questions(MemoryPages(make_document("MY_FILE", RIVAL, CASH)), 10, 0, None)[0]
    assert "MY FILE" in question.text or question.kind == "unanswerable"
    assert question.metadata == {"company": "MY FILE", "document": "MY_FILE"}


@pytest.mark.real
def test_real_filings_give_many_right_questions() -> None:
    from ragtune.documents.pdf import read_pdf

    folder = Path(os.environ.get("RAGTUNE_FINANCEBENCH", Path(__file__).parents[2] / "shared" / "financebench"))
    if not folder.is_dir():
        pytest.skip("no FinanceBench")
    names = ("APPLE_2019_10K", "SALESFORCE_2023_10K")
    documents = []
    for name in names:
        pages, _ = read_pdf(folder / "pdfs" / f"{name}.pdf")
        documents.append(make_document(name, *pages, company=name.split("_")[0].title()))
    real = MemoryPages(*documents)
    questions = ask_questions(real, 300, 0)
    assert len(questions) == 300
    for question in questions:
        check(question, real)
