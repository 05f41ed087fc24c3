"""Questions' vectors that are kept: the same as the embedder's, the oldest dropped, counted, for many threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ragtune.models.fake import HashEmbedder
from ragtune.seams import Embedder
from ragtune.server.embedded import RememberingEmbedder, VectorCache


class Counting(HashEmbedder):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []

    def embed_questions(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return super().embed_questions(texts)


def test_vectors_are_those_of_the_embedder_and_each_text_is_embedded_once() -> None:
    inner, cache = Counting(), VectorCache()
    embedder = RememberingEmbedder(inner, cache)
    assert isinstance(embedder, Embedder)
    texts = ["net sales", "costs", "net sales"]
    wanted = HashEmbedder().embed_questions(texts)
    assert np.array_equal(embedder.embed_questions(texts), wanted)
    assert np.array_equal(embedder.embed_questions(["costs", "taxes"]), HashEmbedder().embed_questions(["costs", "taxes"]))
    assert inner.asked == [["net sales", "costs"], ["taxes"]]
    assert (cache.hits, cache.misses, len(cache)) == (1, 4, 3)
    assert embedder.embed_questions([]).shape == (0, inner.dimension)
    assert (embedder.fingerprint, embedder.count_tokens("a b")) == (inner.fingerprint, inner.count_tokens("a b"))
    got = embedder.embed_questions(["costs"])
    got[:] = 0
    assert embedder.embed_questions(["costs"]).any(), "what is kept cannot be changed from outside"


def test_the_least_recently_asked_is_dropped_first_and_fingerprints_are_apart() -> None:
    cache = VectorCache(2)
    cache.put("a", {"x": np.ones(1), "y": np.ones(1)})
    cache.get("a", ["x"])
    cache.put("a", {"z": np.ones(1)})
    assert set(cache.get("a", ["x", "y", "z"])) == {"x", "z"}
    assert cache.get("b", ["x"]) == {}


def test_many_threads_get_their_own() -> None:
    embedder = RememberingEmbedder(HashEmbedder(), VectorCache(5))
    texts = [f"question {n % 9}" for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: embedder.embed_questions([text])[0], texts))
    assert np.array_equal(np.stack(found), HashEmbedder().embed_questions(texts))


def test_long_texts_are_not_kept_with_their_vectors() -> None:
    cache = VectorCache()
    embedder = RememberingEmbedder(HashEmbedder(), cache)
    for letter in "abc":
        embedder.embed_questions([letter * 30_000])
    assert len(repr(list(cache._kept))) < 1000
    embedder.embed_questions(["a" * 30_000])
    assert (cache.hits, len(cache)) == (1, 3)
