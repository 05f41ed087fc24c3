"""A bench for tuning methods: the rows each shape needs and the supervised run that others start from, made once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ragtune.answering.prompt import prompt_hash
from ragtune.errors import RagtuneError
from ragtune.files import read_manifest
from ragtune.recipe.places import dataset_folder, index_folder
from ragtune.recipe.schema import PRESETS, Dataset, Recipe
from ragtune.seams import Report
from ragtune.stages.dataset import run_dataset
from ragtune.stages.index import run_index
from ragtune.stages.prefer import run_pairs
from ragtune.training.methods import Method, Shape, find_method

PAIRED: tuple[Shape, ...] = ("pairs", "labels")
REFINING: tuple[Shape, ...] = ("pairs", "labels", "prompts")
"""Shapes whose methods go on from a supervised run."""
FROM_BASE = ("orpo",)
"""Of these the ones that need none: ORPO learns completion and preference in one (arXiv 2403.07691)."""


@dataclass(frozen=True)
class Bench:
    """One dataset of one index, and a folder for what is made of it."""

    recipe: Recipe
    index: Path
    dataset: Path
    folder: Path

    def rows(self, method: Method, report: Report | None = None) -> tuple[Path, float]:
        """Return the folder of the method's rows and the seconds it took to make them; 0 where they were there."""
        if method.preset:
            return self._preset_rows(method.preset, report)
        if method.shape not in PAIRED:
            return self.dataset, 0.0
        pairs, begun = self.folder / "pairs", time.perf_counter()
        if (pairs / "manifest.json").is_file():
            return pairs, 0.0
        mistakes = self.recipe.model_copy(update={"pairs": self.recipe.pairs.model_copy(update={"from_run": False})})
        run_pairs(mistakes, self.dataset, self.index, pairs, report)
        return pairs, time.perf_counter() - begun

    def _preset_rows(self, preset: str, report: Report | None) -> tuple[Path, float]:
        """Return the rows of a preset of the dataset section; of the same questions, split alike."""
        made = read_manifest(self.dataset, "dataset").get("recipe", {}).get("dataset", {}).get("preset")
        rows, begun = self.folder / f"dataset-{preset}", time.perf_counter()
        if made == preset:
            return self.dataset, 0.0
        if (rows / "manifest.json").is_file():
            return rows, 0.0
        section = {**self.recipe.dataset.model_dump(), **PRESETS[preset], "preset": preset}
        run_dataset(self.recipe.model_copy(update={"dataset": Dataset.model_validate(section)}), rows, self.index, report)
        return rows, time.perf_counter() - begun


def find_material(
    recipe: Recipe, index: Path | None = None, dataset: Path | None = None, report: Report | None = None
) -> tuple[Path, Path]:
    """Return the recipe's index and dataset folders, built where they are missing or the recipe says otherwise now."""
    if index is None:
        run_index(recipe, report=report)
        index = index_folder(recipe)
    if dataset is None:
        dataset = dataset_folder(recipe)
        if not _fits(recipe, dataset, str(read_manifest(index, "index", check_files=False).get("id", ""))):
            run_dataset(recipe, index=index, report=report)
    return index, dataset


def _fits(recipe: Recipe, dataset: Path, index_id: str) -> bool:
    """Whether a dataset folder is what the recipe would build now."""
    try:
        manifest = read_manifest(dataset, "dataset")
    except RagtuneError:
        return False
    now = recipe.model_dump(mode="json", include={"dataset", "retrieval"})
    made = {key: manifest.get("recipe", {}).get(key) for key in now}
    return (made == now and manifest.get("index_id") == index_id
            and manifest.get("prompt_hash") == prompt_hash(recipe.answering.names_rows))


def needs_start(name: str) -> bool:
    """Whether a method goes on from a supervised run."""
    return find_method(name).shape in REFINING and name not in FROM_BASE


def start_method(recipe: Recipe) -> str:
    """Return the supervised method that others start from: the recipe's own where it is a LoRA, else lora."""
    own = recipe.training.method
    return own if own in ("lora", "qlora") else "lora"
