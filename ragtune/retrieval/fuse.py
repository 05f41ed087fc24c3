"""Reciprocal rank fusion: ranks of several searchers become one order (Cormack, Clarke and Büttcher, SIGIR 2009)."""

from __future__ import annotations

from collections.abc import Sequence

from ragtune.retrieval.dense import Found

CONSTANT = 60


def fuse_ranks(found: Sequence[Found], weights: Sequence[float], k: int) -> Found:
    """Return the k rows with the largest sum of weight / (60 + rank) over the searchers that found them.

    Equal sums are ordered by row. A searcher of weight 0 adds no row.
    """
    sums: dict[int, float] = {}
    for rows, weight in zip(found, weights):
        for rank, (row, _) in enumerate(rows, start=1) if weight else ():
            sums[row] = sums.get(row, 0.0) + weight / (CONSTANT + rank)
    return sorted(sums.items(), key=lambda item: (-round(item[1], 9), item[0]))[:k]
