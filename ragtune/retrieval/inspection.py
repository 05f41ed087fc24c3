"""What an index holds, in figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ragtune.records import Record
from ragtune.retrieval.index import Index

COUNTED = 2000  # chunks whose tokens are counted; the others are taken to be like them


@dataclass(frozen=True)
class Column(Record):
    """A metadata column that filters may name."""

    name: str
    kinds: tuple[str, ...]
    documents: int
    """Documents that have a value."""
    values: int
    """Different values."""
    examples: tuple[Any, ...]


@dataclass(frozen=True)
class IndexFacts(Record):
    """What an index holds."""

    index: str
    id: str
    created: str
    documents: int
    pages: int
    pages_without_text: int
    files_not_read: int
    chunks: int
    tokens: int
    """Of the embedder, in all chunks, context lines left out; counted on at most ``COUNTED`` chunks and scaled up."""
    chunk_tokens_mean: float
    words: int
    """Different stems the lexical search knows."""
    embedder: Mapping[str, Any]
    settings: Mapping[str, Any]
    vectors: Mapping[str, Any]
    edits: Mapping[str, Any]
    bytes: int
    files: Mapping[str, int]
    columns: tuple[Column, ...]


def inspect_index(index: Index) -> IndexFacts:
    """Return what an opened index holds."""
    manifest, dense = index.manifest, index.dense
    files = {name: int(facts["bytes"]) for name, facts in manifest["files"].items()}
    rows = sorted({position * dense.ntotal // COUNTED for position in range(COUNTED)}) if dense.ntotal else []
    counted = [index.embedder.count_tokens(chunk.text) for chunk in index.store.chunks_at(rows)]
    mean = sum(counted) / len(counted) if counted else 0.0
    return IndexFacts(
        index=str(index.folder), id=index.id, created=str(manifest["created"]), documents=len(index.store.documents),
        pages=int(manifest["pages"]),
        pages_without_text=sum(len(facts["pages_without_text"]) for facts in manifest["inputs"].values()),
        files_not_read=sum(item["path"] not in manifest["inputs"] for item in manifest["unreadable"]),
        chunks=dense.ntotal, tokens=round(mean * dense.ntotal), chunk_tokens_mean=round(mean, 1),
        words=len(index.lexical.vocab_dict), embedder=manifest["embedder"], settings=manifest["settings"],
        vectors={"kind": dense.kind, "dimension": dense.d, "probes": dense.probes}, edits=manifest.get("edits", {}),
        bytes=sum(files.values()), files=files, columns=find_columns(index),
    )


def find_columns(index: Index) -> tuple[Column, ...]:
    """Return the columns that filters may name, with the documents that have them and examples."""
    columns = []
    for name, kinds in index.columns().items():
        if name == "page":
            continue
        values = ([document.name for document in index.store.documents] if name == "document" else
                  [document.metadata[name] for document in index.store.documents if document.metadata.get(name) is not None])
        different = sorted(set(values), key=lambda value: (str(type(value)), value))
        examples = tuple(different[:: max(1, -(-len(different) // 3))][:3])
        columns.append(Column(name, tuple(sorted(kinds)), len(values), len(different), examples))
    return tuple(columns)
