"""Reading recipes: a shipped one by name or a YAML file, single fields set on top, all faults in one error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ragtune.errors import RecipeError, nearest
from ragtune.files import hide_passwords
from ragtune.recipe.schema import Recipe
from ragtune.recipe.space import check_space

PATHS = (("documents", "folder"), ("documents", "metadata"), ("dataset", "questions"), ("evaluation", "questions"),
         ("adapting", "questions"))
"""Fields that name files, counted from the recipe's own folder."""


def shelf() -> dict[str, Path]:
    """Return the shipped recipes: name -> YAML file."""
    folder = Path(str(resources.files("ragtune.recipe").joinpath("shelf")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name_or_file: str) -> Path:
    """Return the file of a recipe named like a shipped one or like a file; a file of that name wins."""
    path = Path(name_or_file)
    if path.is_file():
        return path
    if name_or_file in shelf():
        return shelf()[name_or_file]
    raise RecipeError(
        f"no recipe '{name_or_file}': there is no such file, and the shipped recipes are {', '.join(shelf())}."
        f"{nearest(name_or_file, shelf())} Do: ragtune recipe list, or ragtune recipe copy demo my.yaml"
    )


def load_recipe(name_or_file: str, settings: Iterable[str] = ()) -> Recipe:
    """Return the recipe with ``a.b=c`` settings on top; paths in a file count from the file's folder.

    Raises RecipeError that names all faults at once: unknown keys with the nearest name, wrong values, bad YAML.
    """
    path = find_recipe(name_or_file)
    values = _read_yaml(path)
    for section, key in PATHS:
        entry = values.get(section)
        if isinstance(entry, dict) and isinstance(entry.get(key), str) and not _is_elsewhere(entry[key]):
            entry[key] = _resolve(path.parent, entry[key])
    pack = values.get("pack")
    if isinstance(pack, str) and (path.parent / Path(pack).expanduser()).is_dir():  # else it is a shipped one's name
        values["pack"] = _resolve(path.parent, pack)
    for setting in settings:
        _set_field(values, setting)
    return check_recipe(values, str(path))


def check_recipe(values: Mapping[str, Any], source: str) -> Recipe:
    """Return the recipe these plain values make. Raises RecipeError that names every fault."""
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        faults = [_describe(fault, values) for fault in error.errors()]
        raise RecipeError(
            f"{source}: {len(faults)} fault{'s' if len(faults) > 1 else ''}:\n"
            + "\n".join(f"  {fault}" for fault in faults)
            + f"\nDo: mend the recipe, then ragtune recipe check {source}"
        ) from None
    check_space(recipe)
    return recipe


def render_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with every field written out, a password in a URL blanked out."""
    return yaml.safe_dump(hide_passwords(json.loads(recipe.model_dump_json())), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text ({error.reason}). A recipe is a YAML file.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{path}{where}: not YAML ({getattr(error, 'problem', error)}). Mend this line.") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: found {type(values).__name__}, wanted sections such as 'documents:' and 'index:'.")
    return values


def _is_elsewhere(value: str) -> bool:
    """Whether a name is no path beside the recipe: an address, or a data set of the Hub (datasets.hub)."""
    return "://" in value or value.startswith("hf:")


def _resolve(folder: Path, value: str) -> str:
    """Return a path of the recipe file: 'package:NAME' lies in ragtune's own data, others count from the file."""
    if value.startswith("package:"):
        return str(data_folder() / value.removeprefix("package:"))
    return str(folder / Path(value).expanduser())


def data_folder() -> Path:
    """Return the folder of the bundled documents: data/ of a checkout, or where an installed package keeps it."""
    package = Path(str(resources.files("ragtune")))
    inside, beside = package / "data", package.parent / "data"
    return inside if inside.is_dir() else beside


def _set_field(values: dict[str, Any], setting: str) -> None:
    """Set one field from ``a.b=c``; c is read as YAML, so that numbers, lists and null keep their kind."""
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {setting}: wanted section.field=value, for example --set training.epochs=3")
    entry: Any = values
    for part in parts[:-1]:
        if entry.get(part) is None:
            entry[part] = {}
        entry = entry[part]
        if not isinstance(entry, dict):
            raise RecipeError(f"--set {setting}: '{part}' is a single value, not a section.")
    try:
        entry[parts[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {setting}: the value is not YAML. Quote it, for example --set 'a.b=\"x: y\"'") from error


def _fields_at(location: tuple[Any, ...]) -> list[str]:
    """Return the field names allowed at a place in the recipe."""
    model: type[BaseModel] = Recipe
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)


def _describe(fault: Any, values: Mapping[str, Any]) -> str:
    """Return one line for a pydantic fault: the field, what was found and what is allowed."""
    location = fault["loc"]
    name = ".".join(str(part) for part in location)
    if fault["type"] == "extra_forbidden":
        allowed = _fields_at(location[:-1])
        return f"{name}: unknown key.{nearest(str(location[-1]), allowed)} Allowed here: {', '.join(allowed)}"
    return f"{name}: found {hide_passwords(repr(fault['input']))}. {fault['msg']}"
