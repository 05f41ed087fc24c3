"""The regression gate: is this evaluation worse than an earlier one, surely and not by luck, on the questions both asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ragtune.errors import RunError
from ragtune.evaluation.reporting.page import SETTING_NAMES
from ragtune.evaluation.reporting.sides import Side
from ragtune.evaluation.reporting.summary import told_comparison
from ragtune.evaluation.reporting.versus import compare_sides
from ragtune.evaluation.statistics.compare import Comparison, p_text
from ragtune.evaluation.statistics.detectable import describe_detectable
from ragtune.records import Setting

ORDER: tuple[Setting, ...] = ("retrieval", "oracle", "closed_book")
"""The rung that decides: with retrieval, as users are answered, where both were measured so."""


@dataclass(frozen=True)
class Regression:
    """The paired test of what was measured now (b) against what was measured before (a), on the deciding rung."""

    before: str
    after: str
    setting: Setting
    comparison: Comparison
    notes: tuple[str, ...] = ()

    @property
    def is_worse(self) -> bool:
        """Whether the test shows that it is worse now."""
        return self.comparison.is_shown and self.comparison.difference < 0

    def sentence(self) -> str:
        """Return the verdict as one plain sentence."""
        c = self.comparison
        verdict = "Worse" if self.is_worse else "Better" if c.is_shown else "Not shown to be worse"
        right = f"{c.only_b} questions right only now, {c.only_a} only before"
        return (f"{verdict}: {self.after} against {self.before} on {c.n} common questions ({SETTING_NAMES[self.setting]}), "
                f"{100 * c.difference:+.1f} points, p = {p_text(c.p)}; {right}.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**told_comparison(self.setting, self.comparison, self.before, self.after), "is_worse": self.is_worse,
                "sentence": self.sentence(), "notes": list(self.notes)}


def judge_regression(before: Side, after: Side) -> Regression:
    """Compare an evaluation with an earlier one, the chief model of each, on the questions that both asked.

    Raises RunError where they have no question, or no rung, in common.
    """
    sides = (dataclasses.replace(before, label="before"), dataclasses.replace(after, label="now"))
    versus = compare_sides(sides)
    tests = {test.setting: test for test in versus.tests}
    setting = next((place for place in ORDER if place in tests), None)
    if setting is None:
        raise RunError(f"{before.folder} and {after.folder} have no rung in common: {_rungs(before)} against "
                       f"{_rungs(after)}. Evaluate both with the same evaluation.settings.")
    test = tests[setting]
    comparison = dataclasses.replace(test.comparison, adjusted_p=None, correction="")  # one rung decides: one test
    named = [f"{model} of {folder}" for _, folder, model in versus.columns]
    notes = versus.notes
    if comparison.discordant and not comparison.is_shown:
        notes = (*notes, describe_detectable(comparison.n, comparison.discordant, confidence=comparison.confidence))
    return Regression(named[0], named[1], setting, comparison, notes)


def _rungs(side: Side) -> str:
    names: Sequence[Setting] = list(dict.fromkeys(row.setting for row in side.rows))
    return ", ".join(SETTING_NAMES[name] for name in names)
