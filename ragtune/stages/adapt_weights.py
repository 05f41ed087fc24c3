"""Fit the weights of dense and lexical ranks in the fusion, for a search without the ranker, and judge them by fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.retrieval.dense import Found
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.gate import judge_ranks
from ragtune.retrieval.trial import SCOPES
from ragtune.retrieval.weighing import fit_weights
from ragtune.stages.material import Fitted, Material

if TYPE_CHECKING:
    import numpy as np


def fit_fusion_weights(material: Material, root: Path) -> Fitted:
    """Fit dense_weight and lexical_weight; each fold is ranked with the weights of the others.

    Nothing is written below ``root``: two numbers have their place in the recipe, and the facts name them under 'settings'.
    """
    recipe, trial = material.recipe, material.trial
    given = (recipe.retrieval.dense_weight, recipe.retrieval.lexical_weight)
    gold = [frozenset(rows.tolist()) for rows in trial.gold]
    lists = {scope: list(zip(trial.find_dense(material.vectors, scope), trial.find_lexical(scope))) for scope in SCOPES}
    everyone = range(len(gold))
    of_question = [given] * len(gold)
    for fold in material.folds:
        others = sorted(set(everyone) - set(fold))
        fitted = fit_weights([lists["shared"][n] for n in others], [gold[n] for n in others], given)
        for number in fold:
            of_question[number] = (fitted[0], fitted[1])

    def rank(weights: Sequence[tuple[float, float]]) -> dict[str, np.ndarray]:
        return {scope: trial.rank_found([_rows(found, weight, trial.depth) for found, weight in zip(lists[scope], weights)])
                for scope in SCOPES}

    verdict = judge_ranks(rank([given] * len(gold)), rank(of_question), recipe.adapting.k, recipe.adapting.max_p)
    dense, lexical = fit_weights(lists["shared"], gold, given) if verdict.is_accepted else given
    settings = {"retrieval.dense_weight": dense, "retrieval.lexical_weight": lexical}
    return Fitted("weights", verdict, None, {"settings": settings})


def _rows(found: Sequence[Found], weights: tuple[float, float], depth: int) -> list[int]:
    return [row for row, _ in fuse_ranks(found, weights, depth)]
