"""Which questions are let in: each is checked, and those that are not are kept with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ragtune.datasets.grounded import (
    find_quote,
    gives_away,
    holds_answer,
    is_verdict,
    parse_amounts,
    restate_evidence,
    telling_words,
)
from ragtune.datasets.named import owner_of, stand_alone
from ragtune.datasets.near import Buckets, hash_grams, jaccard, split_words
from ragtune.documents.pack import current_pack
from ragtune.files import hash_text
from ragtune.records import Document, Evidence, Metadata, Page, Question, Record
from ragtune.retrieval.periods import parse_period

if TYPE_CHECKING:
    import numpy as np

Embed = Callable[[Sequence[str]], "np.ndarray"]
MAX_CHARACTERS = 400
ALIKE = 0.7
"""Jaccard similarity of the word 3-grams from which two questions on the same figures are one."""
COSINE = 0.95
"""Cosine from which they are, too; measured on those that share half of their words or more."""
_SHARED_WORDS = 0.5


@dataclass(frozen=True)
class Proposal(Record):
    """A question as a chat model wrote it, with its answer and what it quotes from the page."""

    question: str
    answer: str
    quote: str


@dataclass(frozen=True)
class Rejected(Record):
    """A question that was not let in, and why; ``like`` is the text of the question it is too near to."""

    reason: str
    question: Question
    like: str = ""


def check_proposal(proposal: Proposal, document: Document, page: Page, source: str = "") -> Question | Rejected:
    """Return the question of a proposal, who and when added where they were missing, or why it is none.

    ``source`` is the name of the model, for the question's metadata. The evidence is the quote as the page prints it.
    """
    owner = owner_of(document)
    text, answer = " ".join(proposal.question.split()), " ".join(proposal.answer.split())
    quote = find_quote(page.text, proposal.quote)
    asked = stand_alone(text, owner) if text else ""
    rules = current_pack().metadata
    metadata: Metadata = {rules.owner.column: owner.name, "document": document.name}
    if document.metadata.get(rules.year) is not None:
        metadata = {**metadata, rules.year: document.metadata[rules.year]}
    if source:
        metadata = {**metadata, "asked_by": source}

    def build(evidence: str) -> Question:
        said = asked or text
        kind = "yes_no" if is_verdict(answer) else "lookup" if parse_amounts(answer) else "text"
        years = map(str, parse_period(said).years)
        line = restate_evidence(page.text, evidence, answer, years) if kind == "lookup" else ""
        return Question(f"{document.name}-{hash_text(said)[:10]}", said, answer,
                        (Evidence(document.name, page.number, evidence),), kind, line, metadata)

    reason = ""
    if len(text.split()) < 3 or not re.search(r"[a-z]{2}", text) or not answer:
        reason = "no question with an answer"
    elif not asked:
        reason = "speaks of the page"
    elif len(asked) > MAX_CHARACTERS or len(answer) > MAX_CHARACTERS:
        reason = f"longer than {MAX_CHARACTERS} characters"
    elif not quote:
        reason = "the quote is not on the page"
    elif not holds_answer(quote, answer, asked):
        reason = "the answer is not in the quote"
    elif gives_away(asked, answer):
        reason = "gives its answer away"
    return Rejected(reason, build(quote or proposal.quote)) if reason else build(quote)


@dataclass
class Entry:
    """A question as it is compared with others: what it asks about exactly, and its words."""

    question: Question
    block: Hashable
    years: tuple[int, ...]
    words: frozenset[int]
    grams: frozenset[int]
    telling: frozenset[str]


def read_entry(question: Question) -> Entry:
    """Return what is compared of a question.

    Two of other companies, or with other numbers in the question or the answer, are never the same.
    """
    words = split_words(question.text)
    years = parse_period(question.text).years
    asked = sorted(amount.value for amount in parse_amounts(question.text) if not amount.is_year)
    said = sorted(amount.value for amount in parse_amounts(question.answer) if not amount.is_year)
    verdict = question.answer[:3].lower().strip(" ,.") if is_verdict(question.answer) else ""
    form = tuple(said) or ("words" if question.answer else "")
    who = str(question.metadata.get(current_pack().metadata.owner.column) or "")
    return Entry(question, (who, years, tuple(asked), form, verdict), years, hash_grams(words, 1), hash_grams(words, 3),
                 frozenset(telling_words(question.text)))


@dataclass
class Admission:
    """Lets questions in one after the other; those like an earlier one, over a page's share or kept apart are not.

    ``embed`` returns unit vectors of questions; it is asked only about those that share many words with another.
    ``per_page`` 0 sets no bound. ``kept_apart`` are questions that may not be asked again, in whatever words are near.
    """

    embed: Embed
    per_page: int = 0
    kept_apart: Sequence[Question] = ()
    admitted: list[Question] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._entries: list[Entry] = []
        self._texts: dict[str, int] = {}
        self._pages: Counter[tuple[str, int]] = Counter()
        self._by_grams, self._by_words = Buckets(16, 4), Buckets(16, 2)
        self._vectors: dict[str, Any] = {}
        self._apart = Apart([read_entry(question) for question in self.kept_apart])

    @property
    def reasons(self) -> dict[str, int]:
        """How many were rejected, by reason, the most first."""
        return dict(Counter(rejected.reason for rejected in self.rejected).most_common())

    def reject(self, rejected: Rejected) -> None:
        """Keep a question that was found wrong before."""
        self.rejected.append(rejected)

    def admit(self, questions: Sequence[Question]) -> int:
        """Check questions in their order; return how many of them were let in."""
        entries = [read_entry(question) for question in questions]
        near = self._find_near(entries)
        apart = [self._apart.find(entry) for entry in entries]
        self._embed(entries, near, apart)
        before = len(self.admitted)
        numbers: dict[int, int] = {}  # place in this batch -> number among those let in
        for place, entry in enumerate(entries):
            others = [self._entries[number] for number in near[place][0]]
            others += [entries[other] for other in near[place][1] if other in numbers]
            reason, like = self._judge(entry, others, apart[place])
            if reason:
                self.rejected.append(Rejected(reason, entry.question, like))
            else:
                numbers[place] = self._take(entry)
        for place, number in numbers.items():
            self._by_grams.add(number, entries[place].block, near[place][2])
            self._by_words.add(number, entries[place].block, near[place][3])
        return len(self.admitted) - before

    def _find_near(self, entries: Sequence[Entry]) -> list[tuple[list[int], list[int], Any, Any]]:
        """Return for each entry its candidates among those let in and those before it in the batch, and its bands."""
        by_grams = self._by_grams.sign([entry.grams for entry in entries])
        by_words = self._by_words.sign([entry.words for entry in entries])
        grams, words = Buckets(16, 4), Buckets(16, 2)
        near = []
        for place, (entry, gram_bands, word_bands) in enumerate(zip(entries, by_grams, by_words)):
            old = self._by_grams.find(entry.block, gram_bands) | self._by_words.find(entry.block, word_bands)
            new = grams.find(entry.block, gram_bands) | words.find(entry.block, word_bands)
            near.append((sorted(n for n in old if may_be_same(entry, self._entries[n])),
                         sorted(n for n in new if may_be_same(entry, entries[n])), gram_bands, word_bands))
            grams.add(place, entry.block, gram_bands)
            words.add(place, entry.block, word_bands)
        return near

    def _embed(self, entries: Sequence[Entry], near: Sequence[Any], apart: Sequence[Sequence[Entry]]) -> None:
        """Embed what must be compared by meaning, once."""
        wanted: dict[str, None] = {}
        for place, entry in enumerate(entries):
            others = [self._entries[n] for n in near[place][0]] + [entries[n] for n in near[place][1]]
            others = [other for other in (*others, *apart[place]) if jaccard(entry.grams, other.grams) < ALIKE]
            if others:
                wanted.update(dict.fromkeys([entry.question.text, *(other.question.text for other in others)]))
        texts = [text for text in wanted if text not in self._vectors]
        if texts:
            self._vectors.update(zip(texts, self.embed(texts)))

    def _judge(self, entry: Entry, others: Sequence[Entry], apart: Sequence[Entry]) -> tuple[str, str]:
        """Return why a question is not let in, and which it is like; '' where it is let in."""
        question = entry.question
        for other in apart:
            if is_within(entry, other) or self._is_near(entry, other):
                return "kept apart for evaluation", other.question.text
        number = self._texts.get(" ".join(split_words(question.text)))
        others = others if number is None else [self._entries[number]]
        for other in others:
            if number is not None or self._is_near(entry, other):
                return "like another question", other.question.text
        if self.per_page and question.evidence:
            place = question.evidence[0]
            if self._pages[place.document, place.page] >= self.per_page:
                return f"more than {self.per_page} a page", ""
        return "", ""

    def _is_near(self, entry: Entry, other: Entry) -> bool:
        if jaccard(entry.grams, other.grams) >= ALIKE:
            return True
        one, two = self._vectors.get(entry.question.text), self._vectors.get(other.question.text)
        return one is not None and two is not None and float(one @ two) > COSINE

    def _take(self, entry: Entry) -> int:
        self._entries.append(entry)
        self.admitted.append(entry.question)
        self._texts[" ".join(split_words(entry.question.text))] = len(self._entries) - 1
        if entry.question.evidence:
            self._pages[entry.question.evidence[0].document, entry.question.evidence[0].page] += 1
        return len(self._entries) - 1


def may_be_same(one: Entry, other: Entry) -> bool:
    """Tell whether two questions of one block may be one: many words shared, and answers in words that agree or stand in
    the same evidence.
    """
    if jaccard(one.words, other.words) < _SHARED_WORDS:
        return False
    answers = [telling_words(entry.question.answer) for entry in (one, other)]
    if not all(answers) or any(parse_amounts(entry.question.answer) for entry in (one, other)):
        return True
    places = [{(e.document, e.page) for e in entry.question.evidence} for entry in (one, other)]
    return bool(places[0] & places[1]) or len(answers[0] & answers[1]) >= 0.5 * min(map(len, answers))


def is_within(entry: Entry, other: Entry) -> bool:
    """Tell whether another question holds all that this one says, and not much more than as much again."""
    return len(entry.telling) > 2 and entry.telling <= other.telling and 2 * len(entry.telling) >= len(other.telling)


class Apart:
    """Questions that may not be asked again. Only their texts are looked at, never an answer or a document."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._by_word: dict[tuple[tuple[int, ...], str], list[int]] = {}
        for number, entry in enumerate(entries):
            for word in entry.telling:
                self._by_word.setdefault((entry.years, word), []).append(number)

    def find(self, entry: Entry) -> list[Entry]:
        """Return those of the same years that share half of the words, or ask the same with more words."""
        shared: set[int] = set()
        for word in entry.telling:
            shared.update(self._by_word.get((entry.years, word), ()))
        found = []
        for number in sorted(shared):
            other = self._entries[number]
            if is_within(entry, other) or jaccard(entry.words, other.words) >= _SHARED_WORDS:
                found.append(other)
        return found
