"""Clustered intervals and tests: against scipy, against McNemar, and by what they cover when drawn again and again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import RunError
from ragtune.evaluation.statistics import clusters as module
from ragtune.evaluation.statistics.clusters import bootstrap_mean, design_effect, share_interval, sign_flip_p
from ragtune.evaluation.statistics.compare import compare_paired, describe_comparison, mcnemar_p, wilson_interval


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=60))
def test_one_question_a_document_is_mcnemars_test(differences: list[int]) -> None:
    expected = mcnemar_p(differences.count(-1), differences.count(1))
    assert sign_flip_p(differences) == pytest.approx(expected, abs=1e-9)
    assert sign_flip_p(differences, list(range(len(differences)))) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_sign_flips_as_scipy_enumerates_them(seed: int) -> None:
    from scipy.stats import permutation_test

    draw = np.random.default_rng(seed)
    whole, split = draw.integers(-3, 4, 9), draw.normal(0.3, 1, 9)
    for sums in (whole, split):
        found = permutation_test(
            (sums, np.zeros(9)), lambda x, y: np.sum(x - y), permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip_p(sums.tolist()) == pytest.approx(found.pvalue, abs=1e-9)


def test_a_document_flips_as_a_whole() -> None:
    # 6 gains: each in its own document p = 2/64; on two documents only two signs are free
    assert sign_flip_p([1] * 6) == pytest.approx(2 / 64)
    assert sign_flip_p([1] * 6, "aaabbb") == pytest.approx(2 / 4)
    assert sign_flip_p([1, -1, 1, -1], "aabb") == 1.0


def test_drawn_signs_agree_with_enumerated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(0.5, 1, 11).tolist()
    exact = sign_flip_p(values)
    monkeypatch.setattr(module, "MAX_ENUMERATED", 0)
    drawn = sign_flip_p(values, seed=1)
    assert drawn == pytest.approx(exact, abs=4 * (exact * (1 - exact) / module.RESAMPLES) ** 0.5)
    assert drawn == sign_flip_p(values, seed=1)


def test_bootstrap_as_scipys_percentiles() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).gamma(2, 1, 400)
    expected = bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1, batch=500).confidence_interval
    assert bootstrap_mean(values.tolist()) == pytest.approx((expected.low, expected.high), abs=0.012)


def test_clusters_of_equal_items_count_once() -> None:
    values = np.random.default_rng(0).normal(size=20)
    twice, documents = np.repeat(values, 5).tolist(), np.repeat(np.arange(20), 5).tolist()
    assert bootstrap_mean(twice, documents, seed=2) == pytest.approx(bootstrap_mean(values.tolist(), seed=2))
    assert design_effect(twice, documents) == pytest.approx(5 * 20 / 19 * 99 / 100)
    assert design_effect(values.tolist(), None) == design_effect(values.tolist(), list(range(20))) == 1.0
    assert design_effect([1.0] * 8, "aabbccdd") == 1.0


def test_intervals_cover_where_answers_hang_together() -> None:
    """300 samples of 25 documents with 1 to 5 questions each; one that takes questions as independent misses too often."""
    draw = np.random.default_rng(20)
    covered = np.zeros(3)
    for _ in range(300):
        documents = np.repeat(np.arange(25), draw.integers(1, 6, 25))
        hard = draw.beta(0.6, 0.9, 25)  # how likely an answer about each document is right: 0.4 in the mean
        right = draw.random(len(documents)) < hard[documents]
        intervals = (
            share_interval(right.tolist(), documents.tolist()),
            bootstrap_mean(right.astype(float).tolist(), documents.tolist()),
            wilson_interval(int(right.sum()), len(right)),
        )
        covered += [bottom <= 0.4 <= top for bottom, top in intervals]
    wilson, bootstrap, naive = covered / 300
    assert 0.92 <= wilson <= 0.99
    assert 0.91 <= bootstrap <= 0.98
    assert naive < 0.88


def test_sign_flips_keep_their_level_where_mcnemar_does_not() -> None:
    """400 pairs of equally good systems, each of which one document or the other suits as a whole."""
    draw = np.random.default_rng(7)
    documents = np.repeat(np.arange(15), 6).tolist()
    shown = np.zeros(2)
    for _ in range(400):
        suits = draw.choice([0.15, 0.5, 0.85], 15)[documents]
        a, b = draw.random(90) < suits, draw.random(90) < 1 - suits
        shown += [compare_paired(a.tolist(), b.tolist(), clusters=by).p < 0.05 if by else
                  mcnemar_p(int((a & ~b).sum()), int((b & ~a).sum())) < 0.05 for by in (documents, None)]
    clustered, plain = shown / 400
    assert clustered <= 0.075
    assert plain > 0.15


def test_share_interval_is_wilsons_without_clusters() -> None:
    outcomes = [True] * 81 + [False] * 182
    assert share_interval(outcomes) == pytest.approx(wilson_interval(81, 263), abs=1e-12)
    assert share_interval([True, False], "aa") == (0.0, 1.0)
    assert share_interval([False] * 10, range(10))[0] == 0.0
    assert share_interval([True] * 40, [i // 10 for i in range(40)]) == share_interval([True] * 4, range(4))


def test_a_comparison_by_documents_says_so() -> None:
    a, b = [False] * 24, [True] * 12 + [False] * 12
    plain = compare_paired(a, b)
    by_document = compare_paired(a, b, clusters=[i // 4 for i in range(24)])
    assert (plain.test, by_document.test, by_document.clusters) == ("mcnemar", "sign_flips", 6)
    assert plain.is_shown
    assert by_document.p == pytest.approx(0.25)  # three documents differ
    assert "sign flips of 6 documents p = 0.250" in describe_comparison(by_document, "retrieval")
    low, high = by_document.interval
    assert low < plain.interval[0] < plain.interval[1] < high
    alone = compare_paired(a, b, clusters=["one"] * 24)
    assert (alone.p, alone.interval, alone.clusters, alone.test) == (plain.p, plain.interval, 1, "mcnemar")
    assert "All questions are about one document" in describe_comparison(alone, "retrieval")


@pytest.mark.parametrize("call", [
    lambda: sign_flip_p([1.0, float("nan")]), lambda: bootstrap_mean([]), lambda: bootstrap_mean([1.0], ["a", "b"]),
    lambda: share_interval([]), lambda: share_interval([True], confidence=95), lambda: design_effect([float("inf")], None),
])  # fmt: skip
def test_bad_input_is_said(call) -> None:
    with pytest.raises(RunError, match="Allowed|Give|Name"):
        call()


def test_one_cluster_bounds_nothing() -> None:
    assert bootstrap_mean([1.0, 2.0], "aa") == (-np.inf, np.inf)
