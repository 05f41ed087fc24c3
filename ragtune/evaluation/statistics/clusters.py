"""Intervals and tests that respect clusters: questions about one document stand or fall together.

The test flips the signs of whole clusters. Where two systems are equally good, a document on which b gains three answers
is as likely as one on which a does; so each document's sum of differences keeps its size and takes either sign. The
distribution over all sign changes is exact, for any number of documents (Gail and others, Statistics in Medicine 15, 1996,
on pairs of communities; Canay, Romano and Shaikh, Econometrica 85, 2017, on few clusters of unequal size). With one
question a document it is McNemar's exact test. Durkalski's chi-square for clustered pairs (Statistics in Medicine 22, 2003)
is its approximation for many documents.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

from ragtune.evaluation.statistics.samples import check_confidence, check_scores, number_clusters

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 10_000
MAX_ENUMERATED = 12
"""Up to so many clusters all sign changes of scores are gone through (4,096); above it RESAMPLES are drawn."""
_BLOCK = 2_000_000
_MAX_CONVOLVED = 100_000_000
_SLACK = 1e-9


def sum_clusters(values: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return each cluster's sum and size, both of shape (clusters,). Raises RunError for values that are no numbers."""
    import numpy as np

    checked = check_scores(values)
    numbers = number_clusters(clusters, len(checked))
    return np.bincount(numbers, weights=checked), np.bincount(numbers).astype(np.float64)


def sign_flip_p(differences: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0) -> float:
    """Return the two-sided p of the sign-flip test on differences b - a, one an item.

    Exact for whole numbers (right/wrong outcomes, up to some 5,000 clusters) and for up to MAX_ENUMERATED clusters that
    differ; else from RESAMPLES draws, the observed one counted with them (so never 0). K clusters that differ allow no p
    under 2 / 2**K.
    """
    import numpy as np

    sums, _ = sum_clusters(differences, clusters)
    sizes, observed = np.abs(sums[sums != 0]), abs(float(sums.sum()))
    if not len(sizes):
        return 1.0
    if np.all(sizes == np.round(sizes)) and len(sizes) * sizes.sum() <= _MAX_CONVOLVED:
        return _exact_p(sizes.astype(np.int64), round(observed))
    reached = observed * (1 - _SLACK) - _SLACK * sizes.max()
    if len(sizes) <= MAX_ENUMERATED:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(sizes))))
        return float(np.mean(np.abs(signs @ sizes) >= reached))
    draw = np.random.default_rng(seed)
    met = sum(int(np.sum(np.abs((2.0 * draw.integers(0, 2, (rows, len(sizes))) - 1) @ sizes) >= reached))
              for rows in _blocks(len(sizes)))
    return (met + 1) / (RESAMPLES + 1)


def _exact_p(sizes: np.ndarray, observed: int) -> float:
    """Return the share of all sign changes whose sum is as far from 0: the distributions of +-size, convolved."""
    import numpy as np

    reach = int(sizes.sum())
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1.0
    for size in sizes:
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2  # what is rolled around is 0: reach is the sum
    far = np.abs(np.arange(-reach, reach + 1)) >= observed
    return min(1.0, float(chances[far].sum()))


def bootstrap_mean(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the bootstrap interval of the mean over items; whole clusters are drawn, in RESAMPLES draws.

    The percentiles are those of Hesterberg's expanded interval (The American Statistician 69, 2015), which makes up for the
    bootstrap's being too narrow for few clusters as Student's t does. With one cluster it is infinite.
    """
    import numpy as np

    check_confidence(confidence)
    sums, sizes = sum_clusters(values, clusters)
    k = len(sums)
    if k < 2:
        return -np.inf, np.inf
    draw = np.random.default_rng(seed)
    drawn = (draw.integers(0, k, (rows, k)) for rows in _blocks(k))
    means = np.concatenate([sums[picked].sum(axis=1) / sizes[picked].sum(axis=1) for picked in drawn])
    low, high = np.quantile(means, _expanded(k, confidence))
    return float(low), float(high)


def _blocks(width: int) -> Iterator[int]:
    """Yield numbers of rows that add up to RESAMPLES, so that no block of draws is large."""
    step = max(1, min(RESAMPLES, _BLOCK // width))
    return (min(step, RESAMPLES - start) for start in range(0, RESAMPLES, step))


def _expanded(k: int, confidence: float) -> tuple[float, float]:
    from scipy.stats import norm, t

    tail = float(norm.cdf((k / (k - 1)) ** 0.5 * t.ppf((1 - confidence) / 2, k - 1)))
    return tail, 1 - tail


def design_effect(values: Sequence[float], clusters: Sequence[Hashable] | None) -> float:
    """Return by how much clusters widen the variance of the mean against independent items; at least 1.

    The linearised variance of a ratio of cluster sums over that of a plain mean (Rao and Scott, Biometrics 48, 1992). n
    items are worth n / design effect independent ones. 1 without clusters, with one, and where all values are equal.
    """
    import numpy as np

    sums, sizes = sum_clusters(values, clusters)
    n, k = sizes.sum(), len(sums)
    plain = float(np.var(np.asarray(values, dtype=np.float64), ddof=1)) / n if n > 1 else 0.0
    if clusters is None or k < 2 or plain == 0:
        return 1.0
    clustered = k / (k - 1) * float(np.sum((sums - sizes * sums.sum() / n) ** 2)) / n**2
    return max(1.0, clustered / plain)


def share_interval(
    outcomes: Sequence[bool], clusters: Sequence[Hashable] | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Wilson's interval for a share, by the number of independent items that clustered ones are worth.

    n is divided by the design effect (Franco, Little, Louis and Slud, Journal of Survey Statistics and Methodology 7, 2019),
    and Student's t on clusters - 1 degrees of freedom takes the normal's place. Where all outcomes are alike nothing tells
    how much they hang together: each cluster then counts once. Without clusters it is Wilson's own; one gives (0, 1).
    """
    from scipy.stats import norm, t

    check_confidence(confidence)
    values = [float(outcome) for outcome in outcomes]
    sums, _ = sum_clusters(values, clusters)
    if clusters is not None and len(sums) < 2 <= len(values):
        return 0.0, 1.0
    share = sum(values) / len(values)
    n = len(sums) if share in (0, 1) else len(values) / design_effect(values, clusters)
    tail: Callable[[float], float] = norm.ppf if clusters is None else lambda q: t.ppf(q, max(len(sums) - 1, 1))
    z = float(tail((1 + confidence) / 2))
    middle, half = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return 0.0 if share == 0 else float(low), 1.0 if share == 1 else float(high)
