"""Search: a question to hits. Filter and router say where, the searchers find, the reranker orders pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.documents.pack import pack_in_force
from ragtune.errors import IndexFolderError, QuestionError, RecipeError, nearest
from ragtune.models.language import open_generator
from ragtune.recipe import schema
from ragtune.recipe.schema import Retrieval
from ragtune.records import Chunk, Hit, Trace
from ragtune.retrieval.adapter import Adapter, adapter_for
from ragtune.retrieval.asked import Asked, read_asked
from ragtune.retrieval.conditions import Node, join, render_filter
from ragtune.retrieval.cross import CrossEncoderReranker
from ragtune.retrieval.dense import Found, search_dense
from ragtune.retrieval.expand import Tools, Variant, check_expanders, expand, find_variants, plain
from ragtune.retrieval.filters import parse_filter
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.index import Index, open_index
from ragtune.retrieval.learned import Glossary, open_learned
from ragtune.retrieval.lexical import score_lexical, search_lexical
from ragtune.retrieval.rerank import Candidates, Ranker, ranker_for
from ragtune.retrieval.route import Router
from ragtune.retrieval.wide import page_chunk, widen
from ragtune.seams import Embedder, Generator, Reranker

if TYPE_CHECKING:
    import numpy as np

Questions = Sequence[str]
Search = Callable[[Index, Questions, "np.ndarray", int, "np.ndarray | None", Retrieval], list[Found]]
"""Takes index, questions, their vectors, k, the rows a filter keeps (None: all) and the recipe's section; returns rows and
scores."""
OWN_RERANKERS = ("ranker", "none")
"""What ``retrieval.rerank`` may say beside a cross-encoder's folder or name."""
FEW = 20_000
"""Up to so many chunks all are ranked; among more, the pages of the chunks that the searchers find."""
_DEEPER = 4
"""So many times as many chunks are found where whole pages are returned, for several of them stand on one page."""
_REST = 0.8
"""Weight of the documents a route without filter does not prefer, as a share of the least weight it gives."""


def find_dense(
    index: Index, questions: Questions, vectors: np.ndarray, k: int, keep: np.ndarray | None, retrieval: Retrieval
) -> list[Found]:
    """Find by the cosine of question and chunk vectors."""
    return search_dense(index.dense, vectors, k, keep)


def find_lexical(
    index: Index, questions: Questions, vectors: np.ndarray, k: int, keep: np.ndarray | None, retrieval: Retrieval
) -> list[Found]:
    """Find by BM25."""
    return search_lexical(index.lexical, questions, k, keep)


def find_fused(
    index: Index, questions: Questions, vectors: np.ndarray, k: int, keep: np.ndarray | None, retrieval: Retrieval
) -> list[Found]:
    """Fuse the first ``candidates`` of both by their ranks."""
    many = max(k, retrieval.candidates)
    weights = (retrieval.dense_weight, retrieval.lexical_weight)
    dense = find_dense(index, questions, vectors, many, keep, retrieval) if weights[0] else [[] for _ in questions]
    lexical = find_lexical(index, questions, vectors, many, keep, retrieval) if weights[1] else [[] for _ in questions]
    return [fuse_ranks(found, weights, k) for found in zip(dense, lexical)]


SEARCHERS: dict[str, Search] = {"dense": find_dense, "lexical": find_lexical, "fused": find_fused}


class IndexSearcher:
    """Searches an opened index as a recipe's section says; a seams.Searcher."""

    def __init__(self, index: Index, retrieval: Retrieval) -> None:
        if retrieval.method not in SEARCHERS:
            raise RecipeError(f"retrieval.method: found '{retrieval.method}', allowed are {', '.join(SEARCHERS)}."
                              f"{nearest(retrieval.method, SEARCHERS)}")
        if retrieval.method == "fused" and not retrieval.dense_weight and not retrieval.lexical_weight:
            raise RecipeError("retrieval: both dense_weight and lexical_weight are 0, so nothing would be found. Raise one.")
        check_expanders(retrieval.expand)
        self.index = index
        self.retrieval = retrieval
        self.own_keep = index.rows_kept(parse_filter(retrieval.where)) if retrieval.where else None

    @cached_property
    def router(self) -> Router:
        """Tells which documents a question is about."""
        return Router(self.index.documents(), self.index.pack)

    @cached_property
    def ranker(self) -> Ranker:
        """Orders the pages."""
        return ranker_for(self.retrieval.ranker, self.index.folder)

    @cached_property
    def adapter(self) -> Adapter | None:
        """Moves the questions' vectors, where the recipe names one."""
        return adapter_for(self.retrieval.adapter, self.index.folder, self.index.embedder.fingerprint)

    @cached_property
    def cross(self) -> Reranker | None:
        """Scores pairs of question and chunk, where the recipe names a cross-encoder."""
        return None if self.retrieval.rerank in OWN_RERANKERS else CrossEncoderReranker(self.retrieval.rerank)

    @cached_property
    def learned(self) -> Glossary | None:
        """The glossary learned from the documents, where the recipe uses it."""
        return open_learned(self.index) if "learned" in self.retrieval.expand else None

    @cached_property
    def expander(self) -> Generator | None:
        """The model that rewords questions."""
        return open_generator(schema.Generator(model=self.retrieval.expander)) if self.retrieval.expander else None

    def search(self, question: str, k: int, where: str | None = None) -> list[Hit]:
        """Return at most k hits, best first, that pass the caller's filter and the recipe's.

        Fewer than k is no error; a filter that nothing passes gives none. Raises QuestionError for an empty question, a
        k below 1 or a filter that cannot be used.
        """
        return self.search_many([question], k, where)[0]

    def search_many(self, questions: Sequence[str], k: int, where: str | None = None) -> list[list[Hit]]:
        """Return the hits of each question, embedded in one batch. Raises QuestionError as ``search`` does."""
        return [hits for hits, _ in self.trace_many(questions, k, where)]

    def trace_many(self, questions: Sequence[str], k: int, where: str | None = None) -> list[tuple[list[Hit], Trace]]:
        """Return the hits of each question and how they were found. Raises QuestionError as ``search`` does."""
        for number, question in enumerate(questions, start=1):
            if not question.strip():
                which = f"question {number} of {len(questions)}" if len(questions) > 1 else "the question"
                raise QuestionError(f"{which} is empty. Ask something, for example: What were net sales in 2021?")
        if k < 1:
            raise QuestionError(f"k is {k}, allowed is 1 or more. Ask for at least one hit.")
        texts = (self.retrieval.where or None, where)
        keep, asked = self.own_keep, [parse_filter(text) for text in texts if text is not None]
        if where is not None:
            kept = self.index.rows_kept(asked[-1])
            keep = kept if keep is None else keep & kept
        filters = _both([one.node for one in asked])
        if not questions or (keep is not None and not keep.any()):
            nothing = Trace(filters, ("no chunk passes the filter",), True)
            return [([], nothing) for _ in questions]
        vectors = self._embed(questions)
        traced = []
        for row, question in enumerate(questions):
            deeper = k if self.retrieval.returns == "chunk" else _DEEPER * k
            found, trace = self._find(question, vectors[row : row + 1], deeper, keep, filters)
            traced.append((self._shown(found, k), trace))
        return traced

    def chunks_on_page(self, document: str, page: int) -> list[Chunk]:
        """Return what may be shown of a page, its chunks in reading order or the whole of it; nothing of an unknown one."""
        if self.retrieval.returns == "chunk":
            return self.index.chunks_on_page(document, page)
        whole = page_chunk(self.index.store, document, page)
        return [] if whole is None else [whole]

    def _embed(self, questions: Sequence[str]) -> np.ndarray:
        """Return the questions' vectors; a searcher that needs none gets zeros."""
        import numpy as np

        if self.retrieval.method == "lexical" and self.retrieval.rerank == "none":
            return np.zeros((len(questions), 0), dtype=np.float32)
        vectors = self.index.embedder.embed_questions(list(questions))
        return vectors if self.adapter is None else self.adapter.transform(vectors)

    def _find(
        self, question: str, vector: np.ndarray, k: int, keep: np.ndarray | None, filters: str
    ) -> tuple[Found, Trace]:
        """Return rows and scores for one question."""
        import numpy as np

        priors, trace = np.ones(len(self.index.store.documents)), Trace(filters)
        if self.retrieval.route:
            priors, keep, trace = self.route(question, keep, filters)
        if self.retrieval.rerank != "ranker":
            many = k if self.retrieval.rerank == "none" else max(k, self.retrieval.candidates)
            _, variants = self.ask(question, keep)
            if len(variants) > 1:
                weights = [weight if self.retrieval.method in ("fused", name) else 0.0 for name, weight in (
                    ("dense", self.retrieval.dense_weight), ("lexical", self.retrieval.lexical_weight))]
                found = find_variants(self.index, variants, many, keep, self.retrieval.candidates, *weights)
            else:
                found = SEARCHERS[self.retrieval.method](self.index, [question], vector, many, keep, self.retrieval)[0]
            trace = dataclasses.replace(trace, added=_added(question, variants))
            return found if self.cross is None else self._cross(question, found, k), trace
        asked, variants = self.ask(question, keep)
        candidates = self.gather(variants, vector, k, keep)
        trace = dataclasses.replace(trace, added=_added(question, variants))
        return self.ranker.rank(self.index.signals, asked, candidates, priors, k), trace

    def ask(self, question: str, keep: np.ndarray | None) -> tuple[Asked, list[Variant]]:
        """Return what a question asks for, and the question with the other ways to ask it that the recipe names."""
        asked = read_asked(question, self.index.pack)
        if not self.retrieval.expand:
            return asked, [plain(question)]
        tools = Tools(self.index, keep, lambda _: asked.added, self.learned.expand if self.learned else None, self.expander)
        return asked, expand(question, self.retrieval.expand, tools)

    def gather(self, variants: Sequence[Variant], vector: np.ndarray, k: int, keep: np.ndarray | None) -> Candidates:
        """Return what the ranker orders for a question among the rows ``keep`` marks (None: all): each row's scores for the
        question, and the best for another way to ask it.

        ``variants`` begin with the question itself, whose vector is given, shape (1, dimension).
        """
        import numpy as np

        rows = self._candidates(variants, vector, k, keep)
        lexical = score_lexical(self.index.lexical, str(variants[0].lexical), rows)
        expanded = lexical
        for variant in variants[1:]:
            if variant.lexical:
                expanded = np.maximum(expanded, score_lexical(self.index.lexical, variant.lexical, rows))
        dense = self.index.dense.score_rows(rows, vector[0])
        for other in self._vectors(variants[1:]):
            dense = np.maximum(dense, self.index.dense.score_rows(rows, other))
        return Candidates(rows, dense, lexical, expanded)

    def _vectors(self, variants: Sequence[Variant]) -> list[np.ndarray]:
        """Return the vectors of variants that go to the vectors for their own sake, not for words that BM25 lacks."""
        own = [variant for variant in variants if variant.dense != variant.lexical]
        ready = [variant.vector for variant in own if variant.vector is not None]
        texts = [variant.dense for variant in own if variant.dense and variant.vector is None]
        return [*ready, *(self._embed(texts) if texts else ())]

    def route(
        self, question: str, keep: np.ndarray | None = None, filters: str = ""
    ) -> tuple[np.ndarray, np.ndarray | None, Trace]:
        """Return a weight for each document, the rows of the candidates, and why.

        Candidates that the caller's filter shuts out altogether are put aside, and it is said.
        """
        import numpy as np

        route = self.router.route(question)
        positions = [self.index.store.positions[name] for name in route.documents]
        rest = 0.0 if route.where else _REST * min(route.weights, default=1.0)  # never above a candidate's own weight
        priors = np.full(len(self.index.store.documents), rest)
        priors[positions] = route.weights
        if not route.where:
            return priors, keep, Trace(filters, route.reasons, route.is_fallback)
        is_routed = np.zeros(len(priors), dtype=bool)
        is_routed[positions] = True
        routed = is_routed[self.index.places[:, 0]]
        both = routed if keep is None else routed & keep
        if not both.any():
            reasons = (*route.reasons, "the filter shuts all of these out: only the filter counts")
            return np.ones(len(priors)), keep, Trace(filters, reasons, True)
        parts = [parse_filter(text).node for text in (filters, route.where) if text]
        return priors, both, Trace(_both(parts), route.reasons, route.is_fallback)

    def _candidates(
        self, variants: Sequence[Variant], vector: np.ndarray, k: int, keep: np.ndarray | None
    ) -> np.ndarray:
        """Return the rows to rank, rising: all that are kept where they are few, else the pages of what is found."""
        import numpy as np

        count = len(self.index.places) if keep is None else int(keep.sum())
        if count <= FEW:
            return np.arange(count) if keep is None else np.flatnonzero(keep)
        many = max(4 * k, self.retrieval.candidates)
        vectors = np.stack([vector[0], *self._vectors(variants[1:])])
        found = search_dense(self.index.dense, vectors, many, keep)
        found += search_lexical(self.index.lexical, [each.lexical for each in variants if each.lexical], many, keep)
        signals = self.index.signals
        pages = np.unique(signals.page_of[[row for rows in found for row, _ in rows]])
        counts = signals.first[pages + 1] - signals.first[pages]
        rows = np.arange(counts.sum()) + np.repeat(signals.first[pages] - np.cumsum(counts) + counts, counts)
        return rows if keep is None else rows[keep[rows]]

    def _cross(self, question: str, found: Found, k: int) -> Found:
        """Return the k rows that the cross-encoder scores highest."""
        assert self.cross is not None
        scores = self.cross.score(question, self._hits(found))
        order = sorted(range(len(found)), key=lambda place: (-scores[place], place))
        return [(found[place][0], scores[place]) for place in order[:k]]

    def shown_of(self, row: int) -> Chunk:
        """Return what is shown of a chunk row: the chunk itself, or the first page it stands on."""
        return self._shown([(row, 0.0)], 1)[0].chunk

    def _shown(self, found: Found, k: int) -> list[Hit]:
        """Return what is shown of the rows found: their chunks, or the first k pages these stand on."""
        if self.retrieval.returns == "chunk":
            return self._hits(found)
        store = self.index.store
        pages = [(page_chunk(store, store.documents[document].name, page), score)
                 for document, page, score in widen(self.index.places, found, k)]
        return self._ranked([(page, score) for page, score in pages if page is not None])

    def _hits(self, found: Found) -> list[Hit]:
        chunks = self.index.store.chunks_at(row for row, _ in found)
        return self._ranked([(chunk, score) for chunk, (_, score) in zip(chunks, found)])

    def _ranked(self, found: Sequence[tuple[Chunk, float]]) -> list[Hit]:
        searcher = "ranker" if self.retrieval.rerank == "ranker" else self.retrieval.method
        return [Hit(chunk, score, rank, searcher) for rank, (chunk, score) in enumerate(found, start=1)]


def _both(nodes: list[Node]) -> str:
    """Return the text of the filter that all of these make together, '' for none."""
    return render_filter(join(nodes, is_any=False)) if nodes else ""


def _added(question: str, variants: Sequence[Variant]) -> tuple[str, ...]:
    """Return what the variants say beside the question."""
    texts = [str(variant.lexical or variant.dense or "") for variant in variants[1:] if variant.vector is None]
    return tuple(dict.fromkeys(filter(None, (text.removeprefix(question).strip() for text in texts))))


def open_searcher(folder: Path, retrieval: Retrieval, embedder: Embedder | None = None) -> IndexSearcher:
    """Open an index folder for search.

    Raises IndexFolderError for a missing or damaged folder, an embedder or a pack in force that it was not built with,
    QuestionError for a ``retrieval.where`` that does not fit the index, RecipeError for an unknown method.
    """
    index = open_index(folder, embedder)
    pack = pack_in_force()
    if pack is not None and pack.hash != index.pack.hash:  # passages would be rendered by one and found by the other
        raise IndexFolderError(
            f"{folder} was built with the pack '{index.pack.name}' ({index.pack.hash}), and the recipe's is '{pack.name}' "
            f"({pack.hash}). Index again with this pack, or name the index's own, pack: {folder / 'pack'}. "
            "Do: ragtune index --recipe FILE")
    return IndexSearcher(index, retrieval)
