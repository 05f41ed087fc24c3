"""What verdicts come to: counts, means and wins with their intervals, and the agreement with scorer and people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ragtune.evaluation.judging.judge import SCORER, Verdict, outcome_of, prefer
from ragtune.evaluation.judging.rubric import Rubric
from ragtune.evaluation.judging.verdicts import ToJudge
from ragtune.evaluation.statistics.agreement import Agreement, chance_higher, describe_agreement, measure_agreement
from ragtune.evaluation.statistics.clusters import bootstrap_mean
from ragtune.evaluation.statistics.compare import mcnemar_p, p_text, wilson_interval
from ragtune.records import Record

PEOPLE = "people"
Read = Sequence[tuple[ToJudge, Verdict]]


@dataclass(frozen=True)
class Tally(Record):
    """The verdicts on one model's answers in one setting. ``shares`` gives each verdict's share of those read with Wilson's
    interval, ``mean`` a scale's mean with its bootstrap interval; both only of verdicts that were read.
    """

    model: str
    setting: str
    n: int
    read: int
    unparsed: int
    failed: int
    counts: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    mean: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Wins(Record):
    """Pairs: ``a`` and ``b`` were preferred in both orders, ``ties`` are all others that were read, ``turned`` of them ties
    because the preference turned with the order; ``first`` of those preferred what was shown first both times.

    ``difference`` is the share won by a less that won by b, with its bootstrap interval; ``p`` the sign test's over the
    pairs with a winner.
    """

    n: int
    a: int
    b: int
    ties: int
    turned: int
    first: int
    difference: float
    interval: tuple[float, float]
    p: float

    def sentence(self, a: str, b: str) -> str:
        """Return the result as one plain sentence."""
        low, high = self.interval
        facts = (f"{a} won {self.a}, {b} {self.b}, {self.ties} ties ({self.turned}, as the choice turned with the "
                 f"order), {100 * self.difference:+.0f} points ({100 * low:+.0f} to {100 * high:+.0f}), sign test p = "
                 f"{p_text(self.p)}, n = {self.n}.")
        if self.p >= 0.05:
            return f"No difference shown: {facts}"
        return f"{a if self.difference > 0 else b} is preferred: {facts}"


@dataclass(frozen=True)
class JudgingSummary(Record):
    """What a judge found. ``agreements`` are (who, with whom, on what, agreement); ``apart`` is the chance that answers that
    the scorer finds correct have a higher score than others.
    """

    judge: str
    rubric: str
    folder: str
    n: int
    read: int
    unparsed: int
    failed: int
    tallies: tuple[Tally, ...] = ()
    wins: Wins | None = None
    agreements: tuple[tuple[str, str, str, Agreement], ...] = ()
    apart: float | None = None
    labelled: int = 0
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def sentences(self) -> tuple[str, ...]:
        """Return each agreement as one plain sentence."""
        told = [f"{what}: {describe_agreement(agreement, a, b)}" for a, b, what, agreement in self.agreements]
        if self.apart is not None:
            told.append(f"an answer that the scorer finds correct has the higher score {self.apart:.0%} of the time (50% is "
                        "chance).")
        return tuple(told)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; the shape that ``ragtune judge --json`` prints."""
        plain = super().to_dict()
        plain["agreements"] = [
            {"a": a, "b": b, "on": what, **agreement.to_dict(), "sentence": describe_agreement(agreement, a, b)}
            for a, b, what, agreement in self.agreements]
        return plain


def tally_verdicts(items: Sequence[ToJudge], verdicts: Mapping[str, Verdict], rubric: Rubric) -> tuple[Tally, ...]:
    """Return the tally of each model and setting, in the order in which they come."""
    return tuple(
        _tally([(item, verdicts[item.id]) for item in items if (item.model, item.setting) == key], key, rubric)
        for key in dict.fromkeys((item.model, item.setting) for item in items)
    )


def _tally(rows: Read, key: tuple[str, str], rubric: Rubric) -> Tally:
    states = Counter(verdict.state for _, verdict in rows)
    read = [(item, verdict) for item, verdict in rows if verdict.state == "read"]
    names = [str(n) for n in range(rubric.scale[0], rubric.scale[1] + 1)] if rubric.scale else rubric.verdicts
    found = Counter(verdict.verdict for _, verdict in read)
    shares, mean = {}, None
    if read and rubric.scale:
        values = [verdict.value for _, verdict in read]
        mean = (sum(values) / len(values), *bootstrap_mean(values, [item.group or item.id for item, _ in read]))
    elif read:
        shares = {name: (found[name] / len(read), *wilson_interval(found[name], len(read))) for name in names}
    return Tally(*key, len(rows), states["read"], states["unparsed"], states["failed"],
                 {name: found[name] for name in names}, shares, mean)


def count_wins(items: Sequence[ToJudge], verdicts: Mapping[str, Verdict]) -> Wins | None:
    """Return who won how many pairs; None where no verdict was read."""
    read = [(item, verdicts[item.id]) for item in items if verdicts[item.id].state == "read"]
    if not read:
        return None
    found = Counter(verdict.verdict for _, verdict in read)
    gains = [float(verdict.verdict == "a") - float(verdict.verdict == "b") for _, verdict in read]
    turned = [verdict for _, verdict in read if verdict.is_turned]
    return Wins(
        n=len(read), a=found["a"], b=found["b"], ties=found["tie"], turned=len(turned),
        first=sum(verdict.sides == ("A", "A") for verdict in turned), difference=sum(gains) / len(read),
        interval=bootstrap_mean(gains, [item.group or item.id for item, _ in read]), p=mcnemar_p(found["a"], found["b"]),
    )


def measure_agreements(
    items: Sequence[ToJudge], verdicts: Mapping[str, Verdict], rubric: Rubric, judge: str
) -> tuple[tuple[str, str, str, Agreement], ...]:
    """Return the agreement of judge and scorer, judge and people, scorer and people, on the answers whose verdict was read.

    Outcomes are compared as they are and as correct or not. People's labels of a scale are compared by weighted kappa.
    """
    read = [(item, verdicts[item.id]) for item in items if verdicts[item.id].state == "read"]
    labelled = [(item, verdict) for item, verdict in read if item.label]
    found: list[tuple[str, str, str, Agreement]] = []

    def add(a: str, b: str, rows: Read, sides: Sequence[tuple[str, str]]) -> None:
        clusters = [item.group or item.id for item, _ in rows]
        scale = [str(n) for n in range(rubric.scale[0], rubric.scale[1] + 1)] if rubric.scale else None
        what = "choice" if rubric.asks == "pair" else "score" if scale else "outcome" if rubric.gives_outcomes else "verdict"
        if not rows:
            return
        left, right = [side[0] for side in sides], [side[1] for side in sides]
        found.append((a, b, what, measure_agreement(left, right, scale, clusters)))
        if rubric.gives_outcomes and len(rubric.verdicts) > 2:
            left, right = ([label if label == "correct" else "not" for label in side] for side in (left, right))
            found.append((a, b, "correct or not", measure_agreement(left, right, clusters=clusters)))

    has_scorer = rubric.asks == "pair" or rubric.gives_outcomes
    if has_scorer and judge != SCORER:
        add(judge, SCORER, read, [(verdict.verdict, said_by_scorer(item, rubric)) for item, verdict in read])
    add(judge, PEOPLE, labelled, [(verdict.verdict, item.label) for item, verdict in labelled])
    if has_scorer and judge != SCORER:
        add(SCORER, PEOPLE, labelled, [(said_by_scorer(item, rubric), item.label) for item, _ in labelled])
    return tuple(found)


def said_by_scorer(item: ToJudge, rubric: Rubric) -> str:
    """Return the scorer's verdict on an item, as the rubric writes it."""
    if rubric.asks == "pair":
        return prefer(item)
    outcome = outcome_of(item)[0]
    return outcome if outcome in rubric.verdicts else "wrong"


def tell_apart(items: Sequence[ToJudge], verdicts: Mapping[str, Verdict], rubric: Rubric) -> float | None:
    """Return how well a scale tells the answers that the scorer finds correct from others (agreement.chance_higher)."""
    if not rubric.scale:
        return None
    sides: dict[bool, list[float]] = {True: [], False: []}
    for item in items:
        if verdicts[item.id].state == "read":
            sides[outcome_of(item)[0] == "correct"].append(verdicts[item.id].value)
    return chance_higher(sides[True], sides[False])
