"""The gate: what was fitted is kept only where it surely raises recall on questions it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragtune.records import Record

if TYPE_CHECKING:
    import numpy as np

RECALL_AT = (1, 5, 20)
SCOPE_NAMES = {"shared": "whole index", "document": "right document"}


@dataclass(frozen=True)
class RecallRow(Record):
    """Recall of pages at k before and after: the share of n questions with an evidence page among the first k hits.

    ``gained`` questions find it only after, ``lost`` only before; ``p`` is McNemar's exact two-sided one.
    """

    scope: str
    k: int
    n: int
    before: float
    after: float
    gained: int
    lost: int
    p: float


@dataclass(frozen=True)
class Verdict(Record):
    """Whether the gate lets it pass, why, and the recall it judged by."""

    is_accepted: bool
    reason: str
    rows: tuple[RecallRow, ...]

    @property
    def gain(self) -> int:
        """Questions gained less those lost, over all rows: what the best of several is chosen by."""
        return sum(row.gained - row.lost for row in self.rows)


def judge_ranks(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], k: int, max_p: float) -> Verdict:
    """Judge ranks (from 1, 0 for not found) of the same held-out questions before and after, by scope.

    Passes where recall at ``k`` falls in no scope and in at least one rises with a p of at most ``max_p``.
    """
    rows = tuple(_compare(scope, at, before[scope], after[scope]) for scope in before for at in sorted({*RECALL_AT, k}))
    deciding = [row for row in rows if row.k == k]
    fallen = [row for row in deciding if row.gained < row.lost]
    risen = [row for row in deciding if row.gained > row.lost and row.p <= max_p]
    told = "; ".join(_tell(row) for row in deciding)
    if fallen:
        return Verdict(False, f"refused, recall on held-out questions falls: {told}", rows)
    if not risen:
        return Verdict(False, f"refused, recall on held-out questions does not surely rise (p ≤ {max_p:g}): {told}", rows)
    return Verdict(True, f"accepted, recall on held-out questions rises: {told}", rows)


def _tell(row: RecallRow) -> str:
    p = "p < .0001" if row.p < 1e-4 else f"p = {row.p:.2g}"
    return (f"{SCOPE_NAMES.get(row.scope, row.scope)} recall@{row.k} {row.before:.3f} → {row.after:.3f} "
            f"(n = {row.n}, {row.gained} gained, {row.lost} lost, {p})")


def _compare(scope: str, k: int, before: np.ndarray, after: np.ndarray) -> RecallRow:
    from scipy.stats import binomtest

    had, has = (before > 0) & (before <= k), (after > 0) & (after <= k)
    gained, lost, n = int((has & ~had).sum()), int((had & ~has).sum()), len(had)
    p = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    return RecallRow(scope, k, n, round(float(had.mean()), 4) if n else 0.0, round(float(has.mean()), 4) if n else 0.0,
                     gained, lost, p)


def render_table(rows: Sequence[RecallRow]) -> list[tuple[str, ...]]:
    """Return the table of recall as cells, its head first."""
    head = ("where", "recall@", "before", "after", "gained", "lost", "p", "n")
    return [head, *((SCOPE_NAMES.get(row.scope, row.scope), str(row.k), f"{row.before:.3f}", f"{row.after:.3f}",
                     str(row.gained), str(row.lost), f"{row.p:.2g}", str(row.n)) for row in rows)]
