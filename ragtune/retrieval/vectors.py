"""Embedding the chunks of an index so that a kill loses at most the work on a few hundred of them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.errors import ModelError
from ragtune.files import hash_text
from ragtune.retrieval.codes import check_vectors
from ragtune.retrieval.dense import EXACT
from ragtune.seams import Embedder, Progress

if TYPE_CHECKING:
    import numpy as np

FOLDER = "vectors"
GATHER = 512
"""So many new vectors are made before they are saved: a kill loses their work."""


@dataclass(frozen=True)
class Known:
    """Vectors made before: hash of the embedded text -> row of ``vectors``."""

    rows: Mapping[str, int]
    vectors: np.ndarray


def embed_chunks(
    texts: Sequence[str], keys: Sequence[str], groups: Sequence[str], embedder: Embedder, known: Known | None, folder: Path,
    progress: Progress | None = None,
) -> tuple[np.ndarray, int]:
    """Write the vectors of all texts into ``folder/vectors.npy``; return them, mapped, and how many were made now.

    Shape (len(texts), dimension). ``keys`` are the texts' hashes: vectors found under them in ``known`` or, after a kill,
    in ``folder/vectors`` are taken over. The new vectors of neighbouring groups (documents) are saved there as soon as
    ``GATHER`` of them are made. Raises ModelError where the embedder returns vectors of another shape, numbers that are
    none or vectors of length 0.
    """
    import numpy as np

    saved = folder / FOLDER / hash_text(embedder.fingerprint)
    saved.mkdir(parents=True, exist_ok=True)
    rows_of: Mapping[str, int] = known.rows if known else {}
    fresh: dict[str, np.ndarray] = {}
    for path in sorted(saved.glob("*.npz")):
        fresh.update(_load(path, embedder.dimension))
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    missing = sorted(row for key, row in first.items() if key not in rows_of and key not in fresh)
    made = 0
    for rows in _gather(missing, groups):
        offset = made

        def report(done: int, total: int, offset: int = offset) -> None:
            if progress:
                progress(offset + done, len(missing))

        new = np.asarray(embedder.embed_passages([texts[row] for row in rows], report), dtype=np.float32)
        if new.shape != (len(rows), embedder.dimension):
            raise ModelError(f"the embedder '{embedder.name}' returned vectors of shape {new.shape}; wanted "
                             f"{(len(rows), embedder.dimension)}. Index with another embedder.")
        check_vectors(new)
        _save(saved / f"{groups[rows[0]]}.npz", [keys[row] for row in rows], new)
        fresh.update(zip((keys[row] for row in rows), new))
        made += len(rows)
    shape = (len(keys), embedder.dimension)
    vectors = np.lib.format.open_memmap(folder / EXACT, mode="w+", dtype=np.float32, shape=shape)
    for row, key in enumerate(keys):
        vectors[row] = known.vectors[rows_of[key]] if known and key in rows_of else fresh[key]
    vectors.flush()
    return vectors, made


def _gather(rows: Sequence[int], groups: Sequence[str]) -> Iterator[list[int]]:
    """Yield rows by whole groups, so many groups together that small documents fill the embedder's batches."""
    gathered: list[int] = []
    for _, members in groupby(rows, key=lambda row: groups[row]):
        gathered += members
        if len(gathered) >= GATHER:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def _save(path: Path, keys: Sequence[str], vectors: np.ndarray) -> None:
    """Write vectors under their keys, whole or not at all; what an earlier attempt left there is kept."""
    import numpy as np

    earlier = _load(path, vectors.shape[1]) if path.exists() else {}
    merged = {**earlier, **dict(zip(keys, vectors))}
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez(file, keys=np.array(list(merged)), vectors=np.stack(list(merged.values())))
    os.replace(temporary, path)


def _load(path: Path, dimension: int) -> dict[str, np.ndarray]:
    """Return key -> vector of a saved file; a damaged one gives none."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            keys, vectors = arrays["keys"].tolist(), arrays["vectors"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return {}
    if vectors.shape != (len(keys), dimension) or not np.isfinite(vectors).all():
        return {}
    return dict(zip(keys, vectors))
