"""The regression gate: evaluate, then the paired test against an earlier evaluation or run, on the questions both asked."""

from __future__ import annotations

import json
from pathlib import Path

from ragtune.errors import RunError
from ragtune.evaluation.reporting.regression import Regression, judge_regression
from ragtune.evaluation.reporting.sides import Side, read_side
from ragtune.evaluation.reporting.summary import EvaluationSummary
from ragtune.recipe.places import evaluation_folder
from ragtune.recipe.schema import Recipe
from ragtune.seams import Report
from ragtune.stages.evaluate import run_evaluate


def run_gate(
    recipe: Recipe,
    against: Path,
    out: Path | None = None,
    index: Path | None = None,
    dataset: Path | None = None,
    run: Path | None = None,
    allow_mismatch: bool = False,
    report: Report | None = None,
) -> tuple[EvaluationSummary, Regression]:
    """Evaluate as ``run_evaluate`` does and judge whether it is worse than ``against``, an evaluation or a run folder.

    The earlier evaluation is read first, so that it may be the very folder that is written. A run is measured by the
    evaluation beside it where that is of this run, else it is evaluated now, into the folder 'NAME-against' beside ``out``.
    Raises RunError for a folder of another kind, and where the two have no question in common.
    """
    target = out or evaluation_folder(recipe)
    before = _open_before(recipe, against, target, index, dataset, allow_mismatch, report)
    summary = run_evaluate(recipe, out, index, dataset, run, allow_mismatch=allow_mismatch, report=report)
    return summary, judge_regression(before, read_side(Path(summary.folder)))


def _open_before(
    recipe: Recipe, against: Path, target: Path, index: Path | None, dataset: Path | None, allow_mismatch: bool,
    report: Report | None,
) -> Side:
    """Return the earlier evaluation's answers, evaluating a run that was never measured."""
    kind = _kind_of(against)
    if kind != "run":
        return read_side(against)
    from ragtune.training.run import open_run

    beside, run_id = against.parent / "evaluation", str(open_run(against).id)
    if (beside / "manifest.json").is_file():
        side = read_side(beside)
        if side.models.get("tuned") == run_id:
            return side
    alone = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"baselines": ()})})
    place = target.with_name(target.name + "-against")
    run_evaluate(alone, place, index, dataset, against, ("tuned",), allow_mismatch, report)
    return read_side(place)


def _kind_of(folder: Path) -> str:
    """Return what kind of folder it is by its manifest, '' where that does not say."""
    if not folder.exists() and not folder.with_name(folder.name + ".partial").exists():
        raise RunError(f"no folder at {folder}. --against takes an evaluation folder or a run folder. "
                       "Do: ragtune evaluate --recipe FILE --out FOLDER")
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(manifest.get("kind", "")) if isinstance(manifest, dict) else ""
