"""Weights of ranked lists in the fusion, fitted on questions whose gold chunks are known.

The objective is 1 / log2(1 + rank) of the first gold row within DEPTH: it moves with every rank, hit@5 only at its edge.
Coordinate search over GRID. Whether the weights are worth keeping is the gate's to say, on questions held out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ragtune.errors import QuestionError
from ragtune.retrieval.dense import Found
from ragtune.retrieval.fuse import CONSTANT

if TYPE_CHECKING:
    import numpy as np

GRID = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
DEPTH = 20
_ROUNDS = 5


def fit_weights(
    ranked: Sequence[Sequence[Found]], gold: Sequence[Collection[int]], start: Sequence[float] | None = None
) -> tuple[float, ...]:
    """Return weights for the lists of ``ranked`` (question, list, rows best first); ``gold`` holds each question's rows.

    ``start`` are the weights to begin with, which stay where nothing is better. Raises QuestionError where the lengths
    differ or there is no question.
    """
    width = len(ranked[0]) if ranked else 0
    given = tuple(start) if start else (1.0,) * width
    if not width or len(ranked) != len(gold) or any(len(lists) != width for lists in ranked) or len(given) != width:
        raise QuestionError(f"found {len(ranked)} questions, {len(gold)} gold sets and {len(given)} weights; wanted as many "
                            "gold sets as questions, at least one, and as many ranked lists for every question as weights.")
    return _search(Places(ranked, gold), given)


class Places:
    """Where the first gold row of each question comes under any weights, without fusing anew: one product of arrays."""

    def __init__(self, ranked: Sequence[Sequence[Found]], gold: Sequence[Collection[int]]) -> None:
        import numpy as np

        parts: list[np.ndarray] = []  # a row for each chunk found: what each list would give it, weight aside
        ids: list[int] = []
        starts = []
        for lists in ranked:
            rows = sorted({row for found in lists for row, _ in found}) or [-1]
            position = {row: number for number, row in enumerate(rows)}
            part = np.zeros((len(rows), len(lists)))
            for column, found in enumerate(lists):
                for rank, (row, _) in enumerate(found, start=1):
                    part[position[row], column] += 1 / (CONSTANT + rank)
            starts.append(len(ids))
            ids += rows
            parts.append(part)
        self.parts, self.ids, self.starts = np.concatenate(parts), np.array(ids), np.array(starts)
        self.question = np.repeat(np.arange(len(ranked)), np.diff([*starts, len(ids)]))
        self.is_gold = np.array([row in gold[number] for number, row in zip(self.question.tolist(), ids)])

    def find(self, weights: Sequence[float]) -> list[int]:
        """Return the place (from 1) of each question's first gold row in ``fuse_ranks``' order, 0 where none is found."""
        import numpy as np

        scores = np.round(self.parts @ np.array(weights), 9)
        best = np.maximum.reduceat(np.where(self.is_gold, scores, 0.0), self.starts)
        # Equal scores are ordered by row.
        at_best = self.is_gold & (scores == best[self.question])
        first = np.minimum.reduceat(np.where(at_best, self.ids, np.iinfo(np.int64).max), self.starts)
        is_before = (scores > best[self.question]) | ((scores == best[self.question]) & (self.ids < first[self.question]))
        places = np.where(best > 0, 1 + np.add.reduceat(is_before.astype(np.int64), self.starts), 0)
        return [int(place) for place in places]


def _gains(places: Sequence[int]) -> list[float]:
    return [1 / math.log2(1 + place) if 0 < place <= DEPTH else 0.0 for place in places]


def _search(places: Places, start: tuple[float, ...]) -> tuple[float, ...]:
    """Return the best weights that changing one after the other finds; the first of equals, beginning at ``start``."""
    best, best_gain = start, sum(_gains(places.find(start)))
    for _ in range(_ROUNDS):
        before = best
        for place in range(len(best)):
            for weight in GRID:
                tried = (*best[:place], weight, *best[place + 1 :])
                if any(tried) and tried != best and (gain := sum(_gains(places.find(tried)))) > best_gain + 1e-9:
                    best, best_gain = tried, gain
        if best == before:
            break
    return best
