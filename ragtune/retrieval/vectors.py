"""Embedding the chunks of an index so that a kill loses at most one document's work."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.errors import ModelError
from ragtune.files import hash_text
from ragtune.seams import Embedder, Progress

if TYPE_CHECKING:
    import numpy as np


def embed_chunks(
    texts: Sequence[str], keys: Sequence[str], groups: Sequence[str], embedder: Embedder, known: Mapping[str, np.ndarray],
    saved: Path, progress: Progress | None = None,
) -> tuple[np.ndarray, int]:
    """Return the vectors of all texts, shape (len(texts), dimension), and how many were made now.

    ``keys`` are the texts' hashes: vectors found under them in ``known`` or in the folder ``saved`` are taken over. The new
    vectors of each group of neighbours (a document) are saved there as soon as they are made.
    Raises ModelError where the embedder returns vectors of another shape or numbers that are none.
    """
    import numpy as np

    saved = saved / hash_text(embedder.fingerprint)
    saved.mkdir(parents=True, exist_ok=True)
    vectors = dict(known)
    for path in sorted(saved.glob("*.npz")):
        vectors.update(_load(path, embedder.dimension))
    missing = [row for row, key in enumerate(keys) if key not in vectors]
    made = 0
    for group, members in groupby(missing, key=lambda row: groups[row]):
        rows = list(members)
        offset = made

        def report(done: int, total: int, offset: int = offset) -> None:
            if progress:
                progress(offset + done, len(missing))

        new = np.asarray(embedder.embed_passages([texts[row] for row in rows], report), dtype=np.float32)
        if new.shape != (len(rows), embedder.dimension) or not np.isfinite(new).all():
            raise ModelError(f"the embedder '{embedder.name}' returned vectors of shape {new.shape} or values that are not "
                             f"numbers; wanted {(len(rows), embedder.dimension)}. Index with another embedder.")
        _save(saved / f"{group}.npz", [keys[row] for row in rows], new)
        vectors.update(zip((keys[row] for row in rows), new))
        made += len(rows)
    return np.stack([vectors[key] for key in keys]).astype(np.float32), made


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
