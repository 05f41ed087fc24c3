"""What is compared: equally long scores without NaN, the questions two runs share, and the documents they hang on."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

from ragtune.errors import RunError
from ragtune.records import Question

if TYPE_CHECKING:
    import numpy as np

References = Sequence[Union[str, Sequence[str]]]
"""One reference an item, or several of which the best counts."""


def pair_texts(answers: Sequence[str], references: References) -> list[tuple[str, tuple[str, ...]]]:
    """Return each answer with its references. Raises RunError for unequal lengths, none, or an item without one."""
    if len(answers) != len(references):
        raise RunError(f"found {len(answers)} answers and {len(references)} references. Give one or several for each.")
    if not answers:
        raise RunError("there are no answers to score. Give at least one.")
    pairs = []
    for place, (answer, reference) in enumerate(zip(answers, references), start=1):
        several = (reference,) if isinstance(reference, str) else tuple(reference or ())
        if not several or not all(isinstance(text, str) for text in (answer, *several)):
            raise RunError(f"item {place} is {answer!r:.60} against {reference!r:.60}. Allowed is a text and one or more "
                           "reference texts; an empty text stands for no answer.")
        pairs.append((answer, several))
    return pairs


def check_scores(scores: Sequence[float], name: str = "the scores") -> np.ndarray:
    """Return the scores as float64, shape (n,). Raises RunError where there are none or one is NaN or infinite."""
    import numpy as np

    if not len(scores):
        raise RunError(f"{name} are empty: there is nothing to compare. Give at least one answered question.")
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise RunError(f"{name} have the shape {values.shape}. Allowed is one number a question.")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise RunError(
            f"{name} hold {values[bad[0]]} at place {bad[0] + 1}, {len(bad)} such in all. Allowed are finite numbers: mend "
            "the metric, or leave these questions out on both sides."
        )
    return values


def check_pair(scores_a: Sequence[float], scores_b: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides as float64. Raises RunError where they are not equally long, empty, or hold what is no number."""
    if len(scores_a) != len(scores_b):
        raise RunError(
            f"found {len(scores_a)} outcomes against {len(scores_b)}. A paired test needs the same questions on both "
            "sides. Compare the questions that both answered."
        )
    return check_scores(scores_a, "the scores of a"), check_scores(scores_b, "the scores of b")


def check_confidence(confidence: float) -> None:
    """Raise RunError for a confidence that does not lie between 0 and 1."""
    if not 0 < confidence < 1:
        raise RunError(f"the confidence is {confidence}. Allowed is a share between 0 and 1, such as 0.95.")


def common_items(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Return the ids that both sides hold, in a's order, and a sentence on what is left out; '' where nothing is.

    Raises RunError where they share none.
    """
    common = tuple(item for item in a if item in b)
    if not common:
        raise RunError(
            f"the two sides share no question: found {len(a)} against {len(b)} others. Evaluate both on one question file."
        )
    only_a, only_b = len(a) - len(common), len(b) - len(common)
    if not only_a and not only_b:
        return common, ""
    return common, f"{len(common)} common questions are compared; {only_a} only of a and {only_b} only of b are left out."


def clusters_of(questions: Iterable[Question]) -> dict[str, str]:
    """Return question id -> the document it hangs on; a question without evidence stands for itself.

    Questions about one filing are not independent: they share its layout, its words, and whether it was read well. A
    question about several documents joins them into one cluster, named after the first.
    """
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    asked = list(questions)
    for question in asked:
        first, *others = [evidence.document for evidence in question.evidence] or [f"question {question.id}"]
        for other in others:
            parents[root(other)] = root(first)
    return {q.id: root(q.evidence[0].document if q.evidence else f"question {q.id}") for q in asked}


def number_clusters(clusters: Sequence[Hashable] | None, n: int) -> np.ndarray:
    """Return each item's cluster as a number from 0, shape (n,); None gives every item its own.

    Raises RunError where there are not n of them.
    """
    import numpy as np

    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise RunError(f"found {len(clusters)} clusters for {n} scores. Name one cluster (its document) for each question.")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)


def round_up(value: float) -> int:
    """Return the next whole number, forgiving what floats lose."""
    return math.ceil(value - 1e-9)
