"""Search: a question to hits. Filter and router say where, the searchers find, the reranker orders pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.errors import QuestionError, RecipeError, nearest
from ragtune.recipe.schema import Retrieval
from ragtune.records import Chunk, Hit, Trace
from ragtune.retrieval.adapter import Adapter, adapter_for
from ragtune.retrieval.asked import Asked, read_asked
from ragtune.retrieval.cross import CrossEncoderReranker
from ragtune.retrieval.dense import Found, search_dense
from ragtune.retrieval.filters import parse_filter
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.index import Index, open_index
from ragtune.retrieval.lexical import score_lexical, search_lexical
from ragtune.retrieval.rerank import Candidates, Ranker, ranker_for
from ragtune.retrieval.route import Router
from ragtune.seams import Embedder

if TYPE_CHECKING:
    import numpy as np

Questions = Sequence[str]
Search = Callable[[Index, Questions, "np.ndarray", int, "np.ndarray | None", Retrieval], list[Found]]
"""Takes index, questions, their vectors, k, the rows a filter keeps (None: all) and the recipe's section; returns rows and
scores."""
FEW = 20_000
"""Up to so many chunks all are ranked; among more, the pages of the chunks that the searchers find."""

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
        self.index = index
        self.retrieval = retrieval
        self.own_keep = index.rows_kept(parse_filter(retrieval.where)) if retrieval.where else None

    @cached_property
    def router(self) -> Router:
        """Tells which documents a question is about."""
        return Router(self.index.documents())

    @cached_property
    def ranker(self) -> Ranker:
        """Orders the pages."""
        return ranker_for(self.retrieval.ranker, self.index.folder)

    @cached_property
    def adapter(self) -> Adapter | None:
        """Moves the questions' vectors, where the recipe names one."""
        return adapter_for(self.retrieval.adapter, self.index.folder, self.index.embedder.fingerprint)

    @cached_property
    def cross(self) -> CrossEncoderReranker | None:
        """Scores pairs of question and chunk, where the recipe names a cross-encoder."""
        return None if self.retrieval.rerank in ("none", "ranker") else CrossEncoderReranker(self.retrieval.rerank)

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
        keep = self.own_keep
        if where is not None:
            kept = self.index.rows_kept(parse_filter(where))
            keep = kept if keep is None else keep & kept
        parts = [part for part in (self.retrieval.where, where) if part]
        filters = parts[0] if len(parts) == 1 else " and ".join(f"({part})" for part in parts)
        if not questions or (keep is not None and not keep.any()):
            nothing = Trace(filters, ("no chunk passes the filter",), True)
            return [([], nothing) for _ in questions]
        vectors = self._embed(questions)
        traced = []
        for row, question in enumerate(questions):
            found, trace = self._find(question, vectors[row : row + 1], k, keep, filters)
            traced.append((self._hits(found), trace))
        return traced

    def chunks_on_page(self, document: str, page: int) -> list[Chunk]:
        """Return the chunks of a page in reading order; an unknown document or page has none."""
        return self.index.chunks_on_page(document, page)

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
            found = SEARCHERS[self.retrieval.method](self.index, [question], vector, many, keep, self.retrieval)[0]
            return found if self.cross is None else self._cross(question, found, k), trace
        asked, candidates = self.gather(question, vector, k, keep)
        trace = dataclasses.replace(trace, added=asked.added)
        return self.ranker.rank(self.index.signals, asked, candidates, priors, k), trace

    def gather(self, question: str, vector: np.ndarray, k: int, keep: np.ndarray | None) -> tuple[Asked, Candidates]:
        """Return what a question asks for and what the ranker orders for it, among the rows ``keep`` marks (None: all).

        ``vector`` is the question's, shape (1, dimension).
        """
        asked = read_asked(question, self.index.pack)
        return asked, self._score(question, vector, self._candidates(question, vector, k, keep, asked), asked)

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
        routed = np.isin(self.index.places[:, 0], positions)
        both = routed if keep is None else routed & keep
        if not both.any():
            reasons = (*route.reasons, "the filter shuts all of these out: only the filter counts")
            return np.ones(len(priors)), keep, Trace(filters, reasons, True)
        where = f"({filters}) and ({route.where})" if filters else route.where
        return priors, both, Trace(where, route.reasons, route.is_fallback)

    def _candidates(
        self, question: str, vector: np.ndarray, k: int, keep: np.ndarray | None, asked: Asked
    ) -> np.ndarray:
        """Return the rows to rank, rising: all that are kept where they are few, else the pages of what is found."""
        import numpy as np

        count = len(self.index.places) if keep is None else int(keep.sum())
        if count <= FEW:
            return np.arange(count) if keep is None else np.flatnonzero(keep)
        many = max(4 * k, self.retrieval.candidates)
        wordings = [question, f"{question} {' '.join(asked.added)}"] if asked.added else [question]
        found = search_dense(self.index.dense, vector, many, keep)
        found += search_lexical(self.index.lexical, wordings, many, keep)
        signals = self.index.signals
        pages = np.unique(signals.page_of[[row for rows in found for row, _ in rows]])
        rows = np.concatenate([np.arange(signals.first[page], signals.first[page + 1]) for page in pages])
        return rows if keep is None else rows[keep[rows]]

    def _score(self, question: str, vector: np.ndarray, rows: np.ndarray, asked: Asked) -> Candidates:
        """Return what both searchers say of these rows."""
        lexical = score_lexical(self.index.lexical, question, rows)
        added = " ".join(asked.added)
        expanded = lexical + score_lexical(self.index.lexical, added, rows) if added else lexical
        return Candidates(rows, self.index.dense.reconstruct_batch(rows) @ vector[0], lexical, expanded)

    def _cross(self, question: str, found: Found, k: int) -> Found:
        """Return the k rows that the cross-encoder scores highest."""
        assert self.cross is not None
        scores = self.cross.score(question, self._hits(found))
        order = sorted(range(len(found)), key=lambda place: (-scores[place], place))
        return [(found[place][0], scores[place]) for place in order[:k]]

    def _hits(self, found: Found) -> list[Hit]:
        chunks = self.index.store.chunks_at(row for row, _ in found)
        return [Hit(chunk, score, rank, self.retrieval.method)
                for rank, (chunk, (_, score)) in enumerate(zip(chunks, found), start=1)]


def open_searcher(folder: Path, retrieval: Retrieval, embedder: Embedder | None = None) -> IndexSearcher:
    """Open an index folder for search.

    Raises IndexFolderError for a missing or damaged folder or another embedder than it was built with, QuestionError for a
    ``retrieval.where`` that does not fit the index, RecipeError for an unknown method.
    """
    return IndexSearcher(open_index(folder, embedder), retrieval)
