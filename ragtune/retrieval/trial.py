"""Questions whose pages are known, laid on an index: what they are to find, and at which rank they find it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from ragtune.errors import QuestionError
from ragtune.recipe.schema import Retrieval
from ragtune.records import Question
from ragtune.retrieval.dense import Found, search_dense
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.index import Index
from ragtune.retrieval.lexical import search_lexical
from ragtune.seams import Progress

if TYPE_CHECKING:
    import numpy as np

Scope = Literal["shared", "document"]
SCOPES: tuple[Scope, ...] = ("shared", "document")
"""Where is searched: in all chunks of the index, or in those of the question's own documents only."""
Ranks = Mapping[str, "np.ndarray"]
"""For each scope the rank (from 1) of each question's first hit on an evidence page, 0 where none was found."""


class Trial:
    """Questions with evidence in an index. ``gold[n]`` are the chunk rows that touch an evidence page of question n.

    Raises QuestionError for a question without evidence, or with evidence in a document or on a page the index has not.
    """

    def __init__(self, index: Index, questions: Sequence[Question], depth: int = 50) -> None:
        self.index, self.questions, self.depth = index, tuple(questions), depth
        self.documents: list[frozenset[int]] = []
        self.pages: list[frozenset[tuple[int, int]]] = []
        self.gold: list[np.ndarray] = []
        for question in self.questions:
            self._place(question)
        self.kept: dict[frozenset[int], np.ndarray] = {}
        self.words: dict[Scope, list[Found]] = {}

    def _place(self, question: Question) -> None:
        """Find the rows on a question's evidence pages."""
        import numpy as np

        positions, places = self.index.store.positions, self.index.places
        lacking = sorted({e.document for e in question.evidence} - set(positions))
        if lacking or not question.evidence:
            found = f"names '{lacking[0]}', which the index has not" if lacking else "has no evidence"
            raise QuestionError(f"the question '{question.id}' {found}. Leave it out, or index the document.")
        pages = frozenset((positions[e.document], e.page) for e in question.evidence)
        on_page = np.zeros(len(places), dtype=bool)
        for document, page in pages:
            on_page |= (places[:, 0] == document) & (places[:, 1] <= page) & (places[:, 2] >= page)
        if not on_page.any():
            named = ", ".join(f"{evidence.document} page {evidence.page}" for evidence in question.evidence)
            raise QuestionError(f"the question '{question.id}' names pages without text: {named}. Leave it out, or mend its "
                                "evidence.")
        self.pages.append(pages)
        self.documents.append(frozenset(document for document, _ in pages))
        self.gold.append(np.flatnonzero(on_page))

    def keep(self, number: int, scope: Scope) -> np.ndarray | None:
        """Return which rows are searched for a question (bool, one a row); None stands for all."""
        import numpy as np

        if scope == "shared":
            return None
        wanted = self.documents[number]
        if wanted not in self.kept:
            self.kept[wanted] = np.isin(self.index.places[:, 0], sorted(wanted))
        return self.kept[wanted]

    def find_dense(self, vectors: np.ndarray, scope: Scope) -> list[Found]:
        """Return the first ``depth`` rows for each question vector, shape (questions, dimension)."""
        if scope == "shared":
            return search_dense(self.index.dense, vectors, self.depth)
        found: list[Found] = [[] for _ in self.questions]
        together: dict[frozenset[int], list[int]] = {}
        for number, documents in enumerate(self.documents):
            together.setdefault(documents, []).append(number)
        for members in together.values():
            for number, rows in zip(members, search_dense(self.index.dense, vectors[members], self.depth,
                                                          self.keep(members[0], scope))):
                found[number] = rows
        return found

    def find_lexical(self, scope: Scope, progress: Progress | None = None) -> list[Found]:
        """Return the first ``depth`` rows by BM25 for each question; found once and kept."""
        if scope not in self.words:
            found = []
            for number, question in enumerate(self.questions):
                found += search_lexical(self.index.lexical, [question.text], self.depth, self.keep(number, scope))
                if progress:
                    progress(number + 1, len(self.questions))
            self.words[scope] = found
        return self.words[scope]

    def rank(self, vectors: np.ndarray, retrieval: Retrieval, progress: Progress | None = None) -> Ranks:
        """Return at which rank the questions find an evidence page when these are their vectors.

        Searched as ``retrieval.method`` says: 'lexical' and 'fused' with BM25 and the recipe's weights, else by vectors.
        """
        ranks: dict[str, np.ndarray] = {}
        for scope in SCOPES:
            found = self.find_dense(vectors, scope) if retrieval.method != "lexical" else [[] for _ in self.questions]
            if retrieval.method in ("fused", "lexical"):
                weights = (retrieval.dense_weight, retrieval.lexical_weight) if retrieval.method == "fused" else (0.0, 1.0)
                pairs = zip(found, self.find_lexical(scope, progress))
                found = [fuse_ranks(pair, weights, self.depth) for pair in pairs]
            ranks[scope] = self.rank_found([[row for row, _ in rows] for rows in found])
        return ranks

    def rank_found(self, found: Sequence[Sequence[int]]) -> np.ndarray:
        """Return the rank of the first row on an evidence page for each question's rows in order, 0 where there is none."""
        import numpy as np

        ranks = np.zeros(len(self.questions), dtype=np.int32)
        for number, rows in enumerate(found):
            gold = set(self.gold[number].tolist())
            ranks[number] = next((place for place, row in enumerate(rows, start=1) if row in gold), 0)
        return ranks
