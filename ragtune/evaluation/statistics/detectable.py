"""How small a difference a number of questions can show at all: the power of McNemar's exact test."""

from __future__ import annotations

from ragtune.errors import RunError
from ragtune.evaluation.statistics.samples import check_confidence, round_up

POWER = 0.8
WORTH_KNOWING = 0.05
"""A difference of shares that most would want to see."""
MAX_QUESTIONS = 1_000_000


def mcnemar_power(n: int, difference: float, discordant: float, confidence: float = 0.95) -> float:
    """Return the chance that McNemar's exact test on n questions shows a true difference, in its direction.

    ``discordant`` is the share of questions that only one side gets right, ``difference`` (of either sign) the share that
    b gains in all; it cannot be larger. Exact: over all numbers of discordant questions, of the binomial of each.
    """
    import numpy as np
    from scipy.stats import binom

    check_confidence(confidence)
    _check_discordant(discordant)
    gain = abs(difference)
    if gain > discordant + 1e-12:
        raise RunError(f"a difference of {difference} needs that many discordant questions; found a share of {discordant}. "
                       "Allowed is a difference of at most the discordant share.")
    if n < 1 or discordant == 0:
        return 0.0
    low, high = binom.ppf([1e-12, 1 - 1e-12], n, discordant)
    counts = np.arange(int(low), int(high) + 1)
    # the least successes of so many fair coins whose upper tail is at most half of what may be wrong
    needed = binom.isf((1 - confidence) / 2, counts, 0.5) + 1
    won = binom.sf(needed - 1, counts, min(1.0, (1 + gain / discordant) / 2))
    return float(np.sum(binom.pmf(counts, n, discordant) * won))


def minimum_detectable_difference(
    n: int, discordant: float, power: float = POWER, confidence: float = 0.95, design_effect: float = 1.0
) -> float | None:
    """Return the smallest true difference of shares that n questions show with this power; None where none is.

    ``discordant`` is taken from a run like it (Comparison.only_a + only_b over n). With few discordant questions even
    winning them all shows nothing: that is None. ``design_effect`` (clusters.design_effect of the differences) says
    how many clustered questions are worth an independent one. Raises RunError for shares outside 0 to 1.
    """
    check_confidence(power)
    _check_discordant(discordant)
    if n < 1 or design_effect < 1:
        raise RunError(f"found {n} questions and a design effect of {design_effect}. Allowed are at least 1 and 1.0.")
    worth = int(n / design_effect)
    if mcnemar_power(worth, discordant, discordant, confidence) < power:
        return None
    low, high = 0.0, discordant
    for _ in range(40):
        middle = (low + high) / 2
        if mcnemar_power(worth, middle, discordant, confidence) < power:
            low = middle
        else:
            high = middle
    return high


def questions_needed(
    difference: float, discordant: float, power: float = POWER, confidence: float = 0.95, design_effect: float = 1.0
) -> int:
    """Return how many questions show this difference with this power, within MAX_QUESTIONS.

    The exact power goes in teeth (one question more can cost some); the number is the first from which on it holds for the
    next three per cent as well. Raises RunError for a difference of 0, and where MAX_QUESTIONS do not show it.
    """
    if difference == 0:
        raise RunError("no number of questions shows a difference of 0. Name the difference worth knowing, such as 0.05.")

    def shows(n: int) -> bool:
        steps = {n, n + n // 100, n + n // 50, n + 3 * n // 100}
        return all(mcnemar_power(step, difference, discordant, confidence) >= power for step in steps)

    high = 4
    while not shows(high):
        high *= 2
        if high > MAX_QUESTIONS:
            raise RunError(f"{MAX_QUESTIONS:,} questions do not show a difference of {difference}. Name a larger one.")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return round_up(high * design_effect)


def describe_detectable(n: int, discordant: float, power: float = POWER, confidence: float = 0.95,
                        design_effect: float = 1.0) -> str:
    """Return the smallest difference that can be shown as plain text, and how many questions a difference of WORTH_KNOWING
    would take where that is smaller."""
    found = minimum_detectable_difference(n, discordant, power, confidence, design_effect)
    more = ""
    if (found is None or found > WORTH_KNOWING) and discordant >= WORTH_KNOWING:
        needed = questions_needed(WORTH_KNOWING, discordant, power, confidence, design_effect)
        more = f" To show {100 * WORTH_KNOWING:.0f} points takes about {needed:,} questions."
    given = f"{n} questions, {100 * discordant:.0f}% of them answered rightly by one side only"
    if found is None:
        return f"With {given}, no difference can be shown with {power:.0%} power: ask more questions.{more}"
    return f"With {given}, a true difference of {100 * found:.1f} points or more is shown with {power:.0%} power.{more}"


def _check_discordant(discordant: float) -> None:
    if not 0 <= discordant <= 1:
        raise RunError(f"the discordant share is {discordant}. Allowed is the share of questions that one side alone gets "
                       "right, from 0 to 1.")
