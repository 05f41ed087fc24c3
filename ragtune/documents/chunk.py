"""Documents to chunks: whole lines within a token limit, each an exact span of the document's text."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Protocol

from ragtune.documents.statements import Head, parse_columns, parse_row
from ragtune.errors import RecipeError, nearest
from ragtune.files import hash_text
from ragtune.records import PAGE_BREAK, Chunk, Document

CountTokens = Callable[[str], int]
Span = tuple[int, int]
_HEADING = re.compile(r"^(?:#{1,6}\s+(?P<markdown>\S.*)|(?P<item>(?:PART|Part|ITEM|Item)\s+[IVX\d]+[A-C]?\b.{0,100}))$")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")


class Chunker(Protocol):
    """Cuts a document's text into spans."""

    def __call__(self, document: Document, max_tokens: int, overlap_tokens: int, count_tokens: CountTokens) -> list[Span]:
        """Return (start, end) of each chunk in the document's text, in reading order."""
        ...


def chunk_document(
    document: Document, chunker: str, max_tokens: int, overlap_tokens: int, count_tokens: CountTokens
) -> list[Chunk]:
    """Return the document's chunks in reading order; each ``text`` is exactly ``document.text[start:end]``.

    Each carries the document's metadata, the years (``columns``, joined by '|') over its first line, the ``unit`` in
    force there or, failing that, named inside, and the heading it stands under. Raises RecipeError for an unknown chunker.
    """
    if chunker not in CHUNKERS:
        raise RecipeError(
            f"index.chunker: found '{chunker}', allowed are {', '.join(CHUNKERS)}.{nearest(chunker, CHUNKERS)}"
        )
    text = document.text
    breaks = [match.start() for match in re.finditer(PAGE_BREAK, text)]
    heads = _heads_by_line(text)
    starts = [start for start, _, _ in heads]
    chunks = []
    for start, end in CHUNKERS[chunker](document, max_tokens, overlap_tokens, count_tokens):
        start, end = _trim(text, start, end)
        if start >= end:
            continue
        before = heads[bisect_right(starts, start) - 1]
        after = heads[bisect_right(starts, end) - 1]
        metadata = dict(document.metadata)
        columns, unit = before[1].columns, before[1].unit or after[1].unit
        if columns:
            metadata["columns"] = "|".join(columns)
        if unit:
            metadata["unit"] = unit
        chunk_id = hash_text(f"{document.id}\n{start}\n{end}\n{text[start:end]}")
        pages = bisect_right(breaks, start) + 1, bisect_right(breaks, end - 1) + 1
        chunks.append(Chunk(chunk_id, document.id, document.name, text[start:end], *pages, start, end, metadata, before[2]))
    return chunks


def _trim(text: str, start: int, end: int) -> Span:
    """Return the span without white space at its ends."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _heads_by_line(text: str) -> list[tuple[int, Head, str]]:
    """Return for each line (its start, the table head in force before it on its page, the heading it is or stands under)."""
    heads: list[tuple[int, Head, str]] = []
    start, heading = 0, ""
    for page in text.split(PAGE_BREAK):
        head = Head()
        for line in page.split("\n"):
            match = _HEADING.match(line.strip())
            if match and not re.search(r"\.{4}|\s\d+$", line):  # dots and a page number: a line of the contents
                heading = (match["markdown"] or match["item"]).strip()
            heads.append((start, head, heading))
            head = head.after(line)
            start += len(line) + 1
    heads.append((start, Head(), heading))  # never reached by a span, so that the line after the last has a place
    return heads


def _lines(document: Document) -> Iterator[list[Span]]:
    """Yield for each page the spans of its lines that hold text."""
    start = 0
    for page in document.pages:
        spans = []
        for line in page.text.split("\n"):
            if line.strip():
                spans.append((start, start + len(line)))
            start += len(line) + 1
        yield spans  # the form feed takes the place of the last line's break


def chunk_rows(document: Document, max_tokens: int, overlap_tokens: int, count_tokens: CountTokens) -> list[Span]:
    """Fill chunks with whole lines of one page; only a line that is longer than the limit is cut.

    Where prose overflows, the chunk ends after the last line that ends a sentence or before a heading, if that leaves
    it at least two thirds full. The overlap repeats prose lines only.
    """
    text, spans = document.text, []
    for lines in _lines(document):
        pieces: list[tuple[Span, int]] = []
        for start, end in lines:
            tokens = count_tokens(text[start:end])
            if tokens <= max_tokens:
                pieces.append(((start, end), tokens))
            else:
                parts = split_line(text, start, end, max_tokens, count_tokens)
                pieces += [((a, b), count_tokens(text[a:b])) for a, b in parts]
        spans += _fill(text, pieces, max_tokens, overlap_tokens)
    return spans


def _fill(text: str, pieces: list[tuple[Span, int]], max_tokens: int, overlap_tokens: int) -> list[Span]:
    """Join consecutive pieces into spans of at most ``max_tokens``."""
    spans, first = [], 0
    while first < len(pieces):
        last, total = first, pieces[first][1]
        while last + 1 < len(pieces) and total + pieces[last + 1][1] <= max_tokens:
            last += 1
            total += pieces[last][1]
        if last + 1 < len(pieces):
            last = _best_end(text, pieces, first, last, max_tokens)
        spans.append((pieces[first][0][0], pieces[last][0][1]))
        following, repeated = last + 1, 0
        while following < len(pieces) and following - 1 > first:
            (start, end), tokens = pieces[following - 1]
            if repeated + tokens > overlap_tokens or parse_row(text[start:end]):
                break
            if pieces[last + 1][1] + repeated + tokens > max_tokens:  # the next new line must still fit
                break
            following, repeated = following - 1, repeated + tokens
        first = following
    return spans


def _best_end(text: str, pieces: list[tuple[Span, int]], first: int, last: int, max_tokens: int) -> int:
    """Return where a full chunk best ends: the last place at least two thirds down where the sense breaks, else ``last``."""
    lines = [text[start:end] for (start, end), _ in pieces[first : last + 2]]
    filled = sum(tokens for _, tokens in pieces[first : last + 1])
    for position in range(last - first, -1, -1):
        if filled < max_tokens * 2 / 3:
            break
        line, following = lines[position], lines[position + 1]
        ends_sentence = bool(re.search(r"[.!?:;]['\"”)]?$", line)) and not parse_row(line)
        between_rows = parse_row(line) is not None and parse_row(following) is not None
        before_head = bool(parse_columns(following) or _HEADING.match(following))
        if before_head or between_rows or (ends_sentence and not line.endswith(":")):
            return first + position
        filled -= pieces[first + position][1]
    return last


def split_line(text: str, start: int, end: int, max_tokens: int, count_tokens: CountTokens) -> list[Span]:
    """Cut one long line at sentence ends, then at spaces, then anywhere, into spans of at most ``max_tokens``."""
    for pattern in (_SENTENCE_END, re.compile(r"\s+"), None):
        cuts = [m.end() for m in pattern.finditer(text, start, end)] if pattern else [(start + end) // 2]
        edges = [start, *(cut for cut in cuts if start < cut < end), end]
        if len(edges) > 2:
            break
    else:
        return [(start, end)]  # a single character
    spans: list[Span] = []
    for a, b in itertools.pairwise(edges):
        tokens = count_tokens(text[a:b])
        if tokens > max_tokens and b - a > 1:
            spans += split_line(text, a, b, max_tokens, count_tokens)
        elif spans and count_tokens(text[spans[-1][0] : b]) <= max_tokens:
            spans[-1] = (spans[-1][0], b)
        else:
            spans.append((a, b))
    return [_trim(text, a, b) for a, b in spans if text[a:b].strip()]


def chunk_pages(document: Document, max_tokens: int, overlap_tokens: int, count_tokens: CountTokens) -> list[Span]:
    """Make each page one chunk, however long it is; embedders that read less pool over windows."""
    spans, start = [], 0
    for page in document.pages:
        spans.append((start, start + len(page.text)))
        start += len(page.text) + 1
    return spans


def chunk_tokens(document: Document, max_tokens: int, overlap_tokens: int, count_tokens: CountTokens) -> list[Span]:
    """Cut as LangChain's RecursiveCharacterTextSplitter does with a token count; chunks may cross pages."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators=["\n\n", PAGE_BREAK, "\n", ". ", " ", ""], chunk_size=max_tokens, chunk_overlap=overlap_tokens,
        length_function=count_tokens, keep_separator=True,
    )
    text = document.text
    spans: list[Span] = []
    for piece in splitter.split_text(text):
        # Repeated text stands in several places: the true one begins at most where the last piece ended, so that no text
        # is left out, and after where it began.
        after, end = spans[-1] if spans else (-1, 0)
        latest = end + len(text[end:]) - len(text[end:].lstrip())
        start = text.rfind(piece, after + 1, latest + len(piece))
        if start >= 0:
            spans.append((start, start + len(piece)))
        elif piece not in text[max(after, 0) : end]:
            raise AssertionError(f"the splitter returned text that {document.name} does not hold: {piece[:60]!r}")
    return spans


CHUNKERS: dict[str, Chunker] = {"rows": chunk_rows, "tokens": chunk_tokens, "page": chunk_pages}
