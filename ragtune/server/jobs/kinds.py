"""The kinds of jobs: what each runs, and which settings of a recipe may be set for it."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from ragtune.errors import QuestionError, RecipeError, RunError, nearest
from ragtune.files import read_manifest, recover_folder
from ragtune.models.language import UNTUNABLE
from ragtune.models.remote import is_remote
from ragtune.recipe.load import check_recipe
from ragtune.recipe.places import dataset_folder, evaluation_folder, index_folder, run_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Record
from ragtune.retrieval.filters import parse_filter
from ragtune.seams import Report
from ragtune.training.methods import RETRIEVER, find_method


class Summary(Protocol):
    """What a stage says at its end."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        ...


Run = Callable[[Recipe, "Order", Report], Summary]
NAME = r"[a-z0-9][a-z0-9_-]{0,39}"
"""What a dataset, run or evaluation may be called: its folder is KIND-NAME in the assistant's work folder."""
WORDS = {"training.method", "training.weights", "training.target_modules", "training.modules", "retrieval.method",
         "retrieval.where", "dataset.where", "dataset.test_where", "dataset.split_by", "evaluation.where"}
"""Settings of free text that may be set; other texts name files, models and places, which are the recipe's alone."""
OPERATORS = {"training.report_to", "training.check_memory"}
"""Settings that are the recipe's alone although they are no text: trackers reach other machines, and without the check of
memory a job may take the server with it."""
MAX_NUMBER, MAX_TEXT, MAX_ITEMS = 2**53, 2000, 100
"""What a value may be: a number that every JSON reader keeps, a text of so many characters, a list of so many entries."""
RESERVED = ("base", "tuned", "reward", "closed-book")
"""Names a run cannot have: the models' own, and that of reward models, which answer nothing."""


@dataclass(frozen=True)
class Order(Record):
    """What a job's process is told beside its recipe: the server's folder, and the folders it reads and writes."""

    folder: str
    out: str = ""
    dataset: str = ""
    run: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of job: what it does, in which sections settings may be set, and which folder it writes by default."""

    name: str
    description: str
    sections: tuple[str, ...]
    run: Run
    place: Callable[[Recipe], Path]
    takes: tuple[str, ...] = ()
    """Of 'name', 'dataset' and 'run', what may be named."""


def _index(recipe: Recipe, order: Order, report: Report) -> Summary:
    """Bring the index in line with the documents folder and the uploads."""
    from ragtune.documents.metadata import read_sidecar
    from ragtune.documents.pack import use_pack
    from ragtune.retrieval.life import follow_files
    from ragtune.server.library import Library, write_sidecar

    library = Library(Path(order.folder))
    library.sweep()
    uploads, left_out = library.entries(), library.left_out()
    if uploads:
        with use_pack(recipe.pack):
            own = read_sidecar(Path(recipe.documents.metadata)) if recipe.documents.metadata else {}
        sidecar = Path(order.folder) / "jobs" / "metadata.json"
        write_sidecar(sidecar, own, uploads)
        documents = recipe.documents.model_copy(update={"metadata": str(sidecar.resolve())})
        if recipe.documents.metadata:  # it may lie among the documents, of which it is none
            documents = documents.model_copy(update={"exclude": (*documents.exclude, *_inside(recipe))})
        recipe = recipe.model_copy(update={"documents": documents})
    summary = follow_files(recipe, index_folder(recipe), library.folder, [library.path_of(u) for u in uploads], left_out,
                           report)
    library.forget_left_out(left_out)
    return summary


def _inside(recipe: Recipe) -> tuple[str, ...]:
    """Return a pattern for the recipe's own sidecar where it lies in the documents folder."""
    root, sidecar = Path(recipe.documents.folder).resolve(), Path(str(recipe.documents.metadata)).resolve()
    return (sidecar.relative_to(root).as_posix(),) if sidecar.is_relative_to(root) else ()


def check_built(kind: str, folder: Path) -> None:
    """Raise RunError where what a job reads was not made yet, naming the job that makes it: commands are not for those who
    ask over HTTP."""
    recover_folder(folder)
    if not (folder / "manifest.json").is_file():
        raise RunError(f"there is no {kind} '{folder.name}' yet. Start a job of kind '{kind}'; when it is done, this one.")


def _dataset(recipe: Recipe, order: Order, report: Report) -> Summary:
    from ragtune.stages.dataset import run_dataset

    check_built("index", index_folder(recipe))
    return run_dataset(recipe, Path(order.out), report=report)


def _train(recipe: Recipe, order: Order, report: Report) -> Summary:
    from ragtune.stages.train import run_train

    dataset = Path(order.dataset) if order.dataset else dataset_folder(recipe)
    if find_method(recipe.training.method).shape not in ("pairs", "labels"):  # those come from a command, no job makes them
        check_built("dataset", dataset)
    check_dataset(dataset, index_folder(recipe))
    return run_train(recipe, Path(order.out), dataset=Path(order.dataset) if order.dataset else None, report=report,
                     announce=lambda text: print(text, flush=True))  # noqa: T201 - the process's log


def check_dataset(dataset: Path, index: Path) -> None:
    """Raise RunError where a dataset was built with another index than the one served, but for documents that came or went:
    a run tuned on it would not be served."""
    if not (dataset / "manifest.json").is_file() or not (index / "manifest.json").is_file():
        return  # the stage says so
    built = str(read_manifest(dataset, "dataset", check_files=False).get("index_id") or "")
    manifest = read_manifest(index, "index", check_files=False)
    if built and built not in (manifest.get("id"), *manifest.get("grown_from", ())):
        raise RunError(f"the dataset '{dataset.name}' was built with another index ({built}) than the one served "
                       f"({manifest.get('id')}). Build it again, by a job of kind 'dataset', then train.")


def _evaluate(recipe: Recipe, order: Order, report: Report) -> Summary:
    from ragtune.stages.evaluate import run_evaluate

    if not recipe.evaluation.questions:
        check_built("dataset", Path(order.dataset) if order.dataset else dataset_folder(recipe))
    return run_evaluate(recipe, Path(order.out), dataset=Path(order.dataset) if order.dataset else None,
                        run=Path(order.run) if order.run else None, allow_mismatch=True, report=report)


KINDS: dict[str, Kind] = {kind.name: kind for kind in (
    Kind("index", "Bring the index in line with the documents; what did not change is not read again.", (), _index,
         index_folder),
    Kind("dataset", "Turn questions into tuning rows.", ("dataset", "retrieval"), _dataset, dataset_folder, ("name",)),
    Kind("train", "Tune the model on a dataset; the new adapter is served beside the others.", ("training",), _train,
         run_folder, ("name", "dataset")),
    Kind("evaluate", "Measure base and tuned on the ladder and write a report.", ("evaluation", "retrieval"), _evaluate,
         evaluation_folder, ("name", "dataset", "run")),
)}


def find_kind(name: str) -> Kind:
    """Return a kind of job. Raises RecipeError for an unknown one."""
    if name not in KINDS:
        raise RecipeError(f"there is no job of kind '{name[:80]}'. Allowed: {', '.join(KINDS)}.{nearest(name[:80], KINDS)}")
    return KINDS[name]


def set_settings(recipe: Recipe, kind: Kind, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with ``section.field`` -> value set on top.

    Raises RecipeError for a field that a job of this kind may not set, that there is not, or that has a wrong value.
    """
    values, allowed = recipe.model_dump(mode="json"), allowed_settings(kind)
    for key, value in settings.items():
        if key not in allowed:
            way = (f"Allowed: {', '.join(allowed)}.{nearest(key[:80], allowed)}" if allowed else
                   "It takes no settings: they are the recipe's.")
            raise RecipeError(f"'{key[:80]}' cannot be set for a job of kind '{kind.name}'. {way}")
        check_value(key, value)
        *sections, field = key.split(".")
        entry = values
        for section in sections:
            entry = entry[section]
        entry[field] = value
    try:
        return check_recipe(values, "the settings") if settings else recipe
    except RecipeError as error:
        raise RecipeError(str(error).rpartition("\nDo:")[0] or str(error)) from None


def check_trainable(recipe: Recipe) -> None:
    """Raise RecipeError for a method there is not, or that is no job, and for a model that cannot be tuned here."""
    method, model = find_method(recipe.training.method), recipe.generator.model
    if method.loop == RETRIEVER:
        raise RecipeError(f"training.method '{recipe.training.method}' tunes retrieval, which is no job of the server. "
                          "Do: ragtune adapt --what likelihoods --recipe FILE")
    if model in UNTUNABLE or is_remote(model):
        raise RecipeError(f"the model '{model}' cannot be tuned here. Set generator.model in the recipe to bundled, a "
                          "folder or a Hugging Face name.")


def allowed_settings(kind: Kind) -> list[str]:
    """Return the settings that a job of this kind may set: numbers, switches, choices and the texts of WORDS."""
    return [key for section in kind.sections for key in _plain_fields(Recipe, section, section) if key not in OPERATORS]


def check_value(key: str, value: Any) -> None:
    """Raise RecipeError for a value that no job could use: a number that is infinite, none or too large, a text or list that
    is too long, a filter that cannot be read."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    if len(entries) > MAX_ITEMS:
        raise RecipeError(f"{key} has {len(entries)} entries. Allowed: up to {MAX_ITEMS}.")
    for entry in entries:
        is_number = isinstance(entry, (int, float)) and not isinstance(entry, bool)
        if is_number and not (math.isfinite(entry) and abs(entry) <= MAX_NUMBER):
            raise RecipeError(f"{key} is too large, or no number. Allowed: numbers up to 2 to the power of 53.")
        if isinstance(entry, str) and (len(entry) > MAX_TEXT or re.search("[\0\ud800-\udfff]", entry)):
            raise RecipeError(f"{key} is a text of {len(entry)} characters. Allowed: up to {MAX_TEXT}, all of them "
                              "printable.")
    if key.rpartition(".")[2].endswith("where") and isinstance(value, str) and value.strip():
        try:
            parse_filter(value)
        except QuestionError as error:
            raise RecipeError(f"{key}: {error}") from None


def _plain_fields(model: type[BaseModel], name: str, path: str) -> list[str]:
    section = model.model_fields[name].annotation
    assert isinstance(section, type)
    assert issubclass(section, BaseModel)
    found = []
    for field, info in section.model_fields.items():
        key, kind = f"{path}.{field}", info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _plain_fields(section, field, key)
        elif key in WORDS or not _holds_text(kind):
            found.append(key)
    return found


def _holds_text(kind: Any) -> bool:
    """Tell whether a value of this type may be any text."""
    if kind is str or kind is Any:
        return True
    if typing.get_origin(kind) in (typing.Union, types.UnionType, tuple, list, dict):
        return any(_holds_text(part) for part in typing.get_args(kind))
    return False


def folder_of(place: Path, name: str) -> Path:
    """Return the folder of this name beside the kind's own. Raises RecipeError for what is no such name."""
    if not re.fullmatch(NAME, name):
        raise RecipeError(f"'{name[:80]}' is no name for it. Allowed: up to 40 small letters, digits, - and _.")
    if place.name.startswith("run") and (name in RESERVED or name.endswith("-closed-book")):
        raise RecipeError(f"'{name}' cannot be a run's name: models are called so. Choose another.")
    return place.with_name(f"{place.name}-{name}")


def free_folder(place: Path, taken: set[str]) -> Path:
    """Return the kind's own folder, or the first PLACE-2, PLACE-3 ... where that is there or ``taken``.

    A run that is being served is not written over: those who ask it would get neither the old nor the new one.
    """
    choices = (place if number == 1 else place.with_name(f"{place.name}-{number}") for number in range(1, 10_000))
    return next(choice for choice in choices if not choice.exists() and str(choice) not in taken)
