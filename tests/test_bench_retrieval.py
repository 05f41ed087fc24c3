"""The retrieval benchmark: what counts as a hit, which questions are asked, and results that are taken up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from document_files import write_pdf

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import bench_retrieval as bench

from ragtune.errors import RunError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two filings of three pages; the answers stand on the second."""
    (tmp_path / "data/pdfs").mkdir(parents=True)
    rows = []
    for name, word in (("ACME_2020_10K", "clocks"), ("BOLT_2020_10K", "watches")):
        write_pdf(tmp_path / f"data/pdfs/{name}.pdf", [["Annual report"], [f"We sell {word} in forty shops"], ["The end"]])
        rows.append({"financebench_id": name[:4], "question": f"Where are {word} sold?", "doc_name": name,
                     "evidence": [{"evidence_doc_name": name, "evidence_page_num": 1, "evidence_text": word}]})
    rows.append({"financebench_id": "gone", "question": "Who?", "doc_name": "NOT_HERE", "evidence": [
        {"evidence_doc_name": "NOT_HERE", "evidence_page_num": 0, "evidence_text": "x"}]})
    (tmp_path / "data/questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def open_job(data: Path, documents: int = 0) -> bench.Job:
    return bench.open_job(data, data / "questions.jsonl", documents, data.parent / "out")


def test_questions_without_their_document_are_left_out(data: Path) -> None:
    job = open_job(data)
    assert [question.id for question in job.questions] == ["ACME", "BOLT"]
    assert job.gold["ACME"] == {("ACME_2020_10K", 2)}  # counted from one
    one = open_job(data, 1)
    assert [file.stem for file in one.files] == ["ACME_2020_10K"]
    assert one.fingerprint != job.fingerprint == open_job(data).fingerprint
    (data / "questions.jsonl").write_text(json.dumps({"id": "a", "text": "Who?"}) + "\n")
    with pytest.raises(RunError, match="none of 0 questions"):
        open_job(data)


def test_a_hit_is_a_chunk_on_an_evidence_page(data: Path) -> None:
    job = open_job(data)
    right, near, far = ["ACME_2020_10K", 2, 1.0], ["ACME_2020_10K", 1, 1.0], ["BOLT_2020_10K", 2, 1.0]
    found = {"ACME": [near, far, right], "BOLT": [near] * 20}
    outcomes = bench.shares(job, {"hits": {"shared": found, "document": {"ACME": [right], "BOLT": []}}})
    assert outcomes["shared@1"] == [False, False]
    assert outcomes["shared@5"] == outcomes["shared@20"] == [True, False]
    assert outcomes["document@1"] == [True, False]
    assert outcomes["right document"] == [True, False]
    assert bench.show_share([True, False]) == ".50 [.09–.91]"


def run(data: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_retrieval.py", "--data", str(data), "--out", str(data.parent / "out"), "--set",
                                      "index.embedder=hash", "--set", "documents.workers=1", *arguments])
    bench.main()


def test_ragtune_beside_a_peer_that_was_measured_before(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = open_job(data)
    job.out.mkdir()
    empty: dict[str, Any] = {question.id: [] for question in job.questions}
    known = {"system": "langchain", "job": job.fingerprint, "hits": {"shared": empty, "document": empty},
             "search_ms": {"shared": [2.0, 4.0], "document": [1.0, 1.0]},
             "ingest": {"cpu_s": 3.0, "pages": 6, "stored": 1000, "embedded": 900}}
    (job.out / "langchain.json").write_text(json.dumps(known))
    run(data, monkeypatch, "--systems", "ragtune", "langchain", "--ablate", "--peers-python", "/nowhere")
    out = capsys.readouterr().out
    assert "2 questions, 2 documents" in out
    assert "| langchain | .00 [.00–.66] |" in out
    assert "| langchain | 500 | 90% of 0.00M | 3.0 | 1.0 |" in out
    ablated = [line.split(" | ")[0].removeprefix("| ") for line in out.split("hit@5 gained")[1].split("\n")[2:] if line]
    assert ablated == ["everything", *bench.ABLATIONS]
    result = json.loads((job.out / "ragtune.json").read_text())
    assert result["hits"]["shared"]["BOLT"][0][:2] == ["BOLT_2020_10K", 2]
    assert {hit[0] for hit in result["hits"]["document"]["ACME"]} == {"ACME_2020_10K"}
    assert result["ingest"]["pages"] == 6
    assert result["filters"] == {"ACME": "", "BOLT": ""}
    folders = sorted(path for path in job.out.glob("index-*") if path.is_dir())
    own = {overrides for overrides in bench.ABLATIONS.values() if any(each.startswith("index.") for each in overrides)}
    assert len(folders) == 1 + len(own)
    run(data, monkeypatch, "--systems", "ragtune", "--index", str(folders[0]))
    assert "not measured" in capsys.readouterr().out
    with pytest.raises(RunError, match="holds 2 documents, the job has 1"):
        run(data, monkeypatch, "--systems", "ragtune", "--index", str(folders[0]), "--documents", "1")


def test_a_result_of_another_job_is_measured_anew(data: Path) -> None:
    job = open_job(data)
    job.out.mkdir()
    (job.out / "langchain.json").write_text(json.dumps({"job": "other"}))
    with pytest.raises(RunError, match="langchain stopped with exit code"):
        bench.measure_peer(job, "langchain", "false", False)
    task = json.loads((job.out / "langchain.job.json").read_text())
    assert task["questions"][0] == {"id": "ACME", "text": "Where are clocks sold?", "document": "ACME_2020_10K"}
    assert (job.out / "minilm/2_Normalize").is_dir()
