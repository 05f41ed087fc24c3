"""Weights of ranked lists in the fusion: fitted on questions whose gold chunks are known, refused where they do not help.

The objective is 1 / log2(1 + rank) of the first gold row within DEPTH: it moves with every rank, hit@5 only at its edge.
Coordinate search over GRID from equal weights; held-out scores come from folds by group (company), so that no company's
wording is both fitted and measured.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragtune.errors import QuestionError
from ragtune.records import Record
from ragtune.retrieval.dense import Found
from ragtune.retrieval.fuse import CONSTANT

if TYPE_CHECKING:
    import numpy as np

GRID = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
DEPTH = 20
_ROUNDS = 5


@dataclass(frozen=True)
class FittedWeights(Record):
    """Weights by list. ``held_out`` and ``given`` are hit@5 and hit@20 over the folds, with fitted and with given weights.

    ``is_kept`` is False where fitting raised the held-out objective by no more than the gain's standard error: then
    ``weights`` are those given. ``fold_weights`` are those fitted without the groups of each of the ``folds``.
    """

    weights: tuple[float, ...]
    is_kept: bool
    held_out: Mapping[str, float]
    given: Mapping[str, float]
    folds: tuple[tuple[str, ...], ...]
    fold_weights: tuple[tuple[float, ...], ...]


def fit_weights(
    ranked: Sequence[Sequence[Found]], gold: Sequence[Collection[int]], groups: Sequence[str],
    start: Sequence[float] | None = None, folds: int = 5, seed: int = 0,
) -> FittedWeights:
    """Return weights for the lists of ``ranked`` (question, list, rows best first); ``gold`` holds each question's rows.

    Raises QuestionError where the lengths differ, there is no question, or fewer than two groups to hold out.
    """
    width = len(ranked[0]) if ranked else 0
    if not width or not len(ranked) == len(gold) == len(groups) or any(len(lists) != width for lists in ranked):
        raise QuestionError(f"found {len(ranked)} questions, {len(gold)} gold sets and {len(groups)} groups; wanted the "
                            "same number of each, at least one, and as many ranked lists for every question.")
    names = sorted(set(groups))
    if len(names) < 2:
        raise QuestionError(f"all questions belong to the group '{names[0]}', so none can be held out. Give questions about "
                            "more companies.")
    given = tuple(start) if start else (1.0,) * width
    if len(given) != width:
        raise QuestionError(f"found {len(given)} weights to start from, wanted {width}, one for each ranked list.")
    random.Random(seed).shuffle(names)
    parts = [tuple(sorted(names[number::folds])) for number in range(min(folds, len(names)))]
    all_places = Places(ranked, gold)
    before, after, fold_weights = all_places.find(given), [0] * len(ranked), []
    for part in parts:
        inside = [number for number, group in enumerate(groups) if group not in part]
        weights = _search(Places([ranked[n] for n in inside], [gold[n] for n in inside]), given)
        fold_weights.append(weights)
        found = all_places.find(weights)
        for number in (n for n, group in enumerate(groups) if group in part):
            after[number] = found[number]
    gains = [new - old for new, old in zip(_gains(after), _gains(before))]
    mean = sum(gains) / len(gains)
    error = math.sqrt(sum((gain - mean) ** 2 for gain in gains)) / len(gains)
    is_kept = mean > error + 1e-9  # what is less than its standard error is as likely luck
    shares = [{f"hit@{k}": sum(0 < place <= k for place in places) / len(ranked) for k in (5, 20)}
              for places in (after, before)]
    return FittedWeights(_search(all_places, given) if is_kept else given, is_kept, shares[0], shares[1], tuple(parts),
                         tuple(fold_weights))


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
