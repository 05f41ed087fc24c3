"""What each rung of the ladder shows the model: nothing, what the search finds, or the page that holds the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from ragtune.answering.prompt import number_passages
from ragtune.evaluation.ladder.trail import DEPTH, Asked, Needed, Trail, follow, rank_of
from ragtune.records import Evidence, Hit, Passage, Question, Setting, Trace
from ragtune.seams import Progress, Searcher


@dataclass
class Rungs:
    """The hits of each question on each rung, and what could not be shown.

    ``found`` keeps all hits of the search (for recall), ``shown`` maps setting -> question id -> hits in the prompt.
    ``missing_documents`` maps question id -> evidence documents that the index lacks: these questions are left out of
    retrieval and oracle. ``pages_without_text`` lists questions whose evidence page has no chunk. ``asked`` tells for each
    question how its hits were found and what became of its evidence.
    """

    found: dict[str, list[Hit]] = field(default_factory=dict)
    shown: dict[Setting, dict[str, list[Hit]]] = field(default_factory=dict)
    missing_documents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pages_without_text: list[str] = field(default_factory=list)
    asked: dict[str, Asked] = field(default_factory=dict)


def equals(column: str, value: str | int) -> str:
    """Return the filter ``column = value`` with the value quoted as it needs."""
    if isinstance(value, int):
        return f"{column} = {value}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{column} = '{escaped}'"


def holds_document(searcher: Searcher, document: str, where: str | None = None) -> bool:
    """Whether the index holds a document (and it meets the filter)."""
    condition = equals("document", document)
    return bool(searcher.search(document.replace("_", " "), 1, f"({where}) and {condition}" if where else condition))


def keep_questions(questions: Sequence[Question], searcher: Searcher, where: str | None, limit: int) -> list[Question]:
    """Return the questions about documents that meet the filter, the first ``limit`` of them (0: all).

    A question without evidence is about no document and is kept only where there is no filter.
    """
    if where:
        documents = {evidence.document for question in questions for evidence in question.evidence}
        kept = {document for document in sorted(documents) if holds_document(searcher, document, where)}
        questions = [q for q in questions if q.evidence and all(e.document in kept for e in q.evidence)]
    return list(questions[:limit] if limit else questions)


def open_rungs(
    questions: Sequence[Question],
    searcher: Searcher | None,
    settings: Sequence[Setting],
    k: int,
    recall_at: Sequence[int] = (),
    progress: Progress | None = None,
) -> Rungs:
    """Search once for all models and return what each rung shows.

    ``k`` hits stand in a prompt; ``max(recall_at)`` are fetched for recall. On the oracle rung an unanswerable question,
    which has no gold page, shows what retrieval shows. The searcher may be None for closed book alone.
    """
    rungs = Rungs(shown={"closed_book": {question.id: [] for question in questions}})
    rungs.asked = {question.id: Asked(question) for question in questions}
    if searcher is None or not ({"retrieval", "oracle"} & set(settings)):
        return rungs
    documents = sorted({evidence.document for question in questions for evidence in question.evidence})
    present = {document for document in documents if holds_document(searcher, document)}
    for question in questions:
        if lacking := tuple(dict.fromkeys(e.document for e in question.evidence if e.document not in present)):
            rungs.missing_documents[question.id] = lacking
    asked = [question for question in questions if question.id not in rungs.missing_documents]
    traced = trace_all(searcher, [question.text for question in asked], max([k, *recall_at]))
    rungs.found = {question.id: hits for question, (hits, _) in zip(asked, traced)}
    traces = {question.id: trace for question, (_, trace) in zip(asked, traced)}
    rungs.asked = follow_all(questions, searcher, rungs.found, traces, k)
    rungs.shown["retrieval"] = {question_id: hits[:k] for question_id, hits in rungs.found.items()}
    if "oracle" not in settings:
        return rungs
    oracle = rungs.shown["oracle"] = {}
    for done, question in enumerate(asked, start=1):
        is_gold = question.is_answerable and bool(question.evidence)
        hits = oracle_hits(question, searcher) if is_gold else rungs.shown["retrieval"][question.id]
        if is_gold and not hits:
            rungs.pages_without_text.append(question.id)
        oracle[question.id] = hits
        if progress:
            progress(done, len(asked))
    return rungs


def trace_all(searcher: Searcher, questions: list[str], k: int) -> list[tuple[list[Hit], Trace]]:
    """Search for all questions at once where the searcher can, which embeds them in batches; with traces where it tells."""
    if traced := getattr(searcher, "trace_many", None):
        return list(traced(questions, k))
    together = getattr(searcher, "search_many", None)
    found = together(questions, k) if together else [searcher.search(question, k) for question in questions]
    return [(hits, Trace()) for hits in found]


def follow_all(
    questions: Sequence[Question], searcher: Searcher, found: dict[str, list[Hit]], traces: dict[str, Trace], k: int
) -> dict[str, Asked]:
    """Return what became of each question's evidence.

    What is not among the ``k`` shown is looked for among the first DEPTH hits, and once more without filter and router:
    two searches more for each question that lacks something, and none for the others.
    """
    index = getattr(searcher, "index", None)
    companies = {} if index is None else {d.name: str(d.metadata.get("company") or "") for d in index.documents()}
    asked, short = {}, []
    for question in questions:
        hits, trace = found.get(question.id, []), traces.get(question.id, Trace())
        trails = tuple(follow(question, evidence, searcher, hits, trace) for evidence in question.evidence)
        named = tuple(dict.fromkeys(companies[t.document] for t in trails if companies.get(t.document)))
        asked[question.id] = Asked(question, trace, trails, named, is_left_out=question.id not in found)
        if question.id in found and any(t.is_indexed and (t.rank is None or t.rank > k) for t in trails):
            short.append(question)
    if short:
        texts = [question.text for question in short]
        deeper = trace_all(searcher, texts, max(DEPTH, *(len(found[question.id]) for question in short)))
        free = _unfiltered(searcher)
        everywhere = trace_all(free, texts, k) if free is not None else [([], Trace())] * len(texts)
        for question, (hits, _), (freely, _) in zip(short, deeper, everywhere):
            entry = asked[question.id]
            trails = tuple(_deepened(t, e, hits, freely) for t, e in zip(entry.trails, question.evidence))
            asked[question.id] = dataclasses.replace(entry, trails=trails)
    return asked


def _deepened(trail: Trail, evidence: Evidence, hits: list[Hit], freely: list[Hit]) -> Trail:
    """Return the trail with the ranks of a deeper search, and of one without filter and router."""
    return dataclasses.replace(
        trail,
        page_rank=trail.page_rank or rank_of(Needed(), evidence, hits),
        rank=trail.rank or rank_of(trail.needed, evidence, hits),
        unfiltered_rank=rank_of(trail.needed, evidence, freely),
        depth=max(trail.depth, len(hits)),
    )


def _unfiltered(searcher: Searcher) -> Searcher | None:
    """Return a searcher of the same index without router and filter; None where there is neither, or no index to see."""
    index, retrieval = getattr(searcher, "index", None), getattr(searcher, "retrieval", None)
    if index is None or retrieval is None or not (retrieval.route or retrieval.where):
        return None
    from ragtune.retrieval.search import IndexSearcher

    return IndexSearcher(index, retrieval.model_copy(update={"route": False, "where": None}))


def oracle_hits(question: Question, searcher: Searcher) -> list[Hit]:
    """Return the chunks of the evidence pages, best for the question first; ranks count from 1 over all pages.

    Every chunk of the pages is there: the prompt's token budget cuts from the end.
    """
    pages = list(dict.fromkeys((evidence.document, evidence.page) for evidence in question.evidence))
    by_page = [_hits_on_page(question, searcher, Evidence(document, page)) for document, page in pages]
    merged: dict[str, Hit] = {}
    for place in range(max((len(hits) for hits in by_page), default=0)):
        for hits in by_page:  # the best of each page first, so that every page is in the prompt
            if place < len(hits):
                merged.setdefault(hits[place].chunk.id, hits[place])
    return [Hit(hit.chunk, hit.score, rank, "oracle") for rank, hit in enumerate(merged.values(), start=1)]


def _hits_on_page(question: Question, searcher: Searcher, evidence: Evidence) -> list[Hit]:
    chunks = searcher.chunks_on_page(evidence.document, evidence.page)
    where = f"{equals('document', evidence.document)} and {equals('page', evidence.page)}"
    hits = searcher.search(question.text, max(len(chunks), 1), where) if chunks else []
    known = {hit.chunk.id for hit in hits}
    rest = [Hit(chunk, 0.0, 0, "oracle") for chunk in chunks if chunk.id not in known]
    return [*hits, *rest]


def list_passages(rungs: Rungs) -> dict[str, Passage]:
    """Return every passage that a prompt was made of, by chunk id and uncut; the numbers mean nothing here."""
    hits = {hit.chunk.id: hit for shown in rungs.shown.values() for found in shown.values() for hit in found}
    return {passage.chunk_id: passage for passage in number_passages(list(hits.values()))}
