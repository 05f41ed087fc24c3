"""The benchmark stage: general tasks are asked of the base model and of the tuned one, item by item the same."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragtune.errors import ModelError, RunError
from ragtune.evaluation.benchmarks.general import BenchmarkSummary, compare_results
from ragtune.evaluation.benchmarks.harness import TaskResult, Tasks, harness_version, run_task, wrap_model
from ragtune.files import building_folder, hash_text, write_json, write_manifest
from ragtune.models.language import UNTUNABLE, open_generator
from ragtune.models.remote import is_remote
from ragtune.recipe.places import benchmark_folder, run_folder
from ragtune.recipe.schema import Recipe
from ragtune.seams import Report, progress_of
from ragtune.training.run import Run, check_run_fits, open_run

MODELS = ("base", "tuned")
NO_RUN = "There is no tuned run yet, so only the base model was measured. Do: ragtune train, then ragtune benchmark."


def run_benchmark(
    recipe: Recipe, tasks: Sequence[str], models: Sequence[str] = MODELS, limit: int = 0, shots: int | None = None,
    has_chat_template: bool = False, task_folder: Path | None = None, run: Path | None = None, out: Path | None = None,
    report: Report | None = None,
) -> BenchmarkSummary:
    """Run tasks of lm-evaluation-harness on base and tuned and write the folder; what was finished is not run again.

    Raises MissingPackage without the harness, ModelError for a model that ragtune does not load itself, RunError for
    unknown tasks, data that cannot be had, or a run that does not fit its base.
    """
    begun, target, version = time.perf_counter(), out or benchmark_folder(recipe), harness_version()
    if recipe.generator.model in UNTUNABLE or is_remote(recipe.generator.model):
        raise ModelError(f"'{recipe.generator.model}' cannot be asked general tasks: they need the probabilities of a model "
                         "that ragtune loads itself. Set generator.model to a folder, a Hugging Face name or bundled.")
    known, notes = Tasks(tasks, task_folder), []
    tuned = _open_run(recipe, run, models)
    if "tuned" in models and tuned is None:
        notes.append(NO_RUN)
    generator: Any = open_generator(recipe.generator.model_copy(update={"engine": "transformers"}))
    if tuned:
        check_run_fits(tuned, "", "", generator.fingerprint)
    adapters = {"base": None, "tuned": tuned.adapter if tuned else None}
    asked = [model for model in MODELS if model in models and (model == "base" or tuned)]
    results = []
    with building_folder(target, keep_partial=True) as partial:
        for model in asked:
            run_id = tuned.id if tuned and model == "tuned" else ""
            key = hash_text(json.dumps([generator.fingerprint, run_id, version, limit, shots, has_chat_template,
                                        str(task_folder or "")]))
            wrapped = None
            for name in known.names:
                file = f"{model}-{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}.json"
                result = _finished(partial / file, key) or _finished(target / file, key)
                if result is None:
                    if wrapped is None:
                        generator.attach(adapters[model])
                        wrapped = wrap_model(generator.model, generator.chat.tokenizer, generator.context_tokens,
                                             recipe.generator.batch_size)
                    result = run_task(wrapped, known.load(name), name, model, limit, shots, has_chat_template,
                                      progress_of(report, f"{model}, {name}"))
                write_json(partial / file, {"key": key, **result.to_dict()})
                results.append(result)
        lines, left_out = compare_results(results)
        summary = BenchmarkSummary(recipe.name, str(target), tuple(asked), lines, version, limit, (*notes, *left_out),
                                   round(time.perf_counter() - begun, 1))
        write_json(partial / "summary.json", summary.to_dict())
        wanted = {f"{result.model}-{re.sub(r'[^A-Za-z0-9._-]+', '_', result.task)}.json" for result in results}
        for stale in set(partial.glob("*-*.json")) - {partial / name for name in wanted}:
            stale.unlink()
        write_manifest(partial, "benchmark", tasks=known.names, models=asked, limit=limit, shots=shots, harness=version,
                       base_fingerprint=generator.fingerprint, run_id=tuned.id if tuned else "")
    return summary


def _open_run(recipe: Recipe, run: Path | None, models: Sequence[str]) -> Run | None:
    """Return the run to measure, None where there is none yet. Raises RunError for one that was named and is missing."""
    folder = run or run_folder(recipe)
    if "tuned" not in models or (run is None and not (folder / "manifest.json").is_file()):
        if tuple(models) == ("tuned",):
            raise RunError(f"no run folder at {folder}. Do: ragtune train --recipe FILE")
        return None
    return open_run(folder)


def _finished(path: Path, key: str) -> TaskResult | None:
    """Return a task's result where it stands in this file under the same key."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return TaskResult.from_dict(values) if values.get("key") == key else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
