"""Documents to chunks: exact spans of the document's text, each with what stands over it: heading, table head, unit."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ragtune.documents.chunkers import CHUNKERS, Chunker, CountTokens, EmbedTexts, Limits, trim
from ragtune.documents.headings import find_headings, is_contents, parse_entry
from ragtune.documents.pack import Pack, current_pack, use_pack
from ragtune.documents.statements import Head, carry_head, parse_columns, parse_row
from ragtune.errors import RecipeError, nearest
from ragtune.files import hash_text
from ragtune.records import PAGE_BREAK, Chunk, Document, Value

__all__ = ["CHUNKERS", "OWN_METADATA", "chunk_document"]
OWN_METADATA = ("columns", "unit", "kind", "table_head")
"""The metadata a chunk has of its own; the rest is its document's."""
CONTENTS = "contents"
"""The ``kind`` of a chunk of a table of contents."""
_MOST_WORDS = 16  # of the line kept as a table's title


def chunk_document(
    document: Document, chunker: str, max_tokens: int, overlap_tokens: int, count_tokens: CountTokens,
    embed: EmbedTexts | None = None, pack: Pack | None = None,
) -> list[Chunk]:
    """Return the document's chunks in reading order; each ``text`` is exactly ``document.text[start:end]``.

    Each carries the document's metadata and, where there is one: the ``columns`` (joined by '|') over its first line and
    the ``table_head``, the line over them; the ``unit`` in force there or, failing that, named inside; ``kind`` 'contents'
    for a table of contents; the path of headings it stands under. ``embed`` (texts to unit vectors) is for the chunker
    'semantic'. Table heads are known by the ``pack``, else by the one in force. Raises RecipeError for an unknown chunker.
    """
    if chunker not in CHUNKERS:
        raise RecipeError(
            f"index.chunker: found '{chunker}', allowed are {', '.join(CHUNKERS)}.{nearest(chunker, CHUNKERS)}"
        )
    with use_pack(pack or current_pack()):
        return _chunk(document, CHUNKERS[chunker], Limits(max_tokens, overlap_tokens, count_tokens, embed))


def _chunk(document: Document, cut: Chunker, limits: Limits) -> list[Chunk]:
    """Return the chunks that a chunker cuts."""
    text = document.text
    pages = [page.text for page in document.pages]
    breaks = [match.start() for match in re.finditer(PAGE_BREAK, text)]
    headings = find_headings(pages)
    heading_starts = [heading.start for heading in headings]
    contents = [is_contents(page) for page in pages]
    overs = _over_lines(pages)
    starts = [over.start for over in overs]
    chunks = []
    for start, end in cut(document, headings, limits):
        start, end = trim(text, start, end)
        if start >= end:
            continue
        piece = text[start:end]
        page, last_page = bisect_right(breaks, start) + 1, bisect_right(breaks, end - 1) + 1
        over, below = overs[bisect_right(starts, start) - 1], overs[bisect_right(starts, end) - 1]
        own = over.metadata(piece.split("\n", 1)[0], below)
        if contents[page - 1] and _is_listing(piece):
            own["kind"] = CONTENTS
        place = bisect_right(heading_starts, start) - 1
        chunk_id = hash_text(f"{document.id}\n{start}\n{end}\n{piece}")
        chunks.append(Chunk(chunk_id, document.id, document.name, piece, page, last_page, start, end,
                            {**document.metadata, **own}, headings[place].path if place >= 0 else ""))
    return chunks


def _is_listing(text: str) -> bool:
    """Tell whether a piece of a contents page holds its entries."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return 5 * sum(parse_entry(line) is not None for line in lines) >= 2 * len(lines)


def _table_title(line: str) -> str:
    """Return the last words of the line over a table's head; none where it only names the unit or begins a date."""
    line = re.split(r"[.;] ", re.sub(r"\([^()]*\)?", " ", line))[-1]  # the unit and the sentence before aside
    words = re.sub(r"(?:\b(?:is|are|was|were) )?as follows *:?$|[\s:]+$", "", line.rstrip(" :")).split()
    if line.rstrip().endswith(",") and len(words) < 8:
        return ""
    return " ".join(words[-_MOST_WORDS:])


@dataclass(frozen=True)
class _Over:
    """What stands over a line: where the line begins, the table head in force before and after it, the head's title."""

    start: int
    before: Head
    after: Head
    title: str

    def metadata(self, line: str, below: _Over) -> dict[str, Value]:
        """Return the own metadata of a chunk whose first line this is, ``below`` being the line after it."""
        # A row can bring a single year into force that stood over it; a head brings columns only for what comes after.
        head = self.after if parse_row(line) and not parse_columns(line) else self.before
        own: dict[str, Value] = {}
        if head.columns:
            own["columns"] = "|".join(head.columns)
            if self.title:
                own["table_head"] = self.title
        if unit := head.unit or below.before.unit:
            own["unit"] = unit
        return own


def _over_lines(pages: Sequence[str]) -> list[_Over]:
    """Return for each line what stands over it; the head of a page's last table goes on to the next where that does."""
    overs: list[_Over] = []
    start, title, last_page, head = 0, "", "", Head()
    for page in pages:
        head = carry_head(head, last_page, page)
        title = title if head.columns else ""
        candidate, last_page = "", page
        for line in page.split("\n"):
            after = head.after(line)
            title = "" if not after.columns else candidate if after.columns != head.columns else title
            overs.append(_Over(start, head, after, title))
            if line.strip() and not after.dates and not parse_columns(line):
                is_over = not parse_row(line) and not line.rstrip().endswith(".")
                candidate = (_table_title(line) or candidate) if is_over else ""
            head = after
            start += len(line) + 1
    return [*overs, _Over(start, Head(), Head(), "")]  # the last is never reached by a span, and has a place for its end
