"""The table CHUNKERS: ways to cut a document's text into spans. Each covers all of the text, in reading order.

All but ``page`` keep to the token limit, and all but ``tokens`` cut at every page's end, so that a chunk has one page to be
cited by.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ragtune.documents.headings import Heading, is_prose
from ragtune.documents.statements import Head, parse_columns, parse_row
from ragtune.errors import RecipeError
from ragtune.records import PAGE_BREAK, Document

if TYPE_CHECKING:
    import numpy as np

CountTokens = Callable[[str], int]
EmbedTexts = Callable[[Sequence[str]], "np.ndarray"]
Span = tuple[int, int]
Piece = tuple[Span, int]
"""A span and its tokens."""

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")
_FULL_STOP = re.compile(r"(?<=[.!?])[\"”’)]*\s+(?=[\"“‘(]?[A-Z0-9•])")
_BUFFER_SENTENCES, _BREAK_PERCENTILE = 1, 95.0  # the defaults of LangChain's SemanticChunker


@dataclass(frozen=True)
class Limits:
    """What a chunker keeps to: the most tokens of a chunk, those repeated from the last one, how tokens are counted.

    ``embed`` (texts to unit vectors, shape (texts, dimension)) is there for the chunker that compares sentences.
    """

    max_tokens: int
    overlap_tokens: int
    count_tokens: CountTokens
    embed: EmbedTexts | None = None


class Chunker(Protocol):
    """Cuts a document's text into spans."""

    def __call__(self, document: Document, headings: Sequence[Heading], limits: Limits) -> list[Span]:
        """Return (start, end) of each chunk in the document's text, in reading order."""
        ...


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


def _pieces(text: str, spans: Iterable[Span], limits: Limits) -> list[Piece]:
    """Return the spans with their tokens, those above the limit cut."""
    pieces: list[Piece] = []
    for start, end in spans:
        tokens = limits.count_tokens(text[start:end])
        if tokens <= limits.max_tokens:
            pieces.append(((start, end), tokens))
        else:
            parts = split_line(text, start, end, limits.max_tokens, limits.count_tokens)
            pieces += [((a, b), limits.count_tokens(text[a:b])) for a, b in parts]
    return pieces


def chunk_rows(document: Document, headings: Sequence[Heading], limits: Limits) -> list[Span]:
    """Fill chunks with whole lines of one page; only a line that is longer than the limit is cut.

    Where prose overflows, the chunk ends after the last line that ends a sentence or before a heading, if that leaves
    it at least two thirds full. The overlap repeats prose lines only.
    """
    text, starts = document.text, {heading.start for heading in headings}
    return [span for lines in _lines(document) for span in _fill(text, _pieces(text, lines, limits), limits, starts)]


def _fill(text: str, pieces: list[Piece], limits: Limits, starts: set[int]) -> list[Span]:
    """Join consecutive pieces into spans within the limit; ``starts`` are the places of headings."""
    max_tokens = limits.max_tokens
    spans, first = [], 0
    while first < len(pieces):
        last, total = first, pieces[first][1]
        while last + 1 < len(pieces) and total + pieces[last + 1][1] <= max_tokens:
            last += 1
            total += pieces[last][1]
        if last + 1 < len(pieces):
            last = _best_end(text, pieces, first, last, max_tokens, starts)
        spans.append((pieces[first][0][0], pieces[last][0][1]))
        following, repeated = last + 1, 0
        while following < len(pieces) and following - 1 > first:
            (start, end), tokens = pieces[following - 1]
            if repeated + tokens > limits.overlap_tokens or parse_row(text[start:end]):
                break
            if pieces[last + 1][1] + repeated + tokens > max_tokens:  # the next new line must still fit
                break
            following, repeated = following - 1, repeated + tokens
        first = following
    return spans


def _best_end(text: str, pieces: list[Piece], first: int, last: int, max_tokens: int, starts: set[int]) -> int:
    """Return where a full chunk best ends: the last place at least two thirds down where the sense breaks, else ``last``."""
    lines = [text[start:end] for (start, end), _ in pieces[first : last + 2]]
    filled = sum(tokens for _, tokens in pieces[first : last + 1])
    for position in range(last - first, -1, -1):
        if filled < max_tokens * 2 / 3:
            break
        line, following = lines[position], lines[position + 1]
        ends_sentence = bool(re.search(r"[.!?:;]['\"”)]?$", line)) and not parse_row(line)
        between_rows = parse_row(line) is not None and parse_row(following) is not None
        before_head = bool(parse_columns(following)) or pieces[first + position + 1][0][0] in starts
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
    return [trim(text, a, b) for a, b in spans if text[a:b].strip()]


def trim(text: str, start: int, end: int) -> Span:
    """Return the span without white space at its ends."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def chunk_tables(document: Document, headings: Sequence[Heading], limits: Limits) -> list[Span]:
    """As ``chunk_rows``, with a cut where a table begins or ends: its title and head stay with its rows, prose apart.

    The head over a later piece of the table stands in that chunk's metadata (``columns``, ``table_head``).
    """
    text, starts, spans = document.text, {heading.start for heading in headings}, []
    for lines in _lines(document):
        pieces = _pieces(text, lines, limits)
        edges = [0, *_table_edges([text[start:end] for (start, end), _ in pieces]), len(pieces)]
        for a, b in itertools.pairwise(edges):
            spans += _fill(text, pieces[a:b], limits, starts)
    return spans


def _table_edges(lines: list[str]) -> list[int]:
    """Return the numbers of the lines at which a table begins or prose goes on; blocks of one or two lines do not count."""
    is_table = [parse_row(line) is not None or bool(parse_columns(line) or Head().after(line).dates) for line in lines]
    prose = [is_prose(line) and not table for line, table in zip(lines, is_table)]
    edges: list[int] = []
    in_table = False
    for place in range(len(lines)):
        if not in_table and is_table[place] and sum(is_table[place : place + 4]) >= 2:
            begin = place
            while begin > 0 and place - begin < 3 and not prose[begin - 1] and not is_table[begin - 1]:
                begin -= 1  # the title and the unit over the head
            edges.append(begin)
            in_table = True
        elif in_table and prose[place] and not any(is_table[place : place + 2]):
            edges.append(place)
            in_table = False
    return sorted({edge for edge in edges if 0 < edge < len(lines)})


def chunk_sections(document: Document, headings: Sequence[Heading], limits: Limits) -> list[Span]:
    """Cut before every heading, so that a chunk belongs to one section; long sections are filled as by ``chunk_rows``.

    Headings with nothing between them stay together.
    """
    text, starts, spans = document.text, {heading.start for heading in headings}, []
    for lines in _lines(document):
        pieces = _pieces(text, lines, limits)
        edges = [0]
        for place in range(1, len(pieces)):
            if pieces[place][0][0] in starts and pieces[place - 1][0][0] not in starts:
                edges.append(place)
        for a, b in itertools.pairwise([*edges, len(pieces)]):
            spans += _fill(text, pieces[a:b], limits, starts)
    return spans


def _sentences(document: Document, headings: Sequence[Heading]) -> Iterator[list[Span]]:
    """Yield for each page the spans of its sentences; statement rows, heads and headings are sentences of their own."""
    text, starts = document.text, {heading.start for heading in headings}
    for lines in _lines(document):
        spans: list[Span] = []
        is_open = False  # whether the last span is a sentence that goes on
        for start, end in lines:
            line = text[start:end]
            if start in starts or parse_row(line) or parse_columns(line):
                spans.append((start, end))
                is_open = False
                continue
            cuts = [match.end() for match in _FULL_STOP.finditer(text, start, end)]
            edges = [start, *(cut for cut in cuts if start < cut < end), end]
            for number, (a, b) in enumerate(itertools.pairwise(edges)):
                if number == 0 and is_open:
                    spans[-1] = (spans[-1][0], b)
                else:
                    spans.append((a, b))
            is_open = not re.search(r"[.!?][\"”’)]*$", line)
        yield [trim(text, start, end) for start, end in spans]


def chunk_sentences(document: Document, headings: Sequence[Heading], limits: Limits) -> list[Span]:
    """Fill chunks with whole sentences of one page; the overlap repeats whole sentences."""
    text = document.text
    spans: list[Span] = []
    for sentences in _sentences(document, headings):
        pieces = _pieces(text, sentences, limits)
        spans += _fill_evenly(pieces, limits)
    return spans


def _fill_evenly(pieces: list[Piece], limits: Limits) -> list[Span]:
    """Join consecutive pieces up to the limit, the last ones repeated as far as the overlap allows."""
    spans: list[Span] = []
    first = 0
    while first < len(pieces):
        last, total = first, pieces[first][1]
        while last + 1 < len(pieces) and total + pieces[last + 1][1] <= limits.max_tokens:
            last += 1
            total += pieces[last][1]
        spans.append((pieces[first][0][0], pieces[last][0][1]))
        following, repeated = last + 1, 0
        while following < len(pieces) and following - 1 > first:
            repeated += pieces[following - 1][1]
            if repeated > limits.overlap_tokens or pieces[last + 1][1] + repeated > limits.max_tokens:
                break
            following -= 1
        first = following
    return spans


def chunk_semantic(document: Document, headings: Sequence[Heading], limits: Limits) -> list[Span]:
    """Cut where neighbouring sentences differ most in meaning, and where the limit or the page asks for it.

    As LangChain's SemanticChunker (langchain_experimental.text_splitter, after Greg Kamradt's "5 Levels of Text Splitting"):
    each sentence is embedded with one neighbour on either side, and a cut comes where the cosine distance to the next is
    above the document's 95th percentile. Raises RecipeError where no embedder is given.
    """
    import numpy as np

    if limits.embed is None:
        raise RecipeError("index.chunker: 'semantic' compares sentences by an embedder, and none was given. "
                          "Give chunk_document embed=, or choose another chunker: index.chunker=sentences")
    text = document.text
    pages = list(_sentences(document, headings))
    sentences = [span for page in pages for span in page]
    if not sentences:
        return []
    last = len(sentences) - 1
    joined = [text[sentences[max(0, n - _BUFFER_SENTENCES)][0] : sentences[min(last, n + _BUFFER_SENTENCES)][1]]
              for n in range(len(sentences))]
    vectors = np.asarray(limits.embed(joined), dtype=np.float32)
    distances = 1.0 - np.einsum("ij,ij->i", vectors[:-1], vectors[1:])
    threshold = np.percentile(distances, _BREAK_PERCENTILE) if len(distances) else 0.0
    breaks = set((np.flatnonzero(distances > threshold) + 1).tolist())
    spans: list[Span] = []
    number = 0
    for page in pages:
        group: list[Span] = []
        for span in page:
            if number in breaks and group:
                spans += _fill_evenly(_pieces(text, group, limits), limits)
                group = []
            group.append(span)
            number += 1
        spans += _fill_evenly(_pieces(text, group, limits), limits)
    return spans


def chunk_pages(document: Document, headings: Sequence[Heading], limits: Limits) -> list[Span]:
    """Make each page one chunk, however long it is; embedders that read less pool over windows."""
    spans, start = [], 0
    for page in document.pages:
        spans.append((start, start + len(page.text)))
        start += len(page.text) + 1
    return spans


def chunk_tokens(document: Document, headings: Sequence[Heading], limits: Limits) -> list[Span]:
    """Cut as LangChain's RecursiveCharacterTextSplitter does with a token count; chunks may cross pages."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators=["\n\n", PAGE_BREAK, "\n", ". ", " ", ""], chunk_size=limits.max_tokens,
        chunk_overlap=limits.overlap_tokens, length_function=limits.count_tokens, keep_separator=True,
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


CHUNKERS: dict[str, Chunker] = {
    "rows": chunk_rows, "tables": chunk_tables, "sections": chunk_sections, "sentences": chunk_sentences,
    "semantic": chunk_semantic, "tokens": chunk_tokens, "page": chunk_pages,
}
