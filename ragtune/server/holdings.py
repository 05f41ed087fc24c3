"""What documents there are, for whom: those of the index, those on their way into it, those that could not be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ragtune.documents.read import list_files
from ragtune.errors import DocumentError, QuestionError
from ragtune.files import hash_file
from ragtune.recipe.schema import Recipe
from ragtune.records import Metadata, Record
from ragtune.retrieval.filters import Filter, kind_of
from ragtune.retrieval.index import Index
from ragtune.retrieval.tenancy import check_tenant, find_owned
from ragtune.server.library import Incoming, Library, Upload

HoldingState = Literal["indexed", "waiting", "unreadable", "leaving"]


@dataclass(frozen=True)
class Holding(Record):
    """One document. ``state`` waiting: its file, or its present bytes, are not in the index yet; leaving: it was deleted and
    is still found. ``chunks`` and ``pages`` are those of the index, 0 where it is not there."""

    name: str
    file: str
    source: Literal["upload", "folder"]
    state: HoldingState
    pages: int = 0
    chunks: int = 0
    bytes: int = 0
    reason: str = ""
    metadata: Metadata = field(default_factory=dict)


def list_holdings(recipe: Recipe, index: Index, library: Library, tenant: str | None = None) -> list[Holding]:
    """Return the documents that a tenant's filter holds for, or all, by their names.

    Of what the index does not hold yet a tenant sees the uploads that say in all columns of the filter that they are theirs:
    what a file's own pages will say is not known, and a document that says nothing is nobody's.
    """
    found = sorted(_all(recipe, index, library), key=lambda holding: (holding.name, holding.file))
    if tenant is None:
        return found
    owned = check_tenant(tenant)
    is_own = {document.name: own for document, own in zip(index.documents(), find_owned(index, owned))}
    return [each for each in found if is_own.get(each.name, True)
            and _is_said(each, owned, index, index.columns() if each.name in is_own else {})]


def _is_said(holding: Holding, owned: Filter, index: Index, columns: Mapping[str, set[str]]) -> bool:
    """Tell whether what is known of a document passes a tenant's filter, all columns of which are its own or ``columns``."""
    row = {**holding.metadata, "document": holding.name}
    said = {column: {kind_of(value)} for column, value in row.items() if value is not None}
    kinds = {column: columns.get(column, set()) | said.get(column, set()) for column in (*columns, *said)}
    try:
        return owned.check(kinds, index.pack.metadata.sidecar).matches(row)
    except QuestionError:
        return False


def list_bytes(
    recipe: Recipe, index: Index, library: Library, there: Sequence[Holding], incoming: Sequence[Incoming]
) -> dict[str, str]:
    """Return sha256 of a document's bytes -> its name, for all that stay: what is deleted counts no more.

    ``there`` are all holdings. Files of the folder that are not indexed yet are read only where one of ``incoming`` has as
    many bytes.
    """
    sizes, uploads = {each.bytes for each in incoming}, library.folder.resolve()
    staying = {holding.name for holding in there if holding.state != "leaving"}
    found = {str(facts["sha256"]): str(facts["document"]) for path, facts in index.manifest["inputs"].items()
             if facts["document"] in staying and not Path(path).is_relative_to(uploads)}
    found |= {upload.sha256: upload.document for upload in library.entries()}
    for holding in there:
        path = Path(recipe.documents.folder) / holding.file
        if holding.source == "folder" and holding.state == "waiting" and holding.bytes in sizes and path.is_file():
            found.setdefault(hash_file(path), holding.name)
    return found


def _all(recipe: Recipe, index: Index, library: Library) -> Iterator[Holding]:
    inputs: Mapping[str, Any] = index.manifest["inputs"]
    reasons = {str(item["path"]): str(item["reason"]) for item in index.manifest["unreadable"]}
    counts = dict(index.store.ask("select document, count(*) from chunks group by document"))
    places, documents = index.store.positions, {document.name: document for document in index.documents()}
    uploads, left_out = {str(library.path_of(upload)): upload for upload in library.entries()}, set(library.left_out())
    for path, upload in uploads.items():
        if path not in inputs:
            yield _of_upload(upload, reasons.get(path, ""))
    for path, facts in inputs.items():
        name = str(facts["document"])
        mine = uploads.get(path)
        is_upload = Path(path).is_relative_to(library.folder.resolve())
        size = mine.bytes if mine else _size(Path(recipe.documents.folder) / path)
        state: HoldingState = "indexed"
        if path in left_out or (is_upload and mine is None):
            state = "leaving"
        elif mine is not None and mine.sha256 != facts["sha256"]:
            state = "waiting"
        yield Holding(name, Path(path).name, "upload" if is_upload else "folder", state, int(facts["pages"]),
                      int(counts.get(places.get(name, -1), 0)), size, reasons.get(path, ""),
                      {**documents[name].metadata, **(mine.metadata if mine else {})})
    known = {*inputs, *reasons, *left_out, *index.manifest.get("edits", {}).get("removed", ())}
    with contextlib.suppress(DocumentError):  # a folder that is empty, or not there, has none
        for file in list_files(recipe.documents)[0]:
            if str(file) not in known:
                yield Holding(file.stem, file.name, "folder", "waiting", bytes=_size(Path(recipe.documents.folder) / file))
    for path, reason in reasons.items():
        if path not in inputs and not Path(path).is_absolute():
            yield Holding(Path(path).stem, Path(path).name, "folder", "unreadable", reason=reason,
                          bytes=_size(Path(recipe.documents.folder) / path))


def _of_upload(upload: Upload, reason: str) -> Holding:
    return Holding(upload.document, upload.file, "upload", "unreadable" if reason else "waiting", bytes=upload.bytes,
                   reason=without_paths(reason), metadata=upload.metadata)


def without_paths(reason: str) -> str:
    """Return a reason without the place of another file, which is the server's own business."""
    return "another document has the same bytes" if reason.startswith("the same bytes as") else reason


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
