"""The second set: questions about technical manuals, and the script that fetches these."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from ragtune.datasets.questions import read_questions

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/manuals"))

import fetch

MANUALS = Path(__file__).parents[1] / "scripts/manuals"
QUESTIONS = MANUALS / "questions.jsonl"


def test_questions_are_many_varied_and_in_our_shape() -> None:
    questions = read_questions(QUESTIONS)
    assert len(questions) >= 60
    assert len({question.text for question in questions}) == len(questions)
    assert all(question.answer and question.evidence for question in questions)
    assert max(Counter(question.evidence[0].document for question in questions).values()) <= len(questions) // 5


def test_every_question_is_about_a_file_that_is_fetched() -> None:
    patterns = [pattern for names in fetch.PACKAGES.values() for pattern in names]
    fetched = {Path(fetch.clean_name(pattern.rpartition("/")[2])).stem for pattern in patterns}
    assert {e.document for question in read_questions(QUESTIONS) for e in question.evidence} <= fetched


def test_questions_are_not_copied_from_the_manuals() -> None:
    for question in read_questions(QUESTIONS):
        asked = " ".join(re.findall(r"\w+", question.text.lower()))
        for evidence in question.evidence:
            words = re.findall(r"\w+", evidence.text.lower())
            assert len(words) < 6 or " ".join(words) not in asked, question.id


def test_copy_files_decompresses_and_flattens(tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "in/deep/A manual.txt.gz").write_bytes(gzip.compress(b"how to"))
    (tmp_path / "in/other.html").write_text("<p>hello</p>")
    taken = fetch.copy_files(tmp_path / "in", ["deep/*.gz", "*.html"], tmp_path / "out")
    assert sorted(taken) == ["A_manual.txt", "other.html"]
    assert (tmp_path / "out/A_manual.txt").read_bytes() == b"how to"
    with pytest.raises(ValueError, match=r"no file \*\.pdf"):
        fetch.copy_files(tmp_path / "in", ["*.pdf"], tmp_path / "out")
    with pytest.raises(ValueError, match="another name"):
        fetch.copy_files(tmp_path / "in", ["*.html", "*.html"], tmp_path / "out")


def test_fetch_names_no_host() -> None:
    assert not re.search(r"https?://|ftp\.|\.(?:org|com|net)\b", (MANUALS / "fetch.py").read_text())
    assert set(fetch.FETCHED_VERSIONS) == set(fetch.PACKAGES)


@pytest.mark.real
def test_every_evidence_stands_on_its_page() -> None:
    folder = Path(os.environ.get("RAGTUNE_MANUALS", Path(__file__).parents[1] / "work/manuals/documents"))
    if not folder.is_dir():
        pytest.skip(f"no manuals in {folder}: python scripts/manuals/fetch.py")
    from ragtune.documents.formats import read_pages

    pages: dict[str, list[str]] = {}
    for row in map(json.loads, QUESTIONS.read_text().splitlines()):
        for evidence in row["evidence"]:
            if evidence["document"] not in pages:
                pages[evidence["document"]] = read_pages(next(folder.glob(evidence["document"] + ".*")))[0]
            text = " ".join(pages[evidence["document"]][evidence["page"] - 1].split())
            assert evidence["text"] in text, row["id"]
