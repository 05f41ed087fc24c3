"""Kappa against scikit-learn's, its interval, and what is not defined."""

import random

import pytest

from ragtune.errors import RunError
from ragtune.evaluation.statistics.agreement import chance_higher, cohen_kappa, describe_agreement, measure_agreement


def labels(seed, n=60, names=("correct", "wrong", "refused")):
    draw = random.Random(seed)
    a = [draw.choice(names) for _ in range(n)]
    return a, [x if draw.random() < 0.7 else draw.choice(names) for x in a]


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_scikit_learns(seed):
    from sklearn.metrics import cohen_kappa_score

    a, b = labels(seed)
    assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    a, b = labels(seed, names=("1", "2", "3", "4", "5"))
    theirs = cohen_kappa_score(a, b, labels=list("12345"), weights="quadratic")
    assert cohen_kappa(a, b, scale=list("12345")) == pytest.approx(theirs, abs=1e-12)


def test_the_interval_holds_kappa_and_is_wider_by_clusters():
    a, b = labels(1, 200)
    alone = measure_agreement(a, b)
    doubled = measure_agreement(a * 3, b * 3, clusters=[*range(200)] * 3)
    assert alone.interval[0] < alone.kappa < alone.interval[1]
    assert doubled.kappa == pytest.approx(alone.kappa)
    width, naive = (x[1] - x[0] for x in (doubled.interval, measure_agreement(a * 3, b * 3).interval))
    assert width > 1.5 * naive
    assert doubled.clusters == 200
    assert sum(sum(row.values()) for row in alone.table.values()) == alone.n == 200
    assert "agree on" in describe_agreement(alone, "x", "y")


def test_what_both_always_say_has_no_kappa():
    found = measure_agreement(["a"] * 4, ["a"] * 4)
    assert (found.kappa, found.interval, found.share) == (None, None, 1.0)
    assert "not defined" in describe_agreement(found, "x", "y")


def test_unequal_lists_and_strange_labels_are_refused():
    with pytest.raises(RunError, match="2 labels against 1"):
        cohen_kappa(["a", "b"], ["a"])
    with pytest.raises(RunError, match="Allowed: 1, 2"):
        cohen_kappa(["1"], ["9"], scale=["1", "2"])


def test_the_chance_to_be_higher_is_the_area_under_the_curve():
    from sklearn.metrics import roc_auc_score

    high, low = [3.0, 4.0, 5.0, 3.0], [1.0, 3.0, 2.0]
    assert chance_higher(high, low) == pytest.approx(roc_auc_score([1] * 4 + [0] * 3, high + low))
    assert chance_higher([], low) is None
