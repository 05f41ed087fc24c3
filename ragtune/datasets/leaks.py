"""Questions that are asked twice: on both sides, so that base and tuned would be measured on what was tuned on, or within
the training side.

The same wording about another year, company or number asks something else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ragtune.datasets.admit import ALIKE, Apart, Entry, may_be_same, read_entry
from ragtune.datasets.near import Buckets, jaccard, split_words
from ragtune.documents.names import WORD, fold_name, fold_word, read_common_words
from ragtune.documents.pack import current_pack
from ragtune.errors import QuestionError
from ragtune.records import Question

_PERIOD = re.compile(r"(?:FY)?\d*", re.IGNORECASE)
MOST_NAMED = 5
"""Questions that an error lists."""


def find_leaks(train: Sequence[Question], kept_apart: Sequence[Question]) -> list[tuple[Question, Question]]:
    """Return (training question, like question kept apart), the first of each training question.

    Alike are the same words, and word 3-grams with a Jaccard similarity of ALIKE or more that ask for the same years of the
    same owner; an owner that is not known counts as the same unless the questions name different ones.
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
        raise QuestionError(
            f"{len(leaks)} training question(s) are asked again in {source}, so the tuned model would be measured "
            f"on what it knows: {_name_pairs(leaks)}. Take them out of dataset.questions; questions made by ragtune "
            "questions --not-in FILE have none of FILE.")


def find_repeats(questions: Sequence[Question]) -> list[tuple[Question, Question]]:
    """Return (question, earlier question it is like), each question once.

    Alike are the same words about the same pages, and word 3-grams with a Jaccard similarity of ALIKE or more where owner,
    kind, years, numbers and names in the question and numbers in the answer are the same.
    """
    entries = [read_entry(question) for question in questions]
    texts: dict[tuple[object, ...], Question] = {}
    buckets, kept, repeats = Buckets(16, 4), list[Entry](), list[tuple[Question, Question]]()
    for entry, bands in zip(entries, buckets.sign([entry.grams for entry in entries])):
        key = (*split_words(entry.question.text), _owner(entry),
               frozenset((e.document, e.page) for e in entry.question.evidence), _documents(entry))
        like = texts.get(key) or next((kept[number].question for number in sorted(buckets.find(entry.block, bands))
                                       if _is_repeat(entry, kept[number])), None)
        if like is not None:
            repeats.append((entry.question, like))
            continue
        texts[key] = entry.question
        buckets.add(len(kept), entry.block, bands)
        kept.append(entry)
    return repeats


def check_repeats(questions: Sequence[Question]) -> None:
    """Raise QuestionError naming the training questions that ask once more what an earlier one asks."""
    repeats = find_repeats(questions)
    if repeats:
        raise QuestionError(
            f"{len(repeats)} training question(s) ask once more what another asks: {_name_pairs(repeats)}. Take them out of "
            "dataset.questions, or have them left out: --set dataset.near_duplicates=drop")


def leave_out(questions: Sequence[Question], pairs: Sequence[tuple[Question, Question]]) -> list[Question]:
    """Return the questions without the first ones of the pairs."""
    ids = {question.id for question, _ in pairs}
    return [question for question in questions if question.id not in ids]


def _name_pairs(pairs: Sequence[tuple[Question, Question]]) -> str:
    listed = "; ".join(f"'{one.id}' is like '{other.id}' ({other.text[:80]})" for one, other in pairs[:MOST_NAMED])
    return listed + (f"; and {len(pairs) - MOST_NAMED} more" if len(pairs) > MOST_NAMED else "")


def _is_same(one: Entry, other: Entry) -> bool:
    owners = [_owner(entry) for entry in (one, other)]
    if all(owners) and owners[0] != owners[1]:
        return False
    return jaccard(one.grams, other.grams) >= ALIKE and (
        all(owners) or not all(name_apart(one.question, other.question)))


def _is_repeat(one: Entry, other: Entry) -> bool:
    """Tell whether two entries of one block ask the same, and for the same kind of answer: how much, or by what percentage.

    Without a known owner they must be about the same documents.
    """
    if jaccard(one.grams, other.grams) < ALIKE or not may_be_same(one, other):
        return False
    kinds = {entry.question.kind for entry in (one, other)} - {""}
    documents = [_documents(entry) for entry in (one, other)]
    is_elsewhere = not _owner(one) and all(documents) and documents[0] != documents[1]
    return len(kinds) < 2 and not is_elsewhere and not any(name_apart(one.question, other.question))


def name_apart(one: Question, other: Question) -> tuple[set[str], set[str]]:
    """Return what each of two questions writes with a capital letter and the other does not hold: Acme and Bolt, Q1 and Q2.

    Legal forms, years and the capital of a sentence's first word are no names.
    """
    return _names(one.text) - _words(other.text), _names(other.text) - _words(one.text)


def _names(text: str) -> set[str]:
    words = [word.removesuffix("'s").removesuffix("’s") for word in WORD.findall(text)]
    if words and words[0].lower() in read_common_words():
        words = words[1:]
    legal: Collection[str] = current_pack().names.legal
    return {fold_word(word) for word in words if not word.islower() and any(map(str.isalpha, word))
            and word.lower() not in legal and not _PERIOD.fullmatch(word)}


def _words(text: str) -> set[str]:
    return {fold_word(word.removesuffix("'s").removesuffix("’s")) for word in WORD.findall(text)}


def _owner(entry: Entry) -> str:
    return fold_name(str(entry.question.metadata.get(current_pack().metadata.owner.column) or ""))


def _documents(entry: Entry) -> frozenset[str]:
    named = entry.question.metadata.get("document")
    return frozenset(e.document for e in entry.question.evidence) or frozenset([str(named)] if named else [])
