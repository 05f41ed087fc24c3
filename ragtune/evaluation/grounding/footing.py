"""What the answers of each model stand on, and whether its refusals come where they should: one row a model and rung."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragtune.evaluation.grounding.citations import Grounding, GroundingSummary, Share, ground_row, summarise_grounding
from ragtune.evaluation.grounding.refusals import (
    RefusalCounts,
    RefusalCurve,
    build_refusal_curve,
    count_refusals,
    judge_refusal,
)
from ragtune.records import Chunk, Question, Record, Setting

if TYPE_CHECKING:
    from ragtune.evaluation.ladder.graded import Graded

HEADER = (
    "model", "setting", "answers given", "citations that support", "citations on an evidence page", "evidence pages cited",
    "numbers from cited passages", "unsupported claims", "answered when it should not", "refused when it need not")


@dataclass(frozen=True)
class Footing(Record):
    """Grounding and refusals of one model on one rung. ``grounding`` is None where every answer is a refusal.

    ``curve`` ranks the answers given by the share of their claims that cited passages support, those alike in that by the
    best score that the search gave to a cited passage.
    """

    model: str
    setting: Setting
    grounding: GroundingSummary | None
    refusals: RefusalCounts
    curve: RefusalCurve

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; the curve as its area beside those of chance and of the best there could be."""
        told = super().to_dict()
        told["curve"] = {name: told["curve"][name] for name in ("area", "area_random", "area_best")}
        return told

    def cells(self) -> tuple[str, ...]:
        """Return text cells under HEADER, model and setting apart: ``14/19``."""
        found = self.grounding
        shares = (found.citation_precision, found.evidence_precision, found.citation_recall, found.number_support,
                  found.unsupported_claims) if found else (Share(0, 0),) * 5
        counted = [f"{share.count}/{share.of}" if share.of else "–"
                   for share in (*shares, self.refusals.over_answering, self.refusals.over_refusal)]
        return (str(found.n if found else 0), *counted)


def measure_footing(
    graded: Sequence[Graded], questions: Sequence[Question], chunk_of: Callable[[str], Chunk],
    clusters: Mapping[str, str] | None = None, confidence: float = 0.95,
) -> tuple[Footing, ...]:
    """Return the footing of each model on each rung that shows passages, in the log's order.

    ``chunk_of`` (``Index.chunk``) gives the passages' texts, ``clusters`` (question id -> document) the intervals' units.
    The pack of the index must be in force. Raises IndexFolderError where the log is of another index.
    """
    by_id = {question.id: question for question in questions}
    rungs: dict[tuple[str, Setting], list[Graded]] = {}
    for row in graded:
        if row.setting != "closed_book" and row.question_id in by_id:
            rungs.setdefault((row.model, row.setting), []).append(row)
    found = []
    for (model, setting), rows in rungs.items():
        grounded = [ground_row(by_id[row.question_id], row, chunk_of) for row in rows]
        cases = [judge_refusal(by_id[row.question_id], row, chunk_of) for row in rows]
        pairs = [(case, _sureness(row, each) if each else 0.0) for row, case, each in zip(rows, cases, grounded) if case]
        given = [each for each in grounded if each]
        judged = [case for case, _ in pairs]
        found.append(Footing(
            model, setting, summarise_grounding(given, clusters, confidence) if given else None,
            count_refusals(judged, clusters, confidence), build_refusal_curve(judged, [sureness for _, sureness in pairs])))
    return tuple(found)


def _sureness(row: Graded, grounding: Grounding) -> float:
    """Return the support, and as much less than a hundredth as the search was sure of what is cited."""
    cited = {citation.passage for citation in row.citations}
    best = max((passage.score for passage in row.passages if passage.number in cited), default=0.0)
    return grounding.support + 0.005 * (1 + math.tanh(best / 4))
