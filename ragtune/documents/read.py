"""A folder of source files to documents: read in worker processes, unchanged files skipped, failures listed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.documents.formats import READERS
from ragtune.documents.metadata import read_metadata, read_sidecar
from ragtune.documents.worker import memory_reason
from ragtune.errors import DocumentError, nearest
from ragtune.files import hash_file
from ragtune.recipe import schema
from ragtune.records import Document, Metadata, Page, Record
from ragtune.seams import Report, progress_of

PROGRAM = ("import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
           "from ragtune.documents.worker import main; main(int(sys.argv[2]))")
__all__ = ["READERS", "Reading", "SourceFile", "Unreadable", "describe_pages", "list_files", "make_document",
           "name_documents", "read_documents", "read_files"]


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


@dataclass(frozen=True)
class Reading(Record):
    """What a folder gave, each part in the order of paths."""

    documents: tuple[Document, ...]
    unchanged: tuple[SourceFile, ...]
    unreadable: tuple[Unreadable, ...]
    files: tuple[SourceFile, ...]
    without_text: Mapping[str, tuple[int, ...]]
    """Path of a document read now -> pages (from 1) that show something but hold no text."""


def read_documents(
    section: schema.Documents, skip: Mapping[str, str] | None = None, report: Report | None = None,
    added: Sequence[str] = (), removed: Collection[str] = (),
) -> Reading:
    """Read every file the recipe's section names; files whose path and sha256 stand in ``skip`` count as unchanged.

    Files ``added`` from elsewhere (absolute paths) are read after those of the folder, paths ``removed`` are left out.
    Raises DocumentError for a missing or empty folder and where not one file can be read.
    """
    folder = Path(section.folder)
    paths, unreadable = list_files(section)
    paths = [path for path in paths if str(path) not in removed] + [Path(path) for path in sorted(added)]
    files, repeated = _identify(folder, paths)
    return read_files(section, files, unreadable + repeated, skip, report)


def read_files(
    section: schema.Documents, files: Sequence[SourceFile], unreadable: Sequence[Unreadable] = (),
    skip: Mapping[str, str] | None = None, report: Report | None = None,
) -> Reading:
    """Read these files, but not those whose path and sha256 stand in ``skip``; ``unreadable`` is what else is to be listed.

    Raises DocumentError where not one file can be read.
    """
    skip, folder, unreadable = skip or {}, Path(section.folder), list(unreadable)
    sidecar = read_sidecar(Path(section.metadata)) if section.metadata else {}
    unchanged = tuple(file for file in files if skip.get(file.path) == file.sha256)
    to_read = [file for file in files if skip.get(file.path) != file.sha256]
    documents: list[Document] = []
    without_text: dict[str, tuple[int, ...]] = {}
    replies = _read_all([folder / file.path for file in to_read], section, report)
    for file, reply in zip(to_read, replies):
        if "error" in reply:
            unreadable.append(Unreadable(file.path, str(reply["error"])))
            continue
        documents.append(make_document(file, reply["pages"], sidecar))
        without_text[file.path] = tuple(reply["without_text"])
        if reply["without_text"]:
            unreadable.append(Unreadable(file.path, describe_pages(reply["without_text"])))
    unreadable.sort(key=lambda item: (item.path, item.reason))
    if not documents and not unchanged:
        shown = "\n".join(f"  {item.path}: {item.reason}" for item in unreadable[:5])
        more = f"\n  and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
        raise DocumentError(f"not one file of {folder} can be read:\n{shown}{more}")
    return Reading(tuple(documents), unchanged, tuple(unreadable), tuple(files), without_text)


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


def _read_all(paths: Sequence[Path], section: schema.Documents, report: Report | None) -> list[dict[str, Any]]:
    """Return the reply for each path, read by ``section.workers`` processes."""
    count = max(1, min(section.workers or os.cpu_count() or 1, len(paths)))
    progress, done = progress_of(report, "reading"), 0
    workers: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    started = [Worker(section.timeout_s, section.max_memory_mb) for _ in range(count)] if paths else []
    for worker in started:
        workers.put(worker)

    def read_one(path: Path) -> dict[str, Any]:
        worker = workers.get()
        try:
            return worker.read(path)
        finally:
            workers.put(worker)

    pool = ThreadPoolExecutor(count)
    try:
        waiting = {pool.submit(read_one, path): position for position, path in enumerate(paths)}
        replies: list[dict[str, Any]] = [{}] * len(paths)
        for future in as_completed(waiting):
            replies[waiting[future]] = future.result()
            done += 1
            if progress:
                progress(done, len(paths))
        return replies
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in started:
            worker.stop()


class Worker:
    """A reading process, started when first needed and anew after it died or was stopped for taking too long."""

    def __init__(self, timeout_s: float, max_memory_mb: int) -> None:
        self.timeout_s = timeout_s
        self.max_memory_mb = max_memory_mb
        self.process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> dict[str, Any]:
        """Return the worker's reply; a worker that hangs or dies gives ``{"error": reason}`` for this file alone."""
        process = self.process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(self.timeout_s, end)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(json.dumps({"path": str(path)}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        finally:
            timer.cancel()
        if line.endswith("\n"):
            reply: dict[str, Any] = json.loads(line)
            if reply.get("error") == memory_reason(self.max_memory_mb):
                self.stop()  # a process at its limit would fail on the next file as well
            return reply
        code = process.wait()
        self.stop()
        if is_late.is_set():
            return {"error": f"reading took longer than documents.timeout_s = {self.timeout_s:g}. Raise it, or leave the "
                             "file out."}
        return {"error": f"the reading process died on it (exit {code}), perhaps at documents.max_memory_mb = "
                         f"{self.max_memory_mb}. Fetch the file again, raise the limit, or leave the file out."}

    def _start(self) -> subprocess.Popen[str]:
        """Start a process with this one's import paths."""
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps([path or os.getcwd() for path in sys.path]), str(self.max_memory_mb)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        )

    def stop(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
