"""The audit finds what is wrong and nothing else; MinHash against the true share; inspect's figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from document_files import write_folder, write_pdf, write_scan
from hypothesis import given
from hypothesis import strategies as st
from test_index import recipe

from ragtune.errors import IndexFolderError
from ragtune.files import hash_file, hash_manifest
from ragtune.retrieval import dense
from ragtune.retrieval.audit import audit_index, render_audit
from ragtune.retrieval.index import build_index, open_index
from ragtune.retrieval.inspection import inspect_index
from ragtune.retrieval.twins import HASHES, group_like, merge_signatures, sign_texts

PROSE = [f"The company sold {n} anvils in region {n} and shipped {n * 7} more to customers abroad." for n in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = write_folder(tmp_path / "docs")
    write_pdf(docs / "CORK_2019_10K.pdf", [PROSE, ["Something else entirely is told here."], PROSE])
    write_pdf(docs / "CORK_2020_10K.pdf", [PROSE, [f"Plant {n} of its own makes nothing in particular." for n in range(9)]])
    write_scan(docs / "nameless.pdf", text_pages=1, image_pages=2)
    (docs / "empty.txt").touch()
    (docs / "signs.txt").write_text("--- *** ---\n")
    build_index(recipe(docs, chunker="page", chunk_tokens=400), tmp_path / "index")
    return tmp_path / "index"


def test_what_an_audit_finds(folder: Path) -> None:
    index = open_index(folder)
    found = audit_index(index)
    assert [path for path, _ in found.files_not_read] == ["empty.txt"]
    assert found.pages_without_text == (("nameless", 2), ("nameless", 3))
    assert found.near_duplicate_pages == (("CORK_2019_10K page 1", "CORK_2019_10K page 3", "CORK_2020_10K page 1"),)
    assert found.near_duplicate_chunks == 2
    assert found.near_duplicate_documents == ()
    assert [index.chunk(id).document for id in found.chunks_empty] == ["signs"]
    assert found.bad_vectors == found.chunks_never_found == ()
    assert 0 < found.sampled <= found.chunks
    of = {item.document: item for item in found.by_document}
    assert (of["CORK_2019_10K"].chunks_repeated, of["CORK_2019_10K"].chunks_elsewhere) == (1, 0)
    assert (of["CORK_2020_10K"].chunks_repeated, of["CORK_2020_10K"].chunks_elsewhere) == (0, 1)
    assert of["CORK_2020_10K"].score == of["ACME_2021_10K"].score == 1.0
    assert of["CORK_2019_10K"].score == pytest.approx(2 / 3, abs=1e-3)
    assert of["signs"].score == 0.0
    assert of["nameless"].pages_without_text == 2
    assert set(of["nameless"].columns_missing) == {"company", "form", "fiscal_year"}
    text = render_audit(found)
    assert "pages without text (run OCR): 2" in text
    assert "nameless page 2" in text


def test_chunks_behind_many_equals_are_never_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("\f".join(["This page is left blank on purpose."] * 14))
    build_index(recipe(tmp_path / "docs", context_line=False, chunker="page"), tmp_path / "index")
    index = open_index(tmp_path / "index")
    found = audit_index(index)
    assert [index.chunk(id).page for id in found.chunks_never_found] == [11, 12, 13, 14]
    assert found.near_duplicate_chunks == 13
    assert [index.chunk(id).page for id in found.sampled_not_found] == [11, 12, 13, 14]


def test_damage_and_vectors_that_are_none(folder: Path) -> None:
    index = open_index(folder)
    vectors = np.array(index.dense.vectors)
    vectors[1], vectors[2] = np.nan, 0
    (folder / dense.EXACT).unlink()
    np.save(folder / dense.EXACT, vectors)
    with pytest.raises(IndexFolderError, match=r"damaged: vectors.npy"):
        audit_index(index)
    entries = json.loads((folder / "manifest.json").read_text())
    entries["files"][dense.EXACT]["sha256"] = hash_file(folder / dense.EXACT)
    (folder / "manifest.json").write_text(json.dumps({**entries, "manifest_sha256": hash_manifest(entries)}))
    index = open_index(folder)
    ids = [chunk.id for chunk in index.store.chunks_at([1, 2])]
    assert list(audit_index(index).bad_vectors) == ids


def test_an_index_without_faults(tmp_path: Path) -> None:
    build_index(recipe(write_folder(tmp_path / "docs")), tmp_path / "index")
    found = audit_index(open_index(tmp_path / "index"), sample=0)
    assert (found.score, found.sampled, found.near_duplicate_chunks, found.files_not_read) == (1.0, 0, 0, ())


def test_inspect(folder: Path) -> None:
    index = open_index(folder)
    facts = inspect_index(index)
    assert (facts.documents, facts.chunks, facts.pages_without_text, facts.files_not_read) == (7, len(index.places), 2, 1)
    texts = [chunk.text for document in index.documents() for chunk in index.chunks(document.name)]
    assert facts.tokens == sum(index.embedder.count_tokens(text) for text in texts)
    assert facts.bytes == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    columns = {column.name: column for column in facts.columns}
    assert (columns["fiscal_year"].documents, columns["fiscal_year"].kinds) == (5, ("number",))
    assert set(columns["fiscal_year"].examples) <= {2019, 2020, 2021}
    assert facts.vectors["kind"] == "flat"


WORDS = st.lists(st.integers(0, 30), max_size=60)


def signed(texts: list[list[int]]) -> np.ndarray:
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    tokens = np.array([token for text in texts for token in text], dtype=np.int32)
    return sign_texts(tokens, ends - [len(text) for text in texts], ends)


def triples(text: list[int]) -> set[tuple[int, ...]]:
    padded = [*text, *text[-1:], *text[-1:]]
    return {tuple(padded[place : place + 3]) for place in range(len(text))}


@given(left=WORDS, right=WORDS, cut=st.integers(0, 60))
def test_signatures_estimate_what_texts_share(left: list[int], right: list[int], cut: int) -> None:
    right = left[:cut] + right
    one, two = signed([left, right])
    shared, every = len(triples(left) & triples(right)), len(triples(left) | triples(right))
    wanted = shared / every if every else 1.0
    assert abs((one == two).mean() - wanted) < 5 * (wanted * (1 - wanted) / HASHES) ** 0.5 + 1e-9


@given(texts=st.lists(WORDS, min_size=1, max_size=12))
def test_a_whole_has_the_signature_of_its_parts(texts: list[list[int]]) -> None:
    owners = np.array([number % 3 for number in range(len(texts))])
    merged = merge_signatures(signed(texts), owners, 3)
    for owner in range(3):
        parts = [row for row, mine in zip(signed(texts), owners) if mine == owner]
        wanted = np.min(parts, axis=0) if parts else np.full(HASHES, np.iinfo(np.uint32).max)
        assert np.array_equal(merged[owner], wanted)


def test_groups() -> None:
    text, other = list(range(100, 200)), list(range(200, 300))
    near = [*text[:-1], 999]
    assert group_like(signed([other, text, [], near, text, []])).tolist() == [0, 1, 2, 1, 1, 5]
