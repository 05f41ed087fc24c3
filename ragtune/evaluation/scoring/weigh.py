"""Weighs an answer's signs into probabilities, by logistic regressions whose weights are plain data (scorer.json).

One regression for each kind of reference says how probable 'correct' is; another says how probable a refusal is where the
answer is not correct. scripts/scorer/fit.py fits them on answers that people labelled and writes the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from ragtune.errors import RunError
from ragtune.records import Outcome

FILE = "scorer.json"
FORMAT = 1
REFUSED = "refused"
MOST_CONTRADICTED = 0.1
"""The highest probability of an answer that says the opposite of its reference."""
MOST_NAMED = 2
"""Signs that are named in a reason."""
TOLD: dict[str, tuple[str, str]] = {
    "rules_correct": ("the rules find it right", "the rules find it wrong"),
    "apologies": ("it apologises", "it does not apologise"),
    "firm_end": ("it ends by saying that it cannot tell", "it does not end in a refusal"),
    "refuses": ("it sounds like a refusal", "it does not sound like a refusal"),
    "figures_met": ("the reference's figures are met", "the reference's figures are not met"),
    "figures_contradicted": ("its figures are others", "its figures contradict none"),
    "figures_asked_missing": ("figures that are asked for lack", "no figure that is asked for lacks"),
    "claims_agree": ("its claims side with the reference", "its claims go against the reference"),
    "polarity_agrees": ("it says yes or no as the reference does", "it says yes or no against the reference"),
    "alike": ("the reference's meaning is met", "the reference's meaning is not met"),
    "alike_place": ("one place holds the reference's meaning", "no place holds the reference's meaning"),
    "alike_asked": ("the reference's meaning is met", "the reference's meaning is not met"),
    "gram_recall": ("it holds the reference's wording", "it lacks the reference's wording"),
    "recall": ("it holds the reference's words", "it lacks the reference's words"),
    "window_recall": ("one place holds the reference's words", "no place holds the reference's words"),
    "head_recall": ("it holds what the reference begins with", "it lacks what the reference begins with"),
    "head_focus": ("where it restates the question it names the same",
                   "where it restates the question it names something else"),
    "choice_agrees": ("it picks the same option", "it picks another option"),
}
"""What a sign says above its mean and below it; signs that are not here are not named in reasons."""


@dataclass(frozen=True)
class Regression:
    """A logistic regression: bias, a weight for each sign, and the signs' means, against which reasons are told."""

    bias: float
    weights: Mapping[str, float]
    means: Mapping[str, float]

    def probability(self, signs: Mapping[str, float]) -> float:
        """Return the probability, from 0 to 1; a sign that is not there is 0."""
        total = self.bias + sum(weight * signs.get(name, 0.0) for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, total))))

    def strongest(self, signs: Mapping[str, float], is_for: bool) -> tuple[str, ...]:
        """Return in words the signs that speak most for (or against) it, the strongest first."""
        pulls = {name: self.weights[name] * (signs.get(name, 0.0) - self.means.get(name, 0.0)) * (1 if is_for else -1)
                 for name in self.weights if name in TOLD}
        names = sorted((name for name in pulls if pulls[name] > 0), key=lambda name: -pulls[name])
        told = (TOLD[name][0 if signs.get(name, 0.0) > self.means.get(name, 0.0) else 1] for name in names)
        return tuple(dict.fromkeys(told))[:MOST_NAMED]


@dataclass(frozen=True)
class Weighed:
    """Probabilities of the three outcomes and the signs that decide between correct and not, in words."""

    correct: float
    refused: float
    told: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        """The outcome: correct where that is the likelier half, else wrong or refused, the likelier."""
        if self.correct > 0.5:
            return "correct"
        return "refused" if self.refused >= (1 - self.correct) / 2 else "wrong"

    @property
    def confidence(self) -> float:
        """How sure it is that the answer is correct, or that it is not; from 0.5 to 1."""
        return max(self.correct, 1 - self.correct)


@lru_cache(maxsize=1)
def load_weights() -> dict[str, dict[str, Regression]]:
    """Return the regressions by set ('alike' with the embedder's signs, 'plain' without them) and kind of reference.

    Raises RunError where the file is not one of this version.
    """
    file = resources.files("ragtune.evaluation.scoring") / FILE
    try:
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file}: the scorer's weights cannot be read ({error}). Install ragtune again.") from error
    if stored.get("format") != FORMAT:
        raise RunError(f"{file} has format {stored.get('format')}, this ragtune reads {FORMAT}. Install ragtune again.")
    return {name: {kind: Regression(**regression) for kind, regression in kinds.items()}
            for name, kinds in stored["sets"].items()}


def weigh(regressions: Mapping[str, Regression], kind: str, signs: Mapping[str, float]) -> Weighed:
    """Return the probabilities for an answer to a reference of this kind.

    Where a number is asked for, and of an answer in a few words, the rules say whether it is right and the weights only how
    sure that is: the answers that people labelled are long, and what they teach of wording holds for such. What contradicts
    the reference outright is not correct, however much else it shares with it.
    """
    correct = regressions[kind].probability(signs)
    if kind == "number" or signs.get("short"):
        correct = max(correct, 0.51) if signs.get("rules_correct") else min(correct, 0.49)
    if signs.get("contradicts"):
        correct = min(correct, MOST_CONTRADICTED)
    refused = regressions[REFUSED].probability(signs)
    if signs.get("short"):
        refused = max(refused, 0.51) if signs.get("rules_refused") else min(refused, 0.49)
    return Weighed(correct, (1 - correct) * refused, regressions[kind].strongest(signs, correct > 0.5))
