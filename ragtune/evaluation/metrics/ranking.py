"""How well the right page is found: recall at k by page, and the field's ranking metrics by page, chunk and document.

The metrics are trec_eval's. What is ranked is a list without scores: the hits' order stands, ties in their scores and all.
A page or document that several hits name keeps its first place, and the later ones are dropped, so that k counts different
pages. A question without anything relevant has no score and is left out of the means; one without results scores 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from ragtune.errors import RunError, nearest
from ragtune.records import Chunk, Evidence, Hit, Question, Record

Level = Literal["page", "chunk", "document"]
LEVELS: tuple[Level, ...] = ("page", "chunk", "document")
Item = TypeVar("Item", bound=Hashable)


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


def score_recall(ranked: Sequence[Item], relevant: Mapping[Item, float], k: int | None = None) -> float:
    """Return the share of the relevant items among the first k (None: all). ``relevant`` maps item -> gain over 0."""
    wanted = _wanted(ranked, relevant, k)
    return len(wanted.intersection(ranked[:k])) / len(wanted) if wanted else 0.0


def score_precision(ranked: Sequence[Item], relevant: Mapping[Item, float], k: int | None = None) -> float:
    """Return the share of the first k places that hold a relevant item; fewer results than k count as misses."""
    found = len(_wanted(ranked, relevant, k).intersection(ranked[:k]))
    places = len(ranked) if k is None else k
    return found / places if places else 0.0


def score_reciprocal_rank(ranked: Sequence[Item], relevant: Mapping[Item, float], k: int | None = None) -> float:
    """Return 1 over the place of the first relevant item, 0 where none is among the first k. Its mean is MRR."""
    wanted = _wanted(ranked, relevant, k)
    return next((1 / place for place, item in enumerate(ranked[:k], 1) if item in wanted), 0.0)


def score_average_precision(ranked: Sequence[Item], relevant: Mapping[Item, float], k: int | None = None) -> float:
    """Return the precisions at each relevant item's place, summed over the number of all relevant ones. Its mean is MAP."""
    wanted = _wanted(ranked, relevant, k)
    found, total = 0, 0.0
    for place, item in enumerate(ranked[:k], 1):
        if item in wanted:
            found += 1
            total += found / place
    return total / len(wanted) if wanted else 0.0


def score_ndcg(ranked: Sequence[Item], relevant: Mapping[Item, float], k: int | None = None) -> float:
    """Return the gains over log2(place + 1) against those of the best order (Jarvelin and Kekalainen 2002)."""
    wanted = _wanted(ranked, relevant, k)
    best = sorted((relevant[item] for item in wanted), reverse=True)[:k]
    ideal = math.fsum(gain / math.log2(place + 1) for place, gain in enumerate(best, 1))
    gained = math.fsum(relevant[item] / math.log2(place + 1) for place, item in enumerate(ranked[:k], 1) if item in wanted)
    return gained / ideal if ideal else 0.0


def _wanted(ranked: Sequence[Item], relevant: Mapping[Item, float], k: int | None) -> set[Item]:
    """Return the items with a gain over 0. Raises RunError for a k under 1, repeated items and gains that are no numbers."""
    if k is not None and k < 1:
        raise RunError(f"k is {k}. Allowed is a whole number of at least 1.")
    if len(set(ranked)) != len(ranked):
        raise RunError("the ranking names an item twice. Keep the first of each (rank_items does).")
    if not all(math.isfinite(gain) for gain in relevant.values()):
        raise RunError("a relevant item has a gain that is no finite number. Allowed are numbers; those over 0 count.")
    return {item for item, gain in relevant.items() if gain > 0}


RankingMetric = Callable[[Sequence[Hashable], Mapping[Hashable, float], "int | None"], float]
RANKING_METRICS: dict[str, RankingMetric] = {
    "recall": score_recall,
    "precision": score_precision,
    "mrr": score_reciprocal_rank,
    "ndcg": score_ndcg,
    "map": score_average_precision,
}
"""Name -> function(ranked, relevant, k) -> the score of one question."""


def rank_items(hits: Sequence[Hit], level: Level) -> list[Hashable]:
    """Return (document, page) pairs, chunk ids or documents in the order of the hits, each once, where it came first.

    A chunk over several pages names them in reading order.
    """
    check_level(level)
    named: dict[Hashable, None] = {}
    for hit in hits:
        chunk = hit.chunk
        if level == "page":
            named.update(dict.fromkeys((chunk.document, page) for page in range(chunk.page, chunk.last_page + 1)))
        else:
            named[chunk.id if level == "chunk" else chunk.document] = None
    return list(named)


def find_relevant(
    question: Question, level: Level, chunks_on_page: Callable[[str, int], Collection[Chunk]] | None = None
) -> dict[Hashable, float]:
    """Return what the question's evidence makes relevant, each with a gain of 1.

    The chunks are all those on an evidence page, as ``chunks_on_page(document, page)`` (a searcher's or an index's) has
    them; RunError where it is missing at the chunk level.
    """
    check_level(level)
    if level == "page":
        return {(e.document, e.page): 1.0 for e in question.evidence}
    if level == "document":
        return {e.document: 1.0 for e in question.evidence}
    if chunks_on_page is None:
        raise RunError("which chunks are relevant is for the index to say. Give chunks_on_page, or score pages.")
    return {chunk.id: 1.0 for e in question.evidence for chunk in chunks_on_page(e.document, e.page)}


def check_level(level: str) -> None:
    """Raise RunError for a level that is not one of LEVELS."""
    if level not in LEVELS:
        raise RunError(f"no level '{level}'. Allowed: {', '.join(LEVELS)}.{nearest(level, LEVELS)}")


@dataclass(frozen=True)
class RankingScores(Record):
    """Ranking metrics at one level. ``means`` maps 'recall@5', 'mrr' ... to the mean over the ``n`` questions scored.

    ``by_question`` maps question id -> the same names, for paired tests. ``left_out`` are the questions with nothing
    relevant (no evidence, or no chunk on its pages).
    """

    level: Level
    n: int
    means: Mapping[str, float]
    by_question: Mapping[str, Mapping[str, float]]
    left_out: tuple[str, ...] = ()


def score_rankings(
    items: Sequence[tuple[Question, Sequence[Hit]]],
    level: Level = "page",
    ks: Sequence[int] = (1, 5, 10),
    chunks_on_page: Callable[[str, int], Collection[Chunk]] | None = None,
) -> RankingScores:
    """Return every metric at each k ('recall@k' ...) and over all hits ('mrr', 'map', 'ndcg').

    Raises RunError where no question has anything relevant, or one comes twice.
    """
    names = {f"{name}@{k}": (metric, k) for name, metric in RANKING_METRICS.items() for k in sorted(set(ks))}
    whole = {name: (RANKING_METRICS[name], None) for name in ("mrr", "map", "ndcg")}
    scored: dict[str, dict[str, float]] = {}
    left_out = []
    for question, hits in items:
        relevant = find_relevant(question, level, chunks_on_page)
        if question.id in scored or question.id in left_out:
            raise RunError(f"the question '{question.id}' comes twice. Score each question once.")
        if not relevant:
            left_out.append(question.id)
            continue
        ranked = rank_items(hits, level)
        scored[question.id] = {name: metric(ranked, relevant, k) for name, (metric, k) in {**names, **whole}.items()}
    if not scored:
        raise RunError(f"found {len(items)} questions, none with a relevant {level}. Give some that name their evidence.")
    means = {name: math.fsum(scores[name] for scores in scored.values()) / len(scored) for name in {**names, **whole}}
    return RankingScores(level, len(scored), means, scored, tuple(left_out))
