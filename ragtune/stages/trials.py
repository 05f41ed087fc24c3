"""Measuring one setting of a search: train on what is not held out, answer what is; nothing is measured twice."""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import RunError
from ragtune.evaluation.ladder.counts import Rung
from ragtune.files import hash_text, write_json
from ragtune.recipe.schema import Recipe
from ragtune.recipe.space import apply_setting
from ragtune.seams import Report
from ragtune.stages.dataset import run_dataset
from ragtune.stages.evaluate import run_evaluate
from ragtune.stages.train import run_train
from ragtune.training.search import Measured, ReportLoss

if TYPE_CHECKING:
    from transformers import TrainerCallback

RESULT = "result.json"


@dataclass(frozen=True)
class Trials:
    """Measures settings of ``recipe``, which knows the held-out questions alone (held_out.hold_out).

    Results lie in ``folder/trials``, by setting; rows in ``folder/datasets``, built anew only for settings that change how
    rows come about. A trial that was killed goes on from its last checkpoint and its last answer.
    """

    recipe: Recipe
    index: Path
    folder: Path
    report: Report | None = None

    def measure(self, setting: Mapping[str, Any], report_loss: ReportLoss) -> Measured:
        """Return what a setting reaches. Raises what training and answering raise, and optuna.TrialPruned."""
        recipe, folder = apply_setting(self.recipe, setting), self.folder / "trials" / name_setting(setting)
        if (known := read_result(folder)) is not None:
            return Measured.from_dict(known["measured"])
        folder.mkdir(parents=True, exist_ok=True)
        begun, dataset = time.perf_counter(), self._build_rows(recipe)
        try:
            trained = run_train(recipe, folder / "run", dataset=dataset, index=self.index, report=self.report,
                                callbacks=[build_loss_follower(report_loss)])
            losses = [loss for _, loss in trained.eval_losses]
            measured = self._answer(recipe, dataset, folder, losses[-1] if losses else None)
        finally:
            free_memory()
        measured = dataclasses.replace(measured, trainable_parameters=trained.trainable_parameters,
                                       seconds=round(time.perf_counter() - begun, 1))
        shutil.copyfile(folder / "run" / "metrics.jsonl", folder / "metrics.jsonl")
        write_json(folder / RESULT, {"setting": dict(setting), "measured": measured.to_dict()})
        for name in ("run", "evaluation"):
            shutil.rmtree(folder / name, ignore_errors=True)
        return measured

    def _build_rows(self, recipe: Recipe) -> Path:
        values = recipe.model_dump_json(include={"dataset", "retrieval", "generator", "answering"})
        folder = self.folder / "datasets" / hash_text(values)
        if not (folder / "manifest.json").is_file():
            run_dataset(recipe, folder, self.index, self.report)
        return folder

    def _answer(self, recipe: Recipe, dataset: Path, folder: Path, loss: float | None) -> Measured:
        if recipe.tune.objective == "loss":
            if loss is None:
                raise RunError("tune.objective is 'loss' and no held-out row is measured. Do: --set training.eval_rows=64")
            return Measured(-loss, loss)
        rung = ask_rung(recipe, folder, self.index, dataset, self.report)
        less = rung.wrong if recipe.tune.objective == "correct_less_wrong" else 0
        return Measured((rung.correct - less) / rung.n, loss, rung.n, rung.correct, rung.wrong, rung.refused)


def name_setting(setting: Mapping[str, Any]) -> str:
    """Return the folder name of a setting."""
    return hash_text(json.dumps(setting, sort_keys=True))


def read_result(folder: Path, name: str = RESULT) -> dict[str, Any] | None:
    """Return a JSON object of a folder; None where it is missing or was cut short."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def ask_rung(recipe: Recipe, folder: Path, index: Path, dataset: Path, report: Report | None = None) -> Rung:
    """Ask the run in ``folder/run`` the test questions of ``dataset``; return the counts on the rung that is searched by."""
    found = run_evaluate(recipe, folder / "evaluation", index, dataset, folder / "run", models=("tuned",), report=report)
    rungs = [rung for rung in found.ladder if rung.model == "tuned" and rung.setting == recipe.tune.setting]
    if not rungs:
        raise RunError(f"no question can be asked on the rung '{recipe.tune.setting}'. Do: --set tune.setting=closed_book")
    return rungs[0]


def build_loss_follower(report_loss: ReportLoss) -> TrainerCallback:
    """Return the callback that tells a search the loss of held-out rows as it is measured, by tenths of the steps."""
    from transformers import TrainerCallback

    class LossFollower(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            loss = (metrics or {}).get("eval_loss")
            if loss is not None and state.global_step and state.max_steps:
                report_loss(min(100, 10 * round(10 * state.global_step / state.max_steps)), float(loss))

    return LossFollower()


def free_memory() -> None:
    """Let go of a trial's model before the next one is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
