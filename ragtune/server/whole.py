"""Opening an index so that all of it is of one state, while jobs put others in its place."""

from __future__ import annotations

import json
from pathlib import Path

from ragtune.errors import IndexFolderError
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.index import Index
from ragtune.retrieval.search import IndexSearcher, open_searcher


def open_whole(folder: Path, recipe: Recipe) -> IndexSearcher:
    """Return a searcher whose index is all of one state: a job may put another in its place while this one is opened.

    Raises IndexFolderError where there is none.
    """
    while True:
        before = _stamp(folder)
        try:
            searcher = open_searcher(folder, recipe.retrieval)
            hold_index(searcher.index)
        except (IndexFolderError, OSError):
            if _stamp(folder) == before:
                raise
            continue  # another was put there meanwhile
        if _stamp(folder) == searcher.index.manifest.get("manifest_sha256"):
            return searcher


def _stamp(folder: Path) -> str | None:
    """Return what tells one state of an index folder from another, None where there is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return str(manifest["manifest_sha256"]) if "manifest_sha256" in manifest else None
    except (OSError, ValueError, TypeError):
        return None


def hold_index(index: Index) -> None:
    """Open all files of an index that are opened when first needed: they stay those of this state for good."""
    for name in ("pack", "signals", "dense", "lexical", "places"):
        getattr(index, name)
