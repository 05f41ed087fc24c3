"""The replies of a chat model, one page a line, kept as they come: what was asked is not asked, and paid for, again."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from ragtune.errors import RunError
from ragtune.records import Record


@dataclass(frozen=True)
class Reply(Record):
    """What a model wrote about a page, with the tokens read and written, and the seconds it took."""

    document: str
    page: int
    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


class Replies:
    """A file of replies, opened for one process; a line that a kill cut short is dropped."""

    def __init__(self, file: BinaryIO, done: dict[tuple[str, int], Reply]) -> None:
        self._file, self._lock, self.done = file, Lock(), done
        self.resumed = len(done)

    def get(self, document: str, page: int) -> Reply | None:
        """Return the reply to a page, None where it was not asked."""
        return self.done.get((document, page))

    def add(self, reply: Reply) -> None:
        """Keep a reply: it is on the disk when this returns. Several threads may add."""
        with self._lock:
            _append(self._file, reply.to_dict())
            self.done[reply.document, reply.page] = reply


@contextmanager
def open_replies(path: Path, settings: Mapping[str, Any]) -> Iterator[Replies]:
    """Open a file of replies, or begin one, whose first line says what was asked with which settings.

    Raises RunError where it was begun with others, where another process writes it or where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}. Choose another place with --out.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{path} is being written by another ragtune. Wait for it, or use another --out.") from None
        header, done, end = _read(file, path)
        differ = sorted(key for key in {*header, *settings} if header.get(key) != settings.get(key)) if header else []
        if differ:
            told = "; ".join(f"{key} was {header.get(key)!r}, is {settings.get(key)!r}" for key in differ)
            raise RunError(f"{path} holds replies that were asked with other settings ({told}). Use the settings of before, "
                           "another --out, or delete this file to ask anew.")
        file.truncate(end)
        if not header:
            _append(file, dict(settings))
        yield Replies(file, done)


def _append(file: BinaryIO, row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _read(file: BinaryIO, path: Path) -> tuple[dict[str, Any], dict[tuple[str, int], Reply], int]:
    """Return the header, the replies by page and the byte where the last whole line ends."""
    header: dict[str, Any] = {}
    done: dict[tuple[str, int], Reply] = {}
    end = 0
    file.seek(0)
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            break  # cut short by a kill
        try:
            row = json.loads(line)
            if number == 1:
                header = dict(row)
            else:
                reply = Reply.from_dict(row)
                done[reply.document, reply.page] = reply
        except (ValueError, TypeError) as error:
            raise RunError(f"{path}:{number}: not a reply ({error}). Delete the line, or the file to ask anew.") from error
        end += len(line)
    return header, done, end
