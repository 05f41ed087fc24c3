"""Weights of the fusion: fitted where one list is better, left alone where nothing is gained."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import QuestionError
from ragtune.retrieval.dense import Found
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.weighing import GRID, Places, fit_weights


def lists(count: int, seed: int) -> tuple[list[list[Found]], list[set[int]]]:
    """Two ranked lists a question: the first has the gold row among its first five, the second not at all."""
    draw = random.Random(seed)
    ranked: list[list[Found]] = []
    for _ in range(count):
        good, bad = draw.sample(range(1, 100), 30), draw.sample(range(100, 200), 30)
        good.insert(draw.randrange(5), 0)
        ranked.append([[(row, 0.0) for row in good], [(row, 0.0) for row in bad]])
    return ranked, [{0}] * count


def test_the_better_list_gets_more_weight() -> None:
    ranked, gold = lists(60, 0)
    weights = fit_weights(ranked, gold)
    assert weights[0] > weights[1]
    assert all(weight in GRID for weight in weights)
    assert fit_weights(ranked, gold) == weights
    before, after = (Places(ranked, gold).find(tried) for tried in ((1.0, 1.0), weights))
    assert sum(0 < place <= 5 for place in after) > sum(0 < place <= 5 for place in before)


def test_weights_stay_where_nothing_is_better() -> None:
    ranked: list[list[Found]] = [[[(0, 1.0), (1, 0.5)], [(0, 1.0), (1, 0.5)]]] * 6
    assert fit_weights(ranked, [{0}] * 6, (1.0, 2.0)) == (1.0, 2.0)


ROWS = st.lists(st.integers(0, 12), max_size=8, unique=True)


@given(st.lists(st.tuples(st.tuples(ROWS, ROWS), st.sets(st.integers(0, 12), max_size=3)), min_size=1, max_size=4),
       st.tuples(st.sampled_from(GRID), st.sampled_from(GRID)))
def test_places_are_those_of_the_fusion(questions: list, weights: tuple[float, float]) -> None:
    ranked = [[[(row, 0.0) for row in rows] for rows in lists] for lists, _ in questions]
    gold = [rows for _, rows in questions]
    wanted = []
    for lists, rows in zip(ranked, gold):
        order = [row for row, _ in fuse_ranks(lists, weights, 100)]
        wanted.append(next((place for place, row in enumerate(order, start=1) if row in rows), 0))
    assert Places(ranked, gold).find(weights) == wanted


@pytest.mark.parametrize(("arguments", "says"), [
    (([], []), "found 0 questions"),
    (([[[]]], [{1}, {2}]), "2 gold sets"),
    (([[[]], [[], []]], [{1}, {2}]), "as many ranked lists"),
    (([[[]], [[]]], [{1}, {1}], (1.0, 1.0)), "2 weights"),
])
def test_bad_input(arguments: tuple, says: str) -> None:
    with pytest.raises(QuestionError, match=says):
        fit_weights(*arguments)
