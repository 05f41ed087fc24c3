"""An index as one tenant sees it: documents that a filter does not pass are not there, in no search, list, hint or error.

Whose a document is is decided per document, once, by the tenant's filter on its metadata; every search is then held to the
rows of those documents (a mask joined by ``and`` to whatever else is asked), so no text that an asker writes can widen it.
Names, columns and routes are told from the tenant's own documents alone.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ragtune.documents.pack import Pack
from ragtune.errors import QuestionError
from ragtune.records import Chunk, Document
from ragtune.retrieval.adapter import Adapter
from ragtune.retrieval.conditions import render_filter
from ragtune.retrieval.filters import PAGE_NAMES, Filter, parse_filter
from ragtune.retrieval.index import Index, columns_of
from ragtune.retrieval.learned import Glossary
from ragtune.retrieval.rerank import Ranker
from ragtune.retrieval.search import IndexSearcher
from ragtune.retrieval.signals import Signals
from ragtune.retrieval.store import Store
from ragtune.seams import Embedder, Generator, Reranker

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)
_ABOUT = ("kind", "format", "created", "packages", "id", "embedder", "settings", "reading", "pack")
"""Entries of a manifest that name no document."""


def check_tenant(text: str) -> Filter:
    """Return the filter that says which documents are a tenant's.

    Raises QuestionError where it cannot be read, or asks for pages: a document is a tenant's as a whole.
    """
    owned = parse_filter(text)
    for column in owned.columns:
        if "page" in (column.lower(), PAGE_NAMES.get(column.lower())):
            raise QuestionError(f"a tenant's filter says which documents are the tenant's, found the column '{column}'. "
                                "Name columns of documents, for example client = 'Acme'.")
    return Filter(render_filter(owned.node), owned.node)


def find_owned(index: Index, owned: Filter) -> tuple[bool, ...]:
    """Tell of each document of an index whether it is the tenant's; of none where the filter does not fit the index."""
    try:
        checked = check_tenant(owned.text).check(index.columns(), index.pack.metadata.sidecar)
    except QuestionError as error:  # a column that no document has by now: nothing can be told to be the tenant's
        logger.warning("a tenant's filter does not fit %s, so that the tenant has no documents: %s", index.folder, error)
        return (False,) * len(index.store.documents)
    return tuple(checked.matches({**document.metadata, "document": document.name}) for document in index.store.documents)


class OwnStore(Store):
    """The store with the documents of one tenant. ``documents`` keeps all places, for they are counted by position."""

    def __init__(self, whole: Store, owned: tuple[bool, ...]) -> None:
        self.path, self.connection, self.lock = whole.path, whole.connection, whole.lock
        self.documents = whole.documents
        own = [(place, document) for place, document in enumerate(whole.documents) if owned[place]]
        self.positions = {document.name: place for place, document in own}
        self.own_ids = frozenset(document.id for _, document in own)

    def chunks_at(self, rows: Any) -> list[Chunk]:
        """Return the chunks of these rows. Raises RuntimeError for a foreign one, which no search may have found."""
        found = super().chunks_at(rows)
        if not all(chunk.document_id in self.own_ids for chunk in found):
            raise RuntimeError("a search left the tenant's documents")  # a fault of ours; not an assert, which -O leaves out
        return found

    def chunk(self, chunk_id: str) -> Chunk | None:
        """Return the chunk of this id; None of a foreign one."""
        chunk = super().chunk(chunk_id)
        return chunk if chunk is not None and chunk.document_id in self.own_ids else None

    def all_chunks(self) -> list[Chunk]:
        """Return all chunks of the tenant in the order of rows."""
        return [chunk for chunk in super().all_chunks() if chunk.document_id in self.own_ids]

    def close(self) -> None:
        """Leave the file open: it is the whole store's."""


class OwnIndex(Index):
    """The index with the documents of one tenant; vectors, words and embedder are the whole index's."""

    most_kept = 8

    def __init__(self, whole: Index, owned: Filter) -> None:
        self.whole, self.folder, self.id, self.given_embedder = whole, whole.folder, whole.id, whole.given_embedder
        self.manifest = {name: value for name, value in whole.manifest.items() if name in _ABOUT}
        self.owned = find_owned(whole, owned)
        self.store = OwnStore(whole.store, self.owned)
        self.kept = {}

    @cached_property
    def embedder(self) -> Embedder:
        """The whole index's."""
        return self.whole.embedder

    @cached_property
    def pack(self) -> Pack:
        """The whole index's."""
        return self.whole.pack

    @cached_property
    def signals(self) -> Signals:
        """The whole index's."""
        return self.whole.signals

    @cached_property
    def dense(self) -> Any:
        """The whole index's."""
        return self.whole.dense

    @cached_property
    def lexical(self) -> Any:
        """The whole index's."""
        return self.whole.lexical

    @cached_property
    def places(self) -> np.ndarray:
        """The whole index's."""
        return self.whole.places

    @cached_property
    def runs(self) -> np.ndarray:
        """The whole index's."""
        return self.whole.runs

    @cached_property
    def own_rows(self) -> np.ndarray:
        """Whether each chunk row is the tenant's, bool, shape (chunks,)."""
        import numpy as np

        return np.array(self.owned, dtype=bool)[self.places[:, 0]]

    @cached_property
    def own_columns(self) -> dict[str, set[str]]:
        """What ``columns`` returns."""
        return columns_of(self.documents())

    def columns(self) -> dict[str, set[str]]:
        """Return the columns that the tenant's documents have -> the kinds of their values."""
        return self.own_columns

    def documents(self) -> list[Document]:
        """Return the tenant's documents with their metadata, without their pages."""
        return [self.store.documents[place] for place in self.store.positions.values()]

    def _find_kept(self, where: Filter) -> np.ndarray:
        kept: np.ndarray = super()._find_kept(where) & self.own_rows
        return kept


class OwnSearcher(IndexSearcher):
    """Searches the documents of one tenant, as the recipe says.

    The glossary learned from all documents is left out: its wordings would tell what others' documents speak of.
    """

    def __init__(self, whole: IndexSearcher, owned: Filter) -> None:
        self.whole = whole
        self.index: OwnIndex = OwnIndex(whole.index, owned)
        expand = tuple(name for name in whole.retrieval.expand if name != "learned")
        self.retrieval = whole.retrieval.model_copy(update={"expand": expand})
        own = self.index.own_rows
        self.own_keep = own if whole.own_keep is None else own & whole.own_keep

    @cached_property
    def ranker(self) -> Ranker:
        """The whole searcher's."""
        return self.whole.ranker

    @cached_property
    def adapter(self) -> Adapter | None:
        """The whole searcher's."""
        return self.whole.adapter

    @cached_property
    def cross(self) -> Reranker | None:
        """The whole searcher's."""
        return self.whole.cross

    @cached_property
    def learned(self) -> Glossary | None:
        """None."""
        return None

    @cached_property
    def expander(self) -> Generator | None:
        """The whole searcher's."""
        return self.whole.expander
