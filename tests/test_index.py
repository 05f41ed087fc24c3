"""The index folder: what it holds, what a second run takes over, what a kill leaves, what damage does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from document_files import STATEMENT, write_folder, write_pdf, write_scan
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import DocumentError, IndexFolderError, ModelError, RecipeError, RunError
from ragtune.files import hash_text
from ragtune.models import embed
from ragtune.models.fake import HashEmbedder
from ragtune.recipe.schema import Recipe
from ragtune.records import Document
from ragtune.retrieval import intake, vectors
from ragtune.retrieval.dense import read_vectors
from ragtune.retrieval.filters import parse_filter
from ragtune.retrieval.index import Index, build_index, open_index
from ragtune.stages.index import run_index


def recipe(folder: Path, **index: object) -> Recipe:
    return Recipe.model_validate(
        {"documents": {"folder": str(folder), "workers": 1}, "index": {"embedder": "hash", "chunk_tokens": 40, **index}}
    )


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "docs")


def content(index: Index) -> tuple:
    """All that a search can find, vectors and words included."""
    lexical = index.lexical
    return (
        index.id,
        [d.to_dict() for d in index.documents()],
        [c.to_dict() for d in index.documents() for c in index.chunks(d.name)],
        read_vectors(index.dense).tolist(),
        lexical.vocab_dict,
        np.asarray(lexical.scores["data"]).tolist(),
        [index.document(d.name).pages for d in index.documents()],
    )


def test_what_it_holds(docs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    summary = build_index(recipe(docs), tmp_path / "index", lambda task, done, total: said.append(task))
    index = open_index(tmp_path / "index")
    assert (summary.documents, summary.pages, summary.added, summary.unchanged, summary.removed) == (3, 6, 3, 0, 0)
    assert (summary.id, summary.chunks) == (index.id, len(index.places))
    assert index.places.tolist() == [[index.store.positions[chunk.document], chunk.page, chunk.last_page]
                                     for chunk in index.store.all_chunks()]
    assert summary.pages_per_s > 0
    assert summary.chunks_per_s > 0
    assert summary.peak_memory_mb > 10
    assert list(dict.fromkeys(said)) == ["reading", "chunking", "embedding", "writing"]
    assert json.loads(json.dumps(summary.to_dict()))["documents"] == 3
    acme = index.document("ACME_2021_10K")
    assert index.page_text("ACME_2021_10K", 3) == acme.pages[2].text == "\n".join(STATEMENT)
    for chunk in index.chunks("ACME_2021_10K"):
        assert chunk.text == acme.text[chunk.start : chunk.end]
        assert index.chunk(chunk.id) == chunk
        assert chunk.metadata["company"] == "Acme"
    assert [c.page for c in index.chunks_on_page("ACME_2021_10K", 2)] == [2]
    assert index.chunks_on_page("ACME_2021_10K", 9) == index.chunks_on_page("acme_2021_10k", 2) == []
    assert index.page_text("nope", 1) == ""
    assert index.columns() == {
        "document": {"string"},
        "page": {"number"},
        "company": {"string"},
        "form": {"string"},
        "fiscal_year": {"number"},
        "quarter": {"number"},
    }
    assert not list((tmp_path / "index").rglob("*.pkl"))
    assert set(index.manifest["files"]) >= {"store.sqlite", "vectors.faiss"}
    with pytest.raises(IndexFolderError, match="no chunk 'nope'"):
        index.chunk("nope")
    with pytest.raises(IndexFolderError, match=r"no document 'ACME_2021_10k'. Did you mean 'ACME_2021_10K'"):
        index.document("ACME_2021_10k")


CHUNKS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), max_size=5)
"""First page and how many more, of each chunk of a document."""


@given(
    st.lists(st.tuples(st.sampled_from([1, True, 2, "a", "A", None]), CHUNKS), max_size=5),
    st.sampled_from(["page = 2", "page != 2", "page <= 2 and x = 'a'", "not page >= 3 or x = 1",
                     "page = 3 and document = 'd1'"]),
)
def test_a_filter_of_pages_keeps_what_it_says_of_each_chunk(documents: list, text: str) -> None:
    where = parse_filter(text)
    made = [Document(str(number), f"d{number}", "", (), {"x": value}) for number, (value, _) in enumerate(documents)]
    places = [(number, page, page + more) for number, (_, chunks) in enumerate(documents) for page, more in sorted(chunks)]
    index = object.__new__(Index)
    index.store = SimpleNamespace(documents=made)
    index.places = np.array(places, dtype=np.int32).reshape(-1, 3)
    assert index._find_kept(where).tolist() == [
        any(where.matches({"x": documents[number][0], "document": f"d{number}", "page": page})
            for page in range(first, last + 1)) for number, first, last in places]


def test_a_second_run_does_nothing(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(recipe(docs), tmp_path / "index")
    before = (tmp_path / "index" / "manifest.json").stat()
    monkeypatch.setattr(HashEmbedder, "embed_passages", lambda *_: pytest.fail("embedded again"))
    summary = build_index(recipe(docs), tmp_path / "index")
    assert (summary.unchanged, summary.added, summary.changed, summary.removed) == (3, 0, 0, 0)
    after = (tmp_path / "index" / "manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def change_documents(docs: Path) -> None:
    (docs / "BOLT_2020_10K.txt").write_text("Bolt now makes nuts.\n")
    (docs / "BOLT_2021Q2_10Q.md").unlink()
    (docs / "CORK_2019_10K.txt").write_text("Cork makes corks.\n")
    (docs / "empty.txt").touch()


def test_a_changed_folder_equals_a_fresh_build(docs: Path, tmp_path: Path) -> None:
    write_scan(docs / "half.pdf", text_pages=1, image_pages=1)
    build_index(recipe(docs), tmp_path / "index")
    change_documents(docs)
    summary = build_index(recipe(docs), tmp_path / "index")
    assert (summary.unchanged, summary.added, summary.changed, summary.removed) == (2, 1, 1, 1)
    fresh = build_index(recipe(docs), tmp_path / "fresh")
    assert summary.unreadable == fresh.unreadable
    assert [path for path, _ in summary.unreadable] == ["empty.txt", "half.pdf"]
    assert summary.pages_without_text == fresh.pages_without_text == 1
    assert content(open_index(tmp_path / "index")) == content(open_index(tmp_path / "fresh"))


@pytest.mark.parametrize("change", [{"chunk_tokens": 20}, {"chunker": "page"}, {"context_line": False}])
def test_other_settings_equal_a_fresh_build(docs: Path, tmp_path: Path, change: dict) -> None:
    first = build_index(recipe(docs), tmp_path / "index")
    second = build_index(recipe(docs, **change), tmp_path / "index")
    build_index(recipe(docs, **change), tmp_path / "fresh")
    assert second.id != first.id
    assert second.unchanged == 3
    assert content(open_index(tmp_path / "index")) == content(open_index(tmp_path / "fresh"))


def test_new_metadata_is_taken_over_without_reading_again(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(recipe(docs), tmp_path / "index")
    (tmp_path / "about.json").write_text('[{"document": "ACME_2021_10K", "company": "Acme Anvils", "sector": "Tools"}]')
    with_sidecar = Recipe.model_validate(
        {**recipe(docs).model_dump(), "documents": {"folder": str(docs), "metadata": str(tmp_path / "about.json")}}
    )
    summary = build_index(with_sidecar, tmp_path / "index")
    assert summary.pages_per_s == 0.0
    build_index(with_sidecar, tmp_path / "fresh")
    assert content(open_index(tmp_path / "index")) == content(open_index(tmp_path / "fresh"))
    assert open_index(tmp_path / "index").chunks("ACME_2021_10K")[0].metadata["sector"] == "Tools"


def test_only_new_text_is_embedded(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(recipe(docs), tmp_path / "index")
    change_documents(docs)
    texts: list[str] = []
    whole = HashEmbedder.embed_passages
    monkeypatch.setattr(
        HashEmbedder, "embed_passages", lambda self, new, progress=None: (texts.extend(new), whole(self, new))[1]
    )
    build_index(recipe(docs), tmp_path / "index")
    assert texts == ["Bolt 10-K 2020, page 1\nBolt now makes nuts.", "Cork 10-K 2019, page 1\nCork makes corks."]


def test_a_failure_leaves_the_old_index_and_the_vectors_made(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = build_index(recipe(docs, chunk_tokens=30), tmp_path / "index")
    whole, calls = HashEmbedder.embed_passages, []

    def fail_late(self, texts, progress=None):
        calls.append(list(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, texts)

    monkeypatch.setattr(HashEmbedder, "embed_passages", fail_late)
    monkeypatch.setattr(vectors, "GATHER", 1)
    other = recipe(docs, context_line=False)
    with pytest.raises(KeyboardInterrupt):
        build_index(other, tmp_path / "index")
    assert open_index(tmp_path / "index").id == old.id
    first_two = calls[0] + calls[1]
    build_index(other, tmp_path / "index")
    assert not set(first_two) & {text for call in calls[3:] for text in call}
    monkeypatch.undo()
    build_index(other, tmp_path / "fresh")
    assert content(open_index(tmp_path / "index")) == content(open_index(tmp_path / "fresh"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "fresh", "index"]


def test_a_kill_while_embedding(docs: Path, tmp_path: Path) -> None:
    program = f"""
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from ragtune.models.fake import HashEmbedder
from ragtune.recipe.schema import Recipe
from ragtune.records import Document
from ragtune.retrieval import vectors
from ragtune.retrieval.index import build_index
whole = HashEmbedder.embed_passages
def slow(self, texts, progress=None):
    if any("screws and bolts" in text for text in texts):
        time.sleep(60)
    return whole(self, texts)
HashEmbedder.embed_passages = slow
vectors.GATHER = 1
build_index(Recipe.model_validate_json({recipe(docs).model_dump_json()!r}), Path({str(tmp_path / "index")!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    saved = tmp_path / "index.partial" / "vectors"
    for _ in range(600):
        if list(saved.rglob("*.npz")) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "index").exists()
    assert len(list(saved.rglob("*.npz"))) == 1
    build_index(recipe(docs), tmp_path / "index")
    build_index(recipe(docs), tmp_path / "fresh")
    assert content(open_index(tmp_path / "index")) == content(open_index(tmp_path / "fresh"))
    assert not (tmp_path / "index.partial").exists()


def test_damaged_leftovers_are_not_trusted(docs: Path, tmp_path: Path) -> None:
    for name in ("vectors/" + hash_text(HashEmbedder.fingerprint) + "/x.npz", "store.sqlite", "junk/file"):
        path = tmp_path / "index.partial" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PK\x03\x04 rubbish")
    build_index(recipe(docs), tmp_path / "index")
    assert {path.name for path in (tmp_path / "index").iterdir()} == {
        "manifest.json",
        "store.sqlite",
        "vectors.faiss",
        "vectors.json",
        "vectors.npy",
        "lexical",
        "pack",
        "signals.npz",
    }


def test_a_flipped_byte_in_any_file_is_found_and_the_next_build_mends_it(docs: Path, tmp_path: Path) -> None:
    build_index(recipe(docs), tmp_path / "index")
    whole = open_index(tmp_path / "index")
    wanted = content(whole)
    names = [str(path.relative_to(tmp_path / "index")) for path in sorted((tmp_path / "index").rglob("*")) if path.is_file()]
    assert set(names) == {*whole.manifest["files"], "manifest.json"}
    for name in names:
        path = tmp_path / "index" / name
        data = path.read_bytes()
        for place in (len(data) // 2, len(data) - 3):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises(IndexFolderError, match=rf"(damaged: {name}|{name} is damaged)"):
                open_index(tmp_path / "index")
        path.write_bytes(data)
    (tmp_path / "index" / "vectors.npy").write_bytes(b"rubbish")
    assert build_index(recipe(docs), tmp_path / "index").unchanged == 0
    assert content(open_index(tmp_path / "index")) == wanted


def test_nothing_is_written_where_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for content_ in (None, b""):
        if content_ is not None:
            (tmp_path / "docs" / "a.pdf").write_bytes(content_)
        with pytest.raises(DocumentError):
            build_index(recipe(tmp_path / "docs"), tmp_path / "index")
    with pytest.raises(DocumentError, match="does not exist"):
        build_index(recipe(tmp_path / "none"), tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]


def test_wrong_settings_write_nothing(docs: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"index.chunker: found 'lines'"):
        build_index(recipe(docs, chunker="lines"), tmp_path / "index")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="not a folder of ragtune"):
        build_index(recipe(docs), tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "other"]


def test_another_embedder_is_refused_by_name(docs: Path, tmp_path: Path) -> None:
    build_index(recipe(docs), tmp_path / "index")

    class Other(HashEmbedder):
        name = "other"
        fingerprint = "other:1"

    with pytest.raises(IndexFolderError, match=r"'hash' \(hash:256\), found 'other' \(other:1\)"):
        open_index(tmp_path / "index", Other())


def test_the_embedder_of_that_name_may_have_changed(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(recipe(docs), tmp_path / "index")
    monkeypatch.setattr(HashEmbedder, "fingerprint", "hash:new")
    index = open_index(tmp_path / "index")
    with pytest.raises(IndexFolderError, match="found 'hash' \\(hash:new\\)"):
        _ = index.embedder


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_vectors_that_are_no_numbers_or_zero_are_refused(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(
        HashEmbedder,
        "embed_passages",
        lambda self, texts, progress=None: np.full((len(texts), 256), value, dtype=np.float32),
    )
    with pytest.raises(ModelError, match="not numbers or of length 0"):
        build_index(recipe(docs), tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("dimension", [8, 300])
def test_an_embedder_that_returns_another_dimension_is_refused(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dimension: int
) -> None:
    monkeypatch.setattr(
        HashEmbedder,
        "embed_passages",
        lambda self, texts, progress=None: np.ones((len(texts), dimension), dtype=np.float32),
    )
    with pytest.raises(ModelError, match=rf"shape \(\d+, {dimension}\); wanted \(\d+, 256\)"):
        build_index(recipe(docs), tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_two_chunks_of_one_id_are_refused(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = intake.chunk_document
    monkeypatch.setattr(intake, "chunk_document", lambda *a: [replace(c, id="same") for c in whole(*a)])
    with pytest.raises(IndexFolderError, match=r"two chunks have the id 'same': ACME_2021_10K, page 1, and ACME"):
        build_index(recipe(docs), tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match="no index folder"):
        open_index(tmp_path / "none")


def test_the_stage_names_the_folder(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_index(recipe(docs)).folder == "work/assistant/index"
    assert run_index(recipe(docs), tmp_path / "else").folder == str(tmp_path / "else")
    assert open_index(tmp_path / "else").id == open_index(Path("work/assistant/index")).id


def test_names_follow_the_folder(docs: Path, tmp_path: Path) -> None:
    """A file of the same name in a folder that sorts first takes the plain name; the index follows."""
    build_index(recipe(docs), tmp_path / "index")
    (docs / "A").mkdir()
    write_pdf(docs / "A" / "ACME_2021_10K.pdf", [["Other anvils."]])
    build_index(recipe(docs), tmp_path / "index")
    build_index(recipe(docs), tmp_path / "fresh")
    assert content(open_index(tmp_path / "index")) == content(open_index(tmp_path / "fresh"))


def test_embedders_are_kept() -> None:
    assert embed.open_embedder("hash") is embed.open_embedder("hash")
