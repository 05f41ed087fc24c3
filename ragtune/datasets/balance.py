"""What is too much of one sort among the training rows is left out, drawn by the seed: refusals, and kinds of questions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from ragtune.answering.prompt import REFUSAL
from ragtune.errors import RunError
from ragtune.recipe.schema import Dataset
from ragtune.records import Example


def balance_rows(examples: Sequence[Example], dataset: Dataset) -> tuple[list[Example], Counter[str]]:
    """Return the rows that keep to ``refusal_share`` and ``max_kind_share``, in their order, and how many were left out, by
    reason.

    Leaving out of one sort changes the share of the other, so both are looked at until nothing changes. Raises RunError
    where there are too few kinds for the share.
    """
    kept, left = list(examples), Counter[str]()
    while True:
        before = len(kept)
        few = cap_refusals(kept, dataset)
        left[f"refusals over dataset.refusal_share {dataset.refusal_share:g}"] += before - len(few)
        kept = cap_kinds(few, dataset)
        fewer = _count_kinds(few)
        fewer.subtract(_count_kinds(kept))
        left.update({f"kind {kind or 'not named'} over dataset.max_kind_share {dataset.max_kind_share:g}": count
                     for kind, count in fewer.items() if count})
        if len(kept) == before:
            return kept, +left


def cap_refusals(examples: Sequence[Example], dataset: Dataset) -> list[Example]:
    """Return the rows without the refusals that are more than the recipe's share of what is left, drawn by the seed."""
    refusals = [example for example in examples if example.completion == REFUSAL]
    share, answers = dataset.refusal_share, len(examples) - len(refusals)
    most = len(refusals) if share == 1 else int(share * answers / (1 - share))
    if most >= len(refusals):
        return list(examples)
    kept = set(map(id, random.Random(f"{dataset.seed}:refusals").sample(refusals, most)))
    return [example for example in examples if example.completion != REFUSAL or id(example) in kept]


def cap_kinds(examples: Sequence[Example], dataset: Dataset) -> list[Example]:
    """Return the rows without those of a kind that are more than the recipe's share of what is left, drawn by the seed.

    As many are kept as can be. Raises RunError where no number of each kind would do: two kinds have no less than a half.
    """
    share, counts = dataset.max_kind_share, _count_kinds(examples)
    if share == 1 or not counts:
        return list(examples)
    if share * len(counts) < 1:
        raise RunError(
            f"dataset.max_kind_share {share:g} cannot be met: the training rows are of {len(counts)} kind(s) "
            f"({', '.join(kind or 'not named' for kind in sorted(counts))}), so that one has a share of "
            f"{1 / len(counts):.2f} at least. Set it to that or more, or give questions of other kinds.")
    most = next(most for most in range(max(counts.values()), 0, -1)
                if most <= share * sum(min(count, most) for count in counts.values()) or most == 1)
    kept: set[int] = set()
    for kind, count in counts.items():
        mine = [id(example) for example in examples if _kind(example) == kind]
        draw = random.Random(f"{dataset.seed}:kind {kind}")
        kept.update(mine if count <= most else draw.sample(mine, most))
    return [example for example in examples if id(example) in kept]


def _kind(example: Example) -> str:
    return str(example.provenance["kind"])


def _count_kinds(examples: Sequence[Example]) -> Counter[str]:
    return Counter(map(_kind, examples))
