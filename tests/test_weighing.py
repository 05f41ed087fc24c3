"""Weights of the fusion: fitted where one list is better, left alone where nothing is gained, folds by group."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import QuestionError
from ragtune.retrieval.dense import Found
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.weighing import GRID, Places, fit_weights


def lists(count: int, seed: int) -> tuple[list[list[Found]], list[set[int]], list[str]]:
    """Two ranked lists a question: the first has the gold row among its first five, the second not at all."""
    draw = random.Random(seed)
    ranked: list[list[Found]] = []
    for _ in range(count):
        good, bad = draw.sample(range(1, 100), 30), draw.sample(range(100, 200), 30)
        good.insert(draw.randrange(5), 0)
        ranked.append([[(row, 0.0) for row in good], [(row, 0.0) for row in bad]])
    return ranked, [{0}] * count, [f"company {number % 6}" for number in range(count)]


def test_the_better_list_gets_more_weight() -> None:
    fitted = fit_weights(*lists(60, 0))
    assert fitted.is_kept
    assert fitted.weights[0] > fitted.weights[1]
    assert fitted.held_out["hit@5"] > fitted.given["hit@5"]
    assert all(weight in GRID for weight in fitted.weights)
    assert sorted(name for fold in fitted.folds for name in fold) == sorted({f"company {n}" for n in range(6)})
    assert len(fitted.fold_weights) == len(fitted.folds) == 5
    assert fit_weights(*lists(60, 0)) == fitted


def test_weights_that_do_not_help_held_out_groups_are_refused() -> None:
    ranked: list[list[Found]] = [[[(0, 1.0), (1, 0.5)], [(0, 1.0), (1, 0.5)]]] * 6
    fitted = fit_weights(ranked, [{0}] * 6, list("aabbcc"), start=(1.0, 2.0))
    assert not fitted.is_kept
    assert fitted.weights == (1.0, 2.0)
    assert fitted.held_out == fitted.given == {"hit@5": 1.0, "hit@20": 1.0}


def test_no_group_is_fitted_and_measured() -> None:
    """One company likes the first list, the other the second: what is fitted on one hurts the other."""
    good: Found = [(0, 1.0), *((row, 0.5) for row in range(1, 30))]
    bad: Found = [*((row, 1.0) for row in range(30, 60)), (0, 0.1)]
    fitted = fit_weights([[good, bad]] * 3 + [[bad, good]] * 3, [{0}] * 6, ["a"] * 3 + ["b"] * 3)
    assert not fitted.is_kept
    assert fitted.held_out["hit@5"] <= fitted.given["hit@5"]


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
    (([], [], []), "found 0 questions"),
    (([[[]]], [{1}, {2}], ["a"]), "2 gold sets"),
    (([[[]], [[], []]], [{1}, {2}], ["a", "b"]), "as many ranked lists"),
    (([[[]]], [{1}], ["a"]), "none can be held out"),
    (([[[]], [[]]], [{1}, {1}], ["a", "b"], (1.0, 1.0)), "found 2 weights"),
])
def test_bad_input(arguments: tuple, says: str) -> None:
    with pytest.raises(QuestionError, match=says):
        fit_weights(*arguments)
