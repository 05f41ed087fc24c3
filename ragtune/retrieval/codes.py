"""Writing the vectors: 8-bit codes beside the exact ones, scanned flat, in lists (IVF) or through a graph (HNSW)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragtune.errors import ModelError

if TYPE_CHECKING:
    import numpy as np

MANY = 400_000
"""From so many chunks 'auto' takes HNSW: below, an exact scan of the codes takes less than some 6 ms on one core."""
BLOCK = 65_536
SAMPLED = 64  # vectors a list is trained on
NEIGHBOURS = 32  # HNSW: links of a vector
BREADTH = 80  # HNSW: breadth of the search while building


def import_faiss() -> Any:
    """Import FAISS; its Python layer changes signatures at import, so its types say nothing."""
    import faiss

    return faiss


def choose_kind(wanted: str, rows: int) -> str:
    """Return 'flat', 'ivf' or 'hnsw' for a recipe's ``index.vectors``; few rows are always flat."""
    if wanted == "auto":
        return "hnsw" if rows >= MANY else "flat"
    return wanted if rows >= 1000 else "flat"


def check_vectors(vectors: np.ndarray) -> None:
    """Raise ModelError for vectors that are not numbers or of length 0: FAISS would take them in and never find them."""
    import numpy as np

    if vectors.ndim != 2:
        raise ModelError(f"the vectors have the shape {vectors.shape}, wanted is (chunks, dimension). Use another embedder.")
    for start in range(0, len(vectors), BLOCK):
        lengths = np.einsum("ij,ij->i", vectors[start : start + BLOCK], vectors[start : start + BLOCK])
        bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        if len(bad):
            raise ModelError(f"{len(bad)} vectors, the first of row {start + int(bad[0])}, are not numbers or of length 0. "
                             "Index with another embedder.")


def make_coder(dimension: int) -> Any:
    """Return FAISS's coder of numbers from -1 to 1 as bytes."""
    import numpy as np

    faiss = import_faiss()
    coder = faiss.ScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_8bit_uniform)
    coder.train(np.array([[-1.0] * dimension, [1.0] * dimension], dtype=np.float32))
    return coder


def encode(vectors: np.ndarray, kind: str) -> tuple[np.ndarray, float]:
    """Return the range of each dimension, which the codes divide in 255 steps, and the largest distance of a vector from
    its code. Lists and graphs compare vectors with each other, so all their dimensions have one range.
    """
    import numpy as np

    largest = np.zeros(vectors.shape[1], dtype=np.float32)
    for start in range(0, len(vectors), BLOCK):
        np.maximum(largest, np.abs(vectors[start : start + BLOCK]).max(axis=0), out=largest)
    if kind != "flat":
        largest[:] = largest.max()
    scale = np.where(largest > 0, largest, 1).astype(np.float32)
    coder, residual = make_coder(vectors.shape[1]), 0.0
    for start in range(0, len(vectors), BLOCK):
        block = _shrink(vectors[start : start + BLOCK], scale)
        apart = (block - coder.decode(coder.compute_codes(block))) * scale
        residual = max(residual, float(np.einsum("ij,ij->i", apart, apart).max()) ** 0.5)
    return scale, residual


def _shrink(block: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the vectors in units of the range of each dimension."""
    import numpy as np

    return np.ascontiguousarray(block / scale, dtype=np.float32)


def make_flat(vectors: np.ndarray, scale: np.ndarray) -> Any:
    """Return the codes as a flat FAISS index."""
    faiss = import_faiss()
    codes = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit_uniform, faiss.METRIC_INNER_PRODUCT)
    return _fill(codes, codes, vectors, scale)


def make_lists(vectors: np.ndarray, scale: np.ndarray) -> Any:
    """Return the codes in lists around centres found by k-means over a sample."""
    import numpy as np

    faiss = import_faiss()
    dimension, lists = vectors.shape[1], max(16, 1 << round(np.log2(4 * len(vectors) ** 0.5)))
    sample = np.sort(np.random.default_rng(0).permutation(len(vectors))[: SAMPLED * lists])
    means = faiss.Kmeans(dimension, lists, niter=10, seed=1, max_points_per_centroid=SAMPLED, min_points_per_centroid=1)
    means.train(_shrink(vectors[sample], scale))
    quantizer = faiss.IndexFlatL2(dimension)
    quantizer.add(means.centroids)
    codes = faiss.IndexIVFScalarQuantizer(quantizer, dimension, lists, faiss.ScalarQuantizer.QT_8bit_uniform,
                                          faiss.METRIC_INNER_PRODUCT, False)
    return _fill(codes, codes, vectors, scale)


def make_graph(vectors: np.ndarray, scale: np.ndarray) -> Any:
    """Return the codes in a graph of near neighbours."""
    faiss = import_faiss()
    codes = faiss.IndexHNSWSQ(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit_uniform, NEIGHBOURS,
                              faiss.METRIC_INNER_PRODUCT)
    codes.hnsw.efConstruction = BREADTH
    return _fill(codes, faiss.downcast_index(codes.storage), vectors, scale)


def split_kind(kind: str, index: Any, lists: Any) -> tuple[Any, Any]:
    """Return the flat codes and the lists or graph over them; HNSW keeps both in one index, IVF its codes twice."""
    if kind == "hnsw":
        return import_faiss().downcast_index(index.storage), index
    return index, lists


def _fill(codes: Any, holder: Any, vectors: np.ndarray, scale: np.ndarray) -> Any:
    """Give the part of an index that holds codes its coder, and add all vectors."""
    holder.sq = make_coder(vectors.shape[1])
    holder.is_trained = codes.is_trained = True
    for start in range(0, len(vectors), BLOCK):
        codes.add(_shrink(vectors[start : start + BLOCK], scale))
    return codes
