"""What a server must not forget, in SQL: SQLite in its folder, or PostgreSQL where server.database names one.

Statements are written once for both, with ``?`` for a value. Each is a transaction of its own, on disk when it returns.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ragtune.errors import MissingPackage, RagtuneError, RecipeError

BUSY_S = 20.0
"""How long a statement waits for another process's."""


class DatabaseError(RagtuneError):
    """A database that cannot be reached or used."""


class Database:
    """One connection, made when it is first needed and anew where it broke; any thread may ask."""

    def __init__(self, url: str | None, file: Path) -> None:
        """Take the PostgreSQL database at ``url``, or the SQLite ``file`` where that is None.

        Raises RecipeError for another kind of URL, MissingPackage where psycopg is not installed.
        """
        self.url, self.file = url, Path(file)
        if url is not None:
            check_url(url)
        self._connection: Any = None
        self._lock = threading.RLock()

    def change(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Do a statement and return how many rows it changed. Raises DatabaseError."""
        return int(self._do(statement, values, lambda cursor: cursor.rowcount))

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Raises DatabaseError."""
        return [tuple(row) for row in self._do(statement, values, lambda cursor: cursor.fetchall())]

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(Exception):
                    self._connection.close()
            self._connection = None

    def _do(self, statement: str, values: Sequence[Any], take: Callable[[Any], Any]) -> Any:
        return self._do_sqlite(statement, values, take) if self.url is None else self._do_postgres(statement, values, take)

    def _do_sqlite(self, statement: str, values: Sequence[Any], take: Callable[[Any], Any]) -> Any:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = open_sqlite(self.file)
                with contextlib.closing(self._connection.execute(statement, tuple(values))) as cursor:
                    return take(cursor)
            except sqlite3.Error as error:
                raise DatabaseError(f"{self.file}: {error}. Check the disk, and that the folder can be written.") from error

    def _do_postgres(self, statement: str, values: Sequence[Any], take: Callable[[Any], Any]) -> Any:
        import psycopg

        with self._lock:
            for is_last in (False, True):
                try:
                    if self._connection is None:
                        self._connection = psycopg.connect(str(self.url), autocommit=True, connect_timeout=10)
                    with self._connection.cursor() as cursor:
                        cursor.execute(statement.replace("?", "%s"), tuple(values))
                        return take(cursor)
                except psycopg.OperationalError as error:  # the server was restarted: once more, on a new connection
                    self.close()
                    if is_last:
                        raise DatabaseError(f"the database of server.database cannot be reached ({first_line(error)}). "
                                            "Start it, or mend the URL.") from None
                except psycopg.Error as error:
                    raise DatabaseError(f"the database of server.database: {first_line(error)}") from error


def open_sqlite(file: Path) -> sqlite3.Connection:
    """Return a connection to an SQLite file, made where there is none, whose writes are on disk when they return."""
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    return connection


def check_url(url: str) -> None:
    """Raise RecipeError for what is no PostgreSQL URL (its password is not repeated), MissingPackage without psycopg."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise RecipeError(f"server.database begins with '{parts.scheme}:'. Allowed: postgresql://USER@HOST/NAME, or null: "
                          "SQLite in the server's folder.")
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise MissingPackage("server.database names PostgreSQL, which needs psycopg. Do: pip install 'ragtune[postgres]'"
                             ) from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().split("\n") or [""])[0]
