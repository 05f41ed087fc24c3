"""A folder of source files to documents: read in worker processes, unchanged files skipped, failures listed."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragtune.documents.formats import READERS
from ragtune.documents.metadata import read_metadata, read_sidecar
from ragtune.documents.pool import Pool
from ragtune.errors import DocumentError, nearest
from ragtune.files import hash_file
from ragtune.recipe import schema
from ragtune.records import Document, Metadata, Page, Record
from ragtune.seams import Report, progress_of

__all__ = ["READERS", "Reading", "SourceFile", "Unreadable", "describe_pages", "list_files", "make_document",
           "name_documents", "open_documents", "read_documents"]


@dataclass(frozen=True)
class Unreadable(Record):
    """What could not be read: a whole file, or the pages of it that ``reason`` names."""

    path: str
    reason: str


@dataclass(frozen=True)
class SourceFile(Record):
    """A file to read: its path relative to the documents folder, the document's name, the sha256 of its bytes."""

    path: str
    name: str
    sha256: str

    @property
    def document_id(self) -> str:
        """The first 16 hex digits of the bytes' hash."""
        return self.sha256[:16]


class Reading:
    """Files being read. In a ``with``, iterating gives them in the order of paths while later ones are being read.

    It gives (file, document), the document None where the file is unchanged, and can be done again. Once it came to its end
    the attributes hold all. Raises DocumentError there if not one file can be read.
    """

    def __init__(
        self, section: schema.Documents, files: Sequence[SourceFile], unreadable: Sequence[Unreadable] = (),
        skip: Mapping[str, str] | None = None, report: Report | None = None,
    ) -> None:
        """Take the files; those whose path and sha256 stand in ``skip`` are unchanged. ``unreadable`` is listed too."""
        skip = skip or {}
        self.section, self.files = section, tuple(files)
        self.unchanged = tuple(file for file in files if skip.get(file.path) == file.sha256)
        self.sidecar = read_sidecar(Path(section.metadata)) if section.metadata else {}
        self.documents: list[Document] = []
        """Those read now, in the order of paths."""
        self.unreadable = sorted(unreadable, key=_place)
        self.without_text: dict[str, tuple[int, ...]] = {}
        """Path of a document read now -> pages (from 1) that show something but hold no text."""
        self._taken: list[tuple[SourceFile, Document | None]] = []
        self._progress = progress_of(report, "reading")

    def __enter__(self) -> Reading:
        """Start reading."""
        section, unchanged = self.section, set(self.unchanged)
        paths = [Path(section.folder) / file.path for file in self.files if file not in unchanged]
        self._pool = Pool(paths, section.workers, section.timeout_s, section.max_memory_mb)
        self._source = self._take(unchanged)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, wherever it is."""
        self._pool.stop()
        self._source = iter(())

    def __iter__(self) -> Iterator[tuple[SourceFile, Document | None]]:
        for position in itertools.count():
            if position == len(self._taken):
                taken = next(self._source, None)
                if taken is None:
                    return
                self._taken.append(taken)
            yield self._taken[position]

    @property
    def seconds(self) -> float:
        """From the start of the reading until the last file was read."""
        return self._pool.seconds

    def _take(self, unchanged: Collection[SourceFile]) -> Iterator[tuple[SourceFile, Document | None]]:
        """Yield each file that can be read with its document, an unchanged one without."""
        replies = self._pool.replies(self._progress)
        for file in self.files:
            if file in unchanged:
                yield file, None
            elif "error" in (reply := next(replies)):
                self.unreadable.append(Unreadable(file.path, str(reply["error"])))
            else:
                document = make_document(file, reply["pages"], self.sidecar)
                self.documents.append(document)
                self.without_text[file.path] = tuple(reply["without_text"])
                if reply["without_text"]:
                    self.unreadable.append(Unreadable(file.path, describe_pages(reply["without_text"])))
                yield file, document
        self.unreadable.sort(key=_place)
        if not self.documents and not self.unchanged:
            shown = "\n".join(f"  {item.path}: {item.reason}" for item in self.unreadable[:5])
            more = f"\n  and {len(self.unreadable) - 5} more" if len(self.unreadable) > 5 else ""
            raise DocumentError(f"not one file of {self.section.folder} can be read:\n{shown}{more}")


def _place(item: Unreadable) -> tuple[str, str]:
    return item.path, item.reason


def read_documents(
    section: schema.Documents, skip: Mapping[str, str] | None = None, report: Report | None = None
) -> Reading:
    """Read every file the recipe's section names, to the end. Raises as ``open_documents`` does, and as reading does."""
    with open_documents(section, skip, report) as reading:
        for _ in reading:
            pass
    return reading


def open_documents(
    section: schema.Documents, skip: Mapping[str, str] | None = None, report: Report | None = None,
    added: Sequence[str] = (), removed: Collection[str] = (),
) -> Reading:
    """Return every file the recipe's section names, to be read; those whose path and sha256 stand in ``skip`` are unchanged.

    Files ``added`` from elsewhere (absolute paths) are read after those of the folder, paths ``removed`` are left out.
    Raises DocumentError for a missing or empty folder.
    """
    folder = Path(section.folder)
    paths, unreadable = list_files(section)
    paths = [path for path in paths if str(path) not in removed] + [Path(path) for path in sorted(added)]
    files, repeated = _identify(folder, paths)
    return Reading(section, files, unreadable + repeated, skip, report)


def list_files(section: schema.Documents) -> tuple[list[Path], list[Unreadable]]:
    """Return the paths to read, relative to the folder and sorted, and those no reader takes.

    Hidden files, excluded ones and the sidecar itself are left out. Raises DocumentError for a missing or empty folder.
    """
    folder = Path(section.folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise DocumentError(f"the documents folder {folder} {found}. Name a folder of files: --set documents.folder=FOLDER")
    excluded = {path for pattern in section.exclude for path in folder.glob(pattern)}
    sidecar = Path(section.metadata).resolve() if section.metadata else None
    found_paths = sorted({
        path for pattern in section.include for path in folder.glob(pattern)
        if not path.is_dir() and path not in excluded and path.resolve() != sidecar
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    })
    if not found_paths:
        raise DocumentError(
            f"the documents folder {folder} holds no file that matches {', '.join(section.include)}. "
            f"Put {', '.join(READERS)} files there, or change documents.include."
        )
    known = [path.relative_to(folder) for path in found_paths if path.suffix.lower() in READERS]
    unknown = [
        Unreadable(str(path.relative_to(folder)), f"no reader for the suffix '{path.suffix}'. Allowed: {', '.join(READERS)}."
                   f"{nearest(path.suffix.lower(), READERS)} Convert the file, or leave it out with documents.exclude.")
        for path in found_paths if path.suffix.lower() not in READERS
    ]
    return known, unknown


def _identify(folder: Path, paths: Sequence[Path]) -> tuple[list[SourceFile], list[Unreadable]]:
    """Name and hash the files. Of byte-identical files the first is read, the others are listed."""
    files: list[SourceFile] = []
    unreadable: list[Unreadable] = []
    seen: dict[str, str] = {}
    for path, name in zip(paths, name_documents(paths)):
        try:
            digest = hash_file(folder / path)
        except OSError as error:
            unreadable.append(Unreadable(str(path), f"the file cannot be opened ({error.strerror}). Check its permissions."))
            continue
        is_empty = (folder / path).stat().st_size == 0
        if digest in seen and not is_empty:
            reason = f"the same bytes as {seen[digest]}, which is indexed. Remove one of them."
            unreadable.append(Unreadable(str(path), reason))
            continue
        seen[digest] = str(path)
        files.append(SourceFile(str(path), name, digest))
    return files, unreadable


def name_documents(paths: Sequence[Path]) -> list[str]:
    """Return a unique name for each path: the file name without suffix for the first of that name, for later ones
    the relative path without suffix (``2021/report``), and with it where even that is taken.
    """
    names: list[str] = []
    for path in paths:
        choices = (path.stem, path.with_suffix("").as_posix(), path.as_posix())
        names.append(next(choice for choice in choices if choice not in names))
    return names


def make_document(file: SourceFile, pages: Sequence[str], sidecar: Mapping[str, Metadata]) -> Document:
    """Return the document of a file's page texts, its metadata read."""
    row = sidecar.get(file.name) or sidecar.get(Path(file.path).with_suffix("").as_posix())
    metadata = read_metadata(Path(file.path), pages, row)
    numbered = tuple(Page(number, text) for number, text in enumerate(pages, start=1))
    return Document(file.document_id, file.name, file.path, numbered, metadata)


def describe_pages(numbers: Sequence[int]) -> str:
    """Return the reason for pages that hold no text, runs of numbers joined: ``pages 3, 7-9 hold no text ...``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    listed = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    subject, verb, thing = ("pages", "hold", "images") if len(numbers) > 1 else ("page", "holds", "an image")
    return (f"{subject} {listed} {verb} no text, only {thing}; the other pages are indexed. "
            "Run OCR, e.g. ocrmypdf in.pdf out.pdf, and index the result.")
