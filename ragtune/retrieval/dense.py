"""Exact search over the vectors with FAISS; a filter is a bitmap of the rows it keeps, applied inside the search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import IndexFolderError, ModelError

if TYPE_CHECKING:
    import numpy as np

FILE = "vectors.faiss"
_SPARE = 16  # asked for beyond k, so that equal scores at the edge are ordered by row and not by chance

Found = list[tuple[int, float]]
"""Rows with their scores, best first, equal scores in the order of rows."""


def _faiss() -> Any:
    """Import FAISS; its Python layer changes signatures at import, so its types say nothing."""
    import faiss

    return faiss


def build_dense(vectors: np.ndarray, folder: Path) -> None:
    """Write the vectors (float32 of length 1, shape (chunks, dimension)) as a flat inner-product index."""
    import numpy as np

    faiss = _faiss()
    if not np.isfinite(vectors).all():
        raise ModelError("some vectors are not numbers. Index with another embedder.")
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    faiss.write_index(index, str(folder / FILE))


def open_dense(folder: Path, rows: int) -> Any:
    """Return the FAISS index of a folder. Raises IndexFolderError where it cannot be read or has other rows."""
    faiss = _faiss()

    try:
        index = faiss.read_index(str(folder / FILE))
    except RuntimeError as error:
        reason = str(error)[-120:]
        raise IndexFolderError(f"{folder / FILE} cannot be read ({reason}). Build it again: ragtune index") from error
    if index.ntotal != rows:
        raise IndexFolderError(f"{folder} holds {index.ntotal} vectors for {rows} chunks. Build it again: ragtune index")
    return index


def read_vectors(index: Any) -> np.ndarray:
    """Return all vectors of a flat index, shape (chunks, dimension)."""
    vectors: np.ndarray = index.reconstruct_n(0, index.ntotal)
    return vectors


def search_dense(index: Any, vectors: np.ndarray, k: int, keep: np.ndarray | None = None) -> list[Found]:
    """Return for each question vector the k rows of largest cosine, among those ``keep`` (bool, one a row) marks."""
    import numpy as np

    faiss = _faiss()
    kept = int(index.ntotal if keep is None else keep.sum())
    if not kept or not len(vectors):
        return [[] for _ in vectors]
    parameters = None
    if keep is not None:
        bitmap = np.packbits(keep, bitorder="little")
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
    questions = np.ascontiguousarray(vectors, dtype=np.float32)
    scores, rows = index.search(questions, min(k + _SPARE, kept), params=parameters)
    found = [[(int(row), float(score)) for row, score in zip(*pair) if row >= 0] for pair in zip(rows, scores)]
    return [order_found(rows)[:k] for rows in found]


def order_found(found: Found) -> Found:
    """Return rows by falling score; scores equal to six digits are ordered by row, so that the order is repeatable."""
    return sorted(found, key=lambda item: (-round(item[1], 6), item[0]))
