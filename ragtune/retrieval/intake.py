"""What an index will hold, taken in document by document while others are read and embedded: chunks, texts, signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ragtune.documents.chunk import chunk_document
from ragtune.documents.context import context_line
from ragtune.documents.pack import Pack
from ragtune.documents.read import Reading, SourceFile, Unreadable, describe_pages, make_document
from ragtune.files import hash_text
from ragtune.recipe import schema
from ragtune.records import Chunk, Document
from ragtune.retrieval.previous import Previous
from ragtune.retrieval.signals import Signals, build_signals
from ragtune.retrieval.vectors import VectorWriter
from ragtune.seams import Embedder, Progress

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Intake:
    """All that was taken in, in the order of documents; ``texts`` and ``keys`` are the chunks' embedded texts and hashes."""

    section: schema.Index
    embedder: Embedder
    pack: Pack
    previous: Previous | None
    is_alike: bool
    """Whether the previous index was chunked in the same way."""
    documents: list[Document] = field(default_factory=list)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The manifest's entry of each file."""
    unreadable: list[Unreadable] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    signals: dict[str, Signals] = field(default_factory=dict)
    """Document id -> signals of the pages of those chunked now."""

    def take_all(self, reading: Reading, writer: VectorWriter, progress: Progress | None) -> None:
        """Take in all files in the order of paths, each as soon as it is read, and hand its texts on to be embedded."""
        for file, document in reading:
            chunks = self._take(file, document, reading, writer.embed)
            texts = [f"{context_line(chunk)}\n{chunk.text}" if self.section.context_line else chunk.text for chunk in chunks]
            keys = [hash_text(text) for text in texts]
            self.chunks += chunks
            self.texts += texts
            self.keys += keys
            if progress:
                progress(len(self.documents), len(reading.files))
            writer.add(self.documents[-1].id, texts, keys)
        self.unreadable = sorted([*self.unreadable, *reading.unreadable], key=lambda item: (item.path, item.reason))
        if progress:
            progress(len(self.documents), len(self.documents))

    def _take(
        self, file: SourceFile, document: Document | None, reading: Reading, embed: Callable[[Sequence[str]], np.ndarray]
    ) -> list[Chunk]:
        """Note a file's document and return its chunks; those of an unchanged file come from the previous index."""
        is_known = document is None and self.is_alike
        if document is not None:
            without_text = list(reading.without_text[file.path])
        else:
            assert self.previous is not None
            document = make_document(file, self.previous.pages_of(file.path), reading.sidecar)
            without_text = self.previous.inputs[file.path]["pages_without_text"]
            if without_text:
                self.unreadable.append(Unreadable(file.path, describe_pages(without_text)))
        self.documents.append(document)
        self.inputs[file.path] = {"sha256": file.sha256, "document": file.name, "pages": len(document.pages),
                                  "pages_without_text": without_text}
        if is_known and self.previous is not None:
            return self.previous.chunks_of(document)
        chunks = chunk_document(document, self.section.chunker, self.section.chunk_tokens, self.section.overlap_tokens,
                                self.embedder.count_tokens, embed)
        self.signals[document.id] = build_signals([document], chunks, self.pack)
        return chunks

    def known_signals(self) -> Mapping[str, Signals]:
        """Return document id -> signals of its pages, as far as they are known."""
        earlier = self.previous.signals() if self.previous and self.is_alike else {}
        return {**earlier, **self.signals}

    def index_id(self) -> str:
        """Return the hash of all that a search can find: embedder, documents with metadata, chunks, their embedded text."""
        parts = [self.embedder.fingerprint]
        parts += [f"{document.id} {document.name} {sorted(document.metadata.items())}" for document in self.documents]
        parts += [f"{chunk.id} {key}" for chunk, key in zip(self.chunks, self.keys)]
        return hash_text("\n".join(parts))
