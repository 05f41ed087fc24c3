"""Two runs by a score that is no plain right or wrong."""

import numpy as np
import pytest

from ragtune.errors import RunError
from ragtune.evaluation.statistics.paired import compare_scores, describe_score_comparison


def test_a_gain_is_shown_with_its_size() -> None:
    draw = np.random.default_rng(0)
    a = draw.random(60)
    b = a + 0.1 + draw.normal(0, 0.1, 60)
    found = compare_scores(a.tolist(), b.tolist())
    assert found.difference == pytest.approx(float(np.mean(b - a)))
    assert found.interval[0] < 0.1 < found.interval[1]
    assert found.p < 0.001
    assert describe_score_comparison(found, "F1").startswith("Tuned has the higher F1 than base")
    assert compare_scores(b.tolist(), a.tolist()).difference == pytest.approx(-found.difference)
    same = compare_scores(a.tolist(), a.tolist())
    assert (same.p, same.interval) == (1.0, (0.0, 0.0))
    assert describe_score_comparison(same, "F1").startswith("No difference shown in F1")


def test_right_and_wrong_give_the_p_of_the_paired_t_test_nearly() -> None:
    from scipy.stats import ttest_rel

    draw = np.random.default_rng(4)
    a, b = draw.normal(0, 1, 80), draw.normal(0.3, 1, 80)
    assert compare_scores(a.tolist(), b.tolist()).p == pytest.approx(ttest_rel(b, a).pvalue, abs=0.02)


def test_documents_widen_what_they_hold_together() -> None:
    draw = np.random.default_rng(1)
    documents = np.repeat(np.arange(12), 5)
    gain = (0.1 + draw.normal(0, 0.2, 12))[documents]
    a = draw.random(60)
    plain, clustered = compare_scores(a, a + gain), compare_scores(a, a + gain, documents.tolist())
    assert clustered.clusters == 12
    assert clustered.p > plain.p
    assert clustered.interval[1] - clustered.interval[0] > 1.5 * (plain.interval[1] - plain.interval[0])
    alone = compare_scores(a, a + gain, ["d"] * 60)
    assert (alone.p, alone.clusters) == (plain.p, 1)


@pytest.mark.parametrize(("a", "b", "said"), [
    ([], [], "nothing to compare"), ([1.0], [1.0, 2.0], "1 outcomes against 2"),
    ([1.0, float("nan")], [1.0, 2.0], "scores of a hold nan at place 2"), ([1.0], [float("inf")], "scores of b hold inf"),
])  # fmt: skip
def test_bad_scores_are_said(a: list[float], b: list[float], said: str) -> None:
    with pytest.raises(RunError, match=said):
        compare_scores(a, b)


def test_clusters_have_to_be_as_many() -> None:
    with pytest.raises(RunError, match="1 clusters for 2 scores"):
        compare_scores([1.0, 0.0], [1.0, 1.0], ["a"])
