"""Pseudo-relevance feedback: what a question finds first is taken as relevant and lends it words and direction.

Vectors: Rocchio with the original at 0.4 and the mean of the first five at 0.6, as Li et al. found best for dense retrievers
(arXiv 2108.11044). Words: RM3 (Abdul-Jaleel et al., TREC 2004; Lavrenko and Croft, SIGIR 2001): ten terms from the first
ten chunks, the original at 0.5. BM25 here takes texts, so a term's weight is how often it is said.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ragtune.retrieval.dense import search_dense
from ragtune.retrieval.index import Index
from ragtune.retrieval.lexical import search_lexical, tokenise

if TYPE_CHECKING:
    import numpy as np

DENSE_CHUNKS = 5
ORIGINAL = 0.4
LEXICAL_CHUNKS = 10
TERMS = 10
TIMES = 4  # how often the question is said; the terms of feedback together are said as often


def feed_back_vector(index: Index, question: str, keep: np.ndarray | None = None) -> np.ndarray | None:
    """Return the question's vector moved towards its first hits, unit length, shape (dimension,); None without hits."""
    import numpy as np

    vector = index.embedder.embed_questions([question])
    rows = [row for row, _ in search_dense(index.dense, vector, DENSE_CHUNKS, keep)[0]]
    if not rows:
        return None
    mean = np.mean([index.dense.reconstruct(row) for row in rows], axis=0)
    moved = ORIGINAL * vector[0] + (1 - ORIGINAL) * mean
    length = np.linalg.norm(moved)
    return (moved / length).astype(np.float32) if length else None


def feed_back_terms(index: Index, question: str, keep: np.ndarray | None = None) -> str:
    """Return the question said several times, with the terms of its first hits in proportion; '' without hits."""
    found = search_lexical(index.lexical, [question], LEXICAL_CHUNKS, keep)[0]
    total = sum(score for _, score in found)
    asked = set(tokenise(question))
    weights: dict[str, float] = {}
    for (_, score), chunk in zip(found, index.store.chunks_at(row for row, _ in found)):
        stems = [stem for stem in tokenise(chunk.text) if not any(sign.isdigit() for sign in stem) and len(stem) > 2]
        for stem, count in Counter(stems).items():
            weights[stem] = weights.get(stem, 0.0) + score / total * count / len(stems)
    best = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:TERMS]
    if not best:
        return ""
    # RM3 gives the question's own words half of all weight; the terms share the other half.
    room, mass = TIMES * max(1, len(asked)), sum(weight for _, weight in best)
    said = [stem for stem, weight in best for _ in range(round(room * weight / mass))]
    return " ".join([*[question] * TIMES, *said])
