"""Check a recipe against what is really there: table names and files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ragtune.documents.chunk import CHUNKERS
from ragtune.documents.pack import open_pack
from ragtune.errors import RecipeError, nearest
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.expand import EXPANDERS
from ragtune.retrieval.search import SEARCHERS
from ragtune.training.methods import METHODS


def check_references(recipe: Recipe) -> list[str]:
    """Return notes on what a later stage will miss. Raises RecipeError that names every unknown table name."""
    named: list[tuple[str, str, Iterable[str]]] = [
        ("index.chunker", recipe.index.chunker, CHUNKERS),
        ("retrieval.method", recipe.retrieval.method, SEARCHERS),
        *(("retrieval.expand", name, EXPANDERS) for name in recipe.retrieval.expand),
        ("training.method", recipe.training.method, METHODS),
    ]
    faults = [f"{field}: found '{found}'. Allowed: {', '.join(table)}.{nearest(found, table)}"
              for field, found, table in named if found not in table]
    if faults:
        raise RecipeError("\n".join([f"{len(faults)} name(s) not known:", *(f"  {fault}" for fault in faults)]))
    open_pack(recipe.pack)
    wanted = {
        "documents.folder": recipe.documents.folder,
        "documents.metadata": recipe.documents.metadata,
        "dataset.questions": recipe.dataset.questions,
        "evaluation.questions": recipe.evaluation.questions,
    }
    return [f"{field}: there is no {path} yet" for field, path in wanted.items() if path and not Path(path).exists()]
