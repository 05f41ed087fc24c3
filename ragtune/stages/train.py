"""The stage that tunes: a dataset folder goes in, a run folder with an adapter comes out."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.answering.prompt import prompt_hash
from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import ModelError, RunError
from ragtune.files import (
    hash_file,
    hash_text,
    installed_packages,
    peak_memory_mb,
    write_json,
    write_manifest,
)
from ragtune.models.checkpoint import fingerprint_model, portable_name
from ragtune.models.language import UNTUNABLE
from ragtune.models.processes import building_together, is_main, on_main, world_size
from ragtune.models.remote import is_remote
from ragtune.models.weights import choose_device
from ragtune.recipe.places import run_folder, supervised_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Record
from ragtune.seams import Report, progress_of
from ragtune.stages.rows import Rows, hold_out, read_rows
from ragtune.training.curve import write_curve
from ragtune.training.estimate import check_fits
from ragtune.training.job import Fit, Job
from ragtune.training.methods import RETRIEVER, Method, find_method
from ragtune.training.run import Run, check_run_fits, open_run
from ragtune.training.supervised.sft import DIVERGED

if TYPE_CHECKING:
    from transformers import TrainerCallback


_ALONE = ("ppo",)
"""Loops of our own, which do not divide their work among processes."""


@dataclass(frozen=True)
class TrainSummary(Record):
    """What a tuning run did. Losses are mean nats per completion token, None where it was ended before its first;
    ``eval_losses`` are (step, loss) pairs."""

    method: str
    rows: int
    test_rows: int
    steps: int
    seconds: float
    loss_first: float | None
    loss_last: float | None
    eval_losses: tuple[tuple[int, float], ...]
    trainable_parameters: int
    resumed_from_step: int
    peak_memory_mb: float
    folder: str


@in_recipe_pack
def run_train(
    recipe: Recipe,
    out: Path | None = None,
    dataset: Path | None = None,
    index: Path | None = None,
    report: Report | None = None,
    allow_other_prompt: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    announce: Callable[[str], None] | None = None,
) -> TrainSummary:
    """Tune the recipe's model on a dataset folder and write the run folder.

    ``dataset`` is the folder the method's rows lie in (for methods that learn from preferences a pairs folder), by default
    the recipe's; ``index``, where given, must be the one it was built with. A run that was killed goes on from its last
    checkpoint where dataset, settings, model and packages are the same, else it starts clean; one that is finished and the
    same is not tuned again. Raises RunError for rows that are missing, of the wrong shape or made with another prompt
    (``allow_other_prompt`` permits that one) or a run that does not fit into memory (``training.check_memory``), ModelError
    for a model that cannot be tuned. ``announce`` is told, before anything is loaded, what the run will take.
    """
    method = find_method(recipe.training.method)
    if method.loop == RETRIEVER:
        raise RunError(f"'{recipe.training.method}' tunes retrieval and leaves no run folder. "
                       "Do: ragtune adapt --what likelihoods --recipe FILE")
    target = out or run_folder(recipe)
    ours = None if allow_other_prompt else prompt_hash(recipe.answering.names_rows)
    rows = read_rows(recipe, method, dataset, index, ours, report)
    model = recipe.generator.model
    if model in UNTUNABLE or is_remote(model):
        raise ModelError(f"'{model}' cannot be tuned here. Set generator.model to bundled, a folder or a Hugging Face name.")
    if world_size() > 1 and method.loop in _ALONE:
        raise RunError(f"{recipe.training.method} runs in one process, and {world_size()} were launched. Do: ragtune train "
                       "--recipe FILE, without a launcher")
    start = _find_start(recipe, method, target)
    facts = _facts(recipe, rows, start)
    if (finished := _find_finished(target, facts)) is not None:
        return finished
    estimate = check_fits(recipe, len(rows.train))
    if announce and is_main():
        announce(estimate.sentence())
    started = time.perf_counter()
    test = rows.test[: recipe.training.eval_rows]
    train, held_out = hold_out(rows, recipe.training)
    device = choose_device(recipe.generator.device)
    report = report if is_main() else None
    with building_together(target, device) as folder, _naming_full_disk(folder):
        on_main(device, _keep_or_clear, folder, facts)
        fit = method.fit(Job(recipe.generator, recipe.training, method, train, test, folder, progress_of(report, "train"),
                             callbacks, rows.questions, start.adapter if start else None, held_out))
        summary = _summarise(recipe, fit, len(train), len(test), time.perf_counter() - started, target)
        on_main(device, _finish, folder, recipe, facts, summary)
    return summary


def _find_start(recipe: Recipe, method: Method, target: Path) -> Run | None:
    """Return the run whose adapter is tuned further: the one the recipe names, else, for methods that refine an assistant,
    its supervised run where there is one. Raises RunError where it was tuned on another base or prompt."""
    named = recipe.training.start
    folder = Path(named) if named else supervised_folder(recipe)
    if not named and (method.family not in ("preferences", "reinforcement") or not (folder / "manifest.json").is_file()):
        return None
    if folder.resolve() == target.resolve():
        raise RunError(f"training.start is {folder}, where this run is to be written. Do: --out another folder")
    start = open_run(folder)
    check_run_fits(start, "", prompt_hash(recipe.answering.names_rows), fingerprint_model(recipe.generator.model))
    return start


def _facts(recipe: Recipe, rows: Rows, start: Run | None) -> dict[str, Any]:
    """Return what a run depends on; two runs with the same facts are the same run."""
    return {
        "base_model": portable_name(recipe.generator.model),
        "base_fingerprint": fingerprint_model(recipe.generator.model),
        "prompt_hash": rows.manifest.get("prompt_hash", ""),
        "index_id": rows.manifest.get("index_id", ""),
        "dataset_hash": rows.hash,
        "start": start.id if start else "",
        "training": recipe.training.model_dump(mode="json", exclude={"folder", "start"}),
        "dtype": recipe.generator.dtype,
    }


def _find_finished(target: Path, facts: dict[str, Any]) -> TrainSummary | None:
    """Return what the run in ``target`` says of itself where it was made of the same facts and packages, else None."""
    if not (target / "manifest.json").is_file():
        return None
    try:
        manifest = open_run(target).manifest
    except RunError:
        return None
    wanted = {**facts, "packages": installed_packages()}
    if any(manifest.get(key) != value for key, value in wanted.items()):
        return None
    return TrainSummary.from_dict({**manifest["summary"], "folder": str(target)})


def _keep_or_clear(folder: Path, facts: dict[str, Any]) -> None:
    """Keep what an interrupted run of the same facts and packages left; clear the folder otherwise.

    A run whose loss was no number may have gone with another learning rate.
    """
    path = folder / "facts.json"
    wanted = {**facts, "packages": installed_packages()}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if (folder / DIVERGED).is_file():
            before["training"]["lr"] = facts["training"]["lr"]
        kept = before == wanted
    except (OSError, ValueError, KeyError, TypeError):
        kept = False
    if not kept:
        shutil.rmtree(folder)
        folder.mkdir()
    (folder / DIVERGED).unlink(missing_ok=True)
    write_json(path, wanted)


@contextlib.contextmanager
def _naming_full_disk(folder: Path) -> Iterator[None]:
    """Torch reports a full disk in words of its own; name it as what it is."""
    try:
        yield
    except RuntimeError as error:
        if shutil.disk_usage(folder).free < 1 << 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _summarise(recipe: Recipe, fit: Fit, rows: int, test_rows: int, seconds: float, target: Path) -> TrainSummary:
    losses = [point["loss"] for point in fit.metrics if "loss" in point]
    return TrainSummary(
        method=recipe.training.method,
        rows=rows,
        test_rows=test_rows,
        steps=fit.steps,
        seconds=round(seconds, 1),
        loss_first=round(losses[0], 4) if losses else None,
        loss_last=round(losses[-1], 4) if losses else None,
        eval_losses=tuple((int(p["step"]), round(p["eval_loss"], 4)) for p in fit.metrics if "eval_loss" in p),
        trainable_parameters=fit.trainable_parameters,
        resumed_from_step=fit.resumed_from_step,
        peak_memory_mb=_peak_memory_mb(),
        folder=str(target),
    )


def _peak_memory_mb() -> float:
    """Return the most memory held: on the GPU where one was used, else by this process. In MiB."""
    import torch

    if torch.cuda.is_available() and (peak := torch.cuda.max_memory_allocated()):
        return round(peak / (1 << 20), 1)
    return peak_memory_mb()


def _finish(folder: Path, recipe: Recipe, facts: dict[str, Any], summary: TrainSummary) -> None:
    """Leave the adapter, the learning curve, a card and the manifest in the folder, and nothing else."""
    for path in folder.iterdir():
        if path.name not in ("adapter", "metrics.jsonl"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_curve(folder)
    (folder / "README.md").write_text(render_card(facts, summary), encoding="utf-8")
    write_manifest(
        folder,
        "run",
        id=hash_text(hash_file(folder / "adapter" / "adapter_model.safetensors")),
        recipe=recipe.model_dump(mode="json"),
        summary={key: value for key, value in summary.to_dict().items() if key != "folder"},
        **facts,
    )


def render_card(facts: dict[str, Any], summary: TrainSummary) -> str:
    """Return the run folder's README: what was tuned, on what, and how it went."""
    training = facts["training"]
    rate = training["lr"] or "by the model's size"
    losses = "not measured" if summary.loss_first is None else f"{summary.loss_first:.3f} to {summary.loss_last:.3f}"
    evals = ", ".join(f"{loss:.3f} (step {step})" for step, loss in summary.eval_losses) or "not measured"
    return f"""# A ragtune run

An adapter for `{facts['base_model']}` (fingerprint {facts['base_fingerprint']}), tuned with `{summary.method}` to answer
questions from numbered passages. Load it on that base with `ragtune ask`, or with PEFT's `PeftModel.from_pretrained`.

| | |
| --- | --- |
| rows | {summary.rows} for tuning, {summary.test_rows} for the test loss (dataset {facts['dataset_hash']}) |
| index, prompt | {facts['index_id'] or 'none'}, {facts['prompt_hash']} |
| steps | {summary.steps} of {training['batch_size'] * training['accumulation']} rows, learning rate {rate} |
| LoRA | rank {training['r']}, alpha {training['alpha']}, {summary.trainable_parameters:,} trainable parameters |
| training loss | {losses} |
| test loss | {evals} |
| time, memory | {summary.seconds} s, {summary.peak_memory_mb} MiB |

It was tuned on these documents' wording and cites the passages it is shown. Check its numbers against the cited pages;
without passages it should refuse. `metrics.jsonl` holds the learning curve, `curve.svg` draws it, `manifest.json` holds
recipe and versions.
"""
