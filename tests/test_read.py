"""Reading a folder: worker processes, skipping, names, and a list of all that could not be read."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
from document_files import STATEMENT, write_folder, write_pdf, write_scan

from ragtune.documents import pool
from ragtune.documents.pool import Worker
from ragtune.documents.read import describe_pages, name_documents, open_documents, read_documents
from ragtune.errors import DocumentError
from ragtune.recipe.schema import Documents


def section(folder: Path, **fields: object) -> Documents:
    return Documents.model_validate({"folder": str(folder), "workers": 2, **fields})


def test_a_folder(tmp_path: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    reading = read_documents(section(write_folder(tmp_path)), report=lambda *said: reports.append(said))
    assert [d.name for d in reading.documents] == ["ACME_2021_10K", "BOLT_2020_10K", "BOLT_2021Q2_10Q"]
    assert [len(d.pages) for d in reading.documents] == [3, 2, 1]
    acme = reading.documents[0]
    assert acme.pages[2].number == 3
    assert acme.pages[2].text == "\n".join(STATEMENT)
    assert acme.id == reading.files[0].sha256[:16]
    assert acme.metadata == {"company": "Acme", "fiscal_year": 2021, "form": "10-K"}
    assert (reading.unreadable, reading.unchanged) == ([], ())
    assert reports[-1] == ("reading", 3, 3)


def test_unchanged_files_are_not_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    known = {file.path: file.sha256 for file in read_documents(section(folder)).files}
    (folder / "BOLT_2020_10K.txt").write_text("now other text")
    reading = read_documents(section(folder), skip=known)
    assert [d.name for d in reading.documents] == ["BOLT_2020_10K"]
    assert [file.name for file in reading.unchanged] == ["ACME_2021_10K", "BOLT_2021Q2_10Q"]


def test_what_cannot_be_read_is_listed_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    write_pdf(folder / "locked.pdf", [["secret"]], password="hidden")
    write_scan(folder / "scan.pdf", text_pages=0)
    write_scan(folder / "half.pdf", text_pages=2, image_pages=2)
    (folder / "cut.pdf").write_bytes(write_pdf(tmp_path / "x.bin", [STATEMENT] * 3).read_bytes()[:900])
    (folder / "x.bin").unlink()
    (folder / "empty.txt").touch()
    (folder / "empty.md").touch()
    (folder / "really.txt").write_bytes(b"%PDF-1.4 a pdf")
    (folder / "zip.pdf").write_bytes(b"PK\x03\x04 a zip")
    (folder / "sheet.xlsx").write_bytes(b"PK\x03\x04")
    (folder / "copy.txt").write_bytes((folder / "BOLT_2020_10K.txt").read_bytes())
    (folder / ".hidden").write_text("left out in silence")
    reading = read_documents(section(folder))
    found = {item.path: item.reason for item in reading.unreadable}
    for path, words in {"locked.pdf": "encrypted", "scan.pdf": "OCR", "half.pdf": "pages 3-4 hold no text",
                        "cut.pdf": "truncated", "empty.txt": "0 bytes", "empty.md": "0 bytes", "really.txt": "a PDF",
                        "zip.pdf": "zip archive", "sheet.xlsx": "no reader for the suffix '.xlsx'",
                        "copy.txt": "same bytes as BOLT_2020_10K.txt"}.items():
        assert words in found.pop(path), path
    assert found == {}
    assert [d.name for d in reading.documents] == ["ACME_2021_10K", "BOLT_2020_10K", "BOLT_2021Q2_10Q", "half"]
    assert reading.without_text["half.pdf"] == (3, 4)


def test_include_exclude_and_sidecar(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "about.csv").write_text("document,company,sector,fiscal_year\nACME_2021_10K.pdf,Acme Anvils,Industry,2022\n")
    reading = read_documents(section(folder, metadata=str(folder / "about.csv"), exclude=["*Q2*"]))
    assert [d.name for d in reading.documents] == ["ACME_2021_10K", "BOLT_2020_10K"]
    assert reading.documents[0].metadata == {"company": "Acme Anvils", "fiscal_year": 2022, "form": "10-K",
                                             "sector": "Industry", "aliases": "ACME CORPORATION"}
    assert reading.documents[1].metadata["company"] == "Bolt"
    assert [d.name for d in read_documents(section(folder, include=["*.pdf"])).documents] == ["ACME_2021_10K"]


@pytest.mark.parametrize(("make", "reason"), [
    (lambda folder: None, "does not exist"),
    (lambda folder: folder.write_text("x"), "is a file"),
    (lambda folder: folder.mkdir(), "holds no file"),
    (lambda folder: (folder.mkdir(), (folder / "a.pdf").touch()), "not one file .* can be read"),
])
def test_folders_that_give_nothing(tmp_path: Path, make, reason: str) -> None:
    make(tmp_path / "docs")
    with pytest.raises(DocumentError, match=f"(?s){reason}"):
        read_documents(section(tmp_path / "docs"))


def test_names_are_unique() -> None:
    paths = [Path("2020/report.pdf"), Path("2021/report.pdf"), Path("2021/report.txt"), Path("other.md")]
    assert name_documents(paths) == ["report", "2021/report", "2021/report.txt", "other"]


def test_describe_pages() -> None:
    assert describe_pages([3, 7, 8, 9]).startswith("pages 3, 7-9 hold no text, only images")
    assert describe_pages([3]).startswith("page 3 holds no text, only an image")


def test_a_worker_that_dies_loses_one_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("text")
    worker, program = Worker(60, 1024), pool.PROGRAM
    monkeypatch.setattr(pool, "PROGRAM", "import sys, os; sys.stdin.readline(); os.abort()")
    assert "process died on it (exit -6)" in worker.read(tmp_path / "a.txt")["error"]
    monkeypatch.setattr(pool, "PROGRAM", program)
    assert worker.read(tmp_path / "a.txt") == {"pages": ["text"], "without_text": []}
    worker.stop()


def test_a_worker_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PROGRAM", "import time; time.sleep(60)")
    worker = Worker(0.2, 1024)
    assert "longer than documents.timeout_s = 0.2" in worker.read(tmp_path / "a.txt")["error"]
    assert worker.process is None


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit holds on Linux")
def test_a_file_over_the_memory_limit_is_listed(tmp_path: Path) -> None:
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(400 << 20)
    (tmp_path / "small.txt").write_text("small")
    reading = read_documents(section(tmp_path, max_memory_mb=300, workers=1))
    assert "documents.max_memory_mb = 300" in reading.unreadable[0].reason
    assert [d.name for d in reading.documents] == ["small"]


def test_workers_do_not_load_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pdf(tmp_path / "a.pdf", [["text"]])
    check = "; import json; json.dumps = lambda value, old=json.dumps: old({'error': str('torch' in sys.modules)})"
    monkeypatch.setattr(pool, "PROGRAM", pool.PROGRAM.replace("; from", f"{check}; from"))
    worker = Worker(60, 2048)
    assert worker.read(tmp_path / "a.pdf") == {"error": "False"}
    worker.stop()


def test_replies_come_in_the_order_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = threading.Event()

    def answer(self: Worker, path: Path) -> dict[str, object]:
        if path.name == "0":
            assert late.wait(20)
        if path.name == "4":
            late.set()
        return {"pages": [path.name]}

    monkeypatch.setattr(Worker, "read", answer)
    reading, said = pool.Pool([tmp_path / str(number) for number in range(5)], 2, 60, 1024), []
    replies = list(reading.replies(lambda *step: said.append(step)))
    assert [reply["pages"] for reply in replies] == [["0"], ["1"], ["2"], ["3"], ["4"]]
    assert said == [(done, 5) for done in range(1, 6)]
    assert reading.seconds > 0


def test_what_goes_wrong_beside_is_raised_where_the_replies_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "read", lambda self, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(pool.Pool([tmp_path / "a.txt"], 0, 60, 1024).replies())


def test_leaving_ends_the_processes(tmp_path: Path) -> None:
    with open_documents(section(write_folder(tmp_path))) as reading:
        next(iter(reading))
    assert [worker.process for worker in reading._pool.workers] == [None, None]
    assert next(iter(reading))[0].path == "ACME_2021_10K.pdf"
