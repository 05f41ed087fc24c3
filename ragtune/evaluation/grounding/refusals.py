"""Whether refusals come where they should: answers when it should not, refuses when it need not, and the curve between.

An answer should be given where the passages in the prompt hold every evidence page, and a refusal where they hold none or
the documents hold no answer. What has some of its evidence in the prompt counts as neither. The curve is what a threshold on
a confidence would make of the answers that were given: the higher, the fewer are given and the surer they are
(El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 11, 2010).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ragtune.errors import RunError
from ragtune.evaluation.grounding.citations import Share, count_share
from ragtune.evaluation.statistics.samples import check_scores
from ragtune.records import Chunk, Question, Record

if TYPE_CHECKING:
    from ragtune.evaluation.ladder.graded import Graded

Should = Literal["answer", "refuse", "either"]
Did = Literal["right", "wrong", "refused"]


@dataclass(frozen=True)
class RefusalCase(Record):
    """What one question's answer should have been, and was: right, wrong or refused."""

    question_id: str
    should: Should
    did: Did


def judge_refusal(
    question: Question, row: Graded, chunk_of: Callable[[str], Chunk] | None = None
) -> RefusalCase | None:
    """Return the case of a logged answer; None for closed book, where nothing is shown that could hold the answer.

    ``chunk_of`` (``Index.chunk``) tells on which pages a shown chunk ends; without it each is taken to be on one page.
    """
    if row.setting == "closed_book":
        return None
    shown: set[tuple[str, int]] = set()
    for passage in row.passages:
        last = chunk_of(passage.chunk_id).last_page if chunk_of and passage.chunk_id else passage.page
        shown.update((passage.document, page) for page in range(passage.page, last + 1))
    refused = row.is_refusal or row.outcome == "refused"
    did: Did = "refused" if refused else "right" if row.outcome == "correct" else "wrong"
    return RefusalCase(question.id, should_answer(question, shown), did)


def should_answer(question: Question, shown: set[tuple[str, int]]) -> Should:
    """Return what to do with these (document, page) pairs in the prompt. Answerable without evidence may be either."""
    if not question.is_answerable:
        return "refuse"
    held = [(evidence.document, evidence.page) in shown for evidence in question.evidence]
    if not held or any(held) != all(held):
        return "either"
    return "answer" if all(held) else "refuse"


@dataclass(frozen=True)
class RefusalCounts(Record):
    """How often refusals were out of place.

    ``over_answering``: answered wrongly, of the cases that should be refused; ``lucky`` of them were answered rightly (the
    answer stands on another page too). ``over_refusal``: refused, of the cases that should be answered.
    ``either`` cases count in neither.
    """

    over_answering: Share
    over_refusal: Share
    lucky: int
    either: int


def count_refusals(
    cases: Sequence[RefusalCase], clusters: Mapping[str, str] | None = None, confidence: float = 0.95
) -> RefusalCounts:
    """Count; ``clusters`` maps question id -> document for the intervals. Raises RunError where there are no cases."""
    _check_cases(cases)

    def share(should: Should, did: Did) -> Share:
        return count_share((((clusters or {}).get(c.question_id, c.question_id), int(c.did == did), 1)
                            for c in cases if c.should == should), confidence)

    return RefusalCounts(
        over_answering=share("refuse", "wrong"),
        over_refusal=share("answer", "refused"),
        lucky=sum(case.should == "refuse" and case.did == "right" for case in cases),
        either=sum(case.should == "either" for case in cases),
    )


@dataclass(frozen=True)
class CurvePoint(Record):
    """What answering only from ``threshold`` on comes to; None refuses all.

    ``coverage`` is the share of all questions that are answered, ``risk`` the share wrong among them (None where none is).
    ``over_answering`` and ``over_refusal`` are those of RefusalCounts, None where no case should be refused or answered.
    """

    threshold: float | None
    coverage: float
    risk: float | None
    over_answering: float | None
    over_refusal: float | None


@dataclass(frozen=True)
class RefusalCurve(Record):
    """The points from refusing all to the model's own refusals, and the area under the risk.

    ``area`` is the mean risk over all coverages that are reached, equal confidences in random order; ``area_random`` that of
    a confidence that knows nothing, ``area_best`` that of one that puts all right answers first.
    """

    n: int
    points: tuple[CurvePoint, ...]
    area: float | None
    area_random: float | None
    area_best: float | None


def build_refusal_curve(cases: Sequence[RefusalCase], confidences: Sequence[float]) -> RefusalCurve:
    """Return the curve over ``confidences``, one a case, more being surer (those of refusals are not looked at).

    A confidence is anything that ranks answers: Grounding.support, a scorer's, a mean log probability. Raises RunError for
    no cases, unequal numbers and confidences that are no finite numbers.
    """
    _check_cases(cases)
    if len(cases) != len(confidences):
        raise RunError(f"found {len(confidences)} confidences for {len(cases)} answers. Give one for each answer.")
    answered = [(float(confidence), case) for case, confidence in zip(cases, confidences) if case.did != "refused"]
    if answered:
        check_scores([confidence for confidence, _ in answered], "the confidences")
    answered.sort(key=lambda pair: -pair[0])
    given: list[RefusalCase] = []
    points = [_point(None, given, cases)]
    risks: list[float] = []
    for threshold, group in itertools.groupby(answered, key=lambda pair: pair[0]):
        tied = [case for _, case in group]
        wrong, new = _wrong(given), _wrong(tied)
        risks += [(wrong + new * place / len(tied)) / (len(given) + place) for place in range(1, len(tied) + 1)]
        given += tied
        points.append(_point(threshold, given, cases))
    if not given:
        return RefusalCurve(len(cases), tuple(points), None, None, None)
    right = len(given) - _wrong(given)
    best = [max(0, place - right) / place for place in range(1, len(given) + 1)]
    return RefusalCurve(len(cases), tuple(points), math.fsum(risks) / len(given), _wrong(given) / len(given),
                        math.fsum(best) / len(given))


def _wrong(cases: Sequence[RefusalCase]) -> int:
    return sum(case.did == "wrong" for case in cases)


def _point(threshold: float | None, given: Sequence[RefusalCase], cases: Sequence[RefusalCase]) -> CurvePoint:
    refusable, answerable = (sum(case.should == should for case in cases) for should in ("refuse", "answer"))
    unheld = sum(case.should == "refuse" and case.did == "wrong" for case in given)
    held = sum(case.should == "answer" for case in given)
    return CurvePoint(
        threshold=threshold,
        coverage=len(given) / len(cases),
        risk=_wrong(given) / len(given) if given else None,
        over_answering=unheld / refusable if refusable else None,
        over_refusal=1 - held / answerable if answerable else None,
    )


def _check_cases(cases: Sequence[RefusalCase]) -> None:
    if not cases:
        raise RunError("no answers to judge refusals by: closed book is left out. Give answers with passages.")
