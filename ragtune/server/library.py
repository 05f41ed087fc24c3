"""The files that came by upload: saved whole and on disk before it is said, each with a sidecar of what is known of it.

``uploads/REPORT.pdf`` has its sidecar beside it, ``uploads/.REPORT.pdf.json``; a file without one is none of them.
``uploads/.removed`` names documents of the recipe's own folder that are to be left out of the index.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ragtune.documents.formats import check_signature
from ragtune.errors import DocumentError
from ragtune.files import hash_file, hash_text
from ragtune.records import Metadata, Record
from ragtune.server.uploads import safe_name


@dataclass(frozen=True)
class Upload(Record):
    """One uploaded file: the document's name is the file's without suffix; ``metadata`` wins over what its pages say."""

    document: str
    file: str
    sha256: str
    bytes: int
    metadata: Metadata = field(default_factory=dict)
    caller: str = ""
    created: float = 0.0


@dataclass(frozen=True)
class Incoming:
    """A file on its way in: its safe name, where its bytes lie for now, and what is known of it."""

    file: str
    path: Path
    sha256: str
    bytes: int
    metadata: Metadata

    @property
    def document(self) -> str:
        """The document's name."""
        return PurePosixPath(self.file).stem


class Library:
    """The uploads of one server; safe with several processes, of which one at a time saves a file of one name."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the server's; the uploads lie in its ``uploads``."""
        self.folder = folder / "uploads"
        self._removed = self.folder / ".removed"

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keep all others, of this process and of others, from changing the library meanwhile."""
        _make_folder(self.folder)
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def entries(self) -> list[Upload]:
        """Return what was uploaded, by the documents' names."""
        found = []
        for sidecar in sorted(self.folder.glob(".*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError):
                upload = Upload.from_dict(json.loads(sidecar.read_text(encoding="utf-8")))
                if (self.folder / upload.file).is_file():
                    found.append(upload)
        return sorted(found, key=lambda upload: upload.document)

    def path_of(self, upload: Upload) -> Path:
        """Return the file, as an absolute path."""
        return (self.folder / upload.file).resolve()

    def receive(self, name: str, data: bytes, metadata: Metadata) -> Incoming:
        """Lay a file's bytes down under a name that nothing else has, its type checked by its content.

        Raises DocumentError for a name or a content that cannot be a document.
        """
        file = safe_name(name)
        waiting = self.folder / ".incoming"
        _make_folder(waiting)
        path = waiting / f"{secrets.token_hex(8)}{PurePosixPath(file).suffix}"
        try:
            _write_through(path, data)
            check_signature(path, path.suffix)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, DocumentError):
                raise DocumentError(f"{file}: {error}") from None
            raise
        return Incoming(file, path, hash_file(path), len(data), dict(metadata))

    def keep(self, incoming: Sequence[Incoming], caller: str) -> list[Upload]:
        """Take files that were received into the library, in place of those of their names; on disk when it returns."""
        kept, known = [], {upload.document.casefold(): upload for upload in self.entries()}
        for each in incoming:
            upload = Upload(each.document, each.file, each.sha256, each.bytes, each.metadata, caller, round(time.time(), 3))
            _write_json_through(self._sidecar(each.file), upload.to_dict())
            os.replace(each.path, self.folder / each.file)  # killed between the two: ``sweep`` mends the sidecar
            old = known.get(each.document.casefold())
            if old is not None and old.file != each.file:  # the same document with another suffix
                self._drop(old)
            kept.append(upload)
        _sync_folder(self.folder)
        return kept

    def discard(self, incoming: Iterable[Incoming]) -> None:
        """Remove files that were received and are not to be kept."""
        for each in incoming:
            each.path.unlink(missing_ok=True)

    def remove(self, upload: Upload) -> None:
        """Remove an uploaded file; it is found until the index was brought in line."""
        self._drop(upload)
        _sync_folder(self.folder)

    def leave_out(self, path: str) -> None:
        """Remember that a file of the recipe's own folder, by its path there, is to be left out; the file stays."""
        _make_folder(self._removed)
        _write_json_through(self._removed / f"{hash_text(path)}.json", {"path": path})
        _sync_folder(self._removed)

    def left_out(self) -> list[str]:
        """Return the paths that are to be left out and that the index was not told of."""
        return sorted(str(json.loads(file.read_text(encoding="utf-8"))["path"]) for file in self._removed.glob("*.json"))

    def forget_left_out(self, paths: Iterable[str]) -> None:
        """Forget paths that the index knows of by now."""
        for path in paths:
            (self._removed / f"{hash_text(path)}.json").unlink(missing_ok=True)

    def sweep(self, older_than_s: float = 3600.0) -> None:
        """Remove what was received and never kept, because the server was killed meanwhile, and have each sidecar say what
        its file holds."""
        with self.changing():
            for upload in self.entries():
                path = self.folder / upload.file
                if path.stat().st_size != upload.bytes or hash_file(path) != upload.sha256:
                    found = replace(upload, sha256=hash_file(path), bytes=path.stat().st_size)
                    _write_json_through(self._sidecar(upload.file), found.to_dict())
        for path in self.folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > older_than_s:
                    path.unlink()
        for path in (self.folder / ".incoming").glob("*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > older_than_s:
                    path.unlink()

    def _drop(self, upload: Upload) -> None:
        (self.folder / upload.file).unlink(missing_ok=True)
        self._sidecar(upload.file).unlink(missing_ok=True)

    def _sidecar(self, file: str) -> Path:
        return self.folder / f".{file}.json"


def write_sidecar(path: Path, rows: Mapping[str, Metadata], uploads: Sequence[Upload]) -> None:
    """Write the metadata file that indexing reads: the recipe's own ``rows`` (by document), the uploads' on top."""
    table = {f"{document}": dict(row) for document, row in rows.items()}
    table |= {upload.document: {**table.get(upload.document, {}), **upload.metadata} for upload in uploads}
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_json_through(path, [{"document": f"{document}.txt", **row} for document, row in table.items()])


def _write_json_through(path: Path, value: object) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    _write_through(temporary, json.dumps(value, ensure_ascii=False, indent=2).encode())
    os.replace(temporary, path)


def _write_through(path: Path, data: bytes) -> None:
    """Write a file so that it is on disk when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Make a folder whose name, and those of the folders above that were not there, are on disk when this returns."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk: a file that was renamed is lost with a power cut otherwise."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
