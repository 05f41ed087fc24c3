"""Corrections for many comparisons, against closed testing, scipy and, where it is installed, statsmodels."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.errors import RunError
from ragtune.evaluation.statistics.compare import compare_paired, describe_comparison
from ragtune.evaluation.statistics.corrections import CORRECTIONS, adjust_p, correct_comparisons
from ragtune.evaluation.statistics.paired import compare_scores


@given(p_values=st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0])), min_size=1, max_size=6))
def test_holm_is_bonferroni_on_every_set_of_tests(p_values: list[float]) -> None:
    """What it is the short cut of (closed testing): a finding counts once each set with it has one by Bonferroni."""
    every = range(len(p_values))
    sets = [chosen for size in range(1, len(p_values) + 1) for chosen in combinations(every, size)]
    bonferroni = {chosen: min(1.0, len(chosen) * min(p_values[j] for j in chosen)) for chosen in sets}
    expected = [max(p for chosen, p in bonferroni.items() if i in chosen) for i in every]
    assert adjust_p(p_values) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=15, deadline=None)  # theirs takes a tenth of a second for Holm's
@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_as_statsmodels(p_values: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    for ours, theirs in (("holm", "holm"), ("benjamini-hochberg", "fdr_bh")):
        assert adjust_p(p_values, ours) == pytest.approx(multitest.multipletests(p_values, method=theirs)[1], abs=1e-9)


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_hochberg_as_scipy(p_values: list[float]) -> None:
    from scipy.stats import false_discovery_control

    assert adjust_p(p_values, "benjamini-hochberg") == pytest.approx(false_discovery_control(p_values), abs=1e-9)


def test_one_of_many_is_no_longer_shown() -> None:
    a = [True] * 10 + [False] * 20
    comparisons = [compare_paired(a, [True] * 16 + [False] * 14), *[compare_paired(a, a)] * 3]
    assert comparisons[0].p == pytest.approx(0.03125)
    corrected = correct_comparisons(comparisons)
    assert [c.is_shown for c in comparisons] == [True, False, False, False]
    assert not any(c.is_shown for c in corrected)
    assert corrected[0].adjusted_p == pytest.approx(0.125)
    assert "(0.125 after holm)" in describe_comparison(corrected[0], "retrieval")
    scores = correct_comparisons([compare_scores([0.0] * 12, [0.5] * 12), compare_scores([0.1, 0.2], [0.2, 0.1])])
    assert scores[0].is_shown
    assert scores[0].correction == "holm"


@pytest.mark.parametrize("p_values", [[], [0.1, float("nan")], [1.2], [-0.1]])
def test_bad_p_values_are_said(p_values: list[float]) -> None:
    with pytest.raises(RunError, match="p-value"):
        adjust_p(p_values)


def test_an_unknown_correction_is_said() -> None:
    with pytest.raises(RunError, match="Did you mean 'holm'"):
        adjust_p([0.1], "holms")
    assert CORRECTIONS == ("holm", "benjamini-hochberg")
