"""The index folder, opened: its chunks and pages, its vectors and words, and which rows a filter keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.documents.pack import DEFAULT, Pack, open_pack
from ragtune.errors import IndexFolderError, nearest
from ragtune.files import read_manifest
from ragtune.models.embed import open_embedder
from ragtune.records import Chunk, Document, Value
from ragtune.retrieval.build import IndexSummary, build_index
from ragtune.retrieval.dense import open_dense
from ragtune.retrieval.filters import Filter, kind_of
from ragtune.retrieval.lexical import open_lexical
from ragtune.retrieval.signals import Signals, open_signals
from ragtune.retrieval.store import Store
from ragtune.retrieval.wide import page_of_id
from ragtune.seams import Embedder

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Index", "IndexSummary", "build_index", "open_index"]


class Index:
    """An index folder opened for reading. Vectors, words and embedder are loaded when first needed."""

    most_kept = 64
    """So many filters' rows are remembered."""
    owned: Sequence[bool] | None = None
    """Which documents are there for who asks, by position; None: all."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], embedder: Embedder | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self.id = str(manifest["id"])
        self.grown_from = tuple(map(str, manifest.get("grown_from", ())))  # ids of what it was before documents came or went
        self.store = Store(folder)
        self.given_embedder = embedder
        if embedder is not None:
            check_embedder(folder, manifest, embedder)
        self.kept: dict[str, np.ndarray] = {}

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder the index was built with. Raises IndexFolderError where it is another one by now."""
        if self.given_embedder is not None:
            return self.given_embedder
        embedder = open_embedder(self.manifest["embedder"]["name"])
        check_embedder(self.folder, self.manifest, embedder)
        return embedder

    @cached_property
    def pack(self) -> Pack:
        """The domain pack the index was built with, from its own copy; the default one where an older index has none."""
        folder = self.folder / "pack"
        return open_pack(folder if folder.is_dir() else DEFAULT)

    @cached_property
    def signals(self) -> Signals:
        """What each page shows, for the ranker."""
        return open_signals(self.folder)

    @cached_property
    def dense(self) -> Any:
        """The vectors, exact and as codes; row n is chunk row n."""
        return open_dense(self.folder, len(self.places))

    @cached_property
    def lexical(self) -> Any:
        """The BM25 index; row n is chunk row n."""
        return open_lexical(self.folder)

    @cached_property
    def places(self) -> np.ndarray:
        """Document position, first and last page of each chunk row, shape (chunks, 3)."""
        return self.store.places()

    @cached_property
    def runs(self) -> np.ndarray:
        """First chunk row of each run of chunks with one place, rising: chunks of one page lie together."""
        import numpy as np

        return np.flatnonzero(np.diff(self.places, axis=0, prepend=-1).any(axis=1))

    def chunk(self, chunk_id: str) -> Chunk:
        """Return the chunk, or the whole page, of this id. Raises IndexFolderError where the index has none."""
        chunk = self.store.chunk(chunk_id) or page_of_id(self.store, chunk_id)
        if chunk is None:
            raise IndexFolderError(f"{self.folder} has no chunk '{chunk_id}': it was built from other documents or with "
                                   "other settings. Build again what refers to it.")
        return chunk

    def chunks(self, document: str) -> list[Chunk]:
        """Return all chunks of a document in reading order; an unknown document has none."""
        return self.store.chunks_of(document)

    def chunks_on_page(self, document: str, page: int) -> list[Chunk]:
        """Return the chunks of a page in reading order; an unknown document or page has none."""
        return self.store.chunks_of(document, page)

    def page_text(self, document: str, page: int) -> str:
        """Return the text of a page (from 1); an unknown document or page has an empty one."""
        return self.store.page_text(document, page)

    def documents(self) -> list[Document]:
        """Return the documents with their metadata, without their pages (``document`` has them)."""
        return list(self.store.documents)

    def document(self, name: str) -> Document:
        """Return a document with its pages. Raises IndexFolderError where the index has none of this name."""
        if name not in self.store.positions:
            raise IndexFolderError(f"{self.folder} has no document '{name}'.{nearest(name, self.store.positions)} "
                                   "Do: ragtune index, with the file in the documents folder.")
        bare = self.store.documents[self.store.positions[name]]
        return Document(bare.id, bare.name, bare.path, self.store.pages_of(name), bare.metadata)

    def columns(self) -> dict[str, set[str]]:
        """Return the columns a filter may name -> the kinds of their values ('number', 'string', 'truth value')."""
        return columns_of(self.store.documents)

    def _find_kept(self, where: Filter) -> np.ndarray:
        """Return for each chunk row whether the filter keeps it; a chunk on two pages counts on both."""
        import numpy as np

        rows: list[dict[str, Value]] = [{**d.metadata, "document": d.name} for d in self.store.documents]
        owned = self.owned or [True] * len(rows)
        if "page" not in where.columns:
            kept = np.array([own and where.matches(row) for own, row in zip(owned, rows)], dtype=bool)
            return kept[self.places[:, 0]] if len(kept) else np.zeros(0, dtype=bool)
        # What a filter says of a page depends on its number and on the columns named: each such case is evaluated once.
        cases: dict[tuple[Any, ...], int] = {}
        columns = [column for column in where.columns if column != "page"]
        case_of = np.array([
            cases.setdefault((own, *((type(row.get(name)), row.get(name)) for name in columns if own)), len(cases))
            for own, row in zip(owned, rows)], dtype=np.int64)
        documents, pages, last_pages = self.places[self.runs].T.astype(np.int64)
        most = int(last_pages.max(initial=0)) + 1
        _, one, inverse = np.unique((case_of[documents] * most + pages) * most + last_pages, return_index=True,
                                    return_inverse=True)
        kept = np.array([owned[documents[place]] and any(where.matches({**rows[documents[place]], "page": page})
                             for page in range(pages[place], last_pages[place] + 1)) for place in one.tolist()], dtype=bool)
        return np.repeat(kept[inverse.reshape(-1)], np.diff(self.runs, append=len(self.places)))

    def rows_kept(self, where: Filter) -> np.ndarray:
        """Return for each chunk row whether the filter keeps it. Raises QuestionError for a column there is not."""
        kept = self.kept.get(where.text)
        if kept is None:
            kept = self._find_kept(where.check(self.columns(), self.pack.metadata.sidecar))
            if len(self.kept) >= self.most_kept:  # other threads may search: what is returned is no longer looked up
                self.kept.clear()
            self.kept[where.text] = kept
        return kept


def columns_of(documents: Iterable[Document]) -> dict[str, set[str]]:
    """Return the columns of documents that a filter may name -> the kinds of their values."""
    kinds: dict[str, set[str]] = {"document": {"string"}, "page": {"number"}}
    for document in documents:
        for column, value in document.metadata.items():
            if column not in ("document", "page") and value is not None:
                kinds.setdefault(column, set()).add(kind_of(value))
    return kinds


def check_embedder(folder: Path, manifest: Mapping[str, Any], embedder: Embedder) -> None:
    """Raise IndexFolderError where the index was built with another embedder."""
    built = manifest["embedder"]
    if built["fingerprint"] != embedder.fingerprint:
        raise IndexFolderError(
            f"{folder} was built with the embedder '{built['name']}' ({built['fingerprint']}), found '{embedder.name}' "
            f"({embedder.fingerprint}). Build the index again: ragtune index, or set index.embedder={built['name']}"
        )


def open_index(folder: Path, embedder: Embedder | None = None) -> Index:
    """Open an index folder, every file checked against the manifest; no pickle is read.

    ``embedder`` stands in for the one the manifest names. Raises IndexFolderError for a missing or damaged folder and for
    an embedder with another fingerprint.
    """
    folder = Path(folder)
    return Index(folder, read_manifest(folder, "index", IndexFolderError), embedder)
