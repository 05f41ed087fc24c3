"""BM25 over the chunks with bm25s: English stems, stop words left out, numbers and years kept as tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.retrieval.dense import Found

if TYPE_CHECKING:
    import numpy as np

FOLDER = "lexical"
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['’][^\W_]+)*")


@lru_cache(maxsize=1)
def _tools() -> tuple[Any, frozenset[str]]:
    """Return the stemmer and the stop words, among them the words questions are made of."""
    import Stemmer
    from bm25s.stopwords import STOPWORDS_EN_PLUS

    return Stemmer.Stemmer("english"), frozenset(STOPWORDS_EN_PLUS)


def tokenise(text: str) -> list[str]:
    """Return the text's stems: ``Net sales rose to $4,210 in 2021`` gives net, sale, rose, 4210, 2021."""
    stemmer, stop_words = _tools()
    words = [word.replace(",", "").replace("’", "'") for word in _WORD.findall(text.lower())]
    stems: list[str] = stemmer.stemWords([word for word in words if word not in stop_words])
    return stems


def build_lexical(texts: Sequence[str], folder: Path) -> None:
    """Write the BM25 index of the texts into ``folder/lexical``: arrays and JSON, no pickle."""
    import bm25s

    vocabulary: dict[str, int] = {}  # in the order first seen, so that the same texts give the same bytes
    rows = [[vocabulary.setdefault(stem, len(vocabulary)) for stem in tokenise(text)] for text in texts]
    vocabulary.setdefault("", len(vocabulary))
    index = bm25s.BM25(backend="numpy")
    index.index((rows, vocabulary), create_empty_token=False, show_progress=False)
    index.save(str(folder / FOLDER), allow_pickle=False, show_progress=False)


def open_lexical(folder: Path) -> Any:
    """Return the BM25 index of a folder, its arrays mapped and not loaded."""
    import bm25s

    return bm25s.BM25.load(str(folder / FOLDER), mmap=True, allow_pickle=False, show_progress=False)


def search_lexical(index: Any, questions: Sequence[str], k: int, keep: np.ndarray | None = None) -> list[Found]:
    """Return for each question the k rows of largest BM25 score among those ``keep`` marks; rows without a word of the
    question are no hits.
    """
    import numpy as np

    found: list[Found] = []
    for question in questions:
        stems = [index.vocab_dict[stem] for stem in tokenise(question) if stem in index.vocab_dict]
        if not stems:
            found.append([])
            continue
        scores = np.array(index.get_scores_from_ids(stems))
        if keep is not None:
            scores[~keep] = 0
        rows = np.flatnonzero(scores > 0)
        # Equal scores are ordered by row, so the whole order is sorted rather than a part that cuts through equals.
        best = rows[np.lexsort((rows, -np.round(scores[rows], 6)))][:k]
        found.append([(int(row), float(scores[row])) for row in best])
    return found
