"""How much of a reference's meaning an answer holds, token by token, by the bundled MiniLM.

For each token of the reference that the question does not hold already, the most similar token of the answer is looked for;
the mean of these similarities is a recall that other words for the same thing do not spoil (the greedy matching of
BERTScore, Zhang et al. 2020, arXiv 1904.09675, its R_BERT, here for the telling tokens only).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ragtune.errors import RagtuneError
from ragtune.evaluation.scoring.wording import final_part

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
WINDOW_TOKENS = 254
"""Tokens read at once: what MiniLM was trained with, less its two special ones."""
MOST_TOKENS = 1016
"""Of an answer; what stands behind is not read."""
LAYERS = (0, 4, 6)
"""0 are the bare token vectors, 4 and 6 hold context: 4 for references read behind their question, 6 for bare ones."""
KEPT = 4096
"""Comparisons that are kept."""
PLACE_TOKENS = 80
"""Length of the places of an answer that are compared, half as far apart."""


class Likeness:
    """Compares references and answers; ``layers`` of token vectors are kept for references, which come again."""

    def __init__(self) -> None:
        from ragtune.models.embed import MiniLMEmbedder

        embedder = MiniLMEmbedder("torch")
        self.tokenizer: Any = embedder._tokenizer()
        self.model: Any = embedder._model("float32")
        self.reference = lru_cache(maxsize=512)(self._reference)
        self.read = lru_cache(maxsize=KEPT)(self._read)  # an evaluation scores its answers when they come and at its end

    def _read(self, question: str, gold: str, answer: str) -> dict[str, float]:
        """Return how far the reference's telling tokens are met: anywhere, in the best place, read behind the question."""
        import numpy as np

        asked = question.partition("?")[0] + "?"
        bare, behind, telling = self.reference(asked, gold)
        said = self.layers(self.ids(final_part(answer)) or [self.tokenizer.token_to_id(".")])
        last = bare[2][telling] @ said[2].T
        starts = range(0, max(1, last.shape[1] - PLACE_TOKENS // 2), PLACE_TOKENS // 2)
        in_context = [position for position in telling if position < behind.shape[1]] or [0]
        return {
            "alike": float(last.max(axis=1).mean()),
            "alike_place": float(max(last[:, start : start + PLACE_TOKENS].max(axis=1).mean() for start in starts)),
            "alike_least": float(np.sort(last.max(axis=1))[: max(1, len(telling) // 3)].mean()),
            "alike_asked": float((behind[1][in_context] @ said[1].T).max(axis=1).mean()),
            "alike_words": float((bare[0][telling] @ said[0].T).max(axis=1).mean()),
        }

    def _reference(self, asked: str, gold: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Return a reference's vectors, those behind its question, and the positions of its telling tokens."""
        question, ids = self.ids(asked), self.ids(gold)
        known = set(question)
        telling = [position for position, token in enumerate(ids)
                   if token not in known and self.tokenizer.id_to_token(token).lstrip("#").isalnum()]
        behind = self.layers((question + ids)[:WINDOW_TOKENS])[:, len(question) :]
        return self.layers(ids), behind if behind.shape[1] else self.layers(ids), telling or list(range(len(ids)))

    def ids(self, text: str) -> list[int]:
        """Return a text's token ids, the first MOST_TOKENS, without special ones."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids[:MOST_TOKENS]

    def layers(self, ids: Sequence[int]) -> np.ndarray:
        """Return unit vectors, shape (len(LAYERS), tokens, 384), read in windows of WINDOW_TOKENS."""
        import numpy as np
        import torch

        first, last = self.tokenizer.token_to_id("[CLS]"), self.tokenizer.token_to_id("[SEP]")
        found = []
        with torch.inference_mode():
            for start in range(0, len(ids), WINDOW_TOKENS):
                window = torch.tensor([[first, *ids[start : start + WINDOW_TOKENS], last]])
                states = self.model(input_ids=window, output_hidden_states=True).hidden_states
                vectors = torch.stack([states[layer][0, 1:-1] for layer in LAYERS])
                found.append(torch.nn.functional.normalize(vectors, dim=-1).numpy())
        return np.concatenate(found, axis=1)


@lru_cache(maxsize=1)
def open_likeness() -> Likeness | None:
    """Return the comparison by MiniLM, or None (said once in the log) where its package or weights are not to be had."""
    try:
        return Likeness()
    except (RagtuneError, ImportError) as error:
        log.warning("answers are scored without the embedder, which agrees less with people: %s", error)
        return None
