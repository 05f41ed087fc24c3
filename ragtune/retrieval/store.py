"""What an index remembers in words: documents, pages and chunks in one SQLite file, written once, then only read."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ragtune.documents.chunk import OWN_METADATA
from ragtune.errors import IndexFolderError
from ragtune.records import Chunk, Document, Metadata, Page

if TYPE_CHECKING:
    import numpy as np

FILE = "store.sqlite"
_TABLES = """
create table documents (position integer primary key, id text unique, name text unique, path text, metadata text);
create table pages (document integer, number integer, text text, primary key (document, number)) without rowid;
create table chunks (row integer primary key, id text unique, document integer, text text, page integer, last_page integer,
                     "start" integer, "end" integer, own text, heading text, embedded text);
create index chunks_by_page on chunks (document, page, last_page);
"""
_CHUNK = 'id, document, text, page, last_page, "start", "end", own, heading'


def write_store(folder: Path, documents: Sequence[Document], chunks: Sequence[Chunk], embedded: Sequence[str]) -> None:
    """Write the store; ``embedded`` holds the hash of the text each chunk was embedded by.

    Raises IndexFolderError where two chunks have one id: a citation of it would lead to the wrong page.
    """
    check_ids(chunks)
    positions = {document.id: position for position, document in enumerate(documents)}
    with contextlib.closing(sqlite3.connect(folder / FILE)) as connection, connection:
        connection.executescript(_TABLES)
        connection.executemany("insert into documents values (?,?,?,?,?)", (
            (positions[d.id], d.id, d.name, d.path, json.dumps(dict(d.metadata), ensure_ascii=False)) for d in documents))
        connection.executemany("insert into pages values (?,?,?)", (
            (positions[d.id], page.number, page.text) for d in documents for page in d.pages))
        connection.executemany("insert into chunks values (?,?,?,?,?,?,?,?,?,?,?)", (
            (row, c.id, positions[c.document_id], c.text, c.page, c.last_page, c.start, c.end,
             json.dumps({key: c.metadata[key] for key in OWN_METADATA if key in c.metadata}, ensure_ascii=False), c.heading,
             key)
            for row, (c, key) in enumerate(zip(chunks, embedded))))


def check_ids(chunks: Sequence[Chunk]) -> None:
    """Raise IndexFolderError where two chunks have one id."""
    seen: dict[str, Chunk] = {}
    for chunk in chunks:
        other = seen.setdefault(chunk.id, chunk)
        if other is not chunk:
            raise IndexFolderError(f"two chunks have the id '{chunk.id}': {other.document}, page {other.page}, and "
                                   f"{chunk.document}, page {chunk.page}. Every id must be unique: choose another "
                                   "index.chunker, or mend the one that made them.")


class Store:
    """A store opened for reading; any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        address = f"file:{quote(str(self.path.absolute()))}?mode=ro&immutable=1"
        try:
            self.connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            self.lock = threading.Lock()
            self.documents: tuple[Document, ...] = tuple(
                Document(id, name, path, (), json.loads(metadata)) for id, name, path, metadata in
                self.ask("select id, name, path, metadata from documents order by position"))
        except sqlite3.Error as error:
            raise IndexFolderError(f"{self.path} cannot be read ({error}). Build it again: ragtune index") from error
        self.positions = {document.name: position for position, document in enumerate(self.documents)}

    def ask(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.lock:
            return self.connection.execute(query, values).fetchall()

    def places(self) -> np.ndarray:
        """Return document position, first and last page of each chunk row, int32, shape (chunks, 3).

        Read from the index of the table alone, which is a hundredth of it, and a part at a time.
        """
        import numpy as np

        places = np.zeros((self.rows(), 3), dtype=np.int32)
        with self.lock:
            found = self.connection.execute("select row, document, page, last_page from chunks")
            while part := found.fetchmany(10_000):
                rows = np.array(part, dtype=np.int64)
                places[rows[:, 0]] = rows[:, 1:]
        return places

    def rows(self) -> int:
        """Return the number of chunks."""
        return int(self.ask("select count(*) from chunks")[0][0])

    def embedded(self) -> list[str]:
        """Return the hash of the embedded text of each chunk row."""
        return [key for key, in self.ask("select embedded from chunks order by row")]

    def chunks_at(self, rows: Iterable[int]) -> list[Chunk]:
        """Return the chunks of these rows, in this order."""
        wanted = [int(row) for row in rows]
        found: dict[int, Chunk] = {}
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            for row, *values in self.ask(f"select row, {_CHUNK} from chunks where row in ({marks})", part):
                found[row] = self._chunk(values)
        return [found[row] for row in wanted]

    def chunk(self, chunk_id: str) -> Chunk | None:
        """Return the chunk of this id."""
        rows = self.ask(f"select {_CHUNK} from chunks where id = ?", (chunk_id,))
        return self._chunk(rows[0]) if rows else None

    def chunks_of(self, name: str, page: int | None = None) -> list[Chunk]:
        """Return a document's chunks in reading order, all or those that touch a page."""
        on_page, values = ("", ()) if page is None else (" and page <= ? and last_page >= ?", (page, page))
        query = f"select {_CHUNK} from chunks where document = ?{on_page} order by row"
        return [self._chunk(row) for row in self.ask(query, (self.positions.get(name, -1), *values))]

    def all_chunks(self) -> list[Chunk]:
        """Return all chunks in the order of rows."""
        return [self._chunk(row) for row in self.ask(f"select {_CHUNK} from chunks order by row")]

    def pages_of(self, name: str) -> tuple[Page, ...]:
        """Return a document's pages."""
        rows = self.ask("select number, text from pages where document = ? order by number", (self.positions.get(name, -1),))
        return tuple(Page(number, text) for number, text in rows)

    def page_text(self, name: str, page: int) -> str:
        """Return the text of a page, empty where there is none."""
        rows = self.ask("select text from pages where document = ? and number = ?", (self.positions.get(name, -1), page))
        return str(rows[0][0]) if rows else ""

    def _chunk(self, values: Sequence[Any]) -> Chunk:
        id, position, text, page, last_page, start, end, own, heading = values
        document = self.documents[position]
        metadata: Metadata = {**document.metadata, **json.loads(own)}
        return Chunk(id, document.id, document.name, text, page, last_page, start, end, metadata, heading)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()
