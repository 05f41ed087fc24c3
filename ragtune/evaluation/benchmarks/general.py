"""What tuning cost in general ability: base and tuned on the same items of general benchmarks, task by task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ragtune.evaluation.benchmarks.harness import TaskResult
from ragtune.evaluation.statistics.compare import Comparison, compare_paired, describe_comparison
from ragtune.evaluation.statistics.corrections import adjust_p
from ragtune.evaluation.statistics.paired import ScoreComparison, compare_scores, describe_score_comparison
from ragtune.evaluation.statistics.samples import common_items
from ragtune.records import Record

CORRECTION = "holm"
AnyComparison = Comparison | ScoreComparison


@dataclass(frozen=True)
class Line(Record):
    """One metric of one task: the figure of each model over its items, and tuned against base where both answered.

    A group's figure is that of all its items. A metric without a score an item has the harness's own figure and no test.
    """

    task: str
    metric: str
    n: int
    figures: Mapping[str, float]
    comparison: AnyComparison | None = None

    def sentence(self) -> str:
        """Return the comparison as one plain sentence, '' where there is none."""
        if isinstance(self.comparison, Comparison):
            return describe_comparison(self.comparison, f"on {self.task} ({self.metric})")
        if self.comparison is not None:
            return describe_score_comparison(self.comparison, f"{self.metric} on {self.task}")
        return ""


@dataclass(frozen=True)
class BenchmarkSummary(Record):
    """What general benchmarks found. ``lines`` are in the order of the tasks; p-values are Holm's over all of them."""

    name: str
    folder: str
    models: tuple[str, ...]
    lines: tuple[Line, ...]
    harness: str
    limit: int = 0
    notes: tuple[str, ...] = field(default_factory=tuple)
    seconds: float = 0.0

    def sentences(self) -> tuple[str, ...]:
        """Return each comparison as one plain sentence."""
        return tuple(filter(None, (line.sentence() for line in self.lines)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; the shape that ``ragtune benchmark --json`` prints."""
        told = zip(super().to_dict()["lines"], self.lines)
        return {**super().to_dict(), "lines": [{**plain, "sentence": line.sentence()} for plain, line in told]}


def compare_results(results: Sequence[TaskResult], a: str = "base", b: str = "tuned") -> tuple[tuple[Line, ...], list[str]]:
    """Return the lines of all tasks and notes on items that only one model has."""
    lines, notes = [], []
    for task in dict.fromkeys(result.task for result in results):
        by_model = {result.model: result for result in results if result.task == task}
        metrics = dict.fromkeys(name for result in by_model.values() for name in result.scores)
        for metric in metrics:
            line, note = _compare_metric(task, metric, by_model, a, b)
            lines.append(line)
            notes += [f"{task}: {note}"] if note and f"{task}: {note}" not in notes else []
        whole = dict.fromkeys(name for result in by_model.values() for name in result.totals.get(task, {}))
        for metric in whole:
            if metric not in metrics:  # of the whole task alone
                figures = {m: r.totals[task][metric] for m, r in by_model.items() if metric in r.totals.get(task, {})}
                lines.append(Line(task, metric, max(r.n for r in by_model.values()), figures))
    return _correct(lines), notes


def _compare_metric(task: str, metric: str, by_model: Mapping[str, TaskResult], a: str, b: str) -> tuple[Line, str]:
    scores = {model: result.scores[metric] for model, result in by_model.items() if result.scores.get(metric)}
    figures = {model: sum(found.values()) / len(found) for model, found in scores.items()}
    n = max(map(len, scores.values()), default=0)
    if a not in scores or b not in scores:
        return Line(task, metric, n, figures), ""
    common, note = common_items(scores[a], scores[b])
    left, right = ([scores[model][item] for item in common] for model in (a, b))
    figures = {**figures, a: sum(left) / len(common), b: sum(right) / len(common)}
    found: AnyComparison
    if {*left, *right} <= {0.0, 1.0}:
        found = compare_paired([score == 1 for score in left], [score == 1 for score in right])
    else:
        found = compare_scores(left, right)
    return Line(task, metric, len(common), figures, found), note


def _correct(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Return the lines with their p-values corrected for each other."""
    p_values = [line.comparison.p for line in lines if line.comparison is not None]
    if len(p_values) < 2:
        return tuple(lines)
    adjusted = iter(adjust_p(p_values, CORRECTION))
    return tuple(
        line if line.comparison is None else dataclasses.replace(
            line, comparison=dataclasses.replace(line.comparison, adjusted_p=next(adjusted), correction=CORRECTION))
        for line in lines
    )
