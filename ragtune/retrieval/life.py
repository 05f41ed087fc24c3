"""Adding files to an index and removing documents from it, without looking at any other file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ragtune.documents.pack import in_recipe_pack
from ragtune.documents.read import READERS, Reading, SourceFile, Unreadable, name_documents, open_documents
from ragtune.errors import DocumentError, IndexFolderError, nearest
from ragtune.files import hash_file, read_manifest
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.build import READING, IndexSummary, write_index
from ragtune.retrieval.previous import Edits, Previous, open_previous
from ragtune.seams import Report


@in_recipe_pack
def add_files(recipe: Recipe, folder: Path, files: Sequence[Path], report: Report | None = None) -> IndexSummary:
    """Read these files into the index, or anew where they are in it; what else is in it is taken over unread.

    Files may lie anywhere; those outside the documents folder stay in the index when it is built again. All or none is
    added. Raises DocumentError for a file that is not there or cannot be read, IndexFolderError where there is no index.
    """
    started, previous = time.perf_counter(), _open(folder)
    root = Path(recipe.documents.folder).resolve()
    given: dict[str, str] = {}
    for file in files:
        path, known = Path(file).resolve(), {facts["sha256"]: name for name, facts in previous.inputs.items()}
        if not path.is_file():
            raise DocumentError(f"{file} is no file. Name files to add; a folder is indexed by documents.folder.")
        if path.suffix.lower() not in READERS:
            raise DocumentError(f"{file}: no reader for the suffix '{path.suffix}'. Allowed: {', '.join(READERS)}."
                                f"{nearest(path.suffix.lower(), READERS)}")
        name, digest = str(path.relative_to(root) if path.is_relative_to(root) else path), hash_file(path)
        if known.get(digest, name) != name or digest in given.values():
            twin = known.get(digest, "another of these files")
            raise DocumentError(f"{file} has the same bytes as {twin}. Nothing was added. Leave it out.")
        given[name] = digest
    added = {*previous.edits.added, *(name for name in given if Path(name).is_absolute())}
    edits = Edits(tuple(sorted(added)), tuple(path for path in previous.edits.removed if path not in given))
    digests = {path: str(facts["sha256"]) for path, facts in previous.inputs.items()} | given
    return _write(recipe, folder, previous, digests, edits, started, tuple(given), report)


@in_recipe_pack
def remove_documents(recipe: Recipe, folder: Path, names: Sequence[str], report: Report | None = None) -> IndexSummary:
    """Take documents, by name or path, out of the index; they stay out when it is built again, until they are added.

    Raises IndexFolderError for a document there is not and where none would be left.
    """
    started, previous = time.perf_counter(), _open(folder)
    paths = {facts["document"]: path for path, facts in previous.inputs.items()} | {path: path for path in previous.inputs}
    for name in names:
        if name not in paths:
            raise IndexFolderError(f"{folder} has no document '{name}'.{nearest(name, paths)} "
                                   "Do: ragtune index inspect, which lists them.")
    gone = {paths[name] for name in names}
    digests = {path: str(facts["sha256"]) for path, facts in previous.inputs.items() if path not in gone}
    if not digests:
        raise IndexFolderError(f"nothing would be left in {folder}. Delete the folder instead.")
    edits = Edits(tuple(path for path in previous.edits.added if path not in gone),
                  tuple(sorted({*previous.edits.removed, *(path for path in gone if not Path(path).is_absolute())})))
    return _write(recipe, folder, previous, digests, edits, started, (), report)


@in_recipe_pack
def follow_files(recipe: Recipe, folder: Path, elsewhere: Path, files: Sequence[Path], removed: Sequence[str] = (),
                 report: Report | None = None) -> IndexSummary:
    """Bring the index in line with the documents folder and with ``files``, all that is to be indexed of the folder
    ``elsewhere``; files that were added from other places stay.

    ``removed`` are paths within the documents folder that are left out, besides those taken out by hand. A file that cannot
    be read is listed and keeps the others waiting for nothing. Raises as ``build_index`` does.
    """
    started, previous = time.perf_counter(), open_previous(Path(folder))
    has_pages = previous is not None and previous.manifest.get("reading") == READING
    skip = {path: str(facts["sha256"]) for path, facts in previous.inputs.items()} if previous and has_pages else {}
    edits = previous.edits if previous else Edits()
    root = elsewhere.resolve()
    kept = [path for path in edits.added if not Path(path).is_relative_to(root)]
    edits = Edits(tuple(sorted({*kept, *(str(Path(file).resolve()) for file in files)})),
                  tuple(sorted({*edits.removed, *removed})))
    with open_documents(recipe.documents, skip, report, edits.added, edits.removed) as reading:
        return write_index(recipe, Path(folder), previous, reading, edits, started, report)


def _open(folder: Path) -> Previous:
    """Return the index to be changed. Raises IndexFolderError where there is none that can be."""
    manifest = read_manifest(Path(folder), "index", IndexFolderError)
    previous = open_previous(Path(folder))
    if previous is None or manifest.get("reading") != READING:
        raise IndexFolderError(f"{folder} was built by another version of ragtune. Build it again first: ragtune index")
    return previous


def _write(
    recipe: Recipe, folder: Path, previous: Previous, digests: dict[str, str], edits: Edits, started: float,
    wanted: tuple[str, ...], report: Report | None,
) -> IndexSummary:
    """Read what is new among the files, of which ``wanted`` must be readable, and write the index."""
    paths = sorted((Path(path) for path in digests), key=lambda path: (path.is_absolute(), path))
    files = [SourceFile(str(path), name, digests[str(path)]) for path, name in zip(paths, name_documents(paths))]
    listed = [Unreadable(str(item["path"]), str(item["reason"])) for item in previous.manifest["unreadable"]
              if item["path"] not in previous.inputs and item["path"] not in digests]
    skip = {path: str(facts["sha256"]) for path, facts in previous.inputs.items()}
    with Reading(recipe.documents, files, listed, skip, report) as reading:
        read = {file.path for file, _ in reading}  # all of them before anything is written
        failed = [item for item in reading.unreadable if item.path in wanted and item.path not in read]
        if failed:
            shown = "\n".join(f"  {item.path}: {item.reason}" for item in failed)
            raise DocumentError(f"{len(failed)} of {len(wanted)} files cannot be read, and nothing was added:\n{shown}")
        return write_index(recipe, folder, previous, reading, edits, started, report)
