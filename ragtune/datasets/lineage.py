"""Where a tuning row came from, step by step down to the file, and what an index of today has made of that.

Row -> question -> evidence -> chunk -> page -> file hash. A chunk's id is made of its file's hash, its span and its text:
where the id is still there, the text is the same, and only what the passage shows of it (years, title) can have changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ragtune.answering.prompt import number_passages
from ragtune.datasets.gold import holds_evidence
from ragtune.errors import IndexFolderError
from ragtune.records import Chunk, Document, Evidence, Example, Hit, Passage, Question, Record

DOCUMENT_GONE = "document gone"
FILE_CHANGED = "file changed"
PASSAGE_GONE = "passage gone"
PASSAGE_CHANGED = "passage text changed"
EVIDENCE_MOVED = "evidence not on its page"
REASONS = (DOCUMENT_GONE, FILE_CHANGED, PASSAGE_GONE, PASSAGE_CHANGED, EVIDENCE_MOVED)
"""Why a row is outdated. A row can have several reasons."""
_HEAD = re.compile(r"(?:\A|\n\n)\[(?P<number>\d{1,3})\] (?P<title>[^\n]*, page (?P<page>\d+)[^\n]*)\n")
_ASKED = "\n\nQuestion: "


class Chunks(Protocol):
    """What rows are traced in: an opened index, or a stand-in."""

    def documents(self) -> list[Document]:
        """Return the documents, without their pages."""
        ...

    def chunk(self, chunk_id: str) -> Chunk:
        """Return the chunk of this id. Raises IndexFolderError where there is none."""
        ...

    def chunks_on_page(self, document: str, page: int) -> list[Chunk]:
        """Return the chunks of a page in reading order."""
        ...


@dataclass(frozen=True)
class TracedPassage(Record):
    """A passage of a row. ``file`` is the hash of its file when the row was built, ``file_now`` that of the index.

    Where the index has the chunk no more (``reason``), ``page`` is what the prompt says and the span is (0, 0).
    """

    number: int
    chunk_id: str
    is_gold: bool
    document: str
    page: int
    last_page: int = 0
    start: int = 0
    end: int = 0
    file: str = ""
    file_now: str = ""
    reason: str = ""


@dataclass(frozen=True)
class TracedEvidence(Record):
    """A piece of evidence. ``is_held`` says whether its page holds it still; None where that cannot be told."""

    document: str
    page: int
    text: str = ""
    file: str = ""
    file_now: str = ""
    is_held: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class Lineage(Record):
    """Where a row came from: its question, its evidence and its passages, each down to page and file hash."""

    question_id: str
    kind: str
    mode: str
    evidence: tuple[TracedEvidence, ...] = ()
    passages: tuple[TracedPassage, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the row is outdated, each reason once, in the order of REASONS; empty where it is not."""
        found = {item.reason for item in self.evidence} | {item.reason for item in self.passages}
        return tuple(reason for reason in REASONS if reason in found)

    @property
    def outdated_documents(self) -> tuple[str, ...]:
        """The documents that something is wrong with, as far as their names are known, sorted."""
        wrong = {item.document for item in self.evidence if item.reason}
        return tuple(sorted((wrong | {item.document for item in self.passages if item.reason}) - {""}))

    @property
    def holds_evidence(self) -> bool | None:
        """Whether every page of evidence holds it still; None for a row without evidence, or where it cannot be told."""
        held = [item.is_held for item in self.evidence]
        return None if not held or None in held else all(held)


def trace_row(example: Example, index: Chunks, question: Question | None = None) -> Lineage:
    """Return the lineage of one row in an index; ``Tracer`` traces many faster."""
    return Tracer(index).trace(example, question)


class Tracer:
    """Traces rows in one index, with the pack in force; what was looked up for one row is kept for the next.

    Rows built before file hashes were recorded have ``file`` '': a changed file then shows as passages that are gone.
    """

    def __init__(self, index: Chunks) -> None:
        self.index = index
        self.files = {document.name: document.id for document in index.documents()}
        self._chunks: dict[str, tuple[Chunk, Passage] | None] = {}
        self._held: dict[Evidence, bool] = {}

    def trace(self, example: Example, question: Question | None = None) -> Lineage:
        """Return the lineage of a row.

        ``question`` is the row's, with the text of its evidence: without it, whether a page still holds the evidence is
        told only where the row has gold passages and all of them are there.
        """
        trace = example.provenance
        gold, recorded = set(trace.get("gold") or ()), list(trace.get("files") or ())
        shown = {passage.number: passage for passage in shown_passages(example)}
        passages = []
        for number, chunk_id in enumerate(trace.get("passages") or (), start=1):
            source = recorded[number - 1] if number <= len(recorded) else {}
            passages.append(self._trace_passage(number, str(chunk_id), chunk_id in gold, source, shown.get(number)))
        is_whole = bool(gold) and all(not passage.reason for passage in passages if passage.is_gold)
        known = list(question.evidence) if question else []
        evidence = []
        for place, entry in enumerate(trace.get("evidence") or ()):
            own = known[place] if place < len(known) else None
            evidence.append(self._trace_evidence(entry, own, is_whole))
        return Lineage(str(trace.get("question_id", "")), str(trace.get("kind", "")), str(trace.get("mode", "")),
                       tuple(evidence), tuple(passages))

    def _trace_passage(
        self, number: int, chunk_id: str, is_gold: bool, source: Mapping[str, Any], shown: Passage | None
    ) -> TracedPassage:
        """Return one passage, with the reason why it is outdated."""
        document, file = str(source.get("document", "")), str(source.get("id", ""))
        found = self._find(chunk_id)
        if found is None:
            reason = self._judge_file(document, file) or PASSAGE_GONE
            page = shown.page if shown else 0
            now = self.files.get(document, "")
            return TracedPassage(number, chunk_id, is_gold, document, page, page, 0, 0, file, now, reason)
        chunk, today = found
        is_same = shown is not None and _is_shown(today, shown)
        return TracedPassage(number, chunk_id, is_gold, chunk.document, chunk.page, chunk.last_page, chunk.start, chunk.end,
                             file or chunk.document_id, chunk.document_id, "" if is_same else PASSAGE_CHANGED)

    def _find(self, chunk_id: str) -> tuple[Chunk, Passage] | None:
        """Return a chunk and how it would be shown, None where the index has none of this id."""
        if chunk_id not in self._chunks:
            try:
                chunk = self.index.chunk(chunk_id)
                self._chunks[chunk_id] = chunk, number_passages([Hit(chunk, 0.0, 0, "")])[0]
            except IndexFolderError:
                self._chunks[chunk_id] = None
        return self._chunks[chunk_id]

    def _judge_file(self, document: str, file: str) -> str:
        """Return what is wrong with a document's file; '' where nothing is, or nothing was recorded."""
        if document and document not in self.files:
            return DOCUMENT_GONE
        return FILE_CHANGED if document and file and self.files[document] != file else ""

    def _trace_evidence(self, entry: Mapping[str, Any], known: Evidence | None, is_whole: bool) -> TracedEvidence:
        """Return one piece of evidence. ``is_whole`` says that the row's gold passages are all as they were."""
        document, page, file = str(entry["document"]), int(entry["page"]), str(entry.get("file") or "")
        if known is not None and (known.document, known.page) != (document, page):
            known = None
        reason = self._judge_file(document, file)
        is_held: bool | None = None
        if reason == DOCUMENT_GONE:
            is_held = False
        elif known is not None:
            if known not in self._held:
                self._held[known] = any(holds_evidence(c, known) for c in self.index.chunks_on_page(document, page))
            is_held = self._held[known]
            reason = reason or ("" if is_held else EVIDENCE_MOVED)
        elif is_whole and not reason:
            is_held = True
        text, now = known.text if known else "", self.files.get(document, "")
        return TracedEvidence(document, page, text, file, now, is_held, reason)


def shown_passages(example: Example) -> tuple[Passage, ...]:
    """Return the passages a row's prompt shows, read from its text, with the chunk ids that its provenance names."""
    content = example.prompt[-1]["content"] if example.prompt else ""
    body, found, _ = content.rpartition(_ASKED)
    ids, sources = list(example.provenance.get("passages") or ()), list(example.provenance.get("files") or ())
    heads: list[re.Match[str]] = []
    for match in _HEAD.finditer(body if found else ""):
        if int(match["number"]) == len(heads) + 1:  # a footnote in a passage may look like a head, but not count on
            heads.append(match)
    passages = []
    for place, head in enumerate(heads):
        end = heads[place + 1].start() if place + 1 < len(heads) else len(body)
        passages.append(Passage(
            place + 1, body[head.end() : end], str(ids[place]) if place < len(ids) else "",
            str(sources[place]["document"]) if place < len(sources) else "", int(head["page"]), 0, 0, head["title"]))
    return tuple(passages)


def _is_shown(today: Passage, shown: Passage) -> bool:
    """Tell whether a passage of today is shown as it was: title and text, shortened by whole lines or not."""
    lines = shown.text.split("\n")
    return today.title == shown.title and today.text.split("\n")[: len(lines)] == lines
