"""The line that is embedded and indexed above a chunk, and never cited: where its text stands and what stands over it."""

from __future__ import annotations

import re

from ragtune.documents.headings import SEPARATOR, SMALL_WORDS
from ragtune.documents.pack import current_pack
from ragtune.documents.statements import parse_row
from ragtune.records import Chunk

_MOST_WORDS = 26  # about 40 tokens with company, form, year and page


def context_line(chunk: Chunk) -> str:
    """Return what the pack in force shows of the document (company, form, year) and the page, then the section, the table's
    title, its columns and unit, as far as known.

    ``3M 10-K 2018, page 61: Item 8 > CONSOLIDATED BALANCE SHEETS; in millions; 2018 2017``. At most about 40 tokens: the
    section comes first, and what no longer fits is left out.
    """
    place = f"{current_pack().describe(chunk.metadata, has_context=True) or chunk.document}, page {chunk.page}"
    section = _short_path(chunk.heading)
    title = _short(str(chunk.metadata.get("table_head") or ""), 12)
    has_rows = any(parse_row(line) for line in chunk.text.split("\n"))
    unit = f"in {chunk.metadata['unit']}" if chunk.metadata.get("unit") and has_rows else ""
    columns = str(chunk.metadata.get("columns") or "").replace("|", " ")
    parts = [section, "" if title.lower() in section.lower() else title, unit, columns]
    kept: list[str] = []
    for part in filter(None, parts):
        if len(" ".join([*kept, part]).split()) <= _MOST_WORDS:
            kept.append(part)
    return f"{place}: {'; '.join(kept)}" if kept else place


def _short_path(path: str) -> str:
    """Return a heading path with each part shortened, the last one the least; an Item or Part keeps only its name."""
    parts = path.split(SEPARATOR) if path else []
    short = [_short(part, 10 if place == len(parts) - 1 else 5) for place, part in enumerate(parts)]
    return SEPARATOR.join(short)


def _short(text: str, words: int) -> str:
    """Return the first words of a text, marks at the cut removed."""
    split = text.split()
    if len(split) <= words:
        return text
    split = split[:words]
    while len(split) > 1 and split[-1].lower() in SMALL_WORDS:
        split.pop()
    return re.sub(r"[\W_]+$", "", " ".join(split))
