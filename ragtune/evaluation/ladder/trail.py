"""What became of each piece of evidence on its way to the prompt: read, indexed, let through, found at which rank.

Recorded while a question is searched for, so that a lost answer can be told from its log (evaluation.losses.waterfall).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ragtune.answering.guard import find_amounts
from ragtune.evaluation.metrics.ranking import holds_evidence
from ragtune.records import Evidence, Hit, Question, Record, Trace
from ragtune.seams import Searcher

DEPTH = 50
"""So many hits are looked through for evidence that is not among those shown."""
HALF = 0.5
"""Share of the evidence's words that the chunks of its page must have together; and of those that the best of them has, the
share that passages must have to hold the evidence, which may be longer than a chunk. Where no figure says so."""
_WORD = re.compile(r"[^\W_]{4,}")
_YEARS = range(1900, 2100)


@dataclass(frozen=True)
class Needed(Record):
    """What must be read on an evidence page: the figures of answer and justification that stand there, failing these the
    words of the evidence, of which ``enough`` do; neither where any of the page will do.
    """

    figures: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    enough: int = 0

    @property
    def may_stand_elsewhere(self) -> bool:
        """Whether the figures are so particular that another page of the document that holds them will do."""
        return bool(self.figures) and all(len(re.sub(r"\D", "", figure)) >= 3 for figure in self.figures)

    def is_held_by(self, texts: Iterable[str]) -> bool:
        """Whether the texts together hold every figure, or enough of the words; one text at least is needed."""
        read = list(texts)
        if not read:
            return False
        if self.figures:
            return set(self.figures) <= {amount for text in read for amount in find_amounts(text)}
        return self.count_words(read) >= self.enough

    def count_words(self, texts: Iterable[str]) -> int:
        """Return how many of the words the texts hold together."""
        return len({word for text in texts for word in _words(text)}.intersection(self.words))


@dataclass(frozen=True)
class Trail(Record):
    """One piece of evidence on its way to the prompt. Ranks count from 1; None is 'not found'.

    ``page_rank`` is that of the first hit on its page, ``rank`` the one by which the hits hold what is ``needed``,
    ``unfiltered_rank`` the same without filter and router. ``depth`` hits were looked through.
    """

    document: str
    page: int
    is_present: bool = True
    is_read: bool = True
    is_indexed: bool = True
    is_kept: bool = True
    page_rank: int | None = None
    rank: int | None = None
    unfiltered_rank: int | None = None
    depth: int = 0
    needed: Needed = field(default_factory=Needed)


@dataclass(frozen=True)
class Asked(Record):
    """A question with how its hits were found and what became of its evidence: a line of ``questions.jsonl``.

    ``is_left_out`` says that it was not asked with retrieval, because its document is not in the index or shut out by the
    recipe's filter. ``companies`` are those of the evidence's documents, where the index says.
    """

    question: Question
    trace: Trace = field(default_factory=Trace)
    trails: tuple[Trail, ...] = ()
    companies: tuple[str, ...] = ()
    is_left_out: bool = False


def find_needed(question: Question, evidence: Evidence, page_text: str) -> Needed:
    """Return what must be read on an evidence page of this text to answer the question.

    Figures of one digit and years are left out: they stand on every page.
    """
    asked = find_amounts(f"{question.answer}\n{question.justification}")
    telling = [a for a in asked if len(re.sub(r"\D", "", a)) > 1 and not (a.isdigit() and int(a) in _YEARS)]
    on_page = set(find_amounts(page_text))
    if figures := tuple(dict.fromkeys(amount for amount in telling if amount in on_page)):
        return Needed(figures)
    there = set(_words(page_text))
    words = tuple(dict.fromkeys(word for word in _words(evidence.text) if word in there))
    return Needed(words=words, enough=math.ceil(HALF * len(words)))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def follow(question: Question, evidence: Evidence, searcher: Searcher, hits: Sequence[Hit], trace: Trace) -> Trail:
    """Return the trail of a piece of evidence as far as the hits tell: none for a question that was not searched for."""
    index = getattr(searcher, "index", None)
    if not (searcher.chunks_on_page(evidence.document, evidence.page) if index is None
            else evidence.document in index.store.positions):
        return Trail(evidence.document, evidence.page, is_present=False, is_read=False, is_indexed=False)
    page_text = _page_text(searcher, evidence)
    chunks = searcher.chunks_on_page(evidence.document, evidence.page)
    needed = find_needed(question, evidence, page_text)
    is_indexed = needed.is_held_by(chunk.text for chunk in chunks)
    best = max((needed.count_words([chunk.text]) for chunk in chunks), default=0)
    needed = dataclasses.replace(needed, enough=min(needed.enough, math.ceil(HALF * best)))
    return Trail(
        evidence.document, evidence.page,
        is_read=bool(page_text.strip()),
        is_indexed=is_indexed,
        is_kept=_is_kept(searcher, evidence, trace.where),
        page_rank=rank_of(Needed(), evidence, hits), rank=rank_of(needed, evidence, hits), depth=len(hits), needed=needed,
    )  # fmt: skip


def rank_of(needed: Needed, evidence: Evidence, hits: Sequence[Hit]) -> int | None:
    """Return the place (from 1) by which the hits hold what is needed, None where all of them do not.

    Figures of three digits and more may stand on another page of the same document too (net income does on several); all
    else counts on the evidence page alone.
    """
    texts: list[str] = []
    for place, hit in enumerate(hits, start=1):
        if holds_evidence(hit, evidence) or (needed.may_stand_elsewhere and hit.chunk.document == evidence.document):
            texts.append(hit.chunk.text)
            if needed.is_held_by(texts):
                return place
    return None


def _page_text(searcher: Searcher, evidence: Evidence) -> str:
    """Return the text of the evidence page: the index's own, else that of the chunks on it."""
    index = getattr(searcher, "index", None)
    if index is not None:
        return str(index.page_text(evidence.document, evidence.page))
    return "\n".join(chunk.text for chunk in searcher.chunks_on_page(evidence.document, evidence.page))


def _is_kept(searcher: Searcher, evidence: Evidence, where: str) -> bool:
    """Whether the filter that the search ended with, else the recipe's own, lets any chunk of the evidence page through."""
    index = getattr(searcher, "index", None)
    where = where or str(getattr(getattr(searcher, "retrieval", None), "where", None) or "")
    if index is None or not where or evidence.document not in index.store.positions:
        return True
    from ragtune.retrieval.filters import parse_filter

    kept, places = index.rows_kept(parse_filter(where)), index.places
    on_page = ((places[:, 0] == index.store.positions[evidence.document])
               & (places[:, 1] <= evidence.page) & (places[:, 2] >= evidence.page))
    return bool((kept & on_page).any()) or not on_page.any()
