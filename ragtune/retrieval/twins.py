"""Near-duplicates by MinHash: texts whose word triples overlap by nine tenths or more, found without comparing all pairs.

A signature holds, for each of ``HASHES`` hash functions, the smallest hash of a text's word triples; two signatures agree
in a share of places that estimates the triples they share (Jaccard; Broder 1997). Texts that agree in a whole band of
``BAND`` places are compared. The signature of a page or document is the smallest of its chunks', so no text is read twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

HASHES = 64
BAND = 4
LIKE = 0.9
_SEED = 20_240_601


def sign_hashes(hashes: np.ndarray, sizes: np.ndarray, permutations: int) -> np.ndarray:
    """Return MinHash signatures of sets, uint32, shape (len(sizes), permutations): the smallest hash of each function.

    ``hashes`` are the members of all sets one after the other, uint64; ``sizes`` says how many each has. The functions are
    multiply-shift (Dietzfelbinger et al. 1997): odd factors, the upper 32 bits of the product. The same everywhere and
    always. The signature of an empty set is all ones.
    """
    import numpy as np

    draw = np.random.default_rng(_SEED)
    factors = draw.integers(0, 2**63, permutations, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    shifts = draw.integers(0, 2**63, permutations, dtype=np.uint64)
    signatures = np.full((len(sizes), permutations), np.iinfo(np.uint32).max, dtype=np.uint32)
    filled = np.flatnonzero(sizes)
    starts = (np.cumsum(sizes) - sizes)[filled]
    for column, (factor, shift) in enumerate(zip(factors, shifts)) if len(filled) else ():
        hashed = ((hashes * factor + shift) >> np.uint64(32)).astype(np.uint32)
        signatures[filled, column] = np.minimum.reduceat(hashed, starts)
    return signatures


def sign_texts(tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the signature of each text, uint32, shape (texts, HASHES); text n is ``tokens[starts[n]:ends[n]]``.

    An empty text has the largest numbers throughout.
    """
    import numpy as np

    lengths = ends - starts
    total = int(lengths.sum())
    firsts = np.cumsum(lengths) - lengths
    within = np.arange(total) - np.repeat(firsts, lengths)
    place = within + np.repeat(starts, lengths)
    last = np.repeat(ends, lengths) - 1
    triples = np.zeros(total, dtype=np.uint64)
    for step, factor in enumerate((1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)):  # beyond its end a text repeats its last
        triples += (tokens[np.minimum(place + step, last)].astype(np.uint64) + np.uint64(1)) * np.uint64(factor)
    triples ^= triples >> np.uint64(29)
    return sign_hashes(triples, lengths, HASHES)


def merge_signatures(signatures: np.ndarray, owners: np.ndarray, count: int) -> np.ndarray:
    """Return the signatures of ``count`` wholes whose parts ``owners`` names, shape (count, HASHES)."""
    import numpy as np

    merged = np.full((count, HASHES), np.iinfo(np.uint32).max, dtype=np.uint32)
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order], prepend=-1))
    if len(order):
        merged[owners[order][starts]] = np.minimum.reduceat(signatures[order], starts, axis=0)
    return merged


def group_like(signatures: np.ndarray, like: float = LIKE) -> np.ndarray:
    """Return for each text the first text of its group: texts that are near-duplicates of one another.

    Each text is compared with the first of those it shares a band with, so the work grows with the texts, not with pairs.
    Empty texts are groups of their own.
    """
    import numpy as np

    count = len(signatures)
    heads = np.arange(count)
    has_words = ~(signatures == np.iinfo(np.uint32).max).all(axis=1)
    rows = np.flatnonzero(has_words)
    for start in range(0, HASHES, BAND):
        band = np.ascontiguousarray(signatures[rows, start : start + BAND]).view(np.dtype((np.void, 4 * BAND))).reshape(-1)
        _, first, inverse = np.unique(band, return_index=True, return_inverse=True)
        others = rows[first[inverse.reshape(-1)]]
        pairs = np.flatnonzero(others != rows)
        alike = (signatures[rows[pairs]] == signatures[others[pairs]]).mean(axis=1) >= like
        for row, other in zip(rows[pairs[alike]].tolist(), others[pairs[alike]].tolist()):
            head, found = _head(heads, other), _head(heads, row)
            heads[max(head, found)] = min(head, found)
    return np.array([_head(heads, row) for row in range(count)], dtype=np.int64)


def _head(heads: np.ndarray, row: int) -> int:
    while heads[row] != row:
        heads[row] = heads[heads[row]]
        row = int(heads[row])
    return row
