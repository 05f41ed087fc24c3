"""The ladder: base and tuned, closed book, with retrieval and on the oracle page, counted from the log of answers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ragtune.answering.calculate import recompute
from ragtune.answering.prompt import parse_completion
from ragtune.evaluation.answers import score_answer
from ragtune.evaluation.compare import Comparison, compare_paired, describe_comparison, wilson_interval
from ragtune.records import OUTCOMES, SETTINGS, Answer, Citation, Outcome, Question, Record, Setting

if TYPE_CHECKING:
    from ragtune.evaluation.footing import Footing
    from ragtune.evaluation.waterfall import Waterfall

BASELINES = ("extractive",)
"""Readers without a language model: what a tuned model has to beat."""
MODELS = ("base", "tuned", *BASELINES)


@dataclass(frozen=True)
class Shown(Record):
    """A passage that stood in the prompt: its number there, its page, its rank in the search and the score it had there.

    ``characters`` of its text stood there: fewer than it has where the token budget cut it.
    """

    number: int
    document: str
    page: int
    rank: int
    chunk_id: str = ""
    characters: int = 0
    score: float = 0.0


@dataclass(frozen=True)
class Graded(Record):
    """One line of the log: one model's answer to one question on one rung, with its outcome and why.

    ``calculations`` are shown in the completion; the model had ``calculations_right`` by itself, the others the calculator
    corrected, as were ``misquoted`` rows from their page and verdicts from their figures. ``own_outcome`` is that of the
    answer with the model's own figures; empty where nothing was corrected. ``confidence`` (0 to 1) is how sure the scorer is
    of the outcome, None where it does not say. ``lost_at`` is the stage that lost an answer with retrieval, ``lost_why`` the
    reason (evaluation.attribute).
    """

    model: str
    setting: Setting
    question_id: str
    kind: str
    outcome: Outcome
    reason: str
    question: str
    gold: str
    answer: str
    reasoning: str = ""
    completion: str = ""
    is_refusal: bool = False
    citations: tuple[Citation, ...] = ()
    passages: tuple[Shown, ...] = ()
    problems: tuple[str, ...] = ()
    seconds: float = 0.0
    calculations: int = 0
    calculations_right: int = 0
    misquoted: int = 0
    verdicts_corrected: int = 0
    own_outcome: str = ""
    confidence: float | None = None
    lost_at: str = ""
    lost_why: str = ""


def grade(question: Question, answer: Answer, model: str, setting: Setting, seconds: float = 0.0) -> Graded:
    """Score an answer and return its line of the log. ``seconds`` is its share of the batch's time."""
    row = Graded(
        model=model,
        setting=setting,
        question_id=question.id,
        kind=question.kind,
        outcome="wrong",
        reason="",
        question=question.text,
        gold=question.answer,
        answer=answer.text,
        reasoning=answer.reasoning,
        completion=answer.completion,
        is_refusal=answer.is_refusal,
        citations=answer.citations,
        passages=tuple(Shown(p.number, p.document, p.page, p.rank, p.chunk_id, len(p.text), p.score)
                       for p in answer.passages),
        problems=answer.problems,
        seconds=round(seconds, 4),
    )
    return rescore(question, row)


def rescore(question: Question, row: Graded) -> Graded:
    """Return the line with its outcome, reason and calculations as the scorer and the calculator say now."""
    score = score_answer(question, row.answer, row.is_refusal or None)
    outcome = score.outcome or ("correct" if score.value == 1 else "wrong")  # NaN is no 1
    sure = score.confidence
    confidence = round(sure, 4) if sure is not None and math.isfinite(sure) else None
    _, calculations = recompute(row.completion)
    right = sum(calculation.is_right for calculation in calculations)
    misquoted = sum("was misquoted" in problem for problem in row.problems)
    verdicts = sum("the verdict was set right" in problem for problem in row.problems)
    own: str = ""
    if right < len(calculations) or misquoted or verdicts:
        # where the guard refused the answer it is refused either way: only the figures are put back, not the guard
        own_text, _, _, is_refusal = parse_completion(row.completion)
        own = score_answer(question, own_text, is_refusal or None).outcome or "" if not row.is_refusal else outcome
    return dataclasses.replace(
        row, outcome=outcome, reason=score.reason, own_outcome=own, calculations=len(calculations),
        calculations_right=right, misquoted=misquoted, verdicts_corrected=verdicts, confidence=confidence,
    )


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


@dataclass(frozen=True)
class EvaluationSummary:
    """What an evaluation found, in plain values: the ladder, the paired tests, page recall, what was left out.

    ``comparisons`` are tuned against base, ``against_baselines`` (baseline, model, rung, comparison) against the readers
    without a language model. ``waterfalls`` tell for each model which stage lost how many answers with retrieval,
    ``footing`` what answers stand on and whether refusals come where they should.
    """

    name: str
    folder: str
    ladder: tuple[Rung, ...]
    comparisons: tuple[tuple[Setting, Comparison], ...] = ()
    against_baselines: tuple[tuple[str, str, Setting, Comparison], ...] = ()
    recall: Mapping[str, float] = field(default_factory=dict)
    recall_every_page: Mapping[str, float] = field(default_factory=dict)
    recall_n: int = 0
    ranking: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """'page' and 'document' -> the ranking metrics' means: 'mrr', 'ndcg', 'precision@5' and so on."""
    questions: int = 0
    unanswerable: int = 0
    missing_documents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pages_without_text: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    confidence: float = 0.95
    seconds: float = 0.0
    waterfalls: tuple[Waterfall, ...] = ()
    footing: tuple[Footing, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        """Return each paired test as one plain sentence, those against base first."""
        return (
            *(describe_comparison(comparison, setting) for setting, comparison in self.comparisons),
            *(describe_comparison(comparison, setting, a, b) for a, b, setting, comparison in self.against_baselines),
        )

    @property
    def set_right(self) -> str:
        """What was set right for each model over all rungs, in one line; empty where there was nothing to."""
        parts = []
        for model in dict.fromkeys(rung.model for rung in self.ladder):
            of_model = [rung.calculations for rung in self.ladder if rung.model == model]
            shown, misquoted = sum(c.shown for c in of_model), sum(c.misquoted for c in of_model)
            verdicts = sum(c.verdicts for c in of_model)
            if shown or misquoted or verdicts:
                right, corrected = sum(c.right for c in of_model), sum(c.corrected for c in of_model)
                parts.append(f"{model} showed {shown} calculations, {right} right by itself, {corrected} corrected; "
                             f"{misquoted} misquoted rows and {verdicts} verdicts put right; "
                             f"{sum(c.rescued for c in of_model)} answers correct only thanks to that")
        return f"Set right: {'. '.join(parts)}." if parts else ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; the shapes that ``ragtune evaluate --json`` prints."""
        missing = sorted({document for documents in self.missing_documents.values() for document in documents})
        return {
            "name": self.name,
            "ladder": [{**rung.to_dict(), "interval": _rounded(rung.interval)} for rung in self.ladder],
            "comparisons": [told_comparison(setting, c) for setting, c in self.comparisons],
            "against_baselines": [told_comparison(setting, c, a, b) for a, b, setting, c in self.against_baselines],
            "set_right": self.set_right,
            "waterfalls": [told_waterfall(waterfall) for waterfall in self.waterfalls],
            "footing": [footing.to_dict() for footing in self.footing],
            "recall": {k: round(value, 4) for k, value in self.recall.items()},
            "recall_every_page": {k: round(value, 4) for k, value in self.recall_every_page.items()},
            "recall_n": self.recall_n,
            "ranking": {level: {name: round(value, 4) for name, value in means.items()}
                        for level, means in self.ranking.items()},
            "questions": self.questions,
            "unanswerable": self.unanswerable,
            "left_out": {"questions": sorted(self.missing_documents), "documents": missing},
            "pages_without_text": list(self.pages_without_text),
            "confidence": self.confidence,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 1),
            "folder": self.folder,
        }


def told_comparison(setting: Setting, c: Comparison, a: str = "base", b: str = "tuned") -> dict[str, Any]:
    """Return a paired test as plain JSON values, with its sentence; ``adjusted_p`` where it is corrected as one of many."""
    return {
        "setting": setting, "a": a, "b": b, "test": c.test, "n": c.n, "only_a": c.only_a, "only_b": c.only_b, "p": c.p,
        "mcnemar_p": c.mcnemar,
        "difference": round(c.difference, 4), "interval": _rounded(c.interval),
        "clusters": c.clusters, "adjusted_p": c.adjusted_p, "sentence": describe_comparison(c, setting, a, b),
    }  # fmt: skip


def told_waterfall(waterfall: Waterfall) -> dict[str, Any]:
    """Return a waterfall as plain JSON values, with its bars and its sentence."""
    steps = [step.to_dict() for step in waterfall.steps()]
    return {**waterfall.to_dict(), "steps": steps, "sentence": waterfall.sentence()}


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(bound, 4) for bound in interval]
