"""ragtune score: rows in, the same rows with outcome, confidence and reason out; faults named by line."""

import json
import re

import pytest

from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.errors import RunError
from ragtune.evaluation.scoring.score_file import read_answers, score_rows

ROWS = [
    {"question": "Net sales (in USD millions)?", "gold_answer": 1577, "model_answer": "$1,577 million", "model": "a",
     "x": [1]},
    {"question": "Net sales?", "reference": "$5 million", "answer": "$7 million", "id": "q2", "outcome": "?"},
    {"question": "Did sales grow?", "gold_answer": "Yes", "model_answer": ""},
    {"question": "Did sales grow?", "gold_answer": "Yes", "model_answer": None},
    {"question": "How many unicorns are there?", "gold_answer": "", "model_answer": "I cannot answer from the documents."},
    {"question": "How much did sales grow?", "gold_answer": "slightly, by a little volume", "answer": "By 5%."},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", encoding="utf-8")
    return path


def test_one_line_out_for_each_line_in(file, capsys):
    assert run_guarded(ragtune, ["score", str(file), "--json"]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert len(rows) == len(ROWS)
    for row, given in zip(rows, ROWS):
        assert {name: row[name] for name in given if name != "outcome"} == {k: v for k, v in given.items() if k != "outcome"}
        assert 0 <= row["confidence"] <= 1
        assert row["reason"]
    assert [row["outcome"] for row in rows[:4]] == ["correct", "wrong", "refused", "refused"]
    assert rows[5]["outcome"] == "wrong"


def test_a_table_without_json(file, capsys):
    assert run_guarded(ragtune, ["score", str(file)]) == 0
    out, _ = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["reference", "answers", "correct", "wrong", "refused", "correct"]
    assert lines[1].split()[:2] == ["all", str(len(ROWS))]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ("[1]", "found list"),
        ('{"gold_answer": "5", "answer": "5"}', "no field 'question'; found 'gold_answer', 'answer'"),
        ('{"question": " ", "gold_answer": "5", "answer": "5"}', "'question' is empty"),
        ('{"question": "q", "answer": "5"}', "no field 'gold_answer' or 'reference'"),
        ('{"question": "q", "reference": "5"}', "no field 'model_answer' or 'answer'"),
        ('{"question": "q", "reference": null, "answer": "5"}', "'reference' is null"),
        ('{"question": "q", "reference": NaN, "answer": "5"}', "'reference' is nan"),
        ('{"question": "q", "reference": true, "answer": "5"}', "'reference' is True"),
        ('{"question": "q", "reference": "5", "answer": ["5"]}', "'answer' is list"),
    ],
)
def test_faults_are_named_by_line(tmp_path, capsys, line, told):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n", encoding="utf-8")
    assert run_guarded(ragtune, ["score", str(path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""  # nothing half done
    assert f"{path}:2: " in err
    assert told in err
    assert "Traceback" not in err


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(RunError, match="no file"):
        read_answers(tmp_path / "nothing.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "caf\xe9"}\n')
    with pytest.raises(RunError, match="not UTF-8"):
        read_answers(tmp_path / "latin.jsonl")


def test_an_empty_file_has_no_answers(tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text("")
    assert run_guarded(ragtune, ["score", str(tmp_path / "empty.jsonl")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["all", "0", "0", "0", "0", "-"]


def test_rows_keep_their_names(file):
    scored = list(score_rows(read_answers(file)))
    assert [row.line for row in scored] == [1, 2, 3, 4, 5, 6]
    assert [row.kind for row in scored] == ["number", "number", "yes_no", "yes_no", "none", "text"]


def test_text_metrics_stand_beside_the_outcome(tmp_path, capsys):
    path = tmp_path / "answers.jsonl"
    rows = [{"question": "q", "reference": "the red pump", "answer": answer} for answer in ("a red pump", "a blue valve")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run_guarded(ragtune, ["score", str(path), "--json", "--metric", "f1", "--metric", "exact_match"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["f1"], row["exact_match"]) for row in told] == [(1.0, 1.0), (0.0, 0.0)]
    assert run_guarded(ragtune, ["score", str(path), "--metric", "f1"]) == 0
    assert "f1: mean 0.5000 over 2 answers" in capsys.readouterr().out
    pytest.importorskip("sacrebleu")
    assert run_guarded(ragtune, ["score", str(path), "--metric", "chrf"]) == 0
    assert re.search(r"chrf: mean 0\.\d{4} over 2 answers, 0\.\d{4} over the corpus", capsys.readouterr().out)
    assert run_guarded(ragtune, ["score", str(path), "--metric", "f2"]) == 1
    assert "no text metric 'f2'" in capsys.readouterr().err
