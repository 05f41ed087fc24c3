"""Question files of other people's shapes: what is read from each, what is left out, and every fault named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.questions import is_calculation, read_questions, save_questions
from ragtune.datasets.sources import SHAPES
from ragtune.datasets.steps import render_formula, render_program
from ragtune.errors import QuestionError
from ragtune.records import Evidence, Question

FINQA = {
    "pre_text": ["the company sells pumps .", "net sales rose in 2021 ."], "post_text": ["we expect more ."],
    "filename": "ACM/2021/page_49.pdf", "id": "ACM/2021/page_49.pdf-1",
    "table": [["", "2021", "2020"], ["net sales", "$ 4,210", "$ 3,900"], ["other income", "$ -12 ( 12 )", "3"]],
    "qa": {"question": "what was the growth of net sales?", "answer": "7.9%", "exe_ans": 0.07949,
           "program": "subtract(4210, 3900), divide(#0, 3900)",
           "gold_inds": {"table_1": "the net sales of 2021 is $ 4,210 ;", "text_1": "net sales rose in 2021 ."}},
}
TATQA = {
    "table": {"uid": "t1", "table": [["", "2021", "2020"], ["Pumps", "44.1", "56.7"], ["Valves", "1,002.5", "980.0"],
                                     ["Total", "1,046.6", "1,036.7"]]},
    "paragraphs": [{"uid": "p1", "order": 1, "text": "Sales are by product."},
                   {"uid": "p2", "order": 2, "text": "Pumps fell because a plant was closed (in millions)."}],
    "questions": [
        {"uid": "q1", "order": 1, "question": "What is the change in pumps?", "answer": -12.6, "derivation": "44.1-56.7",
         "answer_type": "arithmetic", "answer_from": "table", "rel_paragraphs": ["2"], "scale": "million"},
        {"uid": "q2", "order": 2, "question": "Why did pumps fall?", "answer": ["a plant was closed"], "derivation": "",
         "answer_type": "span", "answer_from": "text", "rel_paragraphs": ["2"], "scale": ""},
        {"uid": "q3", "order": 3, "question": "By what share did pumps fall?", "answer": -22.22, "scale": "percent",
         "derivation": "(44.1 - 56.7) / 56.7", "answer_type": "arithmetic", "answer_from": "table-text",
         "rel_paragraphs": ["2"]},
        {"uid": "q4", "order": 4, "question": "Which products sell above 50?", "answer": ["Valves", "Total"],
         "derivation": "", "answer_type": "multi-span", "answer_from": "table", "rel_paragraphs": [], "scale": "million"},
        {"uid": "q5", "order": 5, "question": "How many products?", "answer": 2, "derivation": "Pumps##Valves",
         "answer_type": "count", "answer_from": "table", "rel_paragraphs": [], "scale": ""},
    ],
}
CONTEXT = "Acme Corp. makes pumps. It was founded in 1911 by Ada Pump. Pumps are sold in Norway."
SQUAD = {"version": "v2.0", "data": [{"title": "Acme_Corporation", "paragraphs": [{"context": CONTEXT, "qas": [
    {"id": "s1", "question": "When was it founded?", "is_impossible": False,
     "answers": [{"text": "1911", "answer_start": CONTEXT.index("1911")}, {"text": "in 1911", "answer_start": 38},
                 {"text": "1911", "answer_start": CONTEXT.index("1911")}]},
    {"id": "s2", "question": "When was it sold?", "is_impossible": True, "answers": [],
     "plausible_answers": [{"text": "1911", "answer_start": CONTEXT.index("1911")}]}]}]}]}


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def lines(*rows: Any) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def test_finqa_gives_document_page_facts_and_the_calculation(tmp_path: Path) -> None:
    question = read_questions(write(tmp_path / "train.json", [FINQA]))[0]
    assert (question.id, question.answer) == ("ACM/2021/page_49.pdf-1", "7.9%")
    assert question.evidence == (Evidence("ACM_2021", 49, "net sales $ 4,210 $ 3,900"),
                                 Evidence("ACM_2021", 49, "net sales rose in 2021 ."))
    assert question.justification == "(4,210 - 3,900) / 3,900 = 7.9%"
    assert is_calculation(question.justification)


def test_finqa_negative_cells_are_said_once_and_a_flat_export_is_read(tmp_path: Path) -> None:
    qa = {**FINQA["qa"], "gold_inds": {"table_2": "..."}, "answer": "", "exe_ans": "yes", "program": "greater(3, -12)"}
    flat = {**{k: v for k, v in FINQA.items() if k != "qa"}, **qa}
    nested, other = read_questions(write(tmp_path / "q.jsonl", lines({**FINQA, "qa": qa}, {**flat, "id": "b"})))
    assert nested.evidence[0].text == "other income $ ( 12 ) 3"
    assert (nested.answer, nested.justification) == ("yes", "")
    assert (other.text, other.evidence, other.answer) == (nested.text, nested.evidence, nested.answer)


@pytest.mark.parametrize(("program", "stated", "line"), [
    ("subtract(5829, 5735)", "94", "5829 - 5735 = 94"),
    ("subtract(5829, 5735), divide(#0, 5735)", "1.6%", "(5829 - 5735) / 5735 = 1.6%"),
    ("subtract(10, 4), subtract(20, #0)", "$ 14 million", "20 - (10 - 4) = 14"),
    ("add(1, 2), add(#0, 3), divide(#1, const_3)", "2", "(1 + 2 + 3) / 3 = 2"),
    ("multiply(-3, const_m1)", "3", "-3 * -1 = 3"),
    ("divide(3, 4), divide(2, #0)", "2.67", "2 / (3 / 4) = 2.67"),
    ("subtract(5829, 5735), divide(#0, 5735)", "2.6%", ""),  # the answer is another
    ("subtract(5829, 5735), divide(#0, 0)", "1.6%", ""),
    ("table_average(net sales, none)", "5", ""),
    ("greater(3, 2)", "yes", ""),
    ("exp(2, 3)", "8", ""),
    ("divide(#3, 2)", "8", ""),
    ("subtract(5829, 5735", "94", ""),
    ("subtract(5829, 5735), rubbish", "94", ""),
    ("", "94", ""),
])
def test_programs_become_calculation_lines_or_nothing(program: str, stated: str, line: str) -> None:
    assert render_program(program, stated) == line


def test_programs_write_numbers_as_the_texts_print_them() -> None:
    assert render_program("subtract(5829, 5735)", "94", ["sales of 5,829, up", "5735"]) == "5,829 - 5735 = 94"


@pytest.mark.parametrize(("formula", "stated", "line"), [
    ("44.1-56.7", "-12.6", "44.1 - 56.7 = -12.6"), ("$4,210 - $3,900", "310", "4,210 - 3,900 = 310"),
    ("[(2+-3)/2]", "-0.5", "((2 + -3) / 2) = -0.5"), ("44.1 − 56.7", "−12.6", "44.1 - 56.7 = -12.6"),
    ("Pumps##Valves", "2", ""), ("44.1", "44.1", ""), ("44.1 - 56.7", "2 to 3", ""), ("1 / 0", "1", ""),
])
def test_derivations_become_calculation_lines_or_nothing(formula: str, stated: str, line: str) -> None:
    assert render_formula(formula, stated) == line


@given(st.text(alphabet="0123456789.,-+*/()#% adsubtrcivemlpy_const$x", max_size=80), st.text(max_size=12))
def test_any_program_gives_a_right_calculation_or_nothing(program: str, stated: str) -> None:
    for line in (render_program(program, stated), render_formula(program, stated)):
        assert line == "" or is_calculation(line)


def test_tatqa_gives_the_rows_and_paragraphs_each_answer_needs(tmp_path: Path) -> None:
    change, why, share, which, count = read_questions(write(tmp_path / "tatqa.json", [TATQA]))
    assert (change.id, change.kind, change.answer) == ("q1", "arithmetic", "-12.6 million")
    assert change.evidence == (Evidence("", 0, "Pumps 44.1 56.7"),)
    assert change.justification == "44.1 - 56.7 = -12.6"
    assert why.evidence == (Evidence("", 0, TATQA["paragraphs"][1]["text"]),)
    assert (share.answer, share.justification) == ("-22.22%", "(44.1 - 56.7) / 56.7 = -22.22%")
    assert [e.text for e in share.evidence] == ["Pumps 44.1 56.7", TATQA["paragraphs"][1]["text"]]
    assert which.answer == "Valves; Total"
    assert [e.text for e in which.evidence] == ["Valves 1,002.5 980.0", "Total 1,046.6 1,036.7"]
    assert count.answer == "2"
    assert [e.text for e in count.evidence] == ["Pumps 44.1 56.7", "Valves 1,002.5 980.0"]


def test_squad_gives_the_sentence_of_the_answer_and_refusals(tmp_path: Path) -> None:
    founded, sold = read_questions(write(tmp_path / "dev-v2.0.json", SQUAD))
    assert (founded.answer, founded.metadata["document"]) == ("1911", "Acme_Corporation")
    assert founded.evidence == (Evidence("Acme_Corporation", 0, "It was founded in 1911 by Ada Pump."),)
    assert (sold.answer, sold.evidence, sold.kind) == ("", (), "unanswerable")


def test_squad_columns_of_an_export_are_read(tmp_path: Path) -> None:
    row = {"id": "a", "title": "Acme", "context": CONTEXT, "question": "Where?"}
    where, none = read_questions(write(tmp_path / "q.jsonl", lines(
        {**row, "answers": {"text": ["Norway"], "answer_start": [CONTEXT.index("Norway")]}},
        {**row, "id": "b", "answers": {"text": [], "answer_start": []}})))
    assert where.evidence[0].text == "Pumps are sold in Norway."
    assert not none.is_answerable


def test_ragas_contexts_are_evidence_only_where_they_are_references(tmp_path: Path) -> None:
    new = {"user_input": "Where?", "reference": "In Norway.", "reference_contexts": ["<1-hop>\n\nPumps are sold.", "Two."],
           "retrieved_contexts": ["something else"], "response": "?", "synthesizer_name": "single_hop"}
    asked = {"question": "Why?", "ground_truth": "A plant was closed.", "contexts": ["Closed."],
             "metadata": [{"source": "docs/Acme 2021.pdf", "page": 3}]}
    scored = {"question": "Who?", "answer": "a system's", "ground_truths": ["Ada."], "contexts": ["retrieved"]}
    first, second, third = read_questions(write(tmp_path / "q.json", [new, asked, scored]))
    assert first.evidence == (Evidence("", 0, "Pumps are sold."), Evidence("", 0, "Two."))
    assert (first.answer, first.kind) == ("In Norway.", "single_hop")
    assert second.evidence == (Evidence("Acme 2021.pdf", 0, "Closed."),)  # its page counts as some loader did: not taken
    assert (third.answer, third.evidence) == ("Ada.", ())


def test_langsmith_examples_are_read(tmp_path: Path) -> None:
    rows = [{"id": "u1", "inputs": {"question": "Where?", "lang": "en"}, "outputs": {"answer": "In Norway."},
             "metadata": {"document": "Acme", "split": ["base"]}},
            {"inputs": {"ask": "Who?"}, "outputs": {"said": 5}}]
    first, second = read_questions(write(tmp_path / "q.jsonl", lines(*rows)))
    assert (first.id, first.text, first.answer, first.metadata["document"]) == ("u1", "Where?", "In Norway.", "Acme")
    assert (second.text, second.answer) == ("Who?", "5")


TABLE = "ID,Question,answer,document,page,evidence,company\nq1,\"What were\nnet sales?\",\"$4,210\",ACME,7,,Acme\n"


def test_tables_are_read_by_their_columns(tmp_path: Path) -> None:
    text = TABLE + "q2,Why?,a plant closed,ACME,,\"Pumps fell, sadly.\",\n\nq3,Who owns it?,,ACME,,,\n"
    for name, content in (("q.csv", text), ("q.csv", "\ufeff" + text.replace("\n", "\r\n"))):
        (tmp_path / name).write_bytes(content.encode())
        first, second, third = read_questions(tmp_path / name)
        assert first.text.split() == "What were net sales?".split()
        assert (first.id, first.answer, first.evidence) == ("q1", "$4,210", (Evidence("ACME", 7),))
        assert first.metadata == {"company": "Acme"}
        assert second.evidence == (Evidence("ACME", 0, "Pumps fell, sadly."),)
        assert (third.answer, third.evidence, third.metadata) == ("", (), {"document": "ACME"})
    assert read_questions(write(tmp_path / "q.tsv", "text\tanswer\nWhy?\t5, 6\n"))[0].answer == "5, 6"
    assert read_questions(write(tmp_path / "semi.csv", "text;answer\nWhy?;5, 6\n"))[0].answer == "5, 6"


def test_a_ragas_table_is_read(tmp_path: Path) -> None:
    table = "user_input,reference,reference_contexts\nWhy?,So.,\"['One.', 'Two.']\"\n"
    row = read_questions(write(tmp_path / "r.csv", table))[0]
    assert [e.text for e in row.evidence] == ["One.", "Two."]


def test_own_shape_may_leave_the_page_out_and_is_read_back(tmp_path: Path) -> None:
    row = {"text": "Why?", "answer": "5", "evidence": [{"document": "D", "text": "Five."}, {"text": "Six."}]}
    question = read_questions(write(tmp_path / "q.jsonl", lines(row)))[0]
    assert question.evidence == (Evidence("D", 0, "Five."), Evidence("", 0, "Six."))
    save_questions(tmp_path / "again.jsonl", [question])
    assert read_questions(tmp_path / "again.jsonl") == [question]


def test_one_file_may_mix_shapes_and_a_list_is_a_list_whatever_its_suffix(tmp_path: Path) -> None:
    own = {"id": "o", "text": "What?", "answer": "5"}
    ragas = {"user_input": "Why?", "reference": "So."}
    assert [q.answer for q in read_questions(write(tmp_path / "a.jsonl", lines(own, ragas)))] == ["5", "So."]
    assert [q.answer for q in read_questions(write(tmp_path / "a.json", lines(own, ragas)))] == ["5", "So."]
    listed = write(tmp_path / "b.jsonl", json.dumps([own, ragas], indent=1))
    assert [q.answer for q in read_questions(listed)] == ["5", "So."]
    assert [q.answer for q in read_questions(write(tmp_path / "c.json", {"examples": [own]}))] == ["5"]
    assert [q.answer for q in read_questions(write(tmp_path / "d.json", json.dumps(own, indent=2)))] == ["5"]


@pytest.mark.parametrize(("name", "value", "words"), [
    ("q.json", [{"text": "A?"}, 5], ["q.json, entry 2", "found int"]),
    ("q.json", [{"text": "A?", "id": 1}, {"text": "B?", "id": "1"}], ["entry 2", "'1'", "in entry 1"]),
    ("q.json", "[\n{\"text\": \"A?\"},\n{broken]", ["q.json:3", "not JSON"]),
    ("q.json", "5", ["found int", "list of objects"]),
    ("q.json", "[]", ["no question", "FinQA"]),
    ("q.json", [{"prompt": "A?"}], ["entry 1", "prompt", "no 'text'", "LangSmith"]),
    ("q.json", "[" * 100_000, ["nests"]),
    ("q.json", '[{"text": "A?", "answer": ' + "9" * 5000 + "}]", ["cannot be read"]),
    ("q.jsonl", '{"text": "A \\ud800?"}', ["q.jsonl:1", "half a character"]),
    ("q.json", [{**FINQA, "qa": {"question": "A?"}}], ["entry 1", "no 'answer'"]),
    ("q.json", [{**FINQA, "qa": {**FINQA["qa"], "gold_inds": {"text_1": 5}}}], ["entry 1", "gold_inds['text_1']", "int"]),
    ("q.json", [{**TATQA, "questions": [{"question": "A?"}]}], ["entry 1, question 1", "no 'answer'"]),
    ("q.json", [TATQA, TATQA], ["entry 2", "'q1'"]),
    ("q.json", {"data": [{"paragraphs": [{"context": "C.", "qas": [{"question": "A?", "answers": []}]}]}]},
     ["entry 1, paragraph 1, question 1", "is_impossible"]),
    ("q.json", {"data": [{"paragraphs": [{"qas": []}]}]}, ["paragraph 1", "context"]),
    ("q.json", [{"user_input": "A?"}], ["entry 1", "no 'reference'", '""']),
    ("q.json", [{"user_input": "A?", "reference": "B", "reference_contexts": [5]}], ["entry 1", "reference_contexts"]),
    ("q.json", [{"inputs": {"a": "A?", "b": "B?"}, "outputs": {"answer": "5"}}], ["inputs hold the keys a, b"]),
    ("q.json", [{"inputs": {"question": "A?"}, "outputs": None}], ["no 'outputs'"]),
    ("q.jsonl", '{"text": "A?", "evidence": [{"page": 3, "text": "x"}]}', ["q.jsonl:1", "document None"]),
    ("q.jsonl", '{"text": "A?", "evidence": [{"document": "D"}]}', ["q.jsonl:1", "page None", "'text'"]),
    ("q.csv", "question,anwser\nA?,5\n", ["no column 'answer'", "mean 'anwser'", "Found: question, anwser", "kind"]),
    ("q.csv", "id,answer\na,5\n", ["no column 'question'", "Found: id, answer"]),
    ("q.csv", "question,answer,question\nA?,5,6\n", ["q.csv:1", "twice"]),
    ("q.csv", "question,answer\nA?,5,6\n", ["q.csv:2", "3 cells under 2"]),
    ("q.csv", "question,answer,page,document\nA?,5,0,D\n", ["q.csv:2", "page is '0'"]),
    ("q.csv", "question,answer,page,document\nA?,5,three,D\n", ["q.csv:2", "'three'"]),
    ("q.csv", "question,answer,page\nA?,5,3\n", ["q.csv:2", "document ''"]),
    ("q.csv", "question,answer\n\"A\n?\",5\n,6\n", ["q.csv:4", "empty"]),
    ("q.csv", "question,answer\n\"A?,5\n", ["not a table"]),
    ("q.csv", "question,answer\n", ["no question"]),
    ("q.csv", "", ["no question"]),
])
def test_faults_name_file_and_place_and_what_is_allowed(tmp_path: Path, name: str, value: Any, words: list[str]) -> None:
    with pytest.raises(QuestionError) as caught:
        read_questions(write(tmp_path / name, value))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_other_encodings_are_named(tmp_path: Path) -> None:
    for name in ("q.json", "q.csv", "q.jsonl"):
        (tmp_path / name).write_bytes("text,answer\nÄ?,5".encode("latin-1"))
        with pytest.raises(QuestionError, match="not UTF-8"):
            read_questions(tmp_path / name)


def test_shapes_tell_apart_what_they_read() -> None:
    rows = {"FinQA": FINQA, "TAT-QA": TATQA, "SQuAD": SQUAD["data"][0], "Ragas": {"user_input": "?"},
            "LangSmith": {"inputs": {}}, "FinanceBench": {"financebench_id": "1"}}
    assert set(rows) == set(SHAPES)
    for name, row in rows.items():
        assert [shape for shape, (tells, _) in SHAPES.items() if tells(row)] == [name]


def try_reading(path: Path) -> tuple[list[Question], str]:
    """Return the questions, or what the QuestionError says; any other exception fails the test."""
    try:
        return read_questions(path), ""
    except QuestionError as error:
        return [], str(error)


KEYS = st.sampled_from([
    "id", "text", "question", "answer", "answers", "evidence", "document", "page", "metadata", "qa", "pre_text", "gold_inds",
    "program", "filename", "table", "table_0", "paragraphs", "questions", "context", "qas", "title", "order", "derivation",
    "scale", "rel_paragraphs", "user_input", "reference", "reference_contexts", "ground_truths", "contexts", "inputs",
    "outputs", "answer_start", "is_impossible", "financebench_id", "evidence_page_num", "exe_ans", "answer_from", "kind"])
WORDS = st.text(max_size=8) | st.sampled_from(["table", "A?", "1"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
VALUES = st.recursive(LEAVES, lambda own: st.lists(own, max_size=3) | st.dictionaries(KEYS, own, max_size=5), max_leaves=9)


@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=8), min_size=1, max_size=3), st.booleans())
def test_any_objects_give_questions_or_a_question_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], is_list: bool
) -> None:
    path = tmp_path_factory.mktemp("q") / ("q.json" if is_list else "q.jsonl")
    path.write_text(json.dumps(rows) if is_list else lines(*rows), encoding="utf-8")
    questions, fault = try_reading(path)
    assert questions or str(path) in fault
    for question in questions:
        assert question.text
        assert all(e.page >= 1 or (e.page == 0 and e.text.strip()) for e in question.evidence)
        assert Question.from_dict(json.loads(json.dumps(question.to_dict()))).id == question.id


@given(st.text(max_size=200))
def test_any_table_gives_questions_or_a_question_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("q") / "q.csv"
    path.write_text("question,answer,page,document\n" + text, encoding="utf-8")
    questions, fault = try_reading(path)
    assert questions or str(path) in fault
