"""How well the right page is found: recall at k by page, from hits and evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragtune.records import Evidence, Hit, Question, Record


def holds_evidence(hit: Hit, evidence: Evidence) -> bool:
    """Whether the hit's chunk lies on the evidence page (a chunk over two pages lies on both)."""
    chunk = hit.chunk
    return chunk.document == evidence.document and chunk.page <= evidence.page <= chunk.last_page


def first_rank(question: Question, hits: Sequence[Hit]) -> int | None:
    """Return the place (from 1) of the first hit on any evidence page, or None."""
    return next((place for place, hit in enumerate(hits, 1) if any(holds_evidence(hit, e) for e in question.evidence)), None)


def full_rank(question: Question, hits: Sequence[Hit]) -> int | None:
    """Return the place by which every evidence page has been hit, or None."""
    places = [next((p for p, hit in enumerate(hits, 1) if holds_evidence(hit, e)), None) for e in question.evidence]
    found = [place for place in places if place is not None]
    return max(found) if found and len(found) == len(places) else None


@dataclass(frozen=True)
class PageRecall(Record):
    """Share of questions whose evidence is among the first k hits.

    ``any_page`` counts a question when one evidence page is hit (hit@k), ``every_page`` when all are.
    Keys are k as text. ``n`` counts the questions that name evidence; the others are left out.
    """

    n: int
    any_page: Mapping[str, float]
    every_page: Mapping[str, float]


def score_page_recall(items: Sequence[tuple[Question, Sequence[Hit]]], recall_at: Sequence[int]) -> PageRecall:
    """Return page recall at each k over the questions that name evidence; 0.0 everywhere where none does."""
    ranks = [(first_rank(q, hits), full_rank(q, hits)) for q, hits in items if q.evidence]

    def share(position: int, k: int) -> float:
        found = sum(1 for pair in ranks if (place := pair[position]) is not None and place <= k)
        return found / len(ranks) if ranks else 0.0

    ks = sorted(set(recall_at))
    return PageRecall(len(ranks), {str(k): share(0, k) for k in ks}, {str(k): share(1, k) for k in ks})
