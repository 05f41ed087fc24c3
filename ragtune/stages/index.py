"""The index stage: a folder of documents becomes an index folder."""

from __future__ import annotations

from pathlib import Path

from ragtune.recipe.places import index_folder
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.build import IndexSummary, build_index
from ragtune.seams import Report


def run_index(
    recipe: Recipe, out: Path | None = None, report: Report | None = None, keeps_edits: bool = True
) -> IndexSummary:
    """Build the recipe's index folder, or ``out``, and return what was done.

    What was added or removed by hand stays so, unless ``keeps_edits`` is false. Raises DocumentError where no document can
    be read, RunError where the folder cannot be written.
    """
    return build_index(recipe, out or index_folder(recipe), report, keeps_edits)
