"""Embedding the chunks of an index beside reading them, so that a kill loses at most the work on a few hundred of them."""

from __future__ import annotations

import os
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
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
_LOOK_S = 0.2  # between two looks at how far the embedding is


@dataclass(frozen=True)
class Known:
    """Vectors made before: hash of the embedded text -> row of ``vectors``."""

    rows: Mapping[str, int]
    vectors: np.ndarray


class VectorWriter:
    """Makes the vectors of an index in a thread of its own, while its caller reads and chunks what comes next.

    Texts are embedded in groups that follow from their order alone: whole documents, until ``GATHER`` new texts are
    together. So the vectors are the same to the bit whatever was read or embedded first. Vectors found in ``known`` or,
    after a kill, in the folder are taken over. Use it in a ``with``: leaving that ends the embedding.
    """

    def __init__(
        self, embedder: Embedder, known: Known | None, open_folder: Callable[[], Path], progress: Progress | None = None
    ) -> None:
        """``open_folder`` returns the folder to write into; it is asked for when first a vector has to be made."""
        self.embedder, self.known, self.open_folder, self.progress = embedder, known, open_folder, progress
        self.made = 0
        """Vectors made now."""
        self.seconds = 0.0
        """Spent in the embedder on them."""
        self._rows: Mapping[str, int] = known.rows if known else {}
        self._saved: Path | None = None
        self._fresh: dict[str, np.ndarray] = {}
        self._seen: set[str] = set()
        self._group: dict[str, str] = {}  # hash -> text of those that are being gathered
        self._name = ""  # of the group's first document
        self._sent = self._done = 0  # texts sent to be embedded; those embedded, saved or not
        self._pool = ThreadPoolExecutor(1, "embedding")
        self._jobs: set[Future[None]] = set()
        self._is_over = threading.Event()

    def __enter__(self) -> VectorWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """End the embedding after the batch it is at; groups that are finished stay saved."""
        self._is_over.set()
        self._pool.shutdown(cancel_futures=True)

    def add(self, name: str, texts: Sequence[str], keys: Sequence[str]) -> None:
        """Take the texts of the next document, with their hashes. Raises what embedding an earlier one raised."""
        for key, text in zip(keys, texts):
            if key in self._rows:
                continue
            if self._saved is None:
                self._saved = self._open_saved()
            if key not in self._seen:
                self._seen.add(key)
                self._name = self._name if self._group else name
                self._group[key] = text
        if len(self._group) >= GATHER:
            self._send()
        self._look(0.0, 0)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of other texts, made in the same thread: few embedders bear to be used in two."""
        return self._pool.submit(self.embedder.embed_passages, texts).result()

    def finish(self, keys: Sequence[str]) -> np.ndarray:
        """Write the vectors of these keys into ``vectors.npy`` and return them, mapped, shape (len(keys), dimension).

        Raises ModelError where the embedder returns vectors of another shape, numbers that are none or vectors of length 0.
        """
        import numpy as np

        if self._group:
            self._send()
        while self._jobs:
            self._look(_LOOK_S, self._sent)
        shape = (len(keys), self.embedder.dimension)
        vectors = np.lib.format.open_memmap(self.open_folder() / EXACT, mode="w+", dtype=np.float32, shape=shape)
        for row, key in enumerate(keys):
            vectors[row] = self.known.vectors[self._rows[key]] if self.known and key in self._rows else self._fresh[key]
        vectors.flush()
        return vectors

    def _open_saved(self) -> Path:
        """Return where vectors are saved; those that an earlier attempt left there are taken."""
        saved = self.open_folder() / FOLDER / hash_text(self.embedder.fingerprint)
        saved.mkdir(parents=True, exist_ok=True)
        for path in sorted(saved.glob("*.npz")):
            self._fresh.update(_load(path, self.embedder.dimension))
        self._seen.update(self._fresh)
        return saved

    def _send(self) -> None:
        """Have the gathered texts embedded."""
        self._jobs.add(self._pool.submit(self._embed, self._name, self._group))
        self._sent, self._group = self._sent + len(self._group), {}

    def _look(self, wait_s: float, total: int) -> None:
        """Wait so long at most for the groups sent, raise what went wrong with one, and say how far it is."""
        done, self._jobs = wait(self._jobs, wait_s, FIRST_EXCEPTION)
        for job in done:
            job.result()
        if self.progress and self._sent:
            self.progress(self._done, total)

    def _embed(self, name: str, group: Mapping[str, str]) -> None:
        """Make and save the vectors of a group (in the thread)."""
        import numpy as np

        def count(done: int, total: int) -> None:
            if self._is_over.is_set():
                raise CancelledError
            self._done = self.made + done

        started = time.perf_counter()
        new = np.asarray(self.embedder.embed_passages(list(group.values()), count), dtype=np.float32)
        self.seconds += time.perf_counter() - started
        if new.shape != (len(group), self.embedder.dimension):
            raise ModelError(f"the embedder '{self.embedder.name}' returned vectors of shape {new.shape}; wanted "
                             f"{(len(group), self.embedder.dimension)}. Index with another embedder.")
        check_vectors(new)
        assert self._saved is not None
        _save(self._saved / f"{name}.npz", list(group), new)
        self._fresh.update(zip(group, new))
        self.made = self._done = self.made + len(group)


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
