"""Many comparisons at once: p-values corrected, so that one of twenty is not shown by luck."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeVar

from ragtune.errors import RunError, nearest
from ragtune.evaluation.statistics.compare import Paired

CORRECTIONS = ("holm", "benjamini-hochberg")
AnyComparison = TypeVar("AnyComparison", bound=Paired)


def adjust_p(p_values: Sequence[float], correction: str = "holm") -> tuple[float, ...]:
    """Return adjusted p-values in the order given; one under 1 - confidence is shown.

    'holm' (Scandinavian Journal of Statistics 6, 1979) bounds the chance of any false finding, however the tests depend on
    each other; 'benjamini-hochberg' (Journal of the Royal Statistical Society B 57, 1995) the expected share of false ones
    among the findings, for independent or positively dependent tests. Raises RunError for none, for NaN and for values
    outside 0 to 1.
    """
    if correction not in CORRECTIONS:
        raise RunError(f"no correction '{correction}'. Allowed: {', '.join(CORRECTIONS)}.{nearest(correction, CORRECTIONS)}")
    if not p_values:
        raise RunError("no p-values to correct: nothing was compared. Compare at least two runs.")
    for place, p in enumerate(p_values, start=1):
        if math.isnan(p) or not 0 <= p <= 1:
            raise RunError(f"p-value {place} is {p}. Allowed are numbers from 0 to 1.")
    m = len(p_values)
    order = sorted(range(m), key=lambda i: p_values[i])
    adjusted = [0.0] * m
    if correction == "holm":
        reached = 0.0
        for rank, i in enumerate(order):
            adjusted[i] = reached = max(reached, min(1.0, (m - rank) * p_values[i]))
    else:
        reached = 1.0
        for rank, i in reversed(list(enumerate(order, start=1))):
            adjusted[i] = reached = min(reached, p_values[i] * m / rank)
    return tuple(adjusted)


def correct_comparisons(comparisons: Sequence[AnyComparison], correction: str = "holm") -> tuple[AnyComparison, ...]:
    """Return the comparisons with ``adjusted_p`` set for all of them together; ``is_shown`` then goes by it.

    Raises RunError where there are none.
    """
    adjusted = adjust_p([comparison.p for comparison in comparisons], correction)
    return tuple(
        dataclasses.replace(comparison, adjusted_p=p, correction=correction) for comparison, p in zip(comparisons, adjusted)
    )
