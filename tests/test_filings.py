"""The bundled filings: their numbers add up, their questions are right, and the script writes them again."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from ragtune.documents.statements import parse_row, restate_rows
from ragtune.files import read_jsonl
from ragtune.records import Question

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
sys.path.insert(0, str(ROOT / "scripts"))

from filings.asking import read_pages  # noqa: E402
from filings.books import check_year, keep_books  # noqa: E402
from filings.companies import COMPANIES  # noqa: E402


@pytest.fixture(scope="module")
def pages() -> dict[str, list[str]]:
    return {path.stem: read_pages(path) for path in sorted((DATA / "filings").glob("*.pdf"))}


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return [Question.from_dict(row) for _, row in read_jsonl(DATA / "questions.jsonl")]


def read_amount(text: str) -> float:
    value = float(re.sub(r"[^\d.]", "", text) or 0)
    return -value if text.startswith(("(", "-")) else value


def amounts_on(pages: list[str], label: str) -> list[float]:
    """Return the amounts of the last row of this label in the document."""
    rows = [row for page in pages for line in page.split("\n") if (row := parse_row(line)) and row.label == label]
    return [read_amount(a) for a in rows[-1].amounts]


def test_collection_is_as_described(pages: dict[str, list[str]], questions: list[Question]) -> None:
    assert len(pages) == 16
    assert all(10 <= len(p) <= 16 for p in pages.values())
    assert sum(path.stat().st_size for path in (DATA / "filings").iterdir()) < 3_000_000
    assert {row["document"] for _, row in read_jsonl(DATA / "documents.jsonl")} == set(pages)
    kinds = Counter(question.kind for question in questions)
    assert len(questions) > 380
    assert 0.4 < kinds["lookup"] / len(questions) < 0.6
    assert 0.1 < kinds["unanswerable"] / len(questions) < 0.2
    assert len({q.id for q in questions}) == len({q.text for q in questions}) == len(questions)


def test_every_page_says_that_the_company_is_fictitious(pages: dict[str, list[str]]) -> None:
    assert all("is a fictitious company" in " ".join(p[0].split()) for p in pages.values())


def test_printed_statements_add_up(pages: dict[str, list[str]]) -> None:
    for document, texts in pages.items():
        assets, both = amounts_on(texts, "Total assets"), amounts_on(texts, "Total liabilities and equity")
        assert assets == both, document
        sheet = next(p for p in texts if "Total liabilities and equity" in p)
        rows = [row for line in sheet.split("\n") if (row := parse_row(line))]
        equity = next(row for row in rows if re.match("Total s.*equity", row.label))
        liabilities = amounts_on(texts, "Total liabilities")
        assert [a + b for a, b in zip(liabilities, map(read_amount, equity.amounts))] == assets, document


def test_cash_flows_tie_to_the_balance_sheet(pages: dict[str, list[str]]) -> None:
    for document, texts in pages.items():
        flows = next(p for p in texts if "Financing activities:" in p)
        rows = [row for line in flows.split("\n") if (row := parse_row(line))]
        end = next(row for row in rows if re.match("Cash .*at end of year", row.label))
        start = next(row for row in rows if re.match("Cash .*at beginning of year", row.label))
        change = rows[rows.index(start) - 1]
        for now, before, moved in zip(end.amounts, start.amounts, change.amounts):
            assert read_amount(now) == read_amount(before) + read_amount(moved), document
        sheet = next(p for p in texts if "Total liabilities and equity" in p)
        cash = next(row for line in sheet.split("\n") if (row := parse_row(line)) and row.label.startswith("Cash and"))
        assert list(map(read_amount, cash.amounts)) == list(map(read_amount, end.amounts))[:2], document
        # Net income is the same in the income statement and at the head of the cash flows.
        label = next(row.label for row in rows if row.label.startswith(("Net income", "Net earnings", "Net loss")))
        earned = next(p for p in texts if re.search("shares.*, diluted", p))
        assert amounts_on([earned], label) == amounts_on([flows], label), document


def test_books_of_every_year_hold_and_a_wrong_one_is_noticed() -> None:
    books = keep_books(COMPANIES[0])
    last = max(books)
    with pytest.raises(ValueError, match="balance sheet balances"):
        check_year({**books[last], "total_assets": books[last]["total_assets"] + 1}, books[last - 1])


def test_two_filings_of_one_company_agree(pages: dict[str, list[str]]) -> None:
    old, new = pages["NORVANE_2021_10K"], pages["NORVANE_2022_10K"]
    for label in ("Net sales", "Net income", "Purchases of property, plant and equipment"):
        assert amounts_on(old, label)[:2] == amounts_on(new, label)[1:]


def test_evidence_stands_on_its_page_and_is_restated_as_justified(
    pages: dict[str, list[str]], questions: list[Question]
) -> None:
    for question in questions:
        assert bool(question.evidence) == question.is_answerable == (question.kind != "unanswerable")
        restated: list[str] = []
        for evidence in question.evidence:
            page = pages[evidence.document][evidence.page - 1]
            assert evidence.text in page.split("\n"), question.id
            restated += restate_rows(page).split("\n")
        for line in question.justification.split("\n") if question.evidence else ():
            assert " = " in line or line in restated, (question.id, line)


def test_calculations_are_right(questions: list[Question]) -> None:
    checked = 0
    for question in questions:
        if question.kind not in ("difference", "growth", "ratio"):
            continue
        *rows, calculation = question.justification.split("\n")
        left, right = calculation.split(" = ")
        assert re.fullmatch(r"[-\d.,/ ]+", left), calculation
        value = eval(left.replace(",", ""))
        wanted = float(re.sub(r"[,%]", "", right))
        is_percent = right.endswith("%")
        assert abs(value * (100 if is_percent else 1) - wanted) <= (0.0501 if is_percent else 0.00501), question
        assert question.answer.removeprefix("-").lstrip("$").split()[0] == right.removeprefix("-")
        assert question.answer.startswith("-") == right.startswith("-")
        # The numbers of the calculation are those of the rows, an outflow without its sign.
        numbers = [abs(read_amount(row.rpartition(": ")[2])) for row in rows]
        assert [abs(read_amount(n)) for n in re.findall(r"[\d,]+(?:\.\d+)?", left)][:2] == numbers
        checked += 1
    assert checked > 100


def test_yes_and_no_follow_from_the_rows(questions: list[Question]) -> None:
    answers = Counter()
    for question in questions:
        if question.kind != "yes_no":
            continue
        first, second = (abs(read_amount(line.rpartition(": ")[2])) for line in question.justification.split("\n"))
        upward = bool(re.search(r"increase|higher|greater", question.text))
        assert question.answer.startswith("Yes" if (first > second) == upward else "No"), question
        answers[question.answer.split(",")[0]] += 1
    assert min(answers["Yes"], answers["No"]) > 8


def test_answers_follow_the_conventions(questions: list[Question]) -> None:
    for question in questions:
        if question.kind == "lookup":
            assert re.fullmatch(r"-?\$[\d,]+(\.\d\d| million| thousand)|[\d.]+%|[\d,]+", question.answer), question
            assert question.answer.startswith("-") <= ("(" in question.justification.rpartition(": ")[2])
    capex = next(q for q in questions if "Purchases of property" in q.justification and q.kind == "lookup")
    assert "(" in capex.justification
    assert capex.answer.startswith("$")


def test_script_writes_the_same_again(tmp_path: Path, pages: dict[str, list[str]]) -> None:
    from make_filings import make_filings

    make_filings(tmp_path)
    assert (tmp_path / "questions.jsonl").read_bytes() == (DATA / "questions.jsonl").read_bytes()
    assert (tmp_path / "documents.jsonl").read_bytes() == (DATA / "documents.jsonl").read_bytes()
    for document, texts in pages.items():  # bytes may differ between versions of reportlab
        assert read_pages(tmp_path / "filings" / f"{document}.pdf") == texts
