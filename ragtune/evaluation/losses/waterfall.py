"""The waterfall: from closed book through retrieval and the oracle page to all questions, and what each stage lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ragtune.answering.prompt import number_passages
from ragtune.evaluation.ladder.counts import MODELS
from ragtune.evaluation.ladder.graded import Graded
from ragtune.evaluation.ladder.trail import Asked
from ragtune.evaluation.losses.attribute import STAGES, attribute, attribute_left_out, label_of
from ragtune.records import Hit, Record, Setting

EXAMPLES_EACH = 3


@dataclass(frozen=True)
class LostAnswer(Record):
    """A question whose answer a stage lost, and why it is thought so."""

    question_id: str
    why: str


@dataclass(frozen=True)
class Lost(Record):
    """What one stage lost: answers, those of them that are right on the oracle page, and a few of them."""

    stage: str
    count: int
    right_on_oracle: int = 0
    examples: tuple[LostAnswer, ...] = ()


@dataclass(frozen=True)
class Step(Record):
    """One bar of the drawing, from ``start`` to ``end`` answers: a level reached, or a gain or loss between two."""

    label: str
    kind: Literal["level", "gain", "loss", "lost"]
    start: int
    end: int


@dataclass(frozen=True)
class Waterfall(Record):
    """One model over the n answerable questions: right answers on each rung, None for one not measured, and what was lost.

    ``gained`` by retrieval are right with it and not without, ``given_up`` the other way round; ``only_retrieval`` are
    right with retrieval and not on the oracle page. ``k`` passages stood in a prompt.
    """

    model: str
    n: int
    k: int
    closed_book: int | None
    retrieval: int
    oracle: int | None
    gained: int = 0
    given_up: int = 0
    only_retrieval: int = 0
    lost: tuple[Lost, ...] = ()

    def steps(self) -> tuple[Step, ...]:
        """Return the bars from top to bottom; they end at n."""
        found: list[Step] = []
        at = 0
        if self.closed_book is not None:
            at = _level(found, "closed book", self.closed_book)
            at = _move(found, "gained by retrieval", "gain", at, self.gained)
            at = _move(found, "given up", "loss", at, -self.given_up)
        at = _level(found, "with retrieval", self.retrieval)
        if self.oracle is not None:
            for lost in self.lost:
                at = _move(found, label_of(lost.stage, self.k), "lost", at, lost.right_on_oracle)
            at = _move(found, "right with retrieval only", "loss", at, -self.only_retrieval)
            at = _level(found, "oracle page", self.oracle)
        for lost in self.lost:
            rest = lost.count - (lost.right_on_oracle if self.oracle is not None else 0)
            at = _move(found, label_of(lost.stage, self.k), "lost", at, rest)
        if self.oracle is not None:
            at = _move(found, "wrong on the oracle page only", "lost", at, self.only_retrieval)
        _level(found, "all questions", self.n)
        return tuple(found)

    def sentence(self) -> str:
        """Return the losses as one plain sentence."""
        total = sum(lost.count for lost in self.lost)
        if not total:
            return f"Lost by {self.model} with retrieval: none of {self.n} answerable questions."
        parts = ", ".join(f"{lost.count} {label_of(lost.stage, self.k)}" for lost in self.lost)
        return f"Lost by {self.model} with retrieval: {total} of {self.n} answerable questions: {parts}."


def _level(steps: list[Step], label: str, value: int) -> int:
    steps.append(Step(label, "level", 0, value))
    return value


def _move(steps: list[Step], label: str, kind: Literal["gain", "loss", "lost"], at: int, by: int) -> int:
    if by:
        steps.append(Step(label, kind, at, at + by))
    return at + by


def attribute_all(
    graded: Sequence[Graded], asked: Mapping[str, Asked], shown: Mapping[str, Sequence[Hit]], k: int
) -> list[Graded]:
    """Return the rows with ``lost_at`` and ``lost_why`` on those with retrieval that are not correct but answerable.

    ``shown`` are the hits of each question that the prompt was made of.
    """
    found = []
    for row in graded:
        stage, why = "", ""
        entry = asked.get(row.question_id)
        if row.setting == "retrieval" and row.outcome != "correct" and entry is not None and entry.question.is_answerable:
            hits = shown.get(row.question_id, ())
            sources = {hit.chunk.id: (hit.chunk, passage.text) for hit, passage in zip(hits, number_passages(hits))}
            stage, why = attribute(row, entry, sources, k)
        found.append(dataclasses.replace(row, lost_at=stage, lost_why=why))
    return found


def build_waterfalls(
    graded: Sequence[Graded], asked: Mapping[str, Asked], k: int, names: Sequence[str] = MODELS
) -> tuple[Waterfall, ...]:
    """Return the waterfall of each model that answered with retrieval, over all answerable questions.

    Questions whose document the index lacks were not asked with retrieval: they count as pages not read.
    """
    models = [model for model in names if any(row.model == model and row.setting == "retrieval" for row in graded)]
    return tuple(found for model in models if (found := _build(model, graded, asked, k)).n)


def _build(model: str, graded: Sequence[Graded], asked: Mapping[str, Asked], k: int) -> Waterfall:
    rows = {(row.setting, row.question_id): row for row in graded if row.model == model}
    ids = [question_id for question_id, entry in asked.items()
           if entry.question.is_answerable and (("retrieval", question_id) in rows or entry.is_left_out)]
    right: dict[Setting, set[str]] = {
        setting: {i for i in ids if (setting, i) in rows and rows[setting, i].outcome == "correct"}
        for setting in ("closed_book", "retrieval", "oracle")
    }  # fmt: skip
    has = {setting: any(place == setting for place, _ in rows) for setting in right}
    told: dict[str, list[LostAnswer]] = {}
    for question_id in ids:
        if question_id not in right["retrieval"]:
            row = rows.get(("retrieval", question_id))
            stage, why = (row.lost_at or "untold", row.lost_why) if row else attribute_left_out(asked[question_id])
            told.setdefault(stage, []).append(LostAnswer(question_id, why))
    lost = tuple(
        Lost(stage, len(found), sum(answer.question_id in right["oracle"] for answer in found), tuple(found[:EXAMPLES_EACH]))
        for stage in STAGES if (found := told.get(stage, []))
    )
    return Waterfall(
        model, len(ids), k,
        closed_book=len(right["closed_book"]) if has["closed_book"] else None,
        retrieval=len(right["retrieval"]),
        oracle=len(right["oracle"]) if has["oracle"] else None,
        gained=len(right["retrieval"] - right["closed_book"]),
        given_up=len(right["closed_book"] - right["retrieval"]),
        only_retrieval=len(right["retrieval"] - right["oracle"]),
        lost=lost,
    )  # fmt: skip
