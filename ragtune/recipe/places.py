"""Where an assistant's folders lie: work/NAME/..., unless the recipe says otherwise."""

from __future__ import annotations

from pathlib import Path

from ragtune.recipe.schema import Recipe


def _place(recipe: Recipe, folder: str | None, kind: str) -> Path:
    return Path(folder) if folder else Path(recipe.work) / recipe.name / kind


def index_folder(recipe: Recipe) -> Path:
    """Return the index folder."""
    return _place(recipe, recipe.index.folder, "index")


def dataset_folder(recipe: Recipe) -> Path:
    """Return the dataset folder."""
    return _place(recipe, recipe.dataset.folder, "dataset")


def pairs_folder(recipe: Recipe) -> Path:
    """Return the folder of preference pairs."""
    return _place(recipe, recipe.pairs.folder, "pairs")


REFINING = ("dpo", "orpo", "kto", "simpo", "reward", "ppo", "grpo", "rloo")
"""Methods that go on from a supervised run: theirs is written beside it, not over it."""


def run_folder(recipe: Recipe) -> Path:
    """Return the run folder: 'run', and 'run-METHOD' for the methods that refine a supervised run."""
    method = recipe.training.method
    return _place(recipe, recipe.training.folder, f"run-{method}" if method in REFINING else "run")


def supervised_folder(recipe: Recipe) -> Path:
    """Return the run folder that methods which refine an assistant start from by default."""
    return _place(recipe, None, "run") if recipe.training.method in REFINING else run_folder(recipe)


def benchmark_folder(recipe: Recipe) -> Path:
    """Return the folder of general benchmarks."""
    return _place(recipe, None, "benchmark")


def evaluation_folder(recipe: Recipe) -> Path:
    """Return the evaluation folder."""
    return _place(recipe, recipe.evaluation.folder, "evaluation")


def search_folder(recipe: Recipe) -> Path:
    """Return the folder of a search for settings."""
    return _place(recipe, recipe.tune.folder, "search")


def comparison_folder(recipe: Recipe) -> Path:
    """Return the folder of a comparison of methods."""
    return _place(recipe, None, "comparison")
