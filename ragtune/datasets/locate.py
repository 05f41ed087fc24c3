"""Evidence whose page a question file does not say, found by its text in the pages of an index."""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import PurePath

from ragtune.datasets.benchmarks import FINQA
from ragtune.datasets.facts import Pages
from ragtune.records import Document, Evidence, Question

STATED = "page stated"
EXACT = "found by its text"
OVERLAP = "found by most of its words"
SEVERAL = "stands in several documents"
SHORT = "text too short to be looked for"
MISSING = "not found"
LOCATED = (STATED, EXACT, OVERLAP)
"""The outcomes with a page; a question with a piece of evidence of another outcome is left without evidence."""
PAIRS_SHARE = 0.6
"""Share of the text's pairs of neighbouring words that lines of about its length must hold."""
NUMBERS_SHARE = 0.8
"""Share of the text's numbers that these lines must hold: a year's sentence is often the last year's but for the numbers."""
MIN_CHARACTERS = {True: 8, False: 24}
MIN_WORDS = {True: 6, False: 12}
"""What a text must have to be looked for exactly, and by its words: in the document named (True), in all (False)."""
_WORDS_SHARE = 0.7
_TRIED = 5  # pages, by shared words, whose lines are compared
_SUFFIX = re.compile(r"\.(pdf|html?|txt|md|docx)$")
_NUMBER = re.compile(r"\d+(?:,\d+)*(?:\.\d+)?")
_WORD = re.compile(rf"{_NUMBER.pattern}|[^\W\d_]+")
_WITHIN = re.compile(r"[^\W_][^\W_]|\d[.,]\d")  # no end of a word or number lies after the first character
_FOLDED = {ord(c): "-" for c in "‐‑‒–—―−"} | {ord(c): "'" for c in "’‘`“”\""} | dict.fromkeys(map(ord, "$€£\xad"))


def locate_evidence(questions: Sequence[Question], pages: Pages) -> tuple[list[Question], Counter[str]]:
    """Return the questions with every piece of evidence on a page (from 1), and the number of pieces by outcome.

    A stated page is left as it is, but for FinQA's, which may be counted otherwise. Text is compared without white space,
    case, currency signs and kinds of dashes and quotes: in the document named, or one whose name differs in case and
    punctuation only, else in all documents if it is long enough and stands in one of them. Where it stands nowhere so,
    the lines of a page count that hold PAIRS_SHARE of its pairs of words. Found text is replaced by the page's own. A
    question of which a piece is not found loses its evidence, rather than being half supported, and names its document
    in its metadata; so no consumer meets a page 0.
    """
    library, counts = _Library(pages), Counter[str]()
    return [_locate_question(question, library, counts) for question in questions], counts


def _locate_question(question: Question, library: _Library, counts: Counter[str]) -> Question:
    """Return the question with its evidence on pages, or without evidence; count the outcomes."""
    is_loose = question.metadata.get("shape") == FINQA
    placed: dict[int, Evidence] = {}
    # The longest text first: where it stands, the shorter ones are looked for before anywhere else.
    for number in sorted(range(len(question.evidence)), key=lambda n: -len(question.evidence[n].text)):
        evidence = question.evidence[number]
        name = library.resolve(evidence.document)
        evidence = dataclasses.replace(evidence, document=name or evidence.document)
        if evidence.page and not (is_loose and evidence.text.strip()):
            found: tuple[Evidence | None, str] = evidence, STATED
        else:
            found = library.find(evidence, tuple(dict.fromkeys((e.document, e.page) for e in placed.values())))
        counts[found[1]] += 1
        if found[0] is not None:
            placed[number] = found[0]
    named = question.metadata.get("document")
    metadata = dict(question.metadata)
    if isinstance(named, str) and (resolved := library.resolve(named)):
        metadata["document"] = resolved
    if len(placed) == len(question.evidence):
        evidence_placed = tuple(placed[number] for number in sorted(placed))
        is_same = evidence_placed == question.evidence and metadata == question.metadata
        return question if is_same else dataclasses.replace(question, evidence=evidence_placed, metadata=metadata)
    stated = next((library.resolve(e.document) or e.document for e in question.evidence if e.document), "")
    if stated:
        metadata.setdefault("document", stated)
    return dataclasses.replace(question, evidence=(), metadata=metadata)


def fold(text: str) -> str:
    """Return the text as it is compared: without white space and currency signs, in one case, with one dash and quote."""
    return "".join(text.translate(_FOLDED).casefold().split())


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


class _Shelved:
    """A document ready to be searched: its folded pages in one string, and the pages of each word."""

    def __init__(self, document: Document) -> None:
        self.document = document
        folded = [fold(page.text) for page in document.pages]
        self.text = "\f".join(folded)
        self.starts = [0]
        for page in folded:
            self.starts.append(self.starts[-1] + len(page) + 1)
        self._pages_of: dict[str, list[int]] | None = None

    def find_exact(self, text: str) -> Iterator[Evidence]:
        """Yield the text's places, at most one a page, with the text as the page writes it."""
        wanted, numbers = fold(text), _NUMBER.findall(text)
        at = self.text.find(wanted)
        while at >= 0:
            place = bisect.bisect_right(self.starts, at) - 1
            span = self._unfold(place, at - self.starts[place], len(wanted))
            if span is not None and _NUMBER.findall(span) == numbers:
                yield Evidence(self.document.name, self.document.pages[place].number, span)
                at = self.starts[place + 1] - 1
            at = self.text.find(wanted, at + 1)

    def _unfold(self, place: int, start: int, length: int) -> str | None:
        """Return the page's own text of a span of its folded text, None where it begins or ends within a word."""
        text = self.document.pages[place].text
        origins = [n for n, character in enumerate(text) for _ in fold(character)]
        begin, end = origins[start], origins[start + length - 1] + 1
        is_within = _WITHIN.match(text[max(0, begin - 2) : begin + 1][::-1]) or _WITHIN.match(text[end - 1 : end + 2])
        return None if is_within else text[begin:end]

    def rank_pages(self, words: set[str]) -> list[tuple[float, int]]:
        """Return (share of the words, page's place) of the pages that hold most of them, best first."""
        if self._pages_of is None:
            self._pages_of = {}
            for place, page in enumerate(self.document.pages):
                for word in set(_words(page.text)):
                    self._pages_of.setdefault(word, []).append(place)
        held = Counter(chain.from_iterable(self._pages_of.get(word, ()) for word in words))
        best = held.most_common(_TRIED)
        return [(count / len(words), place) for place, count in best if count >= _WORDS_SHARE * len(words)]

    def find_lines(self, place: int, wanted: Sequence[str]) -> tuple[float, Evidence]:
        """Return the share of the words' pairs that the best lines of a page hold, and those lines; 0.0 where they lack
        too many of its numbers."""
        pairs, lines = set(pairwise(wanted)), self.document.pages[place].text.split("\n")
        words = [_words(line) for line in lines]

        def share_of(first: int, end: int) -> float:
            return len(pairs.intersection(pairwise(chain.from_iterable(words[first:end])))) / len(pairs)

        best, begin, end = 0.0, 0, 0
        for first in range(len(lines)):
            last, count = first + 1, len(words[first])
            while last < len(lines) and count < len(wanted):
                count += len(words[last])
                last += 1
            last += last < len(lines)  # the text may begin in the middle of the first line, and so end one line later
            if (share := share_of(first, last)) > best:
                best, begin, end = share, first, last
        while end - begin > 1 and share_of(begin + 1, end) == best:
            begin += 1
        while end - begin > 1 and share_of(begin, end - 1) == best:
            end -= 1
        numbers = {word for word in wanted if _NUMBER.fullmatch(word)}
        if len(numbers.intersection(chain.from_iterable(words[begin:end]))) < NUMBERS_SHARE * len(numbers):
            best = 0.0
        page = self.document.pages[place].number
        return best, Evidence(self.document.name, page, "\n".join(lines[begin:end]).strip())


class _Library:
    """The documents of an index, opened and folded as they are needed."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.names = dict.fromkeys(document.name for document in pages.documents())
        self.shelved: dict[str, _Shelved] = {}
        self._plain: dict[str, list[str]] = {}
        for name in self.names:
            self._plain.setdefault(_plain_name(name), []).append(name)

    def resolve(self, name: str) -> str | None:
        """Return the document of this name, or the only one whose name differs in case, punctuation or suffix alone."""
        if name in self.names:
            return name
        same = self._plain.get(_plain_name(name), []) if name else []
        return same[0] if len(same) == 1 else None

    def open(self, name: str) -> _Shelved:
        if name not in self.shelved:
            self.shelved[name] = _Shelved(self.pages.document(name))
        return self.shelved[name]

    def find(self, evidence: Evidence, near: Sequence[tuple[str, int]]) -> tuple[Evidence | None, str]:
        """Return the evidence on its page, or None, and the outcome. ``near`` are pages of the question's other evidence."""
        wanted, words = fold(evidence.text), _words(evidence.text)
        named = [evidence.document] if evidence.document in self.names else []
        named += [name for name, _ in near if name in self.names and name not in named]
        outcome = SHORT
        for is_named, names in ((True, named), (False, list(self.names))):
            if names and len(wanted) >= MIN_CHARACTERS[is_named]:
                outcome = MISSING
                found = [list(self.open(name).find_exact(evidence.text)) for name in names]
                found = [places for places in found if places]
                if len(found) == 1 or (found and is_named):
                    return self._nearest(found[0], evidence, near), EXACT
                if found:
                    return None, SEVERAL
            if names and len(set(words)) >= MIN_WORDS[is_named]:
                outcome = MISSING
                best = self._find_lines(names, words)
                if best and (is_named or len({place.document for place in best}) == 1):
                    return best[0], OVERLAP
                if best:
                    return None, SEVERAL
        return None, outcome

    def _nearest(self, places: Sequence[Evidence], evidence: Evidence, near: Sequence[tuple[str, int]]) -> Evidence:
        """Return the place nearest to the page stated, else one on a page of the other evidence, else the first."""
        if evidence.page:
            return min(places, key=lambda place: abs(place.page - evidence.page))
        return next((place for place in places if (place.document, place.page) in near), places[0])

    def _find_lines(self, names: Sequence[str], words: Sequence[str]) -> list[Evidence]:
        """Return the places that hold PAIRS_SHARE of the words' pairs, best first."""
        ranked = [(share, name, place) for name in names for share, place in self.open(name).rank_pages(set(words))]
        ranked.sort(key=lambda entry: -entry[0])
        tried = [self.open(name).find_lines(place, words) for _, name, place in ranked[:_TRIED]]
        tried.sort(key=lambda entry: -entry[0])
        return [place for share, place in tried if share >= PAIRS_SHARE]


def _plain_name(name: str) -> str:
    """Return a document's name without folders, suffix, case and punctuation."""
    return re.sub(r"[\W_]+", "", _SUFFIX.sub("", PurePath(name.replace("\\", "/")).name.casefold()))
