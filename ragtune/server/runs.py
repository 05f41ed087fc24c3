"""Which tuned runs an assistant has, and what their models are called."""

from __future__ import annotations

import json
from pathlib import Path

from ragtune.files import recover_folder
from ragtune.recipe.schema import Recipe


def find_runs(recipe: Recipe) -> list[Path]:
    """Return the recipe's finished run folders, the supervised one first; reward models answer nothing and are left out."""
    place = Path(recipe.training.folder) if recipe.training.folder else Path(recipe.work) / recipe.name / "run"
    beside = {path.with_suffix("") if path.suffix == ".old" else path for path in place.parent.glob(f"{place.name}-*")}
    folders = [place, *sorted(path for path in beside if path.suffix != ".partial")]
    for folder in folders:
        recover_folder(folder)
    return [folder for folder in folders if is_run(folder) and folder.name != "run-reward"]


def is_run(folder: Path) -> bool:
    """Tell whether a folder says of itself that it holds a run."""
    try:
        return bool(json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get("kind") == "run")
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError):
        return True  # a damaged one: opening it says so


def name_run(folder: Path) -> str:
    """Return what the model of a run folder is called: 'tuned' for the recipe's own, else the name beside 'run-'."""
    return "tuned" if folder.name == "run" else folder.name.removeprefix("run-")
