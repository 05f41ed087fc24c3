"""Near-duplicates among many short texts: MinHash signatures of their words, and buckets of those that look alike."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from ragtune.retrieval.twins import sign_hashes

if TYPE_CHECKING:
    import numpy as np

_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_POSSESSIVE = re.compile(r"['’]s\b")


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, a possessive 's left out."""
    return _WORD.findall(_POSSESSIVE.sub("", text.lower()))


def hash_grams(words: Sequence[str], size: int) -> frozenset[int]:
    """Return 64-bit hashes of all runs of ``size`` words; a shorter text is one run, an empty one has none."""
    grams = {" ".join(words[start : start + size]) for start in range(max(1, len(words) - size + 1))} if words else ()
    return frozenset(
        int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big") for gram in grams
    )


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Return the share of all elements that both sets hold; 1 for two empty ones."""
    shared = len(one & other)
    whole = len(one) + len(other) - shared
    return shared / whole if whole else 1.0


def sign_sets(sets: Sequence[frozenset[int]], permutations: int) -> np.ndarray:
    """Return MinHash signatures (Broder 1997), uint32, shape (len(sets), permutations), as ``sign_hashes`` makes them."""
    import numpy as np

    sizes = np.array([len(members) for members in sets], dtype=np.int64)
    hashes = np.fromiter((member for members in sets for member in members), dtype=np.uint64, count=int(sizes.sum()))
    return sign_hashes(hashes, sizes, permutations)


def estimate_jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of equal places of two signatures, whose mean is the Jaccard similarity of their sets."""
    return float((one == other).mean())


class Buckets:
    """Signatures cut into bands (locality-sensitive hashing); sets of one block that share a band are candidates.

    Two sets of Jaccard similarity s meet with probability 1 - (1 - s**rows)**bands.
    """

    def __init__(self, bands: int, rows: int) -> None:
        self.bands, self.rows = bands, rows
        self._filled: dict[tuple[Hashable, int, bytes], list[int]] = {}

    def sign(self, sets: Sequence[frozenset[int]]) -> list[tuple[bytes, ...]]:
        """Return the bands of each set's signature."""
        width = 4 * self.rows
        return [tuple(raw[start : start + width] for start in range(0, len(raw), width))
                for raw in (row.tobytes() for row in sign_sets(sets, self.bands * self.rows))]

    def find(self, block: Hashable, bands: Sequence[bytes]) -> set[int]:
        """Return the numbers of the sets of this block that share a band."""
        found: set[int] = set()
        for place, band in enumerate(bands):
            found.update(self._filled.get((block, place, band), ()))
        return found

    def add(self, number: int, block: Hashable, bands: Sequence[bytes]) -> None:
        """Remember a set under a number."""
        for place, band in enumerate(bands):
            self._filled.setdefault((block, place, band), []).append(number)
