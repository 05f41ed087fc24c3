"""Building an index folder: read, chunk and embed side by side, then write. What did not change is taken over."""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.documents.pack import copy_pack, current_pack, in_recipe_pack
from ragtune.documents.read import Reading, open_documents
from ragtune.files import building_folder, peak_memory_mb, write_manifest
from ragtune.models.embed import open_embedder
from ragtune.recipe.schema import Recipe
from ragtune.records import Record
from ragtune.retrieval.dense import build_dense
from ragtune.retrieval.intake import Intake
from ragtune.retrieval.lexical import build_lexical
from ragtune.retrieval.previous import Edits, Previous, open_previous
from ragtune.retrieval.signals import build_signals, write_signals
from ragtune.retrieval.store import write_store
from ragtune.retrieval.vectors import FOLDER, VectorWriter
from ragtune.seams import Report, progress_of

if TYPE_CHECKING:
    import numpy as np

READING = 2  # raise when the same bytes would give other pages, so that unchanged files are read again
CHUNKING = 2  # raise when the same pages and settings would give other chunks


@dataclass(frozen=True)
class IndexSummary(Record):
    """What building an index did. Rates count what was done anew, while the three jobs share the processor.

    ``pages_per_s`` is over the seconds from the start of reading until the last file was read, ``chunks_per_s`` over those
    spent in the embedder.
    """

    folder: str
    id: str
    documents: int
    pages: int
    chunks: int
    unchanged: int
    added: int
    changed: int
    removed: int
    unreadable: tuple[tuple[str, str], ...]
    pages_without_text: int
    seconds: float
    pages_per_s: float
    chunks_per_s: float
    peak_memory_mb: float


@in_recipe_pack
def build_index(recipe: Recipe, folder: Path, report: Report | None = None, keeps_edits: bool = True) -> IndexSummary:
    """Index the recipe's documents into a folder, whole or not at all, and return what was done.

    Files whose bytes did not change keep their pages, chunks keep their vectors where their text did not change, and
    vectors made before a kill are found again: the result equals that of a fresh build. What was added or removed by
    hand stays so, unless ``keeps_edits`` is false. Raises DocumentError where no document can be read, RecipeError or
    ModelError for a chunker or embedder there is not, RunError where another process writes the folder.
    """
    started, folder = time.perf_counter(), Path(folder)
    previous = open_previous(folder)
    has_pages = previous is not None and previous.manifest.get("reading") == READING
    skip = {path: str(facts["sha256"]) for path, facts in previous.inputs.items()} if previous and has_pages else {}
    edits = previous.edits if previous and keeps_edits else Edits()
    with open_documents(recipe.documents, skip, report, edits.added, edits.removed) as reading:
        return write_index(recipe, folder, previous, reading, edits, started, report)


@in_recipe_pack
def write_index(
    recipe: Recipe, folder: Path, previous: Previous | None, reading: Reading, edits: Edits, started: float,
    report: Report | None = None,
) -> IndexSummary:
    """Write what is read and what is taken over as one new folder in place of the old one; nothing changed, no writing.

    Nothing is ever changed within a folder, so there are no gaps in it to be compacted. ``started`` is the clock's time
    when the build began. Raises as ``build_index`` does.
    """
    embedder, pack = open_embedder(recipe.index.embedder, recipe.index.embedder_engine), current_pack()
    settings = {"chunking": CHUNKING, "pack": {"name": pack.name, "hash": pack.hash},
                "chunker": recipe.index.chunker, "chunk_tokens": recipe.index.chunk_tokens,
                "overlap_tokens": recipe.index.overlap_tokens, "fingerprint": embedder.fingerprint}
    is_alike = previous is not None and previous.manifest.get("settings") == settings
    intake = Intake(recipe.index, embedder, pack, previous, is_alike)
    with contextlib.ExitStack() as stack:
        open_folder = functools.cache(lambda: stack.enter_context(_resumed_folder(folder)))
        known = previous.known_vectors(embedder) if previous else None
        with VectorWriter(embedder, known, open_folder, progress_of(report, "embedding")) as writer:
            intake.take_all(reading, writer, progress_of(report, "chunking"))
            entries: dict[str, Any] = {
                "id": intake.index_id(),
                "grown_from": list_ancestors(previous, intake, recipe) if is_alike else [],
                "embedder": {"name": recipe.index.embedder, "fingerprint": embedder.fingerprint,
                             "dimension": embedder.dimension},
                "settings": settings,
                "reading": READING,
                "recipe": {key: recipe.model_dump(mode="json")[key] for key in ("name", "documents", "index")},
                "documents": len(intake.documents),
                "pages": sum(len(document.pages) for document in intake.documents),
                "chunks": len(intake.chunks),
                "inputs": intake.inputs,
                "unreadable": [item.to_dict() for item in intake.unreadable],
                "edits": {name: list(paths) for name, paths in edits.to_dict().items()},
            }
            if previous is None or any(previous.manifest.get(key, []) != value for key, value in entries.items()):
                vectors = writer.finish(intake.keys)
                if report:
                    report("writing", 0, 0)
                _write(open_folder(), intake, vectors, recipe.index.vectors)
                write_manifest(open_folder(), "index", **entries)
    if previous is not None:
        previous.store.close()
    return _summarise(folder, entries, intake, reading, writer, started)


def list_ancestors(previous: Previous | None, intake: Intake, recipe: Recipe) -> list[str]:
    """Return the ids of the indexes that the new one differs from by its documents alone, the oldest first.

    They are those of one folder and one recipe, each made from the one before with the same reading, chunking and embedding,
    of which it kept a document at least: what was tuned with one of them still fits. ``previous`` has the same settings.
    """
    if previous is None or previous.manifest.get("reading") != READING:
        return []
    before, now = previous.manifest.get("recipe", {}), recipe.model_dump(mode="json")
    known = {facts["sha256"] for facts in previous.inputs.values()}
    if before.get("name") != now["name"] or before.get("index", {}).get("context_line") != now["index"]["context_line"]:
        return []
    if not any(facts["sha256"] in known for facts in intake.inputs.values()):
        return []
    ids = [*previous.manifest.get("grown_from", ()), previous.manifest["id"]]
    return [each for each in dict.fromkeys(ids) if each != intake.index_id()]


def _summarise(
    folder: Path, entries: Mapping[str, Any], intake: Intake, reading: Reading, writer: VectorWriter, started: float
) -> IndexSummary:
    """Return what was done, ``entries`` being those of the manifest."""
    old = intake.previous.inputs if intake.previous else {}
    pages_read = sum(len(document.pages) for document in reading.documents)
    unchanged = sum(1 for path, facts in intake.inputs.items() if old.get(path, {}).get("sha256") == facts["sha256"])
    added = sum(1 for path in intake.inputs if path not in old)
    return IndexSummary(
        folder=str(folder), id=entries["id"], documents=entries["documents"], pages=entries["pages"],
        chunks=entries["chunks"], unchanged=unchanged, added=added, changed=len(intake.inputs) - unchanged - added,
        removed=sum(1 for path in old if path not in intake.inputs),
        unreadable=tuple((item.path, item.reason) for item in intake.unreadable),
        pages_without_text=sum(len(facts["pages_without_text"]) for facts in intake.inputs.values()),
        seconds=round(time.perf_counter() - started, 3),
        pages_per_s=round(pages_read / reading.seconds, 1) if pages_read else 0.0,
        chunks_per_s=round(writer.made / writer.seconds, 1) if writer.made else 0.0,
        peak_memory_mb=peak_memory_mb(),
    )


def _write(folder: Path, intake: Intake, vectors: np.ndarray, kind: str) -> None:
    """Write all that a search reads."""
    previous = intake.previous
    build_dense(vectors, folder, kind)
    build_lexical(intake.texts, folder, *((previous.lexical, previous.rows_of(intake.keys)) if previous else ()))
    write_store(folder, intake.documents, intake.chunks, intake.keys)
    write_signals(build_signals(intake.documents, intake.chunks, intake.pack, intake.known_signals()), folder)
    copy_pack(intake.pack, folder / "pack")
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


@contextlib.contextmanager
def _resumed_folder(folder: Path) -> Iterator[Path]:
    """Yield the folder to build in; of what an earlier attempt left there only its vectors stay."""
    with building_folder(folder, keep_partial=True) as partial:
        for path in partial.iterdir():
            if path.name != FOLDER:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield partial
