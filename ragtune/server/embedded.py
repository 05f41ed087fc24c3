"""The vectors of questions that were asked before: people ask the same again, and filters change more than questions."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragtune.seams import Embedder, Progress

if TYPE_CHECKING:
    import numpy as np

MAX_VECTORS = 10_000
"""So many are kept: some 20 MB of 384 numbers, however long the texts are."""


class VectorCache:
    """Vectors by embedder and text, the least recently asked one dropped first. Safe to be used by many threads.

    ``hits`` and ``misses`` count questions.
    """

    def __init__(self, most: int = MAX_VECTORS) -> None:
        self.hits = self.misses = 0
        self._most = most
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def get(self, fingerprint: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the vectors that are kept, by text."""
        keys = {text: _key(fingerprint, text) for text in texts}
        with self._lock:
            found = {text: self._kept[key] for text, key in keys.items() if key in self._kept}
            for text in found:
                self._kept.move_to_end(keys[text])
            self.hits += sum(text in found for text in texts)
            self.misses += sum(text not in found for text in texts)
        return found

    def put(self, fingerprint: str, vectors: dict[str, np.ndarray]) -> None:
        """Keep these."""
        with self._lock:
            for text, vector in vectors.items():
                key = _key(fingerprint, text)
                self._kept[key] = vector
                self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def _key(fingerprint: str, text: str) -> bytes:
    """Return a hash in place of the text, which may have tens of thousands of characters."""
    return hashlib.sha256(f"{fingerprint}\0{text}".encode("utf-8", "surrogatepass")).digest()


class RememberingEmbedder:
    """An embedder whose questions' vectors are kept; a seams.Embedder."""

    def __init__(self, embedder: Embedder, cache: VectorCache) -> None:
        self.embedder, self.cache = embedder, cache
        self.name, self.dimension = embedder.name, embedder.dimension
        self._fingerprint = embedder.fingerprint

    @property
    def fingerprint(self) -> str:
        """That of the embedder itself."""
        return self._fingerprint

    def embed_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Return the vectors of passages, of which none are kept."""
        return self.embedder.embed_passages(texts, progress)

    def embed_questions(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (len(texts), dimension); those not kept are embedded in one batch."""
        import numpy as np

        found = self.cache.get(self._fingerprint, texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            made = dict(zip(missing, np.array(self.embedder.embed_questions(missing))))
            self.cache.put(self._fingerprint, {text: vector.copy() for text, vector in made.items()})
            found |= made
        return np.array([found[text] for text in texts], dtype=np.float32).reshape(len(texts), self.dimension)

    def count_tokens(self, text: str) -> int:
        """Return how many of the embedder's tokens the text has."""
        return self.embedder.count_tokens(text)
