"""MinHash against the exact Jaccard similarity, and which sets meet in a bucket."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.near import Buckets, estimate_jaccard, hash_grams, jaccard, sign_sets, split_words

SETS = st.frozensets(st.integers(0, 2**64 - 1), max_size=40)


def overlapping(share: float, draw: random.Random, size: int = 200) -> tuple[frozenset[int], frozenset[int]]:
    """Return two sets of the wanted Jaccard similarity."""
    shared = round(2 * size * share / (1 + share))
    numbers = [draw.getrandbits(64) for _ in range(2 * size - shared)]
    return frozenset(numbers[:size]), frozenset(numbers[size - shared:])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_the_estimate_is_near_the_exact_similarity(share: float) -> None:
    draw = random.Random(int(100 * share))
    errors = []
    for _ in range(20):
        one, other = overlapping(share, draw)
        first, second = sign_sets([one, other], 256)
        errors.append(estimate_jaccard(first, second) - jaccard(one, other))
    assert abs(float(np.mean(errors))) < 0.02, "no bias"
    assert max(map(abs, errors)) < 0.13, "four standard deviations of 256 places"


@given(st.lists(SETS, max_size=6))
def test_a_signature_is_of_its_set_alone(sets: list[frozenset[int]]) -> None:
    together = sign_sets(sets, 8)
    assert together.shape == (len(sets), 8)
    for row, members in zip(together, sets):
        assert (row == sign_sets([members], 8)[0]).all()
        assert (row == 2**32 - 1).all() == (not members)


@given(SETS, SETS)
def test_jaccard_is_the_share_of_what_both_hold(one: frozenset[int], other: frozenset[int]) -> None:
    assert jaccard(one, other) == jaccard(other, one)
    assert jaccard(one, one) == 1
    if one | other:
        assert jaccard(one, other) == len(one & other) / len(one | other)


def test_words_and_grams() -> None:
    assert split_words("What was Acme's net sales in FY2021, $4,210.5?") == [
        "what", "was", "acme", "net", "sales", "in", "fy2021", "4,210.5"]
    assert len(hash_grams(split_words("a b c d"), 3)) == 2
    assert len(hash_grams(split_words("a b"), 3)) == 1
    assert hash_grams([], 3) == frozenset()
    assert hash_grams(["a"], 1) == hash_grams(["a"], 1) != hash_grams(["b"], 1)


def test_like_sets_meet_and_unlike_ones_or_other_blocks_do_not() -> None:
    draw, buckets = random.Random(7), Buckets(16, 4)
    pairs = [overlapping(0.85, draw) for _ in range(60)]
    for number, bands in enumerate(buckets.sign([one for one, _ in pairs])):
        buckets.add(number, "block", bands)
    others = buckets.sign([other for _, other in pairs])
    assert sum(number in buckets.find("block", bands) for number, bands in enumerate(others)) >= 59
    assert sum(len(buckets.find("block", bands) - {number}) for number, bands in enumerate(others)) == 0
    assert not any(buckets.find("another block", bands) for bands in others)
