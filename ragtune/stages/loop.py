"""The whole loop, index to evaluation, each stage skipped where its result is already there: `ragtune demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.recipe.schema import Recipe
from ragtune.seams import Report
from ragtune.stages.dataset import run_dataset
from ragtune.stages.evaluate import run_evaluate
from ragtune.stages.index import run_index
from ragtune.stages.train import run_train


@dataclass(frozen=True)
class LoopSummary:
    """What each stage of the loop said of its work."""

    index: dict[str, Any]
    dataset: dict[str, Any]
    train: dict[str, Any]
    evaluation: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation's ladder and paired tests, the other stages beside them."""
        return {**self.evaluation, "index": self.index, "dataset": self.dataset, "train": self.train}


def run_loop(recipe: Recipe, out: Path | None = None, report: Report | None = None) -> LoopSummary:
    """Index, build the dataset, train, evaluate; ``out`` takes the place of the recipe's work folder."""
    if out is not None:
        recipe = recipe.model_copy(update={"work": str(out)})
    return LoopSummary(
        index=run_index(recipe, report=report).to_dict(),
        dataset=run_dataset(recipe, report=report).to_dict(),
        train=run_train(recipe, report=report).to_dict(),
        evaluation=run_evaluate(recipe, report=report).to_dict(),
    )
