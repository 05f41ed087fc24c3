"""What a search may change: which fields of a recipe, within which values, and a recipe with some of them set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ragtune.errors import RecipeError, nearest
from ragtune.recipe.schema import Recipe, Span

SECTIONS = ("training", "dataset", "retrieval", "answering")
FIXED = {
    "training.folder", "training.start", "training.report_to", "training.deepspeed", "training.seed", "training.eval_rows",
    "dataset.folder", "dataset.preset", "dataset.questions", "dataset.ask_count", "dataset.where", "dataset.test_share",
    "dataset.test_where", "dataset.split_by", "dataset.license", "dataset.seed", "dataset.near_duplicates",
    "retrieval.where",
}
"""Fields of these sections that stay: places, what is held out, and seeds, of which the best would be mere luck."""


def searchable_keys() -> dict[str, Any]:
    """Return the fields a search may change: dotted key -> its type."""
    keys: dict[str, Any] = {}

    def walk(model: type[BaseModel], before: str) -> None:
        for name, field in model.model_fields.items():
            key, kind = f"{before}.{name}", field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                walk(kind, key)
            elif key not in FIXED:
                keys[key] = kind

    for section in SECTIONS:
        kind = Recipe.model_fields[section].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            walk(kind, section)
    return keys


def is_whole(key: str) -> bool:
    """Whether a field takes whole numbers only."""
    return searchable_keys().get(key) is int


def check_space(recipe: Recipe) -> None:
    """Raise RecipeError naming every fault of the recipe's ``tune.space``: unknown keys, values that a field refuses."""
    keys, faults = searchable_keys(), []
    for key, span in recipe.tune.space.items():
        if key not in keys:
            why = " It stays as it is in a search." if key in FIXED else ""
            why = why or (" The index is built once and reused." if key.startswith("index.") else "")
            faults.append(f"tune.space: '{key}' cannot be searched.{why}{nearest(key, keys)}")
            continue
        for value in span.choices or (span.low, span.high, *([span.step] if span.step and is_whole(key) else [])):
            if is_whole(key) and isinstance(value, float) and not value.is_integer():
                faults.append(f"tune.space: {key} takes whole numbers, found {value}")
            elif value is not span.step and (fault := _refused(recipe, key, value)):
                faults.append(f"tune.space: {key} = {value!r}: {fault}")
    if faults:
        raise RecipeError("\n".join([*faults, f"Allowed are fields of {', '.join(SECTIONS)}, such as training.lr: "
                                     "{low: 0.0001, high: 0.003, log: true}"]))


def _refused(recipe: Recipe, key: str, value: Any) -> str:
    """Return why a field refuses a value; '' where it takes it."""
    try:
        apply_setting(recipe, {key: value})
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    return ""


def apply_setting(recipe: Recipe, setting: Mapping[str, Any]) -> Recipe:
    """Return the recipe with these dotted fields set.

    Where the rank is set and alpha is not, alpha keeps its ratio to it: the same learning rate then means the same for all
    ranks. Raises pydantic's ValidationError for a value that a field refuses.
    """
    values = json.loads(recipe.model_dump_json())
    for key, value in setting.items():
        *path, name = key.split(".")
        entry = values
        for part in path:
            entry = entry[part]
        entry[name] = int(value) if is_whole(key) and isinstance(value, float) and value.is_integer() else value
    if "training.r" in setting and "training.alpha" not in setting:
        ratio = recipe.training.alpha / recipe.training.r
        values["training"]["alpha"] = max(1, round(ratio * values["training"]["r"]))
    return Recipe.model_validate(values)


def setting_of(recipe: Recipe, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the recipe itself has for these dotted fields."""
    values = json.loads(recipe.model_dump_json())
    found = {}
    for key in keys:
        entry: Any = values
        for part in key.split("."):
            entry = entry[part]
        found[key] = entry
    return found


def holds(span: Span, value: Any) -> bool:
    """Whether a value lies in a span."""
    if span.choices:
        return any(value == choice and type(value) is type(choice) for choice in span.choices)
    if span.low is None or span.high is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    steps = 0.0 if span.step is None else (value - span.low) / span.step
    return span.low <= value <= span.high and abs(steps - round(steps)) < 1e-9
