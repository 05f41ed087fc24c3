"""Real filings, where they are at hand (pytest -m real): rows on one line, page numbers, metadata."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from ragtune.documents.read import read_documents
from ragtune.documents.statements import parse_row
from ragtune.recipe.schema import Documents, Recipe
from ragtune.records import Document
from ragtune.retrieval.index import build_index, open_index

BENCH = Path(os.environ.get("RAGTUNE_FINANCEBENCH") or Path(__file__).parents[1].parent / "shared" / "financebench")
NAMES = ("3M_2018_10K", "ORACLE_2016_10K", "PG_E_2016_10K", "MICROSOFT_2023_10K", "JOHNSON_JOHNSON_2023_8K_dated-2023-08-30")
pytestmark = [pytest.mark.real, pytest.mark.skipif(not BENCH.is_dir(), reason="no filings at hand")]


@pytest.fixture(scope="module")
def filings() -> dict[str, Document]:
    section = Documents(folder=str(BENCH / "pdfs"), include=tuple(f"{name}.pdf" for name in NAMES), workers=1)
    return {document.name: document for document in read_documents(section).documents}


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("name", "page", "row"), [
    ("3M_2018_10K", 60, "Purchases of property, plant and equipment (PP&E) (1,577) (1,373) (1,420)"),
    ("3M_2018_10K", 60, "Proceeds from sale of businesses, net of cash sold 846 1,065 142"),
    ("ORACLE_2016_10K", 41, "Operating income $ 12,604 $ 13,871 $ 14,759 $ 14,684 $ 13,706"),
    ("PG_E_2016_10K", 54, "Total operating revenues 10,722 6,945 17,667 9,524 7,309 16,833 9,131 7,957 17,088"),
])
def test_rows_stand_on_one_line(filings: dict[str, Document], name: str, page: int, row: str) -> None:
    assert row in filings[name].pages[page - 1].text.split("\n")
    assert parse_row(row) is not None


def test_no_odd_characters_are_left(filings: dict[str, Document]) -> None:
    for document in filings.values():
        assert not re.search(r"[\ufffe\x00-\x08\r\x0e-\x1f]|  ", document.text)


def test_evidence_stands_on_its_page(filings: dict[str, Document]) -> None:
    """The numbers of each question's evidence text are on the page it names (counted from zero there, from one here)."""
    checked = 0
    for question in read_lines(BENCH / "questions.jsonl"):
        for evidence in question["evidence"]:
            numbers = set(re.findall(r"\d[\d,.]+\d", evidence["evidence_text"]))
            if question["doc_name"] in filings and len(numbers) >= 5:
                page = filings[question["doc_name"]].pages[evidence["evidence_page_num"]].text
                assert sum(number in page for number in numbers) > 0.9 * len(numbers)
                checked += 1
    assert checked >= 5


def test_metadata_of_all_filings() -> None:
    """Without the sidecar, from file names and covers alone."""
    def letters(text: str) -> str:
        return re.sub(r"[^a-z0-9]|corporation", "", text.lower())

    wanted = {row["doc_name"]: row for row in read_lines(BENCH / "documents.jsonl")}
    for document in read_documents(Documents(folder=str(BENCH / "pdfs"))).documents:
        row = wanted[document.name]
        assert letters(str(document.metadata["company"])) == letters(row["company"]), document.name
        assert document.metadata["fiscal_year"] == row["doc_period"]
        assert letters(str(document.metadata["form"])) == letters(row["doc_type"])


def test_an_index_of_a_filing(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"documents": {"folder": str(BENCH / "pdfs"), "include": ["JOHNSON*8K*.pdf"],
                                                  "metadata": str(BENCH / "documents.jsonl")}})
    summary = build_index(recipe, tmp_path / "index")
    index = open_index(tmp_path / "index")
    assert summary.pages == 27
    assert max(index.embedder.count_tokens(c.text) for c in index.chunks(NAMES[-1])) <= 180
    assert index.documents()[0].metadata["sector"] == "Health Care"
