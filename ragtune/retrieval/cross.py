"""Reranking with a cross-encoder: question and passage read together, by any model that sentence-transformers loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ragtune.errors import ModelError
from ragtune.models.embed import check_network
from ragtune.records import Hit
from ragtune.seams import Progress

BATCH_SIZE = 32


class CrossEncoderReranker:
    """A cross-encoder by folder or Hugging Face name; a seams.Reranker.

    Raises ModelError where it cannot be loaded, or gives more than one score a pair (such a model classifies).
    """

    def __init__(self, name: str) -> None:
        from sentence_transformers import CrossEncoder

        try:
            try:
                self.model = CrossEncoder(name, trust_remote_code=False, local_files_only=True)
            except OSError:
                if Path(name).exists():
                    raise
                check_network()  # without it, fetching is tried for more than a minute
                self.model = CrossEncoder(name, trust_remote_code=False)
        except Exception as error:
            kind = "the folder holds no usable model" if Path(name).is_dir() else "it is no folder and cannot be fetched"
            raise ModelError(f"the cross-encoder '{name}' cannot be loaded: {kind} ({type(error).__name__}: "
                             f"{str(error)[:200]}). Allowed: a folder or the name of a model of sentence-transformers, for "
                             "example cross-encoder/ms-marco-MiniLM-L6-v2.") from error
        if self.model.num_labels != 1:
            raise ModelError(f"the cross-encoder '{name}' gives {self.model.num_labels} scores a pair, wanted 1. Use one "
                             "made for reranking, for example cross-encoder/ms-marco-MiniLM-L6-v2.")
        self.name = name

    def score(self, question: str, hits: Sequence[Hit]) -> list[float]:
        """Return how well each hit answers the question, more being better."""
        return self.score_texts(question, [hit.chunk.text for hit in hits])

    def score_texts(self, question: str, texts: Sequence[str], progress: Progress | None = None) -> list[float]:
        """Return how well each text answers the question, more being better, in the order given.

        Texts are cut to what the model reads. Raises ModelError for scores that are no numbers.
        """
        import numpy as np

        scores = np.zeros(len(texts), dtype=np.float64)
        order = sorted(range(len(texts)), key=lambda number: (-len(texts[number]), number))  # like lengths share a batch
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            pairs = [(question, texts[number]) for number in batch]
            scores[batch] = self.model.predict(pairs, batch_size=BATCH_SIZE, show_progress_bar=False)
            if progress:
                progress(start + len(batch), len(texts))
        if not np.isfinite(scores).all():
            bad = int((~np.isfinite(scores)).sum())
            raise ModelError(f"the cross-encoder '{self.name}' returned {bad} scores that are no numbers. Use another "
                             "model, or its float32 weights.")
        return [float(score) for score in scores]
