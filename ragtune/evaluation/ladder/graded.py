"""One graded answer: a line of the log, with what was shown, said and set right, its outcome and why."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ragtune.answering.calculate import recompute
from ragtune.answering.prompt import parse_completion
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.records import Answer, Citation, Outcome, Question, Record, Setting


@dataclass(frozen=True)
class Shown(Record):
    """A passage that stood in the prompt: its number there, its page, its rank in the search and the score it had there.

    ``characters`` of its text stood there: fewer than it has where the token budget cut it.
    """

    number: int
    document: str
    page: int
    rank: int
    chunk_id: str = ""
    characters: int = 0
    score: float = 0.0


@dataclass(frozen=True)
class Graded(Record):
    """One line of the log: one model's answer to one question on one rung, with its outcome and why.

    ``calculations`` are shown in the completion; the model had ``calculations_right`` by itself, the others the calculator
    corrected, as were ``misquoted`` rows from their page and verdicts from their figures. ``own_outcome`` is that of the
    answer with the model's own figures; empty where nothing was corrected. ``confidence`` (0 to 1) is how sure the scorer is
    of the outcome, None where it does not say. ``lost_at`` is the stage that lost an answer with retrieval, ``lost_why`` the
    reason (evaluation.losses.attribute).
    """

    model: str
    setting: Setting
    question_id: str
    kind: str
    outcome: Outcome
    reason: str
    question: str
    gold: str
    answer: str
    reasoning: str = ""
    completion: str = ""
    is_refusal: bool = False
    citations: tuple[Citation, ...] = ()
    passages: tuple[Shown, ...] = ()
    problems: tuple[str, ...] = ()
    seconds: float = 0.0
    calculations: int = 0
    calculations_right: int = 0
    misquoted: int = 0
    verdicts_corrected: int = 0
    own_outcome: str = ""
    confidence: float | None = None
    lost_at: str = ""
    lost_why: str = ""


def grade(question: Question, answer: Answer, model: str, setting: Setting, seconds: float = 0.0) -> Graded:
    """Score an answer and return its line of the log. ``seconds`` is its share of the batch's time."""
    row = Graded(
        model=model,
        setting=setting,
        question_id=question.id,
        kind=question.kind,
        outcome="wrong",
        reason="",
        question=question.text,
        gold=question.answer,
        answer=answer.text,
        reasoning=answer.reasoning,
        completion=answer.completion,
        is_refusal=answer.is_refusal,
        citations=answer.citations,
        passages=tuple(Shown(p.number, p.document, p.page, p.rank, p.chunk_id, len(p.text), p.score)
                       for p in answer.passages),
        problems=answer.problems,
        seconds=round(seconds, 4),
    )
    return rescore(question, row)


def rescore(question: Question, row: Graded) -> Graded:
    """Return the line with its outcome, reason and calculations as the scorer and the calculator say now."""
    score = score_answer(question, row.answer, row.is_refusal or None)
    outcome = score.outcome or ("correct" if score.value == 1 else "wrong")  # NaN is no 1
    sure = score.confidence
    confidence = round(sure, 4) if sure is not None and math.isfinite(sure) else None
    _, calculations = recompute(row.completion)
    right = sum(calculation.is_right for calculation in calculations)
    misquoted = sum("was misquoted" in problem for problem in row.problems)
    verdicts = sum("the verdict was set right" in problem for problem in row.problems)
    own: str = ""
    if right < len(calculations) or misquoted or verdicts:
        # where the guard refused the answer it is refused either way: only the figures are put back, not the guard
        own_text, _, _, is_refusal = parse_completion(row.completion)
        own = score_answer(question, own_text, is_refusal or None).outcome or "" if not row.is_refusal else outcome
    return dataclasses.replace(
        row, outcome=outcome, reason=score.reason, own_outcome=own, calculations=len(calculations),
        calculations_right=right, misquoted=misquoted, verdicts_corrected=verdicts, confidence=confidence,
    )
