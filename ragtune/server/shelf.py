"""What the work folder of an assistant holds: datasets, runs and evaluations, with the figures of their manifests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ragtune.recipe.places import dataset_folder, evaluation_folder, run_folder
from ragtune.recipe.schema import Recipe
from ragtune.server.errors import Rejected

PLACES: dict[str, Callable[[Recipe], Path]] = {
    "dataset": dataset_folder, "run": run_folder, "evaluation": evaluation_folder}
FIGURES: dict[str, tuple[str, ...]] = {
    "dataset": ("id", "created", "index_id", "prompt_hash", "source", "counts"),
    "run": ("id", "created", "index_id", "prompt_hash", "base_model", "dataset_hash", "start", "summary"),
    "evaluation": ("created", "index_id", "prompt_hash", "models", "questions", "ladder"),
}
"""What of a manifest is told; it holds no path."""


def list_folders(recipe: Recipe, kind: str) -> list[dict[str, Any]]:
    """Return what there is of a kind, the newest first: its folder's ``name`` and its figures."""
    found = [{"name": path.name, **_figures(kind, manifest)} for path, manifest in _folders(recipe, kind)]
    return sorted(found, key=lambda each: str(each.get("created", "")), reverse=True)


def find_folder(recipe: Recipe, kind: str, name: str) -> Path:
    """Return the folder of this name. Raises Rejected (404) where there is none of the kind."""
    names = {path.name: path for path, _ in _folders(recipe, kind)}
    if name not in names:
        raise Rejected(404, f"there is no {kind} '{name[:80]}'. There are: {', '.join(names) or 'none'}.", param=kind,
                       code=f"{kind}_not_found")
    return names[name]


def _folders(recipe: Recipe, kind: str) -> list[tuple[Path, dict[str, Any]]]:
    place = PLACES[kind](recipe)
    own = place.name.split("-")[0] if kind == "run" else place.name  # a run that refines another is 'run-METHOD'
    found = []
    for path in sorted({*place.parent.glob(f"{own}-*"), place.parent / own, place}):
        manifest = _read(path / "manifest.json")
        if manifest.get("kind") == kind:
            found.append((path, manifest))
    return found


def _read(path: Path) -> dict[str, Any]:
    """Return a manifest without looking at the files it names; empty where there is none that can be read."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) and not path.parent.name.endswith((".partial", ".old")) else {}


def _figures(kind: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    figures = {key: manifest[key] for key in FIGURES[kind] if key in manifest}
    if "base_model" in figures:
        figures["base_model"] = Path(str(figures["base_model"])).name
    if kind == "run":
        figures["method"] = dict(manifest.get("training", {})).get("method", "")
    if isinstance(figures.get("source"), str):
        figures["source"] = Path(figures["source"]).name
    return figures
