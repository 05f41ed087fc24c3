"""Tune: search for settings by held-out training questions, then measure the best one on the test questions, once."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import RecipeError, RunError
from ragtune.evaluation.ladder.counts import Rung
from ragtune.evaluation.statistics.compare import Comparison, describe_comparison
from ragtune.files import building_folder, installed_packages, read_manifest, write_json, write_manifest
from ragtune.recipe.load import PATHS, render_recipe
from ragtune.recipe.places import search_folder
from ragtune.recipe.schema import Recipe
from ragtune.recipe.space import apply_setting, check_space, holds, setting_of
from ragtune.records import Record
from ragtune.seams import Report
from ragtune.stages.bench import find_material
from ragtune.stages.dataset import run_dataset
from ragtune.stages.held_out import hold_out
from ragtune.stages.outcomes import compare_outcomes, read_outcomes
from ragtune.stages.train import run_train
from ragtune.stages.trials import Trials, ask_rung, free_memory, name_setting, read_result
from ragtune.training.methods import RETRIEVER, find_method
from ragtune.training.search import Search, TrialRow, choose_best
from ragtune.training.search_report import draw_history, draw_importances, render_report

BEST = "best.yaml"
FACTS = "facts.json"
FINAL = "final.json"
SAME = "No setting did better on the held-out questions than the recipe's own."
NO_EPOCHS = "training.max_steps is set, so training.epochs, which was searched, changed nothing."
MANY_LOOKS = ("The test questions have been asked of {} settings in this folder, a further one with each new best: the more "
              "of them, the more the last one may owe to luck.")


@dataclass(frozen=True)
class Final(Record):
    """A setting trained on the whole training side and asked the test questions."""

    name: str
    setting: Mapping[str, Any]
    rung: Rung
    seconds: float = 0.0


@dataclass(frozen=True)
class TuneSummary(Record):
    """What a search found.

    ``default`` is the recipe's own setting on the held-out questions, ``trials`` all others, ``counts`` their number by
    state; ``best`` is the setting that won (empty: the recipe's own). ``finals`` are both on the test questions,
    ``comparison`` is paired over these, None where the recipe's own is the best. ``test_looks`` counts the settings whose
    answers to the test questions were ever counted in this folder.
    """

    name: str
    folder: str
    method: str
    objective: str
    setting: str
    validation_questions: int
    default: TrialRow
    trials: tuple[TrialRow, ...]
    counts: Mapping[str, int]
    best: Mapping[str, Any]
    best_trial: int | None
    importances: Mapping[str, float] = field(default_factory=dict)
    finals: tuple[Final, ...] = ()
    comparison: Comparison | None = None
    sentence: str = ""
    test_looks: int = 0
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@in_recipe_pack
def run_tune(
    recipe: Recipe, out: Path | None = None, trials: int | None = None, timeout_s: float | None = None,
    index: Path | None = None, dataset: Path | None = None, report: Report | None = None,
) -> TuneSummary:
    """Search the recipe's ``tune.space`` and write the search folder; a search that was stopped goes on, also with more
    ``trials`` than it had.

    Settings are chosen by questions held out from the training side; the test questions are asked at the end alone, of the
    best setting and of the recipe's own, both trained on all training rows. Raises RecipeError for a space or a method that
    cannot be searched, MissingPackage without optuna, RunError where all trials failed.
    """
    begun = time.perf_counter()
    check_space(recipe)
    _check_method(recipe)
    trials, timeout_s = trials or recipe.tune.trials, timeout_s or recipe.tune.timeout_s
    target = out or search_folder(recipe)
    index, dataset = find_material(recipe, index, dataset, report)
    facts = _facts(recipe, index, dataset)
    with building_folder(target, keep_partial=True) as folder:
        _take_up(folder, target, facts)
        search = Search(folder, recipe.tune, prunes=not _changes_loss(recipe))
        measurer = Trials(hold_out(recipe, dataset, index, folder / "held_out"), index, folder, report)
        own = setting_of(recipe, recipe.tune.space)
        default = TrialRow(-1, "finished", own, measurer.measure({}, lambda percent, loss: None), is_default=True)
        if all(holds(span, own[key]) for key, span in recipe.tune.space.items()) and default.measured:
            search.add_default(own, default.measured)
        search.run(measurer.measure, trials, timeout_s, lambda done: report("trials", done, trials) if report else None)
        rows = [row for row in search.rows() if not row.is_default]
        best = _choose(default, rows)
        finals = [_measure_final(recipe, name, setting, index, dataset, folder, report)
                  for name, setting in (("default", {}), ("best", best.setting)) if name == "default" or not best.is_default]
        summary = _summarise(recipe, target, default, rows, best, search.importances(), finals, folder,
                             time.perf_counter() - begun)
        search.close()
        _write(folder, recipe, summary, facts, target)
    return summary


def _check_method(recipe: Recipe) -> None:
    """Raise RecipeError for a method that goes on from another run: that one has learned from the questions held out."""
    method = find_method(recipe.training.method)
    if method.loop == RETRIEVER:
        raise RecipeError(f"training.method '{recipe.training.method}' tunes retrieval, which `ragtune adapt` does with a "
                          "gate of its own. Do: --set training.method=qlora")
    if recipe.training.start or method.shape not in ("prompt_completion", "documents"):
        found = f"training.start is {recipe.training.start}" if recipe.training.start else (
            f"training.method is '{recipe.training.method}', which goes on from a supervised run")
        raise RecipeError(f"{found}: that run has learned from the questions a search chooses by. Search for the supervised "
                          "run's settings. Do: --set training.method=qlora --set training.start=null")


def _changes_loss(recipe: Recipe) -> bool:
    """Whether the space holds what changes what the loss means, so that trials are not given up by it."""
    return any(key == "training.method" or key.startswith(("training.preference", "training.reinforce", "answering."))
               for key in recipe.tune.space)


def _facts(recipe: Recipe, index: Path, dataset: Path) -> dict[str, Any]:
    """Return what trials depend on; two searches with the same facts are the same search, however many trials."""
    values = recipe.model_dump(mode="json", exclude={"work": True, "description": True,
                                                     "tune": {"trials", "timeout_s", "folder"}})
    return {"recipe": values, "index_id": read_manifest(index, "index", check_files=False).get("id"),
            "dataset_id": read_manifest(dataset, "dataset").get("id"), "packages": installed_packages()}


def _take_up(folder: Path, target: Path, facts: Mapping[str, Any]) -> None:
    """Leave in ``folder`` what an earlier start of the same search made, a finished one too; clear it otherwise."""
    if read_result(folder, FACTS) == facts:
        return
    shutil.rmtree(folder)
    if read_result(target, FACTS) == facts:
        shutil.copytree(target, folder)
        (folder / "manifest.json").unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    write_json(folder / FACTS, facts)


def _choose(default: TrialRow, rows: Sequence[TrialRow]) -> TrialRow:
    """Return the best trial, the recipe's own where none is better. Raises RunError where all failed."""
    tried = [row for row in rows if row.state != "killed"]
    if tried and all(row.state == "failed" for row in tried):
        reasons = "; ".join(dict.fromkeys(row.reason for row in tried))
        raise RunError(f"all {len(tried)} trials failed: {reasons}. Narrow tune.space, then search again.")
    return choose_best([default, *rows]) or default


def _measure_final(
    recipe: Recipe, name: str, setting: Mapping[str, Any], index: Path, dataset: Path, folder: Path, report: Report | None
) -> Final:
    """Train a setting on the whole training side and ask it the test questions; what an earlier start did is taken up."""
    chosen, place = apply_setting(recipe, setting), folder / "final" / name_setting(setting)
    if (known := read_result(place, FINAL)) is not None:
        return Final.from_dict({**known, "name": name})
    place.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    measured = {"settings": (recipe.tune.setting,), "baselines": (), "folder": None}
    chosen = chosen.model_copy(update={"evaluation": chosen.evaluation.model_copy(update=measured)})
    rows = dataset
    if any(key.startswith(("dataset.", "retrieval.", "answering.")) for key in setting):
        rows = place / "dataset"
        run_dataset(chosen, rows, index, report)
    run_train(chosen, place / "run", dataset=rows, index=index, report=report)
    rung = ask_rung(chosen, place, index, rows, report)
    shutil.rmtree(place / "dataset", ignore_errors=True)
    free_memory()
    final = Final(name, dict(setting), rung, round(time.perf_counter() - begun, 1))
    write_json(place / FINAL, final.to_dict())
    return final


def _summarise(
    recipe: Recipe, target: Path, default: TrialRow, rows: Sequence[TrialRow], best: TrialRow,
    importances: Mapping[str, float], finals: Sequence[Final], folder: Path, seconds: float,
) -> TuneSummary:
    comparison, sentence = None, SAME
    if not best.is_default:
        sides = [read_outcomes(folder / "final" / name_setting(final.setting) / "evaluation", "tuned", recipe.tune.setting)
                 for final in finals]
        comparison = compare_outcomes(sides[0], sides[1], recipe.evaluation.confidence)
        sentence = describe_comparison(comparison, recipe.tune.setting, "the recipe's own setting", "the best setting")
    notes = []
    if recipe.training.max_steps > 0 and "training.epochs" in recipe.tune.space:
        notes.append(NO_EPOCHS)
    looks = len(list((folder / "final").glob(f"*/{FINAL}")))
    return TuneSummary(
        name=recipe.name, folder=str(target), method=recipe.training.method, objective=recipe.tune.objective,
        setting=recipe.tune.setting, validation_questions=default.measured.n if default.measured else 0, default=default,
        trials=tuple(rows), counts=dict(Counter(row.state for row in rows)),
        best={} if best.is_default else dict(best.setting), best_trial=None if best.is_default else best.number,
        importances=importances, finals=tuple(finals), comparison=comparison, sentence=sentence, test_looks=looks,
        notes=(*notes, *([MANY_LOOKS.format(looks)] if looks > 2 else [])), seconds=round(seconds, 1),
    )


def _write(folder: Path, recipe: Recipe, summary: TuneSummary, facts: Mapping[str, Any], target: Path) -> None:
    """Leave the trials, the best recipe, drawings and report; what can be made again from these goes."""
    for name in ("datasets", "held_out"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / BEST).write_text(
        f"# The best of {len(summary.trials)} trials of `ragtune tune`. {summary.sentence}\n"
        + render_recipe(_placed(apply_setting(recipe, summary.best), target)), encoding="utf-8")
    (folder / "history.png").write_bytes(draw_history(summary.trials, summary.default, summary.objective))
    pictures = ["history.png"]
    if summary.importances:
        (folder / "importance.png").write_bytes(draw_importances(summary.importances))
        pictures.append("importance.png")
    values = summary.to_dict()
    write_json(folder / "summary.json", values)
    (folder / "report.md").write_text(render_report(values, summary.trials, summary.default, pictures), encoding="utf-8")
    write_manifest(folder, "search", recipe=recipe.model_dump(mode="json"), index_id=facts["index_id"],
                   dataset_id=facts["dataset_id"], best=dict(summary.best), test_looks=summary.test_looks)


def _placed(recipe: Recipe, target: Path) -> Recipe:
    """Return the recipe with the paths that count from a recipe's file made to count from ``target``."""

    def moved(value: str | None) -> str | None:
        if not value or "://" in value or value.startswith("hf:") or Path(value).is_absolute():
            return value
        return os.path.relpath(value, target)

    values = json.loads(recipe.model_dump_json())
    for section, key in PATHS:
        values[section][key] = moved(values[section][key])
    if Path(values["pack"]).is_dir():
        values["pack"] = moved(values["pack"])
    return Recipe.model_validate(values)
