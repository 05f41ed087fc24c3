"""Reading, chunking and embedding side by side: what is embedded together never depends on which file was read first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from document_files import write_folder
from test_index import content
from test_tuned_embedder import make_sentence_model

from ragtune.documents.pool import Worker
from ragtune.errors import DocumentError
from ragtune.models.embed import SentenceEmbedder
from ragtune.models.fake import HashEmbedder
from ragtune.recipe.schema import Recipe
from ragtune.retrieval import intake, vectors
from ragtune.retrieval.index import build_index, open_index
from ragtune.retrieval.life import add_files
from ragtune.retrieval.vectors import VectorWriter

NAMES = ["ACME_2021_10K.pdf", "BOLT_2020_10K.txt", "BOLT_2021Q2_10Q.md"]


def recipe(folder: Path, **index: Any) -> Recipe:
    return Recipe.model_validate({"documents": {"folder": str(folder), "workers": 3},
                                  "index": {"embedder": "hash", "chunk_tokens": 20, **index}})


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "docs")


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts embedded together; as with real models, a vector's last digits depend on the texts beside it."""
    groups: list[list[str]] = []
    whole = HashEmbedder.embed_passages

    def embed(self: HashEmbedder, texts: Sequence[str], progress: Callable | None = None) -> np.ndarray:
        groups.append(list(texts))
        made = whole(self, texts, progress)
        return (made + np.float32(1e-5) * made.mean(axis=0)).astype(np.float32)

    monkeypatch.setattr(HashEmbedder, "embed_passages", embed)
    return groups


def read_after(monkeypatch: pytest.MonkeyPatch, waits: dict[str, threading.Event], ends: dict[str, threading.Event]) -> None:
    """Let the reading of a file wait for one event and set another at its end."""
    read = Worker.read

    def late(self: Worker, path: Path) -> dict[str, Any]:
        if path.name in waits:
            assert waits[path.name].wait(20)
        reply = read(self, path)
        if path.name in ends:
            ends[path.name].set()
        return reply

    monkeypatch.setattr(Worker, "read", late)


@pytest.mark.parametrize("gather", [1, 6, 512])
def test_the_order_of_reading_changes_nothing(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: list[list[str]], gather: int
) -> None:
    monkeypatch.setattr(vectors, "GATHER", gather)
    build_index(recipe(docs), tmp_path / "one")
    forward = groups[:]
    groups.clear()
    last, middle = threading.Event(), threading.Event()
    read_after(monkeypatch, {NAMES[1]: last, NAMES[0]: middle}, {NAMES[2]: last, NAMES[1]: middle})
    said: list[tuple[str, int, int]] = []
    build_index(recipe(docs), tmp_path / "two", lambda *step: said.append(step))
    assert groups == forward
    assert len(groups) == {1: 3, 6: 2, 512: 1}[gather]
    assert (tmp_path / "one" / "vectors.npy").read_bytes() == (tmp_path / "two" / "vectors.npy").read_bytes()
    assert content(open_index(tmp_path / "one")) == content(open_index(tmp_path / "two"))
    assert [step for step in said if step[0] == "reading"] == [("reading", done, 3) for done in (1, 2, 3)]
    chunks = sum(map(len, groups))
    assert [step for step in said if step[0] == "embedding"][-1] == ("embedding", chunks, chunks)


def test_a_document_is_embedded_while_another_is_read(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: list[list[str]]
) -> None:
    first = threading.Event()
    embed = HashEmbedder.embed_passages
    monkeypatch.setattr(HashEmbedder, "embed_passages",
                        lambda self, texts, progress=None: (embed(self, texts, progress), first.set())[0])
    monkeypatch.setattr(vectors, "GATHER", 1)
    read_after(monkeypatch, {NAMES[2]: first}, {})
    assert build_index(recipe(docs), tmp_path / "index").documents == 3


def test_a_failure_between_keeps_what_was_embedded(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: list[list[str]]
) -> None:
    monkeypatch.setattr(vectors, "GATHER", 1)
    chunk = intake.chunk_document

    def fail_late(document: Any, *rest: Any) -> Any:
        if document.path == NAMES[2]:
            for _ in range(400):
                if len(list(tmp_path.rglob("*.npz"))) == 2:
                    break
                threading.Event().wait(0.05)
            raise KeyboardInterrupt
        return chunk(document, *rest)

    monkeypatch.setattr(intake, "chunk_document", fail_late)
    with pytest.raises(KeyboardInterrupt):
        build_index(recipe(docs), tmp_path / "index")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("embedding")]
    before = groups[:]
    assert len(before) == 2
    monkeypatch.setattr(intake, "chunk_document", chunk)
    groups.clear()
    summary = build_index(recipe(docs), tmp_path / "index")
    assert len(groups) == 1
    assert not set(groups[0]) & {text for group in before for text in group}
    assert summary.chunks == sum(map(len, [*before, *groups]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "index"]
    build_index(recipe(docs), tmp_path / "fresh")
    assert (tmp_path / "index" / "vectors.npy").read_bytes() == (tmp_path / "fresh" / "vectors.npy").read_bytes()


def test_a_file_that_still_cannot_be_read_writes_nothing(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 rubbish")
    assert len(build_index(recipe(docs), tmp_path / "index").unreadable) == 1
    monkeypatch.setattr(vectors.VectorWriter, "finish", lambda *_: pytest.fail("written again"))
    assert len(build_index(recipe(docs), tmp_path / "index").unreadable) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "index"]


def test_adding_embeds_nothing_before_all_is_read(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: list[list[str]]
) -> None:
    build_index(recipe(docs), tmp_path / "index")
    groups.clear()
    monkeypatch.setattr(vectors, "GATHER", 1)
    (docs / "good.txt").write_text("good")
    (docs / "worse.pdf").write_bytes(b"%PDF-1.7 rubbish")
    with pytest.raises(DocumentError, match="1 of 2 files cannot be read, and nothing was added:\n  worse.pdf"):
        add_files(recipe(docs), tmp_path / "index", [docs / "good.txt", docs / "worse.pdf"])
    assert groups == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "index"]


class Slow(HashEmbedder):
    """Goes on, batch by batch, until it is told to end."""

    def embed_passages(self, texts: Sequence[str], progress: Callable | None = None) -> np.ndarray:
        for done in range(2000):
            threading.Event().wait(0.01)
            if progress:
                progress(min(done, 1), 2)
        raise AssertionError("nobody ended it")


def test_leaving_ends_the_embedding_at_the_next_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "GATHER", 1)
    with pytest.raises(KeyboardInterrupt), VectorWriter(Slow(), None, lambda: tmp_path) as writer:
        writer.add("one", ["text"], ["key"])
        writer.add("two", ["other"], ["another"])
        raise KeyboardInterrupt
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("embedding")]
    assert list(tmp_path.rglob("*.npz")) == []


def test_an_error_of_the_embedder_is_raised_at_the_next_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "GATHER", 1)
    monkeypatch.setattr(HashEmbedder, "embed_passages", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), VectorWriter(HashEmbedder(), None, lambda: tmp_path) as writer:
        for number in range(400):
            writer.add(str(number), ["text"], ["key"])
            threading.Event().wait(0.05)


def test_sentences_are_compared_in_the_thread_that_embeds(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    embed = HashEmbedder.embed_passages
    monkeypatch.setattr(HashEmbedder, "embed_passages",
                        lambda *given: (seen.add(threading.current_thread().name), embed(*given))[1])
    build_index(recipe(docs, chunker="semantic"), tmp_path / "index")
    assert len(seen) == 1
    assert next(iter(seen)).startswith("embedding")


def test_counting_tokens_leaves_the_tokenizer_that_embeds_alone(tmp_path: Path) -> None:
    """The library sets a tokenizer to cut and pad, or not, at every call: two threads must not share one."""
    embedder = SentenceEmbedder(str(make_sentence_model(tmp_path / "model")))
    text = "net sales of the company " * 30
    embedder.embed_passages([text])
    backend = embedder.model.tokenizer.backend_tokenizer
    cut, padding = backend.truncation, backend.padding
    assert cut["max_length"] == 32
    assert embedder.count_tokens(text) == 150
    assert (backend.truncation, backend.padding) == (cut, padding)
