"""What an evaluation found, in plain values: the shapes that ``ragtune evaluate --json`` prints, and its sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ragtune.evaluation.grounding.footing import Footing
from ragtune.evaluation.ladder.counts import Rung
from ragtune.evaluation.ladder.references import Surprise
from ragtune.evaluation.losses.waterfall import Waterfall
from ragtune.evaluation.statistics.compare import Comparison, describe_comparison
from ragtune.records import Setting


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
    references: tuple[Surprise, ...] = ()
    """The references' perplexity, where evaluation.perplexity asks for it."""

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
            "references": [surprise.to_dict() for surprise in self.references],
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
