"""Where methods stand: each against the base and against the best, corrected as many, and the cheapest of the good ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragtune.evaluation.statistics.compare import Comparison, wilson_interval
from ragtune.evaluation.statistics.corrections import correct_comparisons
from ragtune.records import Record
from ragtune.stages.outcomes import Outcomes, compare_outcomes

BASE = "base"


@dataclass(frozen=True)
class MethodRow(Record):
    """One method in the table. Shares are of ``n`` questions, ``interval`` is Wilson's for the share correct.

    ``seconds`` is what the method took, ``start_seconds`` of it the supervised run it goes on from and ``rows_seconds`` the
    making of its rows; ``cpu_seconds`` what processors spent on the method alone. ``against_base`` and ``against_best`` are
    McNemar's test, b being the method and the best; p is corrected by Holm over all rows. ``p_by_documents`` is that
    against the base by whole documents, not corrected. ``is_within_noise``: it is the best, or
    not shown to be worse by p uncorrected.
    """

    method: str
    state: str
    reason: str = ""
    family: str = ""
    n: int = 0
    correct: int = 0
    wrong: int = 0
    refused: int = 0
    interval: tuple[float, float] = (0.0, 1.0)
    seconds: float = 0.0
    start_seconds: float = 0.0
    rows_seconds: float = 0.0
    cpu_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    steps: int = 0
    is_out_of_time: bool = False
    peak_memory_mb: float = 0.0
    trainable_parameters: int = 0
    trainable_share: float = 0.0
    adapter_bytes: int = 0
    against_base: Comparison | None = None
    against_best: Comparison | None = None
    p_by_documents: float | None = None
    is_within_noise: bool = False

    @property
    def share(self) -> float:
        """The share answered correctly."""
        return self.correct / self.n if self.n else 0.0

    @property
    def cost(self) -> tuple[float, int, int]:
        """What 'cheap' goes by: seconds of tuning, then weights tuned, then bytes of the adapter."""
        return self.seconds, self.trainable_parameters, self.adapter_bytes


@dataclass(frozen=True)
class Standing(Record):
    """The table, best first and what failed last. ``best`` answers most correctly (of equals least wrongly, then cheapest),
    ``cheapest`` costs least of those within the noise of the best; empty where nothing finished."""

    rows: tuple[MethodRow, ...]
    best: str = ""
    cheapest: str = ""


def find_standing(
    rows: Sequence[MethodRow], outcomes: Mapping[str, Outcomes], confidence: float = 0.95
) -> Standing:
    """Return the rows with counts, intervals and tests. ``outcomes`` maps the methods that finished to their answers.

    Tests are McNemar's over the questions, corrected by Holm's method over the methods in the table: of a handful of
    documents none could show anything by whole documents, so what is found holds for questions about these.
    """
    counted = [_count(row, outcomes[row.method], confidence) for row in rows if row.method in outcomes]
    failed = [row for row in rows if row.method not in outcomes]
    if not counted:
        return Standing(tuple(failed))
    ranked = sorted(counted, key=lambda row: (-row.share, row.wrong / max(row.n, 1), row.cost))
    best, names = ranked[0], [row.method for row in ranked]
    against_base = _compare_all(BASE, [name for name in names if name != BASE], outcomes, confidence)
    against_best = _compare_all(best.method, names[1:], outcomes, confidence, is_turned=True)
    tested = [dataclasses.replace(row, against_base=against_base.get(row.method), against_best=against_best.get(row.method),
                                  p_by_documents=_p_by_documents(row.method, outcomes),
                                  is_within_noise=_is_as_good(against_best.get(row.method))) for row in ranked]
    cheapest = min((row for row in tested if row.is_within_noise), key=lambda row: row.cost)
    return Standing((*tested, *failed), best.method, cheapest.method)


def _count(row: MethodRow, found: Outcomes, confidence: float) -> MethodRow:
    n, correct = len(found.outcomes), found.count("correct")
    return dataclasses.replace(row, n=n, correct=correct, wrong=found.count("wrong"), refused=found.count("refused"),
                               interval=wilson_interval(correct, n, confidence))


def _compare_all(
    one: str, others: Sequence[str], outcomes: Mapping[str, Outcomes], confidence: float, is_turned: bool = False
) -> dict[str, Comparison]:
    """Return the test of each of the others against one (turned: of that one against each), corrected together."""
    if one not in outcomes or not others:
        return {}
    pairs = [(outcomes[other], outcomes[one]) if is_turned else (outcomes[one], outcomes[other]) for other in others]
    tests = correct_comparisons([compare_outcomes(a, b, confidence, by_documents=False) for a, b in pairs])
    return dict(zip(others, tests))


def _p_by_documents(method: str, outcomes: Mapping[str, Outcomes]) -> float | None:
    return None if method == BASE or BASE not in outcomes else compare_outcomes(outcomes[BASE], outcomes[method]).p


def _is_as_good(against_best: Comparison | None) -> bool:
    """Whether a row is the best, or not shown to be worse. By p as it is: corrected for many, more would pass as good."""
    return against_best is None or not (against_best.p < 1 - against_best.confidence and against_best.difference > 0)
