"""Building an index folder: read, chunk, embed, write. What did not change is taken from the folder that is there."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.documents.chunk import OWN_METADATA, chunk_document
from ragtune.documents.context import context_line
from ragtune.documents.metadata import read_sidecar
from ragtune.documents.pack import copy_pack, current_pack, in_recipe_pack
from ragtune.documents.read import Reading, Unreadable, describe_pages, make_document, read_documents
from ragtune.errors import IndexFolderError
from ragtune.files import building_folder, hash_text, peak_memory_mb, read_manifest, write_manifest
from ragtune.models.embed import open_embedder
from ragtune.recipe.schema import Recipe
from ragtune.records import Chunk, Document, Record
from ragtune.retrieval.dense import build_dense, open_dense, read_vectors
from ragtune.retrieval.lexical import Lexical, build_lexical, open_lexical
from ragtune.retrieval.signals import Signals, build_signals, open_signals, write_signals
from ragtune.retrieval.store import Store, write_store
from ragtune.retrieval.vectors import FOLDER, Known, embed_chunks
from ragtune.seams import Embedder, Report, progress_of

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
READING = 2  # raise when the same bytes would give other pages, so that unchanged files are read again
CHUNKING = 2  # raise when the same pages and settings would give other chunks


@dataclass(frozen=True)
class IndexSummary(Record):
    """What building an index did. Rates count what was done anew: pages read and chunks embedded a second."""

    folder: str
    id: str
    documents: int
    pages: int
    chunks: int
    unchanged: int
    added: int
    changed: int
    removed: int
    unreadable: tuple[tuple[str, str], ...]
    pages_without_text: int
    seconds: float
    pages_per_s: float
    chunks_per_s: float
    peak_memory_mb: float


@dataclass(frozen=True)
class Previous:
    """The index that stands in the folder already."""

    manifest: Mapping[str, Any]
    store: Store
    vectors: np.ndarray
    lexical: Lexical
    rows: Mapping[str, int]
    """Hash of the embedded text -> a row that was embedded by it."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Path -> what is known of each file indexed."""
        inputs: Mapping[str, Any] = self.manifest["inputs"]
        return inputs

    @property
    def edits(self) -> Edits:
        """What was changed by hand."""
        edits = self.manifest.get("edits", {})
        return Edits(tuple(edits.get("added", ())), tuple(edits.get("removed", ())))


def open_previous(folder: Path) -> Previous | None:
    """Return the index in a folder, None where there is none or it cannot be used."""
    if not (folder / "manifest.json").is_file() and not folder.with_name(folder.name + ".old").exists():
        return None
    try:
        manifest = read_manifest(folder, "index", IndexFolderError)
        store = Store(folder)
        rows = {key: row for row, key in enumerate(store.embedded())}
        return Previous(manifest, store, read_vectors(open_dense(folder, store.rows())), open_lexical(folder), rows)
    except IndexFolderError as error:
        log.warning("nothing is taken over from %s: %s", folder, error)
        return None


@dataclass(frozen=True)
class Edits(Record):
    """What was changed by hand: a later build of the folder keeps to it."""

    added: tuple[str, ...] = ()
    """Absolute paths of files outside the documents folder."""
    removed: tuple[str, ...] = ()
    """Paths inside the documents folder that are left out."""


@in_recipe_pack
def build_index(recipe: Recipe, folder: Path, report: Report | None = None, keeps_edits: bool = True) -> IndexSummary:
    """Index the recipe's documents into a folder, whole or not at all, and return what was done.

    Files whose bytes did not change keep their pages, chunks keep their vectors where their text did not change, and
    vectors made before a kill are found again: the result equals that of a fresh build. What was added or removed by
    hand stays so, unless ``keeps_edits`` is false. Raises DocumentError where no document can be read, RecipeError or
    ModelError for a chunker or embedder there is not, RunError where another process writes the folder.
    """
    started, folder = time.perf_counter(), Path(folder)
    previous = open_previous(folder)
    has_pages = previous is not None and previous.manifest.get("reading") == READING
    skip = {path: str(facts["sha256"]) for path, facts in previous.inputs.items()} if previous and has_pages else {}
    edits = previous.edits if previous and keeps_edits else Edits()
    reading = read_documents(recipe.documents, skip, report, edits.added, edits.removed)
    return write_index(recipe, folder, previous, reading, edits, started, report)


@in_recipe_pack
def write_index(
    recipe: Recipe, folder: Path, previous: Previous | None, reading: Reading, edits: Edits, started: float,
    report: Report | None = None,
) -> IndexSummary:
    """Write what was read and what is taken over as one new folder in place of the old one; nothing changed, no writing.

    Nothing is ever changed within a folder, so there are no gaps in it to be compacted. ``started`` is the clock's time
    when the reading began. Raises as ``build_index`` does.
    """
    embedder = open_embedder(recipe.index.embedder, recipe.index.embedder_engine)
    read_s = time.perf_counter() - started
    documents, inputs, unreadable = _gather(recipe, reading, previous)
    pack = current_pack()
    settings = {"chunking": CHUNKING, "pack": {"name": pack.name, "hash": pack.hash},
                "chunker": recipe.index.chunker, "chunk_tokens": recipe.index.chunk_tokens,
                "overlap_tokens": recipe.index.overlap_tokens, "fingerprint": embedder.fingerprint}
    chunks = _chunk_all(recipe, documents, reading, previous, settings, embedder, report)
    texts = [f"{context_line(chunk)}\n{chunk.text}" if recipe.index.context_line else chunk.text for chunk in chunks]
    keys = [hash_text(text) for text in texts]
    entries: dict[str, Any] = {
        "id": _index_id(embedder, documents, chunks, keys),
        "embedder": {"name": recipe.index.embedder, "fingerprint": embedder.fingerprint, "dimension": embedder.dimension},
        "settings": settings,
        "reading": READING,
        "recipe": {key: recipe.model_dump(mode="json")[key] for key in ("name", "documents", "index")},
        "documents": len(documents),
        "pages": sum(len(document.pages) for document in documents),
        "chunks": len(chunks),
        "inputs": inputs,
        "unreadable": [item.to_dict() for item in unreadable],
        "edits": {name: list(paths) for name, paths in edits.to_dict().items()},
    }
    embedded, embed_s = 0, 0.0
    if previous is None or any(previous.manifest.get(key) != value for key, value in entries.items()):
        with building_folder(folder, keep_partial=True) as partial:
            for path in partial.iterdir():
                if path.name != FOLDER:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            embed_started = time.perf_counter()
            vectors, embedded = embed_chunks(texts, keys, [c.document_id for c in chunks], embedder,
                                             _known_vectors(previous, embedder), partial, progress_of(report, "embedding"))
            embed_s = time.perf_counter() - embed_started
            if report:
                report("writing", 0, 0)
            build_dense(vectors, partial, recipe.index.vectors)
            build_lexical(texts, partial, *(previous.lexical, [previous.rows.get(key) for key in keys]) if previous else ())
            write_store(partial, documents, chunks, keys)
            write_signals(build_signals(documents, chunks, pack, _known_signals(previous, settings)), partial)
            copy_pack(pack, partial / "pack")
            shutil.rmtree(partial / FOLDER, ignore_errors=True)
            write_manifest(partial, "index", **entries)
    if previous is not None:
        previous.store.close()
    pages_read = sum(len(document.pages) for document in reading.documents)
    old = previous.inputs if previous else {}
    unchanged = sum(1 for path, facts in inputs.items() if old.get(path, {}).get("sha256") == facts["sha256"])
    added = sum(1 for path in inputs if path not in old)
    return IndexSummary(
        folder=str(folder), id=entries["id"], documents=len(documents), pages=entries["pages"], chunks=len(chunks),
        unchanged=unchanged, added=added, changed=len(inputs) - unchanged - added,
        removed=sum(1 for path in old if path not in inputs),
        unreadable=tuple((item.path, item.reason) for item in unreadable),
        pages_without_text=sum(len(facts["pages_without_text"]) for facts in inputs.values()),
        seconds=round(time.perf_counter() - started, 3),
        pages_per_s=round(pages_read / read_s, 1) if pages_read else 0.0,
        chunks_per_s=round(embedded / embed_s, 1) if embedded else 0.0,
        peak_memory_mb=peak_memory_mb(),
    )


def _gather(
    recipe: Recipe, reading: Reading, previous: Previous | None
) -> tuple[list[Document], dict[str, Any], list[Unreadable]]:
    """Return all documents in the order of paths, the manifest's entry of each file, and all that was unreadable."""
    sidecar = read_sidecar(Path(recipe.documents.metadata)) if recipe.documents.metadata and reading.unchanged else {}
    by_path = {document.path: document for document in reading.documents}
    without_text = {path: list(pages) for path, pages in reading.without_text.items()}
    unreadable = list(reading.unreadable)
    for file in reading.unchanged:
        assert previous is not None
        facts = previous.inputs[file.path]
        pages = [page.text for page in previous.store.pages_of(facts["document"])]
        by_path[file.path] = make_document(file, pages, sidecar)
        without_text[file.path] = facts["pages_without_text"]
        if facts["pages_without_text"]:
            unreadable.append(Unreadable(file.path, describe_pages(facts["pages_without_text"])))
    inputs = {
        file.path: {"sha256": file.sha256, "document": file.name, "pages": len(by_path[file.path].pages),
                    "pages_without_text": without_text[file.path]}
        for file in reading.files if file.path in by_path
    }
    return [by_path[path] for path in inputs], inputs, sorted(unreadable, key=lambda item: (item.path, item.reason))


def _chunk_all(
    recipe: Recipe, documents: Sequence[Document], reading: Reading, previous: Previous | None, settings: Mapping[str, Any],
    embedder: Embedder, report: Report | None,
) -> list[Chunk]:
    """Return the chunks of all documents; those of unchanged files come from the previous index, their metadata anew."""
    progress = progress_of(report, "chunking")
    reusable = previous is not None and previous.manifest.get("settings") == settings
    unchanged = {file.path for file in reading.unchanged} if reusable else set()
    chunks: list[Chunk] = []
    for done, document in enumerate(documents, start=1):
        if previous is not None and document.path in unchanged:
            for chunk in previous.store.chunks_of(previous.inputs[document.path]["document"]):
                own = {key: value for key, value in chunk.metadata.items() if key in OWN_METADATA}
                chunks.append(replace(chunk, document=document.name, metadata={**document.metadata, **own}))
        else:
            chunks += chunk_document(document, recipe.index.chunker, recipe.index.chunk_tokens, recipe.index.overlap_tokens,
                                     embedder.count_tokens, embedder.embed_passages)
        if progress:
            progress(done, len(documents))
    return chunks


def _known_signals(previous: Previous | None, settings: Mapping[str, Any]) -> Mapping[str, Signals]:
    """Return the signals of the documents of an index that was chunked alike: document id -> those of its pages."""
    if previous is None or previous.manifest.get("settings") != settings:
        return {}
    try:
        signals = open_signals(previous.store.path.parent)
    except IndexFolderError:
        return {}
    return {document.id: signals.of(position) for position, document in enumerate(previous.store.documents)}


def _known_vectors(previous: Previous | None, embedder: Embedder) -> Known | None:
    """Return the vectors of an index of the same embedder."""
    if previous is None or previous.manifest["embedder"]["fingerprint"] != embedder.fingerprint:
        return None
    return Known(previous.rows, previous.vectors)


def _index_id(embedder: Embedder, documents: Sequence[Document], chunks: Sequence[Chunk], keys: Sequence[str]) -> str:
    """Return the hash of all that a search can find: embedder, documents with metadata, chunks and their embedded text."""
    parts = [embedder.fingerprint]
    parts += [f"{document.id} {document.name} {sorted(document.metadata.items())}" for document in documents]
    parts += [f"{chunk.id} {key}" for chunk, key in zip(chunks, keys)]
    return hash_text("\n".join(parts))
