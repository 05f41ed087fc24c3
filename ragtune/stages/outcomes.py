"""Right or wrong, question by question, as an evaluation folder has it, for paired tests between folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ragtune.errors import RunError
from ragtune.evaluation.ladder.graded import Graded
from ragtune.evaluation.ladder.log import ASKED, LOG
from ragtune.evaluation.ladder.trail import Asked
from ragtune.evaluation.statistics.compare import Comparison, compare_paired
from ragtune.evaluation.statistics.samples import clusters_of, common_items
from ragtune.files import read_jsonl
from ragtune.records import Outcome


@dataclass(frozen=True)
class Outcomes:
    """The answers of one model on one rung: question id -> outcome, and -> the document the question hangs on."""

    outcomes: dict[str, Outcome]
    clusters: dict[str, str]

    def count(self, outcome: Outcome) -> int:
        """Return how many answers have this outcome."""
        return sum(found == outcome for found in self.outcomes.values())

    def right(self, questions: Sequence[str]) -> list[bool]:
        """Return for each question whether it was answered correctly."""
        return [self.outcomes[question] == "correct" for question in questions]


def read_outcomes(evaluation: Path, model: str, setting: str) -> Outcomes:
    """Return what a model answered in an evaluation folder on one rung. Raises RunError where it answered nothing there."""
    graded = [Graded.from_dict(row) for _, row in read_jsonl(evaluation / LOG)]
    found = {row.question_id: row.outcome for row in graded if row.model == model and row.setting == setting}
    if not found:
        raise RunError(f"{evaluation} holds no answer of '{model}' on the rung '{setting}'. Name a rung that was measured.")
    asked = [Asked.from_dict(row).question for _, row in read_jsonl(evaluation / ASKED)]
    clusters = clusters_of(asked)
    return Outcomes(found, {question: clusters[question] for question in found})


def compare_outcomes(a: Outcomes, b: Outcomes, confidence: float = 0.95, by_documents: bool = True) -> Comparison:
    """Return the paired test of b against a over the questions both answered: by whole documents, else McNemar's."""
    both, _ = common_items(a.outcomes, b.outcomes)
    clusters = [a.clusters[question] for question in both] if by_documents else None
    return compare_paired(a.right(both), b.right(both), confidence, clusters=clusters)
