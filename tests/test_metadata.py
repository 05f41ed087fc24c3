"""Metadata: sidecar before file name before first pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragtune.documents.metadata import read_metadata, read_sidecar, spell_company
from ragtune.errors import DocumentError

COVER = "FORM 10-K\nFor the fiscal year ended December 31, 2018\n3M COMPANY\n(Exact name of registrant as specified)\n"


@pytest.mark.parametrize(("name", "cover", "wanted"), [
    ("3M_2018_10K.pdf", "", {"company": "3M", "fiscal_year": 2018, "form": "10-K"}),
    ("JPMORGAN_2021Q1_10Q.pdf", "JPMorgan Chase & Co.\n",
     {"company": "JPMorgan", "fiscal_year": 2021, "form": "10-Q", "quarter": 1}),
    ("JOHNSON_JOHNSON_2023_8K_dated-2023-08-30.pdf", "Johnson & Johnson\n",
     {"company": "Johnson & Johnson", "fiscal_year": 2023, "form": "8-K"}),
    ("MGMRESORTS_2022Q4_EARNINGS.pdf", "MGM RESORTS REPORTS\n",
     {"company": "MGM Resorts", "fiscal_year": 2022, "form": "EARNINGS", "quarter": 4}),
    ("AMERICANWATERWORKS_2020_10K.pdf", "American Water Works Company, Inc.\n",
     {"company": "American Water Works", "fiscal_year": 2020, "form": "10-K"}),
    ("PG_E_2016_10K.pdf", "PG&E CORPORATION\n", {"company": "PG&E", "fiscal_year": 2016, "form": "10-K"}),
    ("MCDONALDS_2022_10K.pdf", "McDONALD’S CORPORATION", {"company": "McDonald's", "fiscal_year": 2022, "form": "10-K"}),
    ("report.pdf", COVER, {"company": "3M", "fiscal_year": 2018, "form": "10-K"}),
    ("report.pdf", "FORM 10-Q\nFor the quarterly period ended\nMarch 31, 2021\nAcme Tools Inc.\n(Exact name of registrant)",
     {"company": "Acme Tools", "fiscal_year": 2021, "form": "10-Q"}),
    ("report.pdf", "Form 10-K\nFor the fiscal year ended January 1, 2023", {"fiscal_year": 2022, "form": "10-K"}),
    ("notes.txt", "We ate 10 bananas in 2021.", {}),
])
def test_from_file_name_and_cover(name: str, cover: str, wanted: dict) -> None:
    assert read_metadata(Path(name), [cover]) == wanted


def test_the_sidecar_wins_and_the_file_name_beats_the_cover() -> None:
    row = {"company": "Minnesota Mining", "form": "10k", "sector": "Industry", "fiscal_year": None}
    assert read_metadata(Path("3M_2019_10Q.pdf"), [COVER], row) == {
        "company": "Minnesota Mining", "form": "10-K", "sector": "Industry", "fiscal_year": 2019,
        "aliases": "3M COMPANY"}


@pytest.mark.parametrize(("key", "cover", "spelled"), [
    ("COCACOLA", "THE COCA-COLA COMPANY", "Coca-Cola"), ("EBAY", "eBay Inc.", "eBay"), ("AMD", "", "AMD"),
    ("KRAFTHEINZ", "The Kraft Heinz Company\nKRAFT HEINZ", "Kraft Heinz"), ("NETFLIX", "", "Netflix"),
    ("APPLE", "Pineapple and Applesauce", "Apple"), ("BEST_BUY", "", "Best Buy"),
])
def test_spelling(key: str, cover: str, spelled: str) -> None:
    assert spell_company(key, cover) == spelled


ROWS = [{"doc_name": "3M_2018_10K", "doc_type": "10k", "doc_period": 2018, "gics_sector": "Industrials"},
        {"document": "sub/a.pdf", "company": "A", "tags": ["x", "y"], "note": ""}]
WANTED = {"3M_2018_10K": {"form": "10k", "fiscal_year": 2018, "sector": "Industrials"},
          "sub/a": {"company": "A", "tags": '["x", "y"]', "note": None}}


@pytest.mark.parametrize(("name", "text"), [
    ("a.json", json.dumps(ROWS)), ("a.jsonl", "\n".join(json.dumps(row) for row in ROWS) + "\n\n"),
    ("b.json", json.dumps({row.get("doc_name") or row["document"]: row for row in ROWS})),
])
def test_sidecar_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_sidecar(tmp_path / name) == WANTED


def test_csv_values_are_plain(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("document,fiscal_year,rate,zip\na,2018,1.5,00123\n")
    assert read_sidecar(tmp_path / "a.csv") == {"a": {"fiscal_year": 2018, "rate": 1.5, "zip": "00123"}}


@pytest.mark.parametrize(("name", "text", "reason"), [
    ("a.json", "{broken", "is broken"), ("a.jsonl", '{"company": "x"}', "entry 1 has no 'document'"),
    ("a.json", "[1]", "entry 1 is int"), ("missing.csv", None, "does not exist"),
])
def test_broken_sidecars(tmp_path: Path, name: str, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DocumentError, match=reason):
        read_sidecar(tmp_path / name)
