"""scripts/story.py: who is held out, which questions count, and the whole ladder on three small filings."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import story  # noqa: E402

FILINGS = {
    "NORVANE_2021_10K": ("FedEx", "train"),
    "VELTRASSA_2021_10K": ("Oracle", "train"),
    "KESTROVIA_2019_10K": ("Pfizer", "eval"),
}


def ask(number: int, document: str, **entries: Any) -> dict[str, Any]:
    evidence = [{"evidence_doc_name": document, "evidence_page_num": 2, "evidence_text": "Net sales"}]
    return {"financebench_id": f"q{number}", "doc_name": document, "question": f"What were net sales, number {number}?",
            "answer": "$5 million", "evidence": evidence, **entries}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three bundled filings under other companies' names, in FinanceBench's shape."""
    data = tmp_path_factory.mktemp("bench")
    (data / "pdfs").mkdir()
    rows = []
    for name, (company, split) in FILINGS.items():
        shutil.copy(ROOT / "data" / "filings" / f"{name}.pdf", data / "pdfs")
        rows.append({"doc_name": name, "company": company, "gics_sector": "Any", "doc_type": "10k", "split": split})
    (data / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = [
        ask(1, "KESTROVIA_2019_10K", question_type="metrics-generated", question_reasoning="Numerical reasoning"),
        ask(2, "KESTROVIA_2019_10K", question_type="domain-relevant", question_reasoning="Information extraction"),
        ask(3, "KESTROVIA_2019_10K", question_type="novel-generated", question_reasoning=None),
        ask(4, "NORVANE_2021_10K", question_type="metrics-generated", question_reasoning=None),
        ask(5, "MISSING_2020_10K", question_type="metrics-generated", question_reasoning=None),
    ]
    (data / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    return data


def test_only_figures_of_filings_never_tuned_on_are_asked(data: Path) -> None:
    rows = [json.loads(line) for line in (data / "questions.jsonl").read_text().splitlines()]
    splits = {name: split for name, (_, split) in FILINGS.items()}
    assert [row["financebench_id"] for row in story.figure_questions(rows, splits)] == ["q1", "q2"]


def test_the_held_out_companies_are_those_of_the_pretraining() -> None:
    assert story.held_out_filter() == "company in ('FedEx', 'Intel', 'McDonalds', 'Salesforce')"


@pytest.mark.timeout(300)
def test_the_story_from_end_to_end(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    settings = {
        "index.embedder": "hash", "documents.workers": 1, "generator.model": make_tiny_model(tmp_path / "model"),
        "generator.max_prompt_tokens": 800, "generator.max_new_tokens": 4, "generator.device": "cpu",
        "dataset.ask_count": 12, "dataset.max_dropped_share": 1, "retrieval.k": 1, "dataset.distractors": 0,
        "training.max_steps": 1, "training.batch_size": 1, "training.eval_rows": 1, "evaluation.limit": 2,
    }

    def run(*arguments: Any) -> None:
        words = ["story.py", "--data", data, "--out", tmp_path / "out", *arguments]
        words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        story.main()

    run()
    first = json.loads((tmp_path / "out" / "story.json").read_text())
    assert set(first) == {"index", "dataset", "train", "held_out"}
    assert first["index"]["documents"] == 2  # the filing with the split eval is in no index that is tuned on
    tested = (tmp_path / "out" / "story" / "dataset" / "questions_test.jsonl").read_text().splitlines()
    assert {json.loads(line)["metadata"]["company"] for line in tested} == {"FedEx"}
    rungs = [(rung["model"], rung["setting"]) for rung in first["held_out"]["ladder"]]
    assert rungs == [(m, s) for m in ("base", "tuned", "extractive") for s in ("closed_book", "retrieval", "oracle")]

    run("--stages", "financebench", "--index", tmp_path / "out" / "story" / "index")
    asked = json.loads((tmp_path / "out" / "story.json").read_text())
    assert set(asked) == {*first, "financebench"}  # what was measured before stays
    asked = asked["financebench"]
    assert asked["questions"] == 2
    assert asked["left_out"]["documents"] == ["KESTROVIA_2019_10K"]  # this index lacks it
    assert "McNemar" in capsys.readouterr().out
