"""What goes wrong in an index unseen: text that is missing, repeated, without metadata, or found by no question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragtune.documents.context import context_line
from ragtune.documents.pack import use_pack
from ragtune.errors import IndexFolderError
from ragtune.files import read_manifest
from ragtune.records import Record
from ragtune.retrieval.dense import search_dense
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.index import Index
from ragtune.retrieval.inspection import find_columns
from ragtune.retrieval.lexical import search_lexical, tokenise
from ragtune.retrieval.twins import group_like, merge_signatures, sign_texts
from ragtune.seams import Report

if TYPE_CHECKING:
    import numpy as np

NEAR = 10
"""A chunk counts as found when it is among so many hits for its own text."""
SHOWN = 20


@dataclass(frozen=True)
class DocumentAudit(Record):
    """One document; the score is 1 where every page has text, every chunk is found and every column has a value."""

    document: str
    score: float
    """Share of pages with text x share of chunks neither empty nor repeated within the document x share of columns known."""
    pages: int
    pages_without_text: int
    chunks: int
    chunks_empty: int
    chunks_repeated: int
    """Near-duplicates of an earlier chunk of the same document."""
    chunks_elsewhere: int
    """Near-duplicates of a chunk of another document (forms, boilerplate): no fault, but they crowd each other out."""
    columns_missing: tuple[str, ...]


@dataclass(frozen=True)
class Audit(Record):
    """All that was found."""

    index: str
    id: str
    documents: int
    chunks: int
    score: float
    """Mean of the documents' scores."""
    files_not_read: tuple[tuple[str, str], ...]
    pages_without_text: tuple[tuple[str, int], ...]
    bad_vectors: tuple[str, ...]
    """Ids of chunks whose vector is no numbers or not of length 1."""
    chunks_empty: tuple[str, ...]
    """Ids of chunks without a word: only their context line can be found."""
    chunks_never_found: tuple[str, ...]
    """Ids of chunks that stand after ``NEAR`` others with the very same text: no question can reach them."""
    near_duplicate_chunks: int
    near_duplicate_chunk_groups: tuple[tuple[str, ...], ...]
    near_duplicate_pages: tuple[tuple[str, ...], ...]
    near_duplicate_documents: tuple[tuple[str, ...], ...]
    sampled: int
    """Chunks searched for by their own text without the context line, both searchers fused, no filter."""
    sampled_not_found: tuple[str, ...]
    by_document: tuple[DocumentAudit, ...]


def audit_index(index: Index, sample: int = 300, report: Report | None = None) -> Audit:
    """Return what is wrong with an opened index; every file is checked against the manifest first.

    ``sample`` chunks are searched for by their own text. Raises IndexFolderError for a damaged file.
    """
    import numpy as np

    say = report or (lambda task, done, total: None)
    say("checking files", 0, 0)
    manifest = read_manifest(index.folder, "index", IndexFolderError)
    places, documents = index.places, index.store.documents
    chunks = index.store.all_chunks()
    say("comparing chunks", 0, 0)
    signatures = _sign(index, chunks)
    is_empty = (signatures == np.iinfo(np.uint32).max).all(axis=1)
    heads = group_like(signatures)
    page_of = np.unique(places[:, :2], axis=0, return_inverse=True)
    pages, owners = page_of[0], page_of[1].reshape(-1)
    page_heads = group_like(merge_signatures(signatures, owners, len(pages)))
    document_heads = group_like(merge_signatures(signatures, places[:, 0].astype(np.int64), len(documents)), like=0.8)
    say("searching", 0, 0)
    rows = np.unique(np.linspace(0, len(chunks) - 1, sample).astype(int)).tolist() if sample and chunks else []
    rows = [row for row in rows if not is_empty[row]]
    missed = _search_own(index, [chunks[row].text for row in rows], rows)
    without_text = [(facts["document"], int(page)) for facts in manifest["inputs"].values()
                    for page in facts["pages_without_text"]]
    by_document = _audit_documents(index, manifest, heads, is_empty)
    groups = _groups(heads, [chunk.id for chunk in chunks])
    return Audit(
        index=str(index.folder), id=index.id, documents=len(documents), chunks=len(chunks),
        score=round(sum(item.score for item in by_document) / max(1, len(by_document)), 4),
        files_not_read=tuple((item["path"], item["reason"]) for item in manifest["unreadable"]
                             if item["path"] not in manifest["inputs"]),
        pages_without_text=tuple(without_text),
        bad_vectors=tuple(chunks[row].id for row in _bad_vectors(index)),
        chunks_empty=tuple(chunks[row].id for row in np.flatnonzero(is_empty)),
        chunks_never_found=tuple(chunks[row].id for row in _hidden(index.store.embedded())),
        near_duplicate_chunks=int((heads != np.arange(len(heads))).sum()),
        near_duplicate_chunk_groups=groups[:SHOWN],
        near_duplicate_pages=_groups(page_heads, [f"{documents[d].name} page {page}" for d, page in pages.tolist()]),
        near_duplicate_documents=_groups(document_heads, [document.name for document in documents]),
        sampled=len(rows), sampled_not_found=tuple(chunks[row].id for row in missed), by_document=by_document,
    )


def _sign(index: Index, chunks: Sequence[Any]) -> np.ndarray:
    """Return the signatures of the chunks' own words: the context line, which tells pages apart, is left out."""
    import numpy as np

    lexical = index.lexical
    has_line = bool(index.manifest["recipe"]["index"].get("context_line"))
    if lexical.tokens is None or lexical.ends is None:
        numbers: dict[str, int] = {}
        parts = [[numbers.setdefault(stem, len(numbers)) for stem in tokenise(chunk.text)] for chunk in chunks]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return sign_texts(np.array([token for part in parts for token in part], dtype=np.int64),
                          np.concatenate([[0], ends[:-1]]).astype(np.int64), ends)
    ends = np.asarray(lexical.ends)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else ends
    with use_pack(index.pack):
        lines = [len(tokenise(context_line(chunk))) if has_line else 0 for chunk in chunks]
    return sign_texts(np.asarray(lexical.tokens), np.minimum(starts + np.array(lines, dtype=np.int64), ends), ends)


def _hidden(keys: Sequence[str]) -> list[int]:
    """Return the rows that come after ``NEAR`` rows embedded by the very same text."""
    seen: dict[str, int] = {}
    hidden = []
    for row, key in enumerate(keys):
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > NEAR:
            hidden.append(row)
    return hidden


def _bad_vectors(index: Index) -> list[int]:
    """Return the rows whose vector is no numbers or not of length 1."""
    import numpy as np

    bad: list[int] = []
    for start in range(0, index.dense.ntotal, 65_536):
        block = index.dense.vectors[start : start + 65_536]
        with np.errstate(all="ignore"):
            lengths = np.einsum("ij,ij->i", block, block)
        bad += (start + np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))).tolist()
    return bad


def _search_own(index: Index, texts: Sequence[str], rows: Sequence[int]) -> list[int]:
    """Return the rows that are not among the first ``NEAR`` hits for their own text."""
    if not texts:
        return []
    dense = search_dense(index.dense, index.embedder.embed_questions(texts), 50)
    lexical = search_lexical(index.lexical, texts, 50)
    return [row for row, pair in zip(rows, zip(dense, lexical))
            if row not in {found for found, _ in fuse_ranks(list(pair), (1.0, 1.0), NEAR)}]


def _groups(heads: np.ndarray, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of more than one, the largest first, each cut to ``SHOWN`` names."""
    members: dict[int, list[str]] = {}
    for row, head in enumerate(heads.tolist()):
        members.setdefault(head, []).append(names[row])
    groups = sorted((group for group in members.values() if len(group) > 1), key=lambda group: (-len(group), group))
    return tuple(tuple(group[:SHOWN]) for group in groups)


def _audit_documents(index: Index, manifest: Any, heads: np.ndarray, is_empty: np.ndarray) -> tuple[DocumentAudit, ...]:
    import numpy as np

    columns = [column.name for column in find_columns(index) if column.name != "document"]
    # A column that few documents have (a quarter) is not missing in the others.
    usual = [name for name in columns
             if 2 * sum(d.metadata.get(name) is not None for d in index.store.documents) > len(index.store.documents)]
    facts_of = {facts["document"]: facts for facts in manifest["inputs"].values()}
    owner = index.places[:, 0]
    repeated = heads != np.arange(len(heads))
    is_inside = owner[heads] == owner
    found = []
    for position, document in enumerate(index.store.documents):
        own, facts = owner == position, facts_of.get(document.name, {"pages": 0, "pages_without_text": []})
        empty, inside = int(is_empty[own].sum()), int((repeated & is_inside)[own].sum())
        missing = tuple(name for name in usual if document.metadata.get(name) is None)
        chunks, pages, blank = int(own.sum()), int(facts["pages"]), len(facts["pages_without_text"])
        score = (1 - blank / max(1, pages)) * (1 - (empty + inside) / max(1, chunks))
        score *= 1 - len(missing) / max(1, len(usual))
        found.append(DocumentAudit(document.name, round(score if chunks else 0.0, 4), pages, blank, chunks, empty, inside,
                                   int((repeated & ~is_inside)[own].sum()), missing))
    return tuple(sorted(found, key=lambda item: (item.score, item.document)))


def render_audit(audit: Audit) -> str:
    """Return the findings as text, what is fine in one line each, the worst documents last."""
    lines = [f"{audit.index}: {audit.documents:,} documents, {audit.chunks:,} chunks, score {audit.score:.3f}"]

    def tell(what: str, items: Sequence[Any], count: int | None = None) -> None:
        lines.append(f"{what}: {len(items) if count is None else count:,}")
        shown = [item if isinstance(item, str) else " = ".join(map(str, item)) for item in items[:5]]
        lines.extend(f"  {item}" for item in shown)
        if len(items) > 5:
            lines.append(f"  and {len(items) - 5:,} more (--json has them)")

    tell("files not read", [f"{path}: {reason}" for path, reason in audit.files_not_read])
    tell("pages without text (run OCR)", [f"{name} page {page}" for name, page in audit.pages_without_text])
    tell("vectors that are none", audit.bad_vectors)
    tell("chunks without words", audit.chunks_empty)
    tell("chunks that no question can reach", audit.chunks_never_found)
    tell("near-duplicate documents", audit.near_duplicate_documents)
    tell("near-duplicate pages, groups", audit.near_duplicate_pages)
    share = audit.near_duplicate_chunks / max(1, audit.chunks)
    lines.append(f"near-duplicate chunks: {audit.near_duplicate_chunks:,} ({share:.1%})")
    if audit.sampled:
        lines.append(f"not among the first {NEAR} for their own text: {len(audit.sampled_not_found)} of {audit.sampled} "
                     "sampled")
    for item in audit.by_document[:5]:
        missing = f", no {', '.join(item.columns_missing)}" if item.columns_missing else ""
        lines.append(f"  {item.score:.3f} {item.document}: {item.pages_without_text} of {item.pages} pages without text, "
                     f"{item.chunks_empty + item.chunks_repeated} of {item.chunks} chunks empty or repeated{missing}")
    return "\n".join(lines)
