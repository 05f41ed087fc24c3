"""What answers stand on, model by model and rung by rung, and how the report tells it."""

from __future__ import annotations

import pytest

from ragtune.evaluation.grounding.footing import HEADER, measure_footing
from ragtune.evaluation.ladder.graded import Graded, Shown
from ragtune.records import Chunk, Citation, Evidence, Question

QUESTIONS = [
    Question("sales", "What were Acme's net sales in 2021?", "4,210", (Evidence("ACME", 3),)),
    Question("staff", "How many people worked for Acme in 2021?", "1,877", (Evidence("ACME", 9),)),
    Question("ships", "How many ships has Acme?"),
]


def chunk_of(chunk_id: str) -> Chunk:
    text = {"right": "Net sales 2021: 4,210", "other": "Total debt 2021: 863"}[chunk_id]
    return Chunk(chunk_id, "d", "ACME", text, 3 if chunk_id == "right" else 4, 3 if chunk_id == "right" else 4, 0, len(text))


def row(question: Question, answer: str, cited: int | None, outcome: str, setting: str = "retrieval") -> Graded:
    citations = () if cited is None else (Citation(cited, "ACME", 3, "right", 0, 1, ""),)
    return Graded.from_dict({
        "model": "tuned", "setting": setting, "question_id": question.id, "kind": "", "outcome": outcome, "reason": "",
        "question": question.text, "gold": question.answer, "answer": answer, "reasoning": "", "completion": answer,
        "is_refusal": outcome == "refused", "citations": [citation.to_dict() for citation in citations],
        "passages": [Shown(1, "ACME", 3, 1, "right").to_dict(), Shown(2, "ACME", 4, 2, "other").to_dict()],
        "problems": [], "seconds": 0.0})


def test_one_row_a_model_and_rung_with_passages() -> None:
    rows = [row(QUESTIONS[0], "4,210", 1, "correct"), row(QUESTIONS[1], "863", 1, "wrong"),
            row(QUESTIONS[2], "", None, "refused"), row(QUESTIONS[0], "", None, "refused", "oracle"),
            row(QUESTIONS[0], "", None, "refused", "closed_book")]
    retrieval, oracle = measure_footing(rows, QUESTIONS, chunk_of)
    assert (retrieval.model, retrieval.setting, oracle.setting) == ("tuned", "retrieval", "oracle")
    assert retrieval.cells() == ("2", "1/2", "1/2", "1/2", "1/2", "1/2", "1/2", "0/1")
    assert oracle.grounding is None
    assert oracle.cells() == ("0", "–", "–", "–", "–", "–", "–", "1/1")
    assert len(retrieval.cells()) + 2 == len(HEADER)


def test_surer_answers_come_first_on_the_curve() -> None:
    rows = [row(QUESTIONS[0], "4,210", 1, "correct"), row(QUESTIONS[1], "863", 1, "wrong")]
    curve = measure_footing(rows, QUESTIONS, chunk_of)[0].curve
    assert [point.risk for point in curve.points] == [None, 0.0, 0.5]


def test_of_answers_alike_supported_the_better_found_comes_first() -> None:
    sure, unsure = (row(QUESTIONS[0], "4,210", 1, outcome).to_dict() for outcome in ("correct", "wrong"))
    sure["passages"][0]["score"], unsure["passages"][0]["score"], unsure["question_id"] = 7.5, -1.0, "twin"
    questions = [*QUESTIONS, Question("twin", QUESTIONS[0].text, "4,209", QUESTIONS[0].evidence)]
    curve = measure_footing([Graded.from_dict(unsure), Graded.from_dict(sure)], questions, chunk_of)[0].curve
    assert [point.risk for point in curve.points] == [None, 0.0, 0.5]


def test_what_the_summary_tells_is_plain() -> None:
    told = measure_footing([row(QUESTIONS[0], "4,210", 1, "correct")], QUESTIONS, chunk_of)[0].to_dict()
    assert set(told["curve"]) == {"area", "area_random", "area_best"}
    assert told["grounding"]["citation_precision"]["count"] == 1


def test_questions_of_another_file_are_left_aside() -> None:
    stray = row(Question("stray", "What else?", "x"), "x", 1, "correct")
    assert measure_footing([stray], QUESTIONS, chunk_of) == ()
    with pytest.raises(KeyError):
        measure_footing([row(QUESTIONS[0], "4,210", 1, "correct")], QUESTIONS, lambda _: {}["gone"])
