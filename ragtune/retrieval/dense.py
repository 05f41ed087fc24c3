"""Search over the vectors: a scan of 8-bit codes finds candidates, the exact vectors decide, so that results are exact.

The folder keeps ``vectors.npy`` (float32, the truth, mapped), ``vectors.faiss`` (the codes, with the graph of HNSW),
``lists.faiss`` (those of IVF) and ``vectors.json`` (how the codes were made). A code differs from its vector by at most
``residual``, hence a score by at most residual · |question|: a scan is complete once the k-th exact score lies above all
that was not looked at, else it looks at more. Reading a quarter of the bytes, it is several times as fast as a flat scan
and finds the same rows. Large indexes have lists or a graph over the same codes (``codes.py``). Those are approximate, but
serve searches without a filter only: under one every kept row is scanned.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import IndexFolderError
from ragtune.retrieval.codes import (
    check_vectors,
    choose_kind,
    encode,
    import_faiss,
    make_flat,
    make_graph,
    make_lists,
    split_kind,
)

if TYPE_CHECKING:
    import numpy as np

FILE = "vectors.faiss"
LISTS = "lists.faiss"
EXACT = "vectors.npy"
ABOUT = "vectors.json"
FEW = 4096
"""So many kept rows are scored at once from the exact vectors: gathering them costs less than scanning all codes."""
WANTED = 0.98
"""Recall at 50 against the exact scan that IVF and HNSW are set to when built, on vectors of the index."""
_TIE = 2e-6  # scores closer than this may be equal to six digits, and equal scores are ordered by row
_MOST_RUNS = 64  # of rows scored without being gathered
_ROUNDING = 1e-5  # what summing in float32 may add to the difference of codes and vectors

Found = list[tuple[int, float]]
"""Rows with their scores, best first, equal scores in the order of rows."""


@dataclass(frozen=True)
class Dense:
    """Vectors opened for search; row n is chunk row n."""

    kind: str
    vectors: np.ndarray
    """The exact vectors, float32 of length 1, shape (chunks, dimension), mapped."""
    codes: Any
    """The codes of all rows in a flat FAISS index, for searches that must be exact."""
    graph: Any
    """FAISS's lists or graph over the codes, for searches without a filter; None in a flat index."""
    scale: np.ndarray
    """The range of each dimension, float32, shape (dimension,): codes hold vectors divided by it."""
    residual: float
    """The largest distance of a vector from its code."""
    probes: int
    """IVF: lists visited; HNSW: breadth of the search; flat: 0."""

    @property
    def ntotal(self) -> int:
        """Number of vectors."""
        return int(self.vectors.shape[0])

    @property
    def d(self) -> int:
        """Dimension."""
        return int(self.vectors.shape[1])

    def reconstruct(self, row: int) -> np.ndarray:
        """Return the exact vector of a row, shape (dimension,)."""
        return self.reconstruct_batch([row])[0]

    def reconstruct_batch(self, rows: Any) -> np.ndarray:
        """Return the exact vectors of rows, shape (len(rows), dimension)."""
        import numpy as np

        found: np.ndarray = self.vectors[np.asarray(rows, dtype=np.int64)]
        return found

    def score_rows(self, rows: np.ndarray, question: np.ndarray) -> np.ndarray:
        """Return the cosines of rows (rising) with a question's vector, float32, shape (len(rows),).

        Rows that follow one another, such as a document's, are read where they lie: a copy costs more than the product.
        """
        import numpy as np

        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        if not len(rows) or len(breaks) > _MOST_RUNS:
            return _score(self.reconstruct_batch(rows), question)
        bounds = [0, *breaks.tolist(), len(rows)]
        return np.concatenate([_score(self.vectors[rows[start] : rows[end - 1] + 1], question)
                               for start, end in itertools.pairwise(bounds)])


def build_dense(vectors: np.ndarray, folder: Path, kind: str = "auto") -> None:
    """Write the vectors (float32 of length 1, shape (chunks, dimension)) and their codes.

    ``kind`` is a recipe's ``index.vectors``. Vectors that lie in the folder already, as a mapped array, stay there.
    Raises ModelError for vectors that are not numbers or of length 0.
    """
    import numpy as np

    check_vectors(vectors)
    kind = choose_kind(kind, len(vectors))
    scale, residual = encode(vectors, kind)
    faiss = import_faiss()
    index = make_flat(vectors, scale) if kind != "hnsw" else make_graph(vectors, scale)
    lists = make_lists(vectors, scale) if kind == "ivf" else None
    faiss.write_index(index, str(folder / FILE))
    if lists is not None:
        faiss.write_index(lists, str(folder / LISTS))
    if str(getattr(vectors, "filename", "") or "") != str((folder / EXACT).absolute()):
        np.save(folder / EXACT, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)
    dense = Dense(kind, vectors, *split_kind(kind, index, lists), scale, residual, 0)
    probes, recall = (0, 1.0) if kind == "flat" else _set_probes(dense)
    about = {"kind": kind, "probes": probes, "recall_at_50": recall, "residual": residual, "scale": scale.tolist()}
    (folder / ABOUT).write_text(json.dumps(about) + "\n", encoding="utf-8")


def _set_probes(dense: Dense) -> tuple[int, float]:
    """Return the least effort that finds ``WANTED`` of the fifty nearest, and what it finds, on 200 blurred vectors."""
    import numpy as np

    draws = np.random.default_rng(1)
    rows = np.sort(draws.integers(0, dense.ntotal, 200))
    noise = draws.normal(size=(len(rows), dense.d)) * (1.5 / dense.d**0.5)  # a cosine of .55, as questions to passages
    questions = (dense.vectors[rows] + noise).astype(np.float32)
    questions /= np.linalg.norm(questions, axis=1, keepdims=True)
    all_kept = np.ones(dense.ntotal, dtype=bool)
    wanted = [{row for row, _ in found} for found in search_dense(dense, questions, 50, all_kept)]
    most = dense.graph.nlist if dense.kind == "ivf" else 1024
    probes, recall = 8, 0.0
    while True:
        found = search_dense(replace(dense, probes=probes), questions, 50)
        recall = float(np.mean([len(rows & {row for row, _ in hits}) / len(rows) for rows, hits in zip(wanted, found)]))
        if recall >= WANTED or probes >= most:
            return probes, round(recall, 4)
        probes = min(most, 2 * probes)


def open_dense(folder: Path, rows: int) -> Dense:
    """Return the vectors of a folder. Raises IndexFolderError where they cannot be read or have other rows."""
    import numpy as np

    faiss = import_faiss()
    try:
        if not (folder / EXACT).is_file():
            return _check_rows(_open_float(folder), folder, rows)
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        vectors = np.asarray(np.load(folder / EXACT, mmap_mode="r", allow_pickle=False))  # a view, still mapped
        index = faiss.read_index(str(folder / FILE), faiss.IO_FLAG_MMAP_IFC)
        lists = faiss.read_index(str(folder / LISTS), faiss.IO_FLAG_MMAP_IFC) if about["kind"] == "ivf" else None
        codes, graph = split_kind(str(about["kind"]), index, lists)
        dense = Dense(str(about["kind"]), vectors, codes, graph, np.array(about["scale"], dtype=np.float32),
                      float(about["residual"]), int(about["probes"]))
    except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error)[-120:]
        raise IndexFolderError(f"{folder / FILE} cannot be read ({reason}). Build it again: ragtune index") from error
    if codes.ntotal != len(vectors) or codes.d != vectors.shape[1] or len(dense.scale) != codes.d:
        raise IndexFolderError(f"{folder} holds {codes.ntotal} codes of {codes.d} numbers for {len(vectors)} vectors of "
                               f"{vectors.shape[1]}. Build it again: ragtune index")
    return _check_rows(dense, folder, rows)


def _check_rows(dense: Dense, folder: Path, rows: int) -> Dense:
    if dense.ntotal != rows:
        raise IndexFolderError(f"{folder} holds {dense.ntotal} vectors for {rows} chunks. Build it again: ragtune index")
    return dense


def _open_float(folder: Path) -> Dense:
    """Return the vectors of an index written when ``vectors.faiss`` held them in float32; its codes are made in memory."""
    index = import_faiss().read_index(str(folder / FILE))
    vectors: np.ndarray = index.reconstruct_n(0, index.ntotal)
    scale, residual = encode(vectors, "flat")
    return Dense("flat", vectors, make_flat(vectors, scale), None, scale, residual, 0)


def read_vectors(dense: Dense) -> np.ndarray:
    """Return all exact vectors, shape (chunks, dimension), mapped and not loaded."""
    return dense.vectors


def search_dense(index: Dense, vectors: np.ndarray, k: int, keep: np.ndarray | None = None) -> list[Found]:
    """Return for each question vector the k rows of largest cosine, among those ``keep`` (bool, one a row) marks.

    Exact for a flat index, and for every kind where ``keep`` is given. Raises IndexFolderError for question vectors of
    another dimension.
    """
    import numpy as np

    if len(vectors) and np.shape(vectors)[1] != index.d:
        raise IndexFolderError(f"the question's vector has {np.shape(vectors)[1]} numbers, those of the index have "
                               f"{index.d}. Search with the embedder the index was built with, or do: ragtune index")
    kept = int(index.ntotal if keep is None else np.count_nonzero(keep))
    if not kept or not len(vectors):
        return [[] for _ in vectors]
    questions = np.ascontiguousarray(vectors, dtype=np.float32)
    if kept <= FEW:
        rows = np.arange(index.ntotal) if keep is None else np.flatnonzero(keep)
        few = index.vectors[rows]
        return [best_rows(rows, _score(few, question), k) for question in questions]
    bitmap = None if keep is None else np.packbits(keep, bitorder="little")
    return [_scan(index, question, k, kept, bitmap) for question in questions]


def _scan(index: Dense, question: np.ndarray, k: int, kept: int, bitmap: np.ndarray | None) -> Found:
    """Return the k best rows: candidates by their codes, ordered by their exact scores."""
    import numpy as np

    # Lists are chosen by the distance to their centres, so the question must be in the units of the codes; with one range
    # for all dimensions that only multiplies the scores.
    is_flat = index.kind == "flat"
    scaled, worth = ((question * index.scale)[None], 1.0) if is_flat else ((question / index.scale)[None],
                                                                           float(index.scale[0]) ** 2)
    slack = index.residual * float(np.linalg.norm(question)) + _ROUNDING
    is_complete = is_flat or bitmap is not None
    many = min(kept, 4 * k + 64)
    while True:
        scores, rows = _find_codes(index, scaled, many, bitmap)
        inside = rows[0] >= 0
        candidates = rows[0][inside]
        exact = _score(index.vectors[candidates], question)
        if not is_complete or many >= kept or len(candidates) < many:
            return best_rows(candidates, exact, k)
        if np.partition(exact, len(exact) - k)[len(exact) - k] - _TIE > worth * float(scores[0][inside].min()) + slack:
            return best_rows(candidates, exact, k)
        many = min(kept, 4 * many)


def _find_codes(index: Dense, scaled: np.ndarray, many: int, bitmap: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and rows, shape (1, many), by the codes: all of them under a filter or in a flat index."""
    faiss = import_faiss()
    searched, parameters = index.codes, None
    if bitmap is not None:
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
    elif index.kind == "ivf":
        searched, parameters = index.graph, faiss.SearchParametersIVF(nprobe=index.probes)
    elif index.kind == "hnsw":
        searched, parameters = index.graph, faiss.SearchParametersHNSW(efSearch=max(index.probes, many))
    found: tuple[np.ndarray, np.ndarray] = searched.search(scaled, many, params=parameters)
    return found


def _score(vectors: np.ndarray, question: np.ndarray) -> np.ndarray:
    """Return the cosines, each summed alike whatever stands beside it, so that no filter changes a score."""
    import numpy as np

    scores: np.ndarray = np.einsum("ij,j->i", vectors, question)
    return scores


def best_rows(rows: np.ndarray, scores: np.ndarray, k: int) -> Found:
    """Return the k rows of largest score; scores equal to six digits are ordered by row, so that the order is repeatable."""
    import numpy as np

    if len(rows) > k:
        lowest = np.partition(scores, len(scores) - k)[len(scores) - k] - _TIE
        near = np.flatnonzero(scores >= lowest)
        rows, scores = rows[near], scores[near]
    order = np.lexsort((rows, -np.round(scores, 6)))[:k]
    return list(zip(rows[order].tolist(), scores[order].tolist()))
