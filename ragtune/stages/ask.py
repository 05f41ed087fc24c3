"""Ask: open the index and the generator, check that they belong together, answer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from ragtune.answering.answerer import Answerer
from ragtune.answering.prompt import prompt_hash
from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import RunError
from ragtune.files import recover_folder
from ragtune.models.language import UNTUNABLE, open_generator
from ragtune.recipe.places import index_folder, run_folder
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.search import open_searcher
from ragtune.training.run import check_run_fits, open_run

logger = logging.getLogger(__name__)


@in_recipe_pack
def open_assistant(
    recipe: Recipe,
    index: Path | None = None,
    run: Path | None = None,
    model: Literal["base", "tuned"] | None = None,
    allow_mismatch: bool = False,
) -> Answerer:
    """Return an answerer over the recipe's index.

    ``model`` None takes the tuned model where its run folder exists, else the base model. Raises IndexFolderError
    where there is no index, RunError where a tuned model is asked for and there is no run, or the run was tuned with
    another index, prompt or base model.
    """
    searcher = open_searcher(index or index_folder(recipe), recipe.retrieval)
    folder = run or run_folder(recipe)
    recover_folder(folder)
    if model is None:
        is_tuned = folder.exists() and recipe.generator.model not in UNTUNABLE
        model = "tuned" if run or is_tuned else "base"
    if model == "base":
        return Answerer(open_generator(recipe.generator), searcher, recipe)
    if not folder.exists():
        raise RunError(f"there is no tuned model at {folder}. Do: ragtune train, or ask the base model with --model base")
    tuned = open_run(folder)
    generator = open_generator(recipe.generator, adapter=tuned.adapter)
    ours = prompt_hash(recipe.answering.names_rows)
    warning = check_run_fits(tuned, searcher.index.id, ours, getattr(generator, "fingerprint", ""), allow_mismatch,
                             searcher.index.grown_from)
    if warning:
        logger.warning("%s", warning)
    return Answerer(generator, searcher, recipe)
