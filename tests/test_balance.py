"""Shares of refusals and of kinds: kept to, as many rows as can be, the same under a seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.prompt import REFUSAL
from ragtune.datasets.balance import balance_rows
from ragtune.errors import RunError
from ragtune.recipe.schema import Dataset
from ragtune.records import Example

COUNTS = st.dictionaries(st.sampled_from(["lookup", "ratio", "yes_no", "unanswerable", ""]), st.integers(1, 40), min_size=1)


def rows(**counts: int) -> list[Example]:
    return [Example((), REFUSAL if kind == "unanswerable" or n % 5 == 4 else "Answer: 1", {"kind": kind, "n": n})
            for kind, count in counts.items() for n in range(count)]


def test_no_kind_is_more_than_its_share_and_what_is_left_out_is_counted() -> None:
    kept, left = balance_rows(rows(lookup=80, ratio=20, yes_no=20), Dataset(max_kind_share=0.5))
    assert Counter(row.provenance["kind"] for row in kept) == {"lookup": 40, "ratio": 20, "yes_no": 20}
    assert left == {"kind lookup over dataset.max_kind_share 0.5": 40}
    numbers = [row.provenance["n"] for row in kept if row.provenance["kind"] == "lookup"]
    assert numbers == sorted(numbers) != list(range(40)), "drawn, and in their order"
    assert balance_rows(rows(lookup=80), Dataset()) == (rows(lookup=80), Counter())


def test_too_small_a_share_is_an_error_that_says_how_small_it_may_be() -> None:
    with pytest.raises(RunError, match=r"max_kind_share 0.4 cannot be met.*2 kind\(s\) \(lookup, ratio\).*0.50 at least"):
        balance_rows(rows(lookup=8, ratio=8), Dataset(max_kind_share=0.4))
    kept, _ = balance_rows(rows(lookup=8, ratio=5), Dataset(max_kind_share=0.5))
    assert Counter(row.provenance["kind"] for row in kept) == {"lookup": 5, "ratio": 5}


@given(COUNTS, st.floats(0.05, 1), st.floats(0, 1), st.integers(0, 9))
def test_both_shares_are_kept_to_the_same_again(counts: dict[str, int], kind: float, refusal: float, seed: int) -> None:
    dataset = Dataset(max_kind_share=kind, refusal_share=refusal, seed=seed)
    try:
        kept, left = balance_rows(rows(**counts), dataset)
    except RunError:
        assert kind * len(counts) < 1 or refusal < 1  # refusals that are left out may be the only rows of a kind
        return
    assert (kept, left) == balance_rows(rows(**counts), dataset)
    assert sum(left.values()) + len(kept) == sum(counts.values())
    assert sum(row.completion == REFUSAL for row in kept) <= refusal * len(kept) + 1e-9
    assert all(count <= max(1, kind * len(kept)) for count in Counter(row.provenance["kind"] for row in kept).values())
