"""Is one better than the other, by how much, surely or by luck: intervals and paired tests on the same questions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ragtune.errors import RunError
from ragtune.evaluation.statistics.clusters import bootstrap_mean, sign_flip_p
from ragtune.evaluation.statistics.samples import check_confidence, check_pair, number_clusters
from ragtune.records import Record

RESAMPLES = 10_000
_PLACES = {"closed_book": "without passages (closed book)", "retrieval": "with retrieval", "oracle": "on the oracle page"}


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval for a share; (0, 1) where nothing was asked. Raises RunError for more successes than n."""
    check_confidence(confidence)
    if not 0 <= successes <= n:
        raise RunError(f"found {successes} successes among {n}. Allowed are 0 to {n}.")
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Return the two-sided p of McNemar's exact test: a fair coin over the questions only one side got right."""
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_b, only_a + only_b, 0.5).pvalue)


@dataclass(frozen=True, kw_only=True)
class Paired(Record):
    """Two runs, a and b, on the same n questions. ``difference`` is b's mean less a's, ``interval`` its paired bootstrap's.

    ``p`` is the paired test's. Where ``clusters`` (documents) is over 1, test and interval go by whole clusters.
    ``adjusted_p`` is p corrected as one of many by ``correction`` (corrections.correct_comparisons).
    """

    n: int
    difference: float
    interval: tuple[float, float]
    p: float
    confidence: float = 0.95
    clusters: int = 0
    adjusted_p: float | None = None
    correction: str = ""

    @property
    def is_shown(self) -> bool:
        """Whether the test, corrected where it is one of many, shows a difference at this confidence."""
        return (self.p if self.adjusted_p is None else self.adjusted_p) < 1 - self.confidence


@dataclass(frozen=True, kw_only=True)
class Comparison(Paired):
    """Two models by right and wrong; ``only_a`` and ``only_b`` count the questions that only one of them got right.

    ``p`` is McNemar's exact two-sided one; by clusters it is the exact sign-flip test's, which is McNemar's own for one
    question a document.
    """

    only_a: int
    only_b: int

    @property
    def test(self) -> str:
        """Which test gave ``p``: 'mcnemar', or 'sign_flips' of whole documents."""
        return "sign_flips" if self.clusters > 1 else "mcnemar"

    @property
    def mcnemar(self) -> float:
        """The p of McNemar's exact test, which takes the questions as independent: surer than it may be by documents."""
        return mcnemar_p(self.only_a, self.only_b)

    @property
    def discordant(self) -> float:
        """The share of questions that only one side got right, which says what a difference would have to be."""
        return (self.only_a + self.only_b) / self.n if self.n else 0.0


def compare_paired(
    outcomes_a: Sequence[bool],
    outcomes_b: Sequence[bool],
    confidence: float = 0.95,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> Comparison:
    """Compare right/wrong outcomes of two models, item by item about the same questions.

    ``clusters`` names each question's document (samples.clusters_of); None takes the questions as independent. Where all
    hang on one document they count as independent too, and what is found holds for that document alone (``clusters`` 1).
    Raises RunError where the two are not equally long, or empty.
    """
    check_confidence(confidence)
    check_pair(outcomes_a, outcomes_b)
    n = len(outcomes_a)
    only_a = sum(bool(a) and not b for a, b in zip(outcomes_a, outcomes_b))
    only_b = sum(bool(b) and not a for a, b in zip(outcomes_a, outcomes_b))
    difference = (only_b - only_a) / n
    count = 0 if clusters is None else int(number_clusters(clusters, n).max()) + 1
    if count > 1:
        gains = [bool(b) - bool(a) for a, b in zip(outcomes_a, outcomes_b)]
        interval, p = bootstrap_mean(gains, clusters, confidence, seed), sign_flip_p(gains, clusters, seed)
    else:
        interval, p = bootstrap_difference(only_a, only_b, n, confidence, seed), mcnemar_p(only_a, only_b)
    return Comparison(n=n, only_a=only_a, only_b=only_b, difference=difference, interval=interval, p=p,
                      confidence=confidence, clusters=count)


def bootstrap_difference(only_a: int, only_b: int, n: int, confidence: float, seed: int) -> tuple[float, float]:
    """Return the paired bootstrap's percentile interval of the difference of shares.

    Drawing n questions with replacement and keeping their pairs together is, for right/wrong, one multinomial draw
    over (only a, only b, both or neither); (-1, 1) where nothing was asked.
    """
    if n == 0:
        return -1.0, 1.0
    import numpy as np

    draws = np.random.default_rng(seed).multinomial(n, [only_a / n, only_b / n, 1 - (only_a + only_b) / n], RESAMPLES)
    differences = (draws[:, 1] - draws[:, 0]) / n
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def describe_comparison(comparison: Comparison, setting: str, a: str = "base", b: str = "tuned") -> str:
    """Return the comparison as one plain sentence."""
    place = _PLACES.get(setting, setting)
    if comparison.only_a + comparison.only_b == 0:
        return f"No difference shown {place}: every one of {comparison.n} questions has the same outcome for {a} and {b}."
    low, high = comparison.interval
    test = f"sign flips of {comparison.clusters} documents" if comparison.clusters > 1 else "McNemar"
    beside = f" (McNemar over questions {p_text(comparison.mcnemar)})" if comparison.clusters > 1 else ""
    corrected = "" if comparison.adjusted_p is None else f" ({p_text(comparison.adjusted_p)} after {comparison.correction})"
    facts = (
        f"{100 * comparison.difference:+.0f} points (paired bootstrap {comparison.confidence:.0%} interval {100 * low:+.0f} "
        f"to {100 * high:+.0f}), {test} p = {p_text(comparison.p)}{corrected}{beside}; right only by {b} "
        f"{comparison.only_b}, only by {a} {comparison.only_a}, n = {comparison.n}."
    )
    if comparison.clusters == 1:
        facts += " All questions are about one document, of which alone this speaks."
    if not comparison.is_shown:
        return f"No difference shown {place}: {b} against {a} {facts}"
    better, worse = (b, a) if comparison.difference > 0 else (a, b)
    return f"{better.capitalize()} is better than {worse} {place}: {b} against {a} {facts}"


def p_text(p: float) -> str:
    """Return a p-value as it is printed."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
