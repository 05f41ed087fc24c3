"""Intervals and paired tests against values known from elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import RunError
from ragtune.evaluation.statistics.compare import compare_paired, describe_comparison, mcnemar_p, wilson_interval


def test_wilson_interval_known_value() -> None:
    low, high = wilson_interval(81, 263)  # Newcombe (1998), table I: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 10)[0] == pytest.approx(0.0)
    assert wilson_interval(0, 10)[1] > 0.2


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"), [(0, 0, 1.0), (0, 5, 0.0625), (0, 6, 0.03125), (1, 9, 22 / 1024), (5, 5, 1.0)]
)
def test_mcnemar_exact(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar_p(only_a, only_b) == pytest.approx(p)


def test_comparison_counts_discordant_pairs() -> None:
    a = [True] * 10 + [False] * 10 + [True] * 2 + [False] * 8
    b = [True] * 10 + [False] * 10 + [False] * 2 + [True] * 8
    found = compare_paired(a, b)
    assert (found.n, found.only_a, found.only_b) == (30, 2, 8)
    assert found.difference == pytest.approx(0.2)
    assert found.interval[0] < 0.2 < found.interval[1]
    assert not found.is_shown  # p = 0.109
    assert found == compare_paired(a, b)
    assert describe_comparison(found, "retrieval").startswith("No difference shown with retrieval")


def test_a_clear_difference_is_said_with_its_direction() -> None:
    better = compare_paired([False] * 20 + [True] * 10, [True] * 30)
    assert better.is_shown
    assert describe_comparison(better, "oracle").startswith("Tuned is better than base on the oracle page")
    worse = compare_paired([True] * 30, [False] * 20 + [True] * 10)
    assert describe_comparison(worse, "oracle").startswith("Base is better than tuned on the oracle page")


def test_bootstrap_interval_covers_like_the_normal_one() -> None:
    a, b = [True] * 50 + [False] * 150, [True] * 40 + [False] * 10 + [True] * 40 + [False] * 110
    found = compare_paired(a, b)
    half = 1.96 * ((50 / 200 - (30 / 200) ** 2) / 200) ** 0.5  # Wald's for paired shares
    assert found.interval == pytest.approx((0.15 - half, 0.15 + half), abs=0.012)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(RunError, match=r"1 outcomes against 2.*same questions"):
        compare_paired([True], [True, False])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_sides_swap(pairs: list[tuple[bool, bool]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    one, other = compare_paired(a, b), compare_paired(b, a)
    assert one.p == pytest.approx(other.p)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.only_a, one.only_b) == (other.only_b, other.only_a)
