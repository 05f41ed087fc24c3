"""Check a recipe against what is really there: table names and files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ragtune.datasets.hub import is_hub
from ragtune.documents.chunk import CHUNKERS
from ragtune.documents.pack import open_pack
from ragtune.errors import QuestionError, RecipeError, nearest
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.expand import EXPANDERS
from ragtune.retrieval.filters import parse_filter
from ragtune.retrieval.search import OWN_RERANKERS, SEARCHERS
from ragtune.training.methods import METHODS


def check_references(recipe: Recipe) -> list[str]:
    """Return notes on what a later stage will miss. Raises RecipeError that names every unknown name and broken filter."""
    named: list[tuple[str, str, Iterable[str]]] = [
        ("index.chunker", recipe.index.chunker, CHUNKERS),
        ("retrieval.method", recipe.retrieval.method, SEARCHERS),
        *(("retrieval.expand", name, EXPANDERS) for name in recipe.retrieval.expand),
        ("training.method", recipe.training.method, METHODS),
    ]
    faults = [f"{field}: found '{found}'. Allowed: {', '.join(table)}.{nearest(found, table)}"
              for field, found, table in named if found not in table]
    rerank = recipe.retrieval.rerank
    hint = "" if rerank in OWN_RERANKERS or Path(rerank).exists() else nearest(rerank, OWN_RERANKERS)
    if hint:
        faults.append(f"retrieval.rerank: found '{rerank}'. Allowed: {', '.join(OWN_RERANKERS)}, or a cross-encoder's "
                      f"folder or name.{hint}")
    for field, where in (("retrieval.where", recipe.retrieval.where), ("dataset.where", recipe.dataset.where),
                         ("dataset.test_where", recipe.dataset.test_where), ("evaluation.where", recipe.evaluation.where)):
        try:
            if where:
                parse_filter(where)
        except QuestionError as error:
            faults.append(f"{field}: {error}".replace("\n", "\n  "))
    if faults:
        raise RecipeError("\n".join([f"{len(faults)} fault(s):", *(f"  {fault}" for fault in faults)]))
    open_pack(recipe.pack)
    wanted = {
        "documents.folder": recipe.documents.folder,
        "documents.metadata": recipe.documents.metadata,
        "dataset.questions": recipe.dataset.questions,
        "adapting.questions": recipe.adapting.questions,
        "evaluation.questions": recipe.evaluation.questions,
        "retrieval.ranker": recipe.retrieval.ranker,
        "retrieval.adapter": recipe.retrieval.adapter,
    }
    wanted = {field: path for field, path in wanted.items() if not (field.startswith("retrieval.") and path == "auto")}
    notes = []
    if rerank == "ranker" and (recipe.retrieval.method, recipe.retrieval.dense_weight, recipe.retrieval.lexical_weight) != (
            "fused", 1.0, 1.0):
        notes.append("retrieval.method and its weights: not used, for the ranker weighs both searchers itself; set "
                     "retrieval.rerank=none to search by them alone")
    return notes + [f"{field}: there is nothing at {path} yet" for field, path in wanted.items()
                    if path and not is_hub(path) and not Path(path).exists()]
