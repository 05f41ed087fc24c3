"""What each page shows, worked out once when the index is built, so that ranking a question's pages is array arithmetic.

The domain pack says which line items a row may be (``terms``) and which parts a document has (``sections``).
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.documents.pack import Pack
from ragtune.documents.sections import CONTENTS, follow_sections
from ragtune.documents.statements import parse_row
from ragtune.documents.terms import Term
from ragtune.errors import IndexFolderError
from ragtune.records import Chunk, Document

if TYPE_CHECKING:
    import numpy as np

FILE = "signals.npz"
_KNOWN_SHARE = 0.1


@dataclass(frozen=True)
class Signals:
    """One row a page that holds chunks, in the order of chunks; ``terms`` has one row a chunk."""

    first: np.ndarray
    """First chunk row of each page, int64, and at the end the number of chunks: shape (pages + 1,)."""
    document: np.ndarray
    """Position of the page's document, int32."""
    number: np.ndarray
    """The page's number, from 1, int32."""
    rows: np.ndarray
    """Table rows on the page, int32."""
    is_contents: np.ndarray
    """Whether the page is a table of contents, bool."""
    sections: np.ndarray
    """Which of the pack's sections begin on the page or fill it, bool, shape (pages, sections)."""
    lasting: np.ndarray
    """Which have lasted since an earlier page, bool, shape (pages, sections)."""
    terms: np.ndarray
    """Which of the pack's terms a row of the chunk shows, bool, shape (chunks, terms)."""

    def of(self, position: int) -> Signals:
        """Return the signals of one document alone, its position 0."""
        import numpy as np

        pages = slice(*np.searchsorted(self.document, [position, position + 1]))
        first = self.first[pages.start : pages.stop + 1]
        chunks = slice(int(first[0]), int(first[-1]))
        parts = {field.name: getattr(self, field.name)[chunks if field.name == "terms" else pages]
                 for field in fields(Signals)}
        return Signals(**{**parts, "first": first - first[0], "document": np.zeros_like(parts["document"])})

    @cached_property
    def page_of(self) -> np.ndarray:
        """Page row of each chunk, shape (chunks,)."""
        import numpy as np

        return np.repeat(np.arange(len(self.document)), np.diff(self.first))

    @cached_property
    def shown(self) -> np.ndarray:
        """How many of the pack's terms the page shows, shape (pages,)."""
        import numpy as np

        if not len(self.number):
            return np.zeros(0)
        return np.logical_or.reduceat(self.terms, self.first[:-1], axis=0).sum(axis=1)

    @cached_property
    def has_known_rows(self) -> bool:
        """Whether the tables are of the kind the pack knows: of the pages with rows, a tenth shows one of its terms.

        Manuals have rows too, of options and page references, and the pack of another field finds its terms on few of
        them (finance on technical manuals: 4%, on filings: 30%). There a page with many rows is no better than others.
        """
        has_rows = self.rows > 0
        return bool(has_rows.any() and (self.shown[has_rows] > 0).mean() >= _KNOWN_SHARE)


@lru_cache(maxsize=100_000)
def _terms_of(terms: tuple[Term, ...], label: str) -> tuple[int, ...]:
    return tuple(position for position, term in enumerate(terms) if term.names_row(label))


def build_signals(
    documents: Sequence[Document], chunks: Sequence[Chunk], pack: Pack, known: Mapping[str, Signals] | None = None
) -> Signals:
    """Return the signals of the chunks' pages. ``chunks`` are in the order of documents and of places in them.

    ``known`` holds signals of documents by id, worked out earlier with the same chunker and pack.
    """
    together = {id: list(group) for id, group in itertools.groupby(chunks, key=lambda chunk: chunk.document_id)}
    parts = []
    for position, document in enumerate(documents):
        part = known[document.id] if known and document.id in known else _read(document, together.get(document.id, []), pack)
        parts.append((position, part))
    return _join(parts, pack)


def _read(document: Document, chunks: Sequence[Chunk], pack: Pack) -> Signals:
    """Return the signals of one document's pages."""
    import numpy as np

    names = {section.name: position for position, section in enumerate(pack.sections)}
    first = [row for row, chunk in enumerate(chunks) if not row or chunk.page != chunks[row - 1].page]
    bounds = [*first, len(chunks)]
    numbers = [chunks[row].page for row in first]
    terms = np.zeros((len(chunks), len(pack.terms)), dtype=bool)
    rows = np.zeros(len(numbers), dtype=np.int32)
    contents = np.zeros(len(numbers), dtype=bool)
    sections, lasting = np.zeros((2, len(numbers), len(names)), dtype=bool)
    followed = follow_sections([page.text for page in document.pages], pack)
    for page, number in enumerate(numbers):
        for row in range(bounds[page], bounds[page + 1]):
            chunk = chunks[row]
            contents[page] |= chunk.metadata.get("kind") == "contents"
            for line in chunk.text.split("\n"):
                if parsed := parse_row(line):
                    rows[page] += 1
                    terms[row, list(_terms_of(pack.terms, parsed.label))] = True
        own, carried = followed[number - 1]
        sections[page, [names[name] for name in own]] = True
        lasting[page, [names[name] for name in carried]] = True
        contents[page] |= CONTENTS in own
    return Signals(
        np.array(bounds, dtype=np.int64), np.zeros(len(numbers), dtype=np.int32), np.array(numbers, dtype=np.int32),
        rows, contents, sections, lasting, terms,
    )


def _join(parts: Sequence[tuple[int, Signals]], pack: Pack) -> Signals:
    """Return the signals of all documents from those of each, with its position."""
    import numpy as np

    empty = Signals(
        first=np.zeros(1, dtype=np.int64), document=np.zeros(0, dtype=np.int32), number=np.zeros(0, dtype=np.int32),
        rows=np.zeros(0, dtype=np.int32), is_contents=np.zeros(0, dtype=bool),
        sections=np.zeros((0, len(pack.sections)), dtype=bool), lasting=np.zeros((0, len(pack.sections)), dtype=bool),
        terms=np.zeros((0, len(pack.terms)), dtype=bool),
    )
    sizes = np.cumsum([0, *(part.first[-1] for _, part in parts)])
    joined = {field.name: np.concatenate([getattr(empty, field.name), *(getattr(part, field.name) for _, part in parts)])
              for field in fields(Signals) if field.name not in ("first", "document")}
    first = np.concatenate([*(part.first[:-1] + size for (_, part), size in zip(parts, sizes)), sizes[-1:]])
    document = np.concatenate([empty.document, *(np.full_like(part.document, position) for position, part in parts)])
    return Signals(first=first.astype(np.int64), document=document, **joined)


def write_signals(signals: Signals, folder: Path) -> None:
    """Write the arrays into ``folder/signals.npz``."""
    import numpy as np

    np.savez_compressed(folder / FILE, **{field.name: getattr(signals, field.name) for field in fields(Signals)})


def open_signals(folder: Path) -> Signals:
    """Return the signals of an index folder. Raises IndexFolderError where they are missing or broken."""
    import numpy as np

    try:
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            return Signals(**{field.name: arrays[field.name] for field in fields(Signals)})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise IndexFolderError(f"{folder / FILE} cannot be read ({error}). Build it again: ragtune index") from error
