"""Small to big: what is searched is a chunk, what is shown is the whole page it stands on (``retrieval.returns: page``).

Also called parent-document retrieval. A page is handed out as one chunk whose id names document and page, so that citations,
training rows and their lineage hold for pages as they do for chunks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ragtune.records import Chunk
from ragtune.retrieval.dense import Found
from ragtune.retrieval.store import Store

if TYPE_CHECKING:
    import numpy as np

_PAGE_ID = re.compile(r"(?P<document>.+)#page=(?P<page>\d{1,9})")


def page_chunk(store: Store, document: str, page: int) -> Chunk | None:
    """Return a page (from 1) as one chunk with the heading and metadata of its first; None where it has no text.

    Its ``text`` equals ``document.text[start:end]`` as every chunk's does.
    """
    own = store.chunks_of(document, page)
    if not own:
        return None
    pages = store.pages_of(document)
    first = own[0]
    starts_here = first.page == page
    metadata = first.metadata if starts_here else store.documents[store.positions[document]].metadata
    start = sum(len(each.text) + 1 for each in pages[: page - 1])
    text = pages[page - 1].text
    return Chunk(f"{first.document_id}#page={page}", first.document_id, document, text, page, page, start, start + len(text),
                 metadata, first.heading if starts_here else "")


def page_of_id(store: Store, chunk_id: str) -> Chunk | None:
    """Return the page that an id of ``page_chunk`` names, None for another id or a page there is not."""
    match = _PAGE_ID.fullmatch(chunk_id)
    if match is None:
        return None
    name = next((document.name for document in store.documents if document.id == match["document"]), None)
    return None if name is None else page_chunk(store, name, int(match["page"]))


def widen(places: np.ndarray, found: Found, k: int) -> list[tuple[int, int, float]]:
    """Return (document position, page, score) of the first k pages that the rows found stand on, best first, none twice.

    ``places`` holds document position, first and last page of each row, shape (chunks, 3).
    """
    pages: dict[tuple[int, int], float] = {}
    for row, score in found:
        document, first, last = places[row].tolist()
        for page in range(first, last + 1):
            pages.setdefault((document, page), score)
    return [(document, page, score) for (document, page), score in pages.items()][:k]
