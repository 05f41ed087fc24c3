"""General benchmarks through EleutherAI's lm-evaluation-harness: tasks by name, run on a model that ragtune has loaded."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ragtune.errors import MissingPackage, RunError, nearest
from ragtune.evaluation.benchmarks.task_names import declared_tasks, reached_names
from ragtune.records import Record
from ragtune.seams import Progress

LOCAL_WAY = (
    "Without a network: run it once where there is one and copy that machine's HF_HOME folder (set HF_HUB_OFFLINE=1 here); "
    "or give tasks on local files with --task-folder; or use the shipped tasks, which need none: {}."
)


@dataclass(frozen=True)
class TaskResult(Record):
    """One model on one task. ``scores`` are 'metric' or 'metric,filter' -> item -> score, of metrics that score
    each item; an item is 'task/number/hash'. ``totals`` are all figures the harness gives, by subtask where it is a group.
    """

    task: str
    model: str
    n: int
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    totals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    shots: Mapping[str, int] = field(default_factory=dict)


def shipped_tasks() -> dict[str, dict[str, Any]]:
    """Return the tasks that are shipped with their items: name -> the harness's configuration."""
    found = {}
    for path in sorted(Path(str(resources.files("ragtune.evaluation.benchmarks").joinpath("tasks"))).glob("*.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        found[path.stem] = {**config, "dataset_kwargs": {"data_files": {"test": str(path.with_suffix(".jsonl"))}}}
    return found


def harness_version() -> str:
    """Return the harness's version. Raises MissingPackage where it is not installed."""
    try:
        return importlib.metadata.version("lm-eval")
    except importlib.metadata.PackageNotFoundError:
        raise MissingPackage("general benchmarks need EleutherAI's lm-evaluation-harness, which is not installed. "
                             "Do: pip install 'ragtune[benchmarks]'") from None


class Tasks:
    """The tasks that can be run: the shipped ones, those of the user's folder, the harness's own."""

    def __init__(self, names: Sequence[str], folder: Path | None = None) -> None:
        """Raises MissingPackage, and RunError for a task that is nowhere or a folder that is none."""
        harness_version()
        if folder is not None and not folder.is_dir():
            raise RunError(f"no folder {folder}. --task-folder names a folder of the harness's YAML tasks.")
        self.names, self._shipped = list(dict.fromkeys(names)), shipped_tasks()
        with quiet_harness():
            self._manager = self._open([folder] if folder else [])

    def _open(self, own: list[Path]) -> Any:
        """Return the harness's manager of the folders that hold the tasks asked for, the user's own first."""
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=[*own], include_defaults=False)
        known, found = set(manager.all_tasks).union(self._shipped), set[Path]()
        while wanted := reached_names(manager.task_index, self.names) - known:
            folders, declared = declared_tasks()
            for name in self.names:
                if name not in known and name not in folders:
                    raise RunError(f"no task '{name}'.{nearest(name, [*known, *declared])} Names are those of "
                                   "lm-evaluation-harness (lm_eval ls tasks); shipped beside them: "
                                   f"{', '.join(self._shipped)}.")
            more = found.union(*(folders.get(name, ()) for name in wanted))
            if more == found:
                break
            found = more
            manager = TaskManager(include_path=[*sorted(found), *own], include_defaults=False)
        if any(name not in known and name not in manager.task_index for name in self.names):
            manager = TaskManager(include_path=[*own])  # spoken of, but put together elsewhere: all files are read
        return manager

    def load(self, name: str) -> Any:
        """Return the task as the harness evaluates it, with its data. Raises RunError where these cannot be had."""
        with quiet_harness():
            try:
                return self._manager.load([self._shipped.get(name, name)])
            except ImportError as error:
                raise MissingPackage(f"the task '{name}' needs a package that is not installed ({error}). Install it or the "
                                     "harness's extra for it: pip install 'lm-eval[NAME]'") from error
            except Exception as error:  # the harness and datasets have a family of errors each, and the network its own
                told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": ")
                if _is_of_data(error):
                    raise RunError(f"the data of the task '{name}' cannot be had ({told}). It comes from the Hub. "
                                   f"{LOCAL_WAY.format(', '.join(self._shipped))}") from error
                raise RunError(f"the harness cannot set up the task '{name}' ({told}). Mend its YAML file where it is "
                               "yours; --verbose tells more.") from error


def _is_of_data(error: Exception) -> bool:
    """Whether files or a network are lacking: an OSError, or an error of datasets or of a package that fetches."""
    from datasets.exceptions import DatasetsError

    fetching = ("httpx", "httpcore", "requests", "urllib3", "aiohttp", "fsspec", "huggingface_hub")
    return isinstance(error, (OSError, DatasetsError)) or type(error).__module__.partition(".")[0] in fetching


def wrap_model(model: Any, tokenizer: Any, context_tokens: int, batch_size: int) -> Any:
    """Return a loaded causal model of transformers (with PEFT's adapter or without) as the harness asks it."""
    with quiet_harness():
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", max_length=context_tokens,
                    batch_size=batch_size)


def run_task(
    wrapped: Any, loaded: Any, task: str, model: str, limit: int = 0, shots: int | None = None,
    has_chat_template: bool = False, progress: Progress | None = None,
) -> TaskResult:
    """Ask a model a task's items, the first ``limit`` of each subtask (0: all), and return the scores item by item.

    ``shots`` replaces the task's own number of worked examples, unless the task sets it to 0. Code that a task would have
    to run is not run. Raises RunError where the harness cannot evaluate it.
    """
    with quiet_harness(progress):
        from lm_eval.evaluator import evaluate

        for each in loaded["tasks"].values():
            own = each.get_config("num_fewshot")
            if own is None or (shots is not None and own != 0):
                each.set_config(key="num_fewshot", value=shots or 0)
            each.set_fewshot_seed(seed=1234)
        try:
            found = evaluate(lm=wrapped, task_dict=loaded, limit=limit or None, bootstrap_iters=0, log_samples=True,
                             apply_chat_template=has_chat_template, fewshot_as_multiturn=has_chat_template)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise RunError(f"the task '{task}' cannot be run on '{model}': {' '.join(str(error).split())[:300]}") from error
    samples = [(name, sample) for name, rows in found["samples"].items() for sample in rows]
    return TaskResult(
        task, model, len({_item(name, sample) for name, sample in samples}), _read_scores(samples), _read_totals(found),
        dict(found.get("versions") or {}), {name: int(n or 0) for name, n in (found.get("n-shot") or {}).items()},
    )


def _item(task: str, sample: Mapping[str, Any]) -> str:
    return f"{task}/{sample['doc_id']}/{str(sample['doc_hash'])[:12]}"


def _read_scores(samples: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return metric -> item -> score; metrics that only the whole task has (F1, perplexity, ...) are left out."""
    scores: dict[str, dict[str, float]] = {}
    broken = set()
    for task, sample in samples:
        for metric in sample["metrics"]:
            name = metric if sample["filter"] == "none" else f"{metric},{sample['filter']}"
            value = sample[metric]
            if hasattr(value, "item"):
                value = value.item()
            if isinstance(value, (bool, int, float)) and value == value:
                scores.setdefault(name, {})[_item(task, sample)] = float(value)
            else:
                broken.add(name)
    return {name: found for name, found in scores.items() if name not in broken}


def _read_totals(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    rows = {**found["results"], **(found.get("groups") or {})}
    return {name: {key.removesuffix(",none"): float(value) for key, value in row.items()
                   if type(value) in (int, float) and "," in key and "_stderr" not in key}
            for name, row in rows.items()}  # fmt: skip


@contextlib.contextmanager
def quiet_harness(progress: Progress | None = None) -> Iterator[None]:
    """Keep the harness's log (but for --verbose) and bars off the terminal; what the bars count is reported."""
    from tqdm import tqdm

    from ragtune.models.checkpoint import quiet

    log = logging.getLogger("lm_eval")
    begin, update = tqdm.__init__, tqdm.update

    def begin_unseen(bar: Any, *given: Any, **named: Any) -> None:
        begin(bar, *given, **{**named, "disable": True})
        bar.n = 0

    def count(bar: Any, n: float | None = 1) -> None:
        bar.n += n or 0
        if progress and bar.total:
            progress(int(bar.n), int(bar.total))

    before = log.level
    if not logging.getLogger().isEnabledFor(logging.INFO):
        log.setLevel(logging.ERROR)
    tqdm.__init__, tqdm.update = begin_unseen, count  # the harness has no other way to be told of progress
    try:
        with quiet():
            yield
    finally:
        tqdm.__init__, tqdm.update = begin, update
        log.setLevel(before)
