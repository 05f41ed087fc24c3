"""Whether answers stand on what they cite: citation precision and recall, numbers in cited passages, unsupported claims.

No model judges here. A number is supported where a cited passage prints it, or where it follows from a right calculation
whose operands do (the number guard's rule); a claim without numbers where a cited passage holds half its words. The first is
strict, the second lenient: a passage that denies the claim in its own words supports it. What the measures mean follows
Gao and others, Enabling Large Language Models to Generate Text with Citations (EMNLP 2023), who ask a model instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragtune.answering.calculate import find_calculations
from ragtune.answering.guard import find_amounts, unsupported_numbers
from ragtune.answering.prompt import render_chunk, title_of
from ragtune.errors import RunError
from ragtune.evaluation.scoring.wording import content_words, split_sentences
from ragtune.evaluation.statistics.clusters import share_interval
from ragtune.records import PAGE_BREAK, Answer, Chunk, Question, Record

if TYPE_CHECKING:
    from ragtune.evaluation.ladder.graded import Graded

MIN_SHARED = 0.5
"""The share of a claim's words that a passage must hold to support it."""
_CITED = re.compile(r"\[([\d,\s]{1,20})\]")
_YEAR = re.compile(r"(?:19|20)\d\d")


@dataclass(frozen=True)
class Source(Record):
    """A passage as the model read it, under its number in the prompt."""

    number: int
    text: str
    document: str
    page: int
    last_page: int


def sources_of_answer(answer: Answer) -> tuple[Source, ...]:
    """Return the passages that stood in the answer's prompt."""
    return tuple(Source(p.number, f"{p.title}\n{p.text}", p.document, p.page, p.page + p.text.count(PAGE_BREAK))
                 for p in answer.passages)


def sources_of_row(row: Graded, chunk_of: Callable[[str], Chunk]) -> tuple[Source, ...]:
    """Return the passages of a line of the log, their texts from the index (``Index.chunk``), with the pack in force.

    The log names passages but keeps no text: one that was shortened for the prompt is taken whole. Raises
    IndexFolderError where the index is another one, RunError where the log is too old to name chunks.
    """
    if any(not shown.chunk_id for shown in row.passages):
        raise RunError(f"the log's answer to '{row.question_id}' names passages without chunks: it was written by an older "
                       "version. Evaluate again.")
    chunks = [(shown.number, chunk_of(shown.chunk_id)) for shown in row.passages]
    return tuple(Source(number, f"{title_of(chunk)}\n{render_chunk(chunk)}", chunk.document, chunk.page, chunk.last_page)
                 for number, chunk in chunks)


@dataclass(frozen=True)
class Grounding(Record):
    """What one answer rests on, in counts.

    Of ``citations`` different passages cited, ``supporting`` hold a figure or half the words of a claim, ``on_evidence`` lie
    on an evidence page, and ``inferred`` were found for the model afterwards. Of ``evidence`` pages, ``evidence_cited`` are
    cited. Of ``numbers`` that the question does not give, ``printed`` stand in a cited passage, ``derived`` follow from a
    right calculation. Of ``claims``, those in ``unsupported_claims`` have a number or most of their words from elsewhere.
    """

    question_id: str
    citations: int = 0
    supporting: int = 0
    on_evidence: int = 0
    inferred: int = 0
    evidence: int = 0
    evidence_cited: int = 0
    numbers: int = 0
    printed: int = 0
    derived: int = 0
    claims: int = 0
    unsupported_claims: tuple[str, ...] = ()
    unsupported_numbers: tuple[str, ...] = ()

    @property
    def support(self) -> float:
        """The share of claims that are supported, a confidence that needs no model; 1 where nothing is claimed and cited."""
        if not self.claims:
            return 1.0 if self.citations else 0.0
        return 1 - len(self.unsupported_claims) / self.claims


def ground_answer(question: Question, answer: Answer) -> Grounding | None:
    """Return what an answer rests on; None for a refusal and for closed book, which rest on nothing."""
    if answer.is_refusal or not answer.passages:
        return None
    cited = {citation.passage: citation.is_inferred for citation in answer.citations}
    return score_grounding(question, answer.text, answer.reasoning, cited, sources_of_answer(answer))


def ground_row(question: Question, row: Graded, chunk_of: Callable[[str], Chunk]) -> Grounding | None:
    """Return what a logged answer rests on (see sources_of_row); None for a refusal and for closed book."""
    if row.is_refusal or row.outcome == "refused" or not row.passages:
        return None
    cited = {citation.passage: citation.is_inferred for citation in row.citations}
    return score_grounding(question, row.answer, row.reasoning, cited, sources_of_row(row, chunk_of))


def score_grounding(
    question: Question, answer: str, reasoning: str, cited: Mapping[int, bool], sources: Sequence[Source]
) -> Grounding:
    """Return what an answer rests on. ``cited`` maps the numbers of cited passages to whether they were inferred.

    A citation of a passage that is not among the sources counts as one that supports nothing.
    """
    named = [source for source in sources if source.number in cited]
    texts = [source.text for source in named]
    asked = set(find_amounts(question.text))
    numbers = list(dict.fromkeys(number for number in find_amounts(answer) if number not in asked))
    known = {number for text in texts for number in find_amounts(text)}
    missing = set(unsupported_numbers(answer, reasoning, question.text, texts))
    claims = split_claims(answer, reasoning, question.text)
    pages = {(evidence.document, evidence.page) for evidence in question.evidence}
    read = [{(source.document, page) for page in range(source.page, source.last_page + 1)} for source in named]
    return Grounding(
        question_id=question.id,
        citations=len(cited),
        supporting=sum(any(_supports(text, claim, asked, question.text) for claim in claims) for text in texts),
        on_evidence=sum(bool(of_source & pages) for of_source in read),
        inferred=sum(cited.values()),
        evidence=len(pages),
        evidence_cited=len(pages & {page for of_source in read for page in of_source}),
        numbers=len(numbers),
        printed=sum(number in known for number in numbers),
        derived=sum(number not in known and number not in missing for number in numbers),
        claims=len(claims),
        unsupported_claims=tuple(c for c in claims if not _is_supported(c, question.text, reasoning, named)),
        unsupported_numbers=tuple(number for number in numbers if number in missing),
    )


def split_claims(answer: str, reasoning: str, question: str) -> list[str]:
    """Return the sentences of the answer and the lines of its reasoning that say something the question does not."""
    parts = [line.strip() for text in (reasoning, answer) for line in split_sentences(text)]
    asked, words = set(find_amounts(question)), content_words(question)
    return list(dict.fromkeys(
        part for part in parts if set(find_amounts(part)) - asked or content_words(_bare(part)) - words - {"yes", "no"}
    ))  # fmt: skip


def _bare(claim: str) -> str:
    return _CITED.sub(" ", claim)


def _is_supported(claim: str, question: str, reasoning: str, named: Sequence[Source]) -> bool:
    """Whether the passages that the claim itself cites, or else all that are cited, support it."""
    own = {int(n) for group in _CITED.findall(claim) for n in re.findall(r"\d+", group)}
    texts = [source.text for source in named if not own or source.number in own]
    calculations = find_calculations(claim)
    if calculations:  # its operands are checked with its result
        results = " ; ".join(calculation.shown for calculation in calculations)
        return not unsupported_numbers(results, f"{reasoning}\n{claim}", question, [source.text for source in named])
    if set(find_amounts(claim)) - set(find_amounts(question)):
        return not unsupported_numbers(claim, reasoning, question, texts)
    return any(_holds_words(text, claim, question) for text in texts)


def _supports(text: str, claim: str, asked: set[str], question: str) -> bool:
    """Whether a passage holds one of the claim's figures (years and digits only where there are no others) or its words."""
    numbers = set(find_amounts(claim)) - asked
    figures = {number for number in numbers if len(number) > 1 and not _YEAR.fullmatch(number)} or numbers
    return bool(figures & set(find_amounts(text))) if figures else _holds_words(text, claim, question)


def _holds_words(text: str, claim: str, question: str) -> bool:
    wanted = content_words(_bare(claim)) - content_words(question)
    return bool(wanted) and len(wanted & content_words(text)) >= MIN_SHARED * len(wanted)


@dataclass(frozen=True)
class Share(Record):
    """``count`` of ``of``, with an interval by whole clusters (documents, else answers); ``value`` None where of is 0."""

    count: int
    of: int
    interval: tuple[float, float] = (0.0, 1.0)

    @property
    def value(self) -> float | None:
        """The share."""
        return self.count / self.of if self.of else None


def count_share(parts: Iterable[tuple[str, int, int]], confidence: float = 0.95) -> Share:
    """Return the share of (cluster, count, of) added up, each cluster standing or falling together."""
    outcomes: list[bool] = []
    clusters: list[str] = []
    for cluster, count, of in parts:
        outcomes += [True] * count + [False] * (of - count)
        clusters += [cluster] * of
    if not outcomes:
        return Share(0, 0)
    return Share(sum(outcomes), len(outcomes), share_interval(outcomes, clusters, confidence))


@dataclass(frozen=True)
class GroundingSummary(Record):
    """The grounding of ``n`` answers that are no refusals, added up over all their citations, numbers and claims.

    ``citation_precision``: cited passages that support the answer; ``evidence_precision``: that lie on an evidence page;
    ``citation_recall``: evidence pages that are cited; ``number_support``: numbers printed in a cited passage or derived
    from it; ``numbers_printed``: printed; ``unsupported_claims``; ``uncited``: answers that cite nothing.
    """

    n: int
    citation_precision: Share
    evidence_precision: Share
    citation_recall: Share
    number_support: Share
    numbers_printed: Share
    unsupported_claims: Share
    uncited: Share


def summarise_grounding(
    groundings: Sequence[Grounding], clusters: Mapping[str, str] | None = None, confidence: float = 0.95
) -> GroundingSummary:
    """Add up; ``clusters`` maps question id -> document (samples.clusters_of), None lets each answer stand for itself.

    Raises RunError where there are no answers.
    """
    if not groundings:
        raise RunError("no answer to ground: all are refusals or closed book. Give answers with passages.")

    def share(of: Callable[[Grounding], tuple[int, int]], only: Callable[[Grounding], bool] = lambda _: True) -> Share:
        return count_share(((_cluster(g, clusters), *of(g)) for g in groundings if only(g)), confidence)

    return GroundingSummary(
        n=len(groundings),
        citation_precision=share(lambda g: (g.supporting, g.citations)),
        evidence_precision=share(lambda g: (g.on_evidence, g.citations), lambda g: g.evidence > 0),
        citation_recall=share(lambda g: (g.evidence_cited, g.evidence)),
        number_support=share(lambda g: (g.printed + g.derived, g.numbers)),
        numbers_printed=share(lambda g: (g.printed, g.numbers)),
        unsupported_claims=share(lambda g: (len(g.unsupported_claims), g.claims)),
        uncited=share(lambda g: (int(not g.citations), 1)),
    )


def _cluster(grounding: Grounding, clusters: Mapping[str, str] | None) -> str:
    return grounding.question_id if clusters is None else clusters.get(grounding.question_id, grounding.question_id)
