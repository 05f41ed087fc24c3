"""Search: a question to hits. Filters first, then the recipe's searcher, then the chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.errors import QuestionError, RecipeError, nearest
from ragtune.recipe.schema import Retrieval
from ragtune.records import Chunk, Hit
from ragtune.retrieval.dense import Found, search_dense
from ragtune.retrieval.filters import parse_filter
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.index import Index, open_index
from ragtune.retrieval.lexical import search_lexical
from ragtune.seams import Embedder

if TYPE_CHECKING:
    import numpy as np

Questions = Sequence[str]
Search = Callable[[Index, Questions, int, "np.ndarray | None", Retrieval], list[Found]]
"""Takes index, questions, k, the rows a filter keeps (None: all) and the recipe's section; returns rows and scores."""


def find_dense(index: Index, questions: Questions, k: int, keep: np.ndarray | None, retrieval: Retrieval) -> list[Found]:
    """Find by the cosine of question and chunk vectors."""
    return search_dense(index.dense, index.embedder.embed_questions(questions), k, keep)


def find_lexical(index: Index, questions: Questions, k: int, keep: np.ndarray | None, retrieval: Retrieval) -> list[Found]:
    """Find by BM25."""
    return search_lexical(index.lexical, questions, k, keep)


def find_fused(index: Index, questions: Questions, k: int, keep: np.ndarray | None, retrieval: Retrieval) -> list[Found]:
    """Fuse the first ``candidates`` of both by their ranks."""
    many = max(k, retrieval.candidates)
    weights = (retrieval.dense_weight, retrieval.lexical_weight)
    dense = find_dense(index, questions, many, keep, retrieval) if weights[0] else [[] for _ in questions]
    lexical = find_lexical(index, questions, many, keep, retrieval) if weights[1] else [[] for _ in questions]
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

    def search(self, question: str, k: int, where: str | None = None) -> list[Hit]:
        """Return at most k hits, best first, that pass the caller's filter and the recipe's.

        Fewer than k is no error; a filter that nothing passes gives none. Raises QuestionError for an empty question, a
        k below 1 or a filter that cannot be used.
        """
        return self.search_many([question], k, where)[0]

    def search_many(self, questions: Sequence[str], k: int, where: str | None = None) -> list[list[Hit]]:
        """Return the hits of each question, embedded in one batch. Raises QuestionError as ``search`` does."""
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
        if not questions or (keep is not None and not keep.any()):
            return [[] for _ in questions]
        found = SEARCHERS[self.retrieval.method](self.index, questions, k, keep, self.retrieval)
        return [self._hits(rows) for rows in found]

    def chunks_on_page(self, document: str, page: int) -> list[Chunk]:
        """Return the chunks of a page in reading order; an unknown document or page has none."""
        return self.index.chunks_on_page(document, page)

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
