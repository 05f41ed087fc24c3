"""An embedder and a generator without weights, for tests that run the whole pipeline in milliseconds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragtune.records import Message
from ragtune.seams import Progress

if TYPE_CHECKING:
    import numpy as np


class HashEmbedder:
    """Bag of hashed words (the hashing trick): texts that share words are near. Deterministic everywhere."""

    name = "hash"
    dimension = 256
    fingerprint = "hash:256"

    def embed_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Return unit vectors, shape (len(texts), 256)."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                digest = hashlib.md5(word.encode(), usedforsecurity=False).digest()
                vectors[row, digest[0]] += 1.0 if digest[1] & 1 else -1.0
        if progress:
            progress(len(texts), len(texts))
        vectors[:, 0] += 1e-6  # no text has a vector of length 0
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_questions(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (len(texts), 256)."""
        return self.embed_passages(texts)

    def count_tokens(self, text: str) -> int:
        """Count words and punctuation marks."""
        return len(re.findall(r"\w+|[^\w\s]", text))


class EchoGenerator:
    """Answers with the first line of the first passage, cited; refuses without a passage."""

    name = "echo"
    context_tokens = 4096

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count words and punctuation marks."""
        return sum(len(re.findall(r"\w+|[^\w\s]", message["content"])) for message in messages)

    def generate(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: Progress | None = None
    ) -> list[str]:
        """Return one completion per prompt."""
        completions = []
        for messages in prompts:
            lines = messages[-1]["content"].split("\n")
            shown = len(lines) > 1 and lines[0].startswith("[1]")
            completions.append(f"{lines[1]} [1]\nAnswer: {lines[1]}" if shown else "Not found in the documents.")
            if progress:
                progress(len(completions), len(prompts))
        return completions
