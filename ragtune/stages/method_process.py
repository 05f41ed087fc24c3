"""One tuning method in a process of its own, so that its peak memory is its own and its failure is no other's.

Started by stages.compare_methods on a task's file; leaves ``result.json`` beside it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import RagtuneError
from ragtune.files import peak_memory_mb, write_json
from ragtune.recipe.schema import Recipe
from ragtune.records import Record
from ragtune.stages.evaluate import run_evaluate
from ragtune.stages.trials import read_result
from ragtune.training.search import describe_failure

if TYPE_CHECKING:
    from transformers import TrainerCallback

TASK, RESULT, LOG = "task.json", "result.json", "log.txt"
PRELOADED = ("torch", "transformers", "trl", "peft", "sentence_transformers", "faiss", "scipy.stats", "ragtune.stages.train",
             "ragtune.stages.evaluate")
"""What every task imports; reading it starts no threads and touches no GPU."""


@dataclass(frozen=True)
class MethodTask(Record):
    """What the process does: tune ``recipe`` on ``rows`` into ``folder/run``, then ask it the test questions of
    ``dataset`` into ``folder/evaluation``. The method 'base' is asked only. ``max_seconds`` ends the tuning."""

    method: str
    recipe: dict[str, Any]
    index: str
    dataset: str
    rows: str
    folder: str
    key: str
    max_seconds: float | None = None
    is_asked: bool = True


@dataclass(frozen=True)
class MethodResult(Record):
    """What came of a task. ``state`` is 'finished' or 'failed', with a ``reason``. Seconds are those of this method alone,
    loading included, ``cpu_seconds`` what processors spent of them; ``peak_memory_mb`` is the tuning's."""

    method: str
    key: str
    state: str
    reason: str = ""
    steps: int = 0
    is_out_of_time: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    trainable_parameters: int = 0
    parameters: int = 0
    adapter_bytes: int = 0
    loss_first: float | None = None
    loss_last: float | None = None


def run_task(task: MethodTask) -> MethodResult:
    """Do the task; a fault that a user can mend, or memory that runs out, is a result that says why."""
    recipe, folder = Recipe.model_validate(task.recipe), Path(task.folder)
    found: dict[str, Any] = {"parameters": count_base(recipe)}
    try:
        if task.method != "base":
            found |= _tune(task, recipe, folder)
        if task.is_asked:
            begun = time.perf_counter()
            run = None if task.method == "base" else folder / "run"
            run_evaluate(recipe, folder / "evaluation", Path(task.index), Path(task.dataset), run,
                         models=("base",) if run is None else ("tuned",))
            found["evaluation_seconds"] = round(time.perf_counter() - begun, 1)
    except (RagtuneError, RuntimeError, MemoryError, ValueError, TypeError, NotImplementedError, ImportError,
            AttributeError) as error:
        return MethodResult(task.method, task.key, "failed", describe_failure(error), **found)
    return MethodResult(task.method, task.key, "finished", **found)


def _tune(task: MethodTask, recipe: Recipe, folder: Path) -> dict[str, Any]:
    from ragtune.stages.train import run_train

    clock = build_clock(task.max_seconds) if task.max_seconds else None
    begun = time.process_time()
    summary = run_train(recipe, folder / "run", dataset=Path(task.rows), index=Path(task.index),
                        callbacks=[clock] if clock else [])
    adapter = folder / "run" / "adapter"
    return {
        "steps": summary.steps, "seconds": summary.seconds, "cpu_seconds": round(time.process_time() - begun, 1),
        "trainable_parameters": summary.trainable_parameters,
        "peak_memory_mb": summary.peak_memory_mb or peak_memory_mb(), "loss_first": summary.loss_first,
        "loss_last": summary.loss_last, "is_out_of_time": bool(getattr(clock, "has_stopped", False)),
        "adapter_bytes": sum(path.stat().st_size for path in adapter.rglob("*") if path.is_file()),
    }


def count_base(recipe: Recipe) -> int:
    """Return how many weights the base model has; 0 where it is none that ragtune loads."""
    from ragtune.models.checkpoint import read_config
    from ragtune.models.weights import build_skeleton

    try:
        return sum(p.numel() for p in build_skeleton(read_config(recipe.generator.model)).parameters())
    except (RagtuneError, OSError, ValueError):
        return 0


def build_clock(seconds: float) -> TrainerCallback:
    """Return the callback that ends a tuning after so many seconds."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        begun, has_stopped = time.monotonic(), False

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if time.monotonic() - self.begun > seconds and state.global_step < state.max_steps:
                self.has_stopped = control.should_training_stop = True

    return Clock()


def main(task_file: Path) -> None:
    """Do the task of a file and write what came of it beside it."""
    task = MethodTask.from_dict(read_result(task_file.parent, task_file.name) or {})
    write_json(task_file.parent / RESULT, run_task(task).to_dict())


def run_logged(task_file: str, log_file: str) -> None:
    """The process: do the task, what libraries print going to a file."""
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    main(Path(task_file))
