"""Question files: both shapes, and every fault named with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.questions import is_calculation, is_restated, read_questions, save_questions
from ragtune.errors import QuestionError
from ragtune.records import Evidence, Question

OWN = {"id": "a", "text": "What were net sales?", "answer": "$5 million", "evidence": [{"document": "D", "page": 3}]}
BENCH = {
    "financebench_id": "fb_1", "company": "Acme", "doc_name": "ACME_2020_10K", "question_type": "metrics-generated",
    "question": "What were sales?", "answer": "$5", "justification": "The metric was extracted from the filing.",
    "evidence": [{"evidence_text": "Sales 5", "doc_name": "ACME_2020_10K", "evidence_page_num": 59}],
}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_own_shape_is_read_back_as_saved(tmp_path: Path) -> None:
    question = Question("q1", "What?", "$5 million", (Evidence("D", 2, "Sales 5"),), "lookup", "Sales 2020: 5",
                        {"company": "Acme", "fiscal_year": 2020})
    assert save_questions(tmp_path / "q.jsonl", [question]) == 1
    assert read_questions(tmp_path / "q.jsonl") == [question]


def test_question_may_stand_under_either_key_and_an_id_is_made(tmp_path: Path) -> None:
    first, second = read_questions(write(tmp_path / "q.jsonl", {"question": " Why? ", "answer": 7}, {"text": "How?"}))
    assert (first.text, first.answer, second.answer) == ("Why?", "7", "")
    assert first.id != second.id
    assert not second.is_answerable


@pytest.mark.parametrize("number", [59, "59"])
def test_financebench_pages_count_from_zero(tmp_path: Path, number: Any) -> None:
    row = {**BENCH, "evidence": [{"evidence_text": "Sales 5", "doc_name": "ACME_2020_10K", "evidence_page_num": number}]}
    question = read_questions(write(tmp_path / "q.jsonl", row))[0]
    assert question.id == "fb_1"
    assert question.evidence == (Evidence("ACME_2020_10K", 60, "Sales 5"),)
    assert question.kind == "metrics-generated"
    assert question.justification == ""
    assert question.metadata["justification"] == BENCH["justification"]


def test_financebench_document_name_may_stand_in_three_places(tmp_path: Path) -> None:
    rows = [{**BENCH, "financebench_id": str(n), "evidence": [entry]} for n, entry in enumerate((
        {"evidence_doc_name": "E", "doc_name": "X", "evidence_page_num": 0}, {"doc_name": "X", "evidence_page_num": 0},
        {"evidence_page_num": 0}))]
    names = [q.evidence[0].document for q in read_questions(write(tmp_path / "q.jsonl", *rows))]
    assert names == ["E", "X", "ACME_2020_10K"]


def test_financebench_justification_that_restates_rows_is_kept(tmp_path: Path) -> None:
    row = {**BENCH, "justification": "Net sales 2020: 4,210\n4,210 / 3,900 - 1 = 7.9%"}
    assert read_questions(write(tmp_path / "q.jsonl", row))[0].justification == row["justification"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([OWN, "{broken"], ["q.jsonl:2", "not JSON"]),
        ([OWN, "[1]"], ["q.jsonl:2", "found list"]),
        ([OWN, OWN], ["q.jsonl:2", "'a'", "line 1"]),
        ([{**OWN, "text": "  "}], ["q.jsonl:1", "empty"]),
        ([{"id": "x", "answer": "5"}], ["q.jsonl:1", "no 'text'"]),
        ([{**OWN, "evidence": [{"document": "D", "page": 0}]}], ["q.jsonl:1", "page 0", "from 1"]),
        ([{**OWN, "evidence": [{"document": "D", "page": "3"}]}], ["q.jsonl:1", "page '3'"]),
        ([{**OWN, "evidence": [{"page": 3}]}], ["q.jsonl:1", "document None"]),
        ([{**OWN, "evidence": {"page": 3}}], ["q.jsonl:1", "list of objects"]),
        ([{**OWN, "answer": ["5"]}], ["q.jsonl:1", "answer is list"]),
        ([{**OWN, "metadata": 5}], ["q.jsonl:1", "metadata"]),
        ([{**OWN, "id": {}}], ["q.jsonl:1", "id is dict"]),
        ([{**BENCH, "evidence": [{"doc_name": "D", "evidence_page_num": -1}]}], ["q.jsonl:1", "-1", "from 0"]),
        ([{**BENCH, "doc_name": "", "evidence": [{"evidence_page_num": 1}]}], ["q.jsonl:1", "no document"]),
        ([""], ["no question"]),
    ],
)
def test_faults_name_file_line_and_what_is_allowed(tmp_path: Path, rows: list[Any], words: list[str]) -> None:
    with pytest.raises(QuestionError) as caught:
        read_questions(write(tmp_path / "q.jsonl", *rows))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_missing_file_and_other_encodings_are_named(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match="no question file"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "q.jsonl").write_bytes(b"\xff\xfe{\x00")
    with pytest.raises(QuestionError, match="not UTF-8"):
        read_questions(tmp_path / "q.jsonl")


def test_lines_of_a_justification_are_told_apart() -> None:
    for line in ("Net sales 2021: 4,210", "Net loss 2020: (78)", "Dividends 2019: —", "Margin 2020: 13.0%"):
        assert is_restated(line)
        assert not is_calculation(line)
    for line in ("4,210 / 3,900 - 1 = 7.9%", "-310 - 420 = -730", "310 / 4,210 = 0.07"):
        assert is_calculation(line)
        assert not is_restated(line)
    for line in ("The metric was extracted.", "CAPEX/Revenue", "ROA=Net Income/Total Assets", "Q2 2023: good"):
        assert not is_restated(line)
        assert not is_calculation(line)


@given(st.lists(st.tuples(st.text(min_size=1).filter(str.strip), st.text()), min_size=1, max_size=4))
def test_any_text_survives_the_file(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("q") / "q.jsonl"
    questions = [Question(str(n), text.strip(), answer.strip()) for n, (text, answer) in enumerate(pairs)]
    save_questions(path, questions)
    assert read_questions(path) == questions
