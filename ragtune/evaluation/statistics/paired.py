"""Two runs by a score that is no plain right or wrong (F1, ROUGE, nDCG ...), question by question."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ragtune.evaluation.statistics.clusters import bootstrap_mean, sign_flip_p
from ragtune.evaluation.statistics.compare import Paired, p_text
from ragtune.evaluation.statistics.samples import check_confidence, check_pair, number_clusters


@dataclass(frozen=True, kw_only=True)
class ScoreComparison(Paired):
    """Two runs by their mean scores; ``p`` is the sign-flip test's (clusters.sign_flip_p)."""

    mean_a: float
    mean_b: float


def compare_scores(
    scores_a: Sequence[float],
    scores_b: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> ScoreComparison:
    """Compare two runs by their scores on the same questions; ``clusters`` names each question's document.

    Where all questions hang on one document they count as independent, and what is found holds for that document alone
    (``clusters`` 1 says so). Raises RunError for unequal lengths, none, or scores that are no finite numbers.
    """
    check_confidence(confidence)
    a, b = check_pair(scores_a, scores_b)
    count = 0 if clusters is None else int(number_clusters(clusters, len(a)).max()) + 1
    differences, by = b - a, clusters if count > 1 else None
    return ScoreComparison(
        n=len(a),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=float(differences.mean()),
        interval=bootstrap_mean(differences, by, confidence, seed),
        p=sign_flip_p(differences, by, seed),
        confidence=confidence,
        clusters=count,
    )


def describe_score_comparison(comparison: ScoreComparison, metric: str, a: str = "base", b: str = "tuned") -> str:
    """Return the comparison as one plain sentence."""
    low, high = comparison.interval
    corrected = "" if comparison.adjusted_p is None else f", {p_text(comparison.adjusted_p)} after {comparison.correction}"
    by = f" in {comparison.clusters} documents" if comparison.clusters > 1 else ""
    facts = (
        f"{comparison.mean_b:.3f} against {comparison.mean_a:.3f}, {comparison.difference:+.3f} (paired bootstrap "
        f"{comparison.confidence:.0%} interval {low:+.3f} to {high:+.3f}), sign-flip p = {p_text(comparison.p)}{corrected}, "
        f"n = {comparison.n}{by}."
    )
    if not comparison.is_shown:
        return f"No difference shown in {metric}: {b} against {a} {facts}"
    better, worse = (b, a) if comparison.difference > 0 else (a, b)
    return f"{better.capitalize()} has the higher {metric} than {worse}: {b} against {a} {facts}"
