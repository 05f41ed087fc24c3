"""How far two judges of the same answers agree beyond chance: Cohen's kappa with its interval, and its weighted form."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ragtune.errors import RunError
from ragtune.evaluation.statistics.samples import check_confidence, number_clusters
from ragtune.records import Record

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2_000
_BLOCK = 2_000_000


@dataclass(frozen=True)
class Agreement(Record):
    """Two judges, a and b, on the same n items. ``share`` is that of items on which they say the same.

    ``kappa`` (-1 to 1) is None where both only ever say one and the same thing: chance then explains all agreement, and
    nothing is left to measure. ``interval`` is its cluster bootstrap's. ``table`` counts a's label -> b's label -> items.
    """

    n: int
    share: float
    kappa: float | None
    interval: tuple[float, float] | None
    confidence: float = 0.95
    clusters: int = 0
    is_weighted: bool = False
    table: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable], scale: Sequence[Hashable] | None = None) -> float | None:
    """Return Cohen's kappa of two equally long lists of labels; None where it is not defined.

    ``scale`` (all labels, lowest first) weights a difference by its square (Psychological Bulletin 70, 1968), as suits
    ratings. Raises RunError for unequal lengths, none, and a label outside the scale.
    """
    return _kappa(_count(a, b, scale), scale is not None)


def measure_agreement(
    a: Sequence[str],
    b: Sequence[str],
    scale: Sequence[str] | None = None,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Return how far a and b agree, with the percentile bootstrap's interval of kappa; whole clusters are drawn.

    Draws in which kappa is not defined are left out; there is no interval where that is more than half of them, or where
    all items are of one cluster. Raises RunError as ``cohen_kappa`` does.
    """
    import numpy as np

    check_confidence(confidence)
    counts = _count(a, b, scale)
    numbers = number_clusters(clusters, len(a))
    names, per_cluster = _labels(a, b, scale), int(numbers.max()) + 1
    tables = np.zeros((per_cluster, len(names) ** 2))
    place = {name: i for i, name in enumerate(names)}
    np.add.at(tables, (numbers, np.array([place[x] * len(names) + place[y] for x, y in zip(a, b)])), 1)
    drawn = _resample(tables, len(names), scale is not None, seed)
    interval = None
    if per_cluster > 1 and len(drawn) > RESAMPLES / 2:
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        interval = float(low), float(high)
    table = {str(x): {str(y): int(n) for y, n in zip(names, row) if n} for x, row in zip(names, counts)}
    return Agreement(
        n=len(a), share=float(np.trace(counts) / len(a)), kappa=_kappa(counts, scale is not None), interval=interval,
        confidence=confidence, clusters=0 if clusters is None else per_cluster, is_weighted=scale is not None,
        table={x: row for x, row in table.items() if row},
    )


def _labels(a: Sequence[Hashable], b: Sequence[Hashable], scale: Sequence[Hashable] | None) -> list[Hashable]:
    return list(scale) if scale is not None else sorted({*a, *b}, key=str)


def _count(a: Sequence[Hashable], b: Sequence[Hashable], scale: Sequence[Hashable] | None) -> np.ndarray:
    """Return how often each pair of labels occurs, shape (labels, labels): a's by row."""
    import numpy as np

    if len(a) != len(b) or not a:
        raise RunError(f"found {len(a)} labels against {len(b)}. Agreement needs the same items on both sides.")
    place = {name: i for i, name in enumerate(_labels(a, b, scale))}
    if strange := next((label for label in (*a, *b) if label not in place), None):
        raise RunError(f"found the label {strange!r}. Allowed: {', '.join(map(str, place))}.")
    counts = np.zeros((len(place), len(place)))
    np.add.at(counts, ([place[x] for x in a], [place[y] for y in b]), 1)
    return counts


def _resample(tables: np.ndarray, labels: int, is_weighted: bool, seed: int) -> list[float]:
    """Return the defined kappas of RESAMPLES draws of clusters; ``tables`` has shape (clusters, labels squared)."""
    import numpy as np

    draw, k = np.random.default_rng(seed), len(tables)
    rows = max(1, min(RESAMPLES, _BLOCK // k))
    found: list[float] = []
    for start in range(0, RESAMPLES, rows):
        drawn = draw.multinomial(k, np.full(k, 1 / k), min(rows, RESAMPLES - start)) @ tables
        kappas = _kappas(drawn.reshape(-1, labels, labels), is_weighted)
        found += kappas[np.isfinite(kappas)].tolist()
    return found


def _kappa(counts: np.ndarray, is_weighted: bool) -> float | None:
    found = float(_kappas(counts[None], is_weighted)[0])
    return None if math.isnan(found) else found


def _kappas(counts: np.ndarray, is_weighted: bool) -> np.ndarray:
    """Return 1 - observed over expected disagreement of each table, shape (tables,); NaN where none is to be expected."""
    import numpy as np

    places = np.arange(counts.shape[1])
    weights = np.subtract.outer(places, places) ** 2.0 if is_weighted else 1.0 - np.eye(len(places))
    observed = (weights * counts).sum(axis=(1, 2)) * counts.sum(axis=(1, 2))
    expected = np.einsum("ij,ti,tj->t", weights, counts.sum(axis=2), counts.sum(axis=1))
    return 1 - observed / np.where(expected > 0, expected, np.nan)


def chance_higher(higher: Sequence[float], lower: Sequence[float]) -> float | None:
    """Return the chance that a score of one group is over one of the other, ties counting half (the area under the ROC
    curve): 0.5 tells nothing apart, 1 everything. None where a group is empty."""
    from scipy.stats import mannwhitneyu

    if not higher or not lower:
        return None
    return float(mannwhitneyu(higher, lower).statistic) / (len(higher) * len(lower))


def describe_agreement(agreement: Agreement, a: str, b: str) -> str:
    """Return the agreement as one plain sentence."""
    counted = f"on {agreement.share:.0%} of {agreement.n:,} answers"
    if agreement.kappa is None:
        return f"{a} and {b} agree {counted}; kappa is not defined, as both say one thing only."
    name = "weighted kappa" if agreement.is_weighted else "kappa"
    spread = "no interval: too few" if agreement.interval is None else (
        f"{agreement.confidence:.0%} interval {agreement.interval[0]:.2f} to {agreement.interval[1]:.2f}")
    return f"{a} and {b} agree {counted}; {name} {agreement.kappa:.2f} ({spread})."
