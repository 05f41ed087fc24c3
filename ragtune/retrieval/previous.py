"""The index that stands in a folder already, and what a build of the folder takes over from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.documents.chunk import OWN_METADATA
from ragtune.errors import IndexFolderError
from ragtune.files import read_manifest
from ragtune.records import Chunk, Document, Record
from ragtune.retrieval.dense import open_dense, read_vectors
from ragtune.retrieval.lexical import Lexical, open_lexical
from ragtune.retrieval.signals import Signals, open_signals
from ragtune.retrieval.store import Store
from ragtune.retrieval.vectors import Known
from ragtune.seams import Embedder

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Edits(Record):
    """What was changed by hand: a later build of the folder keeps to it."""

    added: tuple[str, ...] = ()
    """Absolute paths of files outside the documents folder."""
    removed: tuple[str, ...] = ()
    """Paths inside the documents folder that are left out."""


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

    def pages_of(self, path: str) -> list[str]:
        """Return the page texts of a file."""
        return [page.text for page in self.store.pages_of(self.inputs[path]["document"])]

    def chunks_of(self, document: Document) -> list[Chunk]:
        """Return a document's chunks, by the name and with the metadata it has now."""
        chunks = []
        for chunk in self.store.chunks_of(self.inputs[document.path]["document"]):
            own = {key: value for key, value in chunk.metadata.items() if key in OWN_METADATA}
            chunks.append(replace(chunk, document=document.name, metadata={**document.metadata, **own}))
        return chunks

    def known_vectors(self, embedder: Embedder) -> Known | None:
        """Return the vectors, None where another embedder made them."""
        return Known(self.rows, self.vectors) if self.manifest["embedder"]["fingerprint"] == embedder.fingerprint else None

    def rows_of(self, keys: Sequence[str]) -> list[int | None]:
        """Return for each hash of an embedded text a row that holds it."""
        return [self.rows.get(key) for key in keys]

    def signals(self) -> Mapping[str, Signals]:
        """Return the signals of each document's pages by its id; none where they cannot be read."""
        try:
            signals = open_signals(self.store.path.parent)
        except IndexFolderError:
            return {}
        return {document.id: signals.of(position) for position, document in enumerate(self.store.documents)}


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
