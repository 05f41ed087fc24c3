"""The ladder: base and tuned, closed book, with retrieval and on the oracle page, counted from the log of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ragtune.evaluation.ladder.graded import Graded
from ragtune.evaluation.statistics.compare import Comparison, compare_paired, wilson_interval
from ragtune.records import OUTCOMES, SETTINGS, Record, Setting

BASELINES = ("extractive",)
"""Readers without a language model: what a tuned model has to beat."""
MODELS = ("base", "tuned", *BASELINES)


@dataclass(frozen=True)
class CalculationCounts(Record):
    """What was set right on one rung: calculations ``shown``, ``right`` as the model wrote them, ``corrected``; rows
    ``misquoted``, whose amount was put back from the page; ``verdicts`` (yes or no) that their figures contradicted.

    ``rescued`` answers are correct only thanks to that, ``spoiled`` ones were correct only with the model's own figures.
    """

    shown: int = 0
    right: int = 0
    corrected: int = 0
    misquoted: int = 0
    verdicts: int = 0
    rescued: int = 0
    spoiled: int = 0


def count_calculations(rows: Sequence[Graded]) -> CalculationCounts:
    """Count the calculations that answers show, and the answers that the calculator decided."""
    decided = [row for row in rows if row.own_outcome and row.own_outcome != row.outcome]
    return CalculationCounts(
        shown=sum(row.calculations for row in rows),
        right=sum(row.calculations_right for row in rows),
        corrected=sum(row.calculations - row.calculations_right for row in rows),
        misquoted=sum(row.misquoted for row in rows),
        verdicts=sum(row.verdicts_corrected for row in rows),
        rescued=sum(row.outcome == "correct" for row in decided),
        spoiled=sum(row.own_outcome == "correct" for row in decided),
    )


@dataclass(frozen=True)
class Rung(Record):
    """One step of the ladder in figures; ``interval`` is Wilson's for the share correct."""

    model: str
    setting: Setting
    n: int
    correct: int
    wrong: int
    refused: int
    interval: tuple[float, float]
    by_kind: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    calculations: CalculationCounts = CalculationCounts()


def build_ladder(
    graded: Sequence[Graded], confidence: float = 0.95, models: Sequence[str] = MODELS
) -> tuple[Rung, ...]:
    """Count the outcomes of each model on each rung, in the order of the ladder; empty rungs are left out."""
    ladder = []
    for model in models:
        for setting in SETTINGS:
            rows = [row for row in graded if row.model == model and row.setting == setting]
            if rows:
                counts = _count(rows)
                kinds = sorted({row.kind or "other" for row in rows})
                ladder.append(
                    Rung(model, setting, **counts, interval=wilson_interval(counts["correct"], counts["n"], confidence),
                         by_kind={kind: _count([row for row in rows if (row.kind or "other") == kind]) for kind in kinds},
                         calculations=count_calculations(rows))
                )
    return tuple(ladder)


def _count(rows: Sequence[Graded]) -> dict[str, int]:
    return {"n": len(rows), **{outcome: sum(row.outcome == outcome for row in rows) for outcome in OUTCOMES}}


def compare_models(
    graded: Sequence[Graded], a: str = "base", b: str = "tuned", confidence: float = 0.95,
    clusters: Mapping[str, str] | None = None,
) -> tuple[tuple[Setting, Comparison], ...]:
    """Return the paired comparison of two models on each rung, over the questions both answered.

    ``clusters`` maps a question id to its document (samples.clusters_of); None takes the questions as independent.
    """
    found = []
    for setting in SETTINGS:
        rows = [row for row in graded if row.setting == setting]
        sides = [{row.question_id: row.outcome == "correct" for row in rows if row.model == model} for model in (a, b)]
        both = [question_id for question_id in sides[0] if question_id in sides[1]]
        if both:
            outcomes_a, outcomes_b = ([side[question_id] for question_id in both] for side in sides)
            documents = None if clusters is None else [clusters[question_id] for question_id in both]
            found.append((setting, compare_paired(outcomes_a, outcomes_b, confidence, clusters=documents)))
    return tuple(found)


def compare_baselines(
    graded: Sequence[Graded], confidence: float = 0.95, clusters: Mapping[str, str] | None = None
) -> tuple[tuple[str, str, Setting, Comparison], ...]:
    """Return (baseline, model, rung, comparison) of tuned, or base where there is no tuned, against each baseline.

    Closed book is left out: a reader without a language model refuses there.
    """
    model = "tuned" if any(row.model == "tuned" for row in graded) else "base"
    return tuple(
        (baseline, model, setting, comparison)
        for baseline in BASELINES
        for setting, comparison in compare_models(graded, baseline, model, confidence, clusters)
        if setting != "closed_book"
    )
