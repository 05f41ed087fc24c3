"""Questions that stand on both sides: what is tuned on must not be asked again when base and tuned are measured."""

from __future__ import annotations

from collections.abc import Sequence

from ragtune.datasets.admit import ALIKE, Apart, Entry, read_entry
from ragtune.datasets.near import jaccard, split_words
from ragtune.documents.names import fold_name
from ragtune.documents.pack import current_pack
from ragtune.errors import QuestionError
from ragtune.records import Question

MOST_NAMED = 5
"""Leaks that an error lists."""


def find_leaks(train: Sequence[Question], kept_apart: Sequence[Question]) -> list[tuple[Question, Question]]:
    """Return (training question, like question kept apart), the first of each training question.

    Alike are the same words, and word 3-grams with a Jaccard similarity of ALIKE or more that ask for the same years of the
    same owner; an owner that is not known counts as the same.
    """
    apart = Apart([read_entry(question) for question in kept_apart])
    texts = {tuple(split_words(question.text)): question for question in kept_apart}
    leaks = []
    for question in train:
        entry = read_entry(question)
        like = texts.get(tuple(split_words(question.text))) or next(
            (other.question for other in apart.find(entry) if _is_same(entry, other)), None)
        if like is not None:
            leaks.append((question, like))
    return leaks


def check_leaks(train: Sequence[Question], kept_apart: Sequence[Question], source: str) -> None:
    """Raise QuestionError naming the training questions that are like those kept apart in ``source``."""
    leaks = find_leaks(train, kept_apart)
    if leaks:
        listed = "; ".join(f"'{one.id}' is like '{other.id}' ({other.text[:80]})" for one, other in leaks[:MOST_NAMED])
        more = f"; and {len(leaks) - MOST_NAMED} more" if len(leaks) > MOST_NAMED else ""
        raise QuestionError(
            f"{len(leaks)} training question(s) are asked again in {source}, so the tuned model would be measured "
            f"on what it knows: {listed}{more}. Take them out of dataset.questions; questions made by ragtune questions "
            "--not-in FILE have none of FILE.")


def _is_same(one: Entry, other: Entry) -> bool:
    column = current_pack().metadata.owner.column
    owners = {fold_name(str(entry.question.metadata.get(column) or "")) for entry in (one, other)} - {""}
    return len(owners) < 2 and jaccard(one.grams, other.grams) >= ALIKE
