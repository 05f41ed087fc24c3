"""BERTScore on any encoder: how well the tokens of an answer and of its reference meet, by cosine in context.

Zhang and others, BERTScore: Evaluating Text Generation with BERT (ICLR 2020), without idf weights and without rescaling.
Each token takes its most alike token of the other side; precision is the mean over the answer's tokens, recall over the
reference's. The framing tokens ([CLS], [SEP]) may be taken but do not count, as in the package bert-score.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ragtune.errors import ModelError
from ragtune.evaluation.statistics.samples import References, pair_texts
from ragtune.models.embed import check_network, minilm_folder
from ragtune.records import Record
from ragtune.seams import Progress

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
BATCH_SIZE = 32
_NO_LIMIT = 1_000_000  # a tokenizer that says more does not know


@dataclass(frozen=True)
class BertScore(Record):
    """Precision, recall and their harmonic mean; all 0 where a side is empty."""

    precision: float = 0.0
    recall: float = 0.0
    f1: float = 0.0


class Tokens(NamedTuple):
    """A text's unit vectors, shape (tokens, width), and which of its tokens count, shape (tokens,)."""

    vectors: torch.Tensor
    counted: torch.Tensor


class BertScorer:
    """An encoder by folder or Hugging Face name ('minilm': the bundled one) and the layer that is compared.

    ``layer`` counts from 1, 0 being the embeddings; None is the last. Of a model with a decoder the encoder is taken.
    Raises ModelError where it cannot be loaded or has no such layer.
    """

    def __init__(self, model: str = "minilm", layer: int | None = None) -> None:
        import torch

        folder = str(minilm_folder()) if model == "minilm" else model
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name = Path(model).name if Path(model).is_dir() else model
        self.tokenizer, encoder = _load(folder)
        self.model = (encoder.get_encoder() if encoder.config.is_encoder_decoder else encoder).to(device).eval()
        layers = int(encoder.config.num_hidden_layers)
        if layer is not None and not 0 <= layer <= layers:
            raise ModelError(f"'{self.name}' has no layer {layer}. Allowed: 0 to {layers}, or none for the last.")
        self.layer = layers if layer is None else layer
        said, positions = self.tokenizer.model_max_length, getattr(encoder.config, "max_position_embeddings", None)
        self.max_tokens = said if said < _NO_LIMIT else (positions or 512) - 2  # some count positions from 2

    def score(
        self, answers: Sequence[str], references: References, progress: Progress | None = None
    ) -> list[BertScore]:
        """Return one score an item, against the reference of the best F1. Raises RunError as pair_texts does."""
        pairs = pair_texts(answers, references)
        vectors = self._embed(sorted({text for answer, several in pairs for text in (answer, *several)}), progress)
        return [max((match_tokens(vectors[answer], vectors[text]) for text in several), key=lambda found: found.f1)
                for answer, several in pairs]

    def _embed(self, texts: Sequence[str], progress: Progress | None) -> dict[str, Tokens | None]:
        """Return each text's tokens; None for an empty text."""
        import torch

        encoded = {text: self._encode(text) for text in texts}
        cut = sum(len(ids) >= self.max_tokens for ids in encoded.values())
        if cut:
            log.warning("%d of %d texts are cut to the %d tokens of '%s'", cut, len(texts), self.max_tokens, self.name)
        order = sorted((text for text in texts if text.strip() and encoded[text]), key=lambda text: len(encoded[text]))
        tokens: dict[str, Tokens | None] = dict.fromkeys(texts)
        framing = {self.tokenizer.cls_token_id, self.tokenizer.sep_token_id}
        for start in range(0, len(order), BATCH_SIZE):
            batch = [encoded[text] for text in order[start : start + BATCH_SIZE]]
            width = max(map(len, batch))
            pad = self.tokenizer.pad_token_id or 0
            ids = torch.tensor([row + [pad] * (width - len(row)) for row in batch], device=self.model.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=self.model.device)
            with torch.inference_mode():
                out = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[self.layer]
            for text, row, vectors in zip(order[start : start + BATCH_SIZE], batch, out.cpu()):
                counted = torch.tensor([token not in framing for token in row])
                tokens[text] = Tokens(torch.nn.functional.normalize(vectors[: len(row)], dim=-1), counted)
            if progress:
                progress(min(start + BATCH_SIZE, len(order)), len(order))
        return tokens

    def _encode(self, text: str) -> list[int]:
        """Return token ids with the framing ones; byte-level tokenizers see a space before the first word, as inside a text.
        """
        text = text.strip()
        if getattr(self.tokenizer, "add_prefix_space", None) is False:
            text = f" {text}"
        return list(self.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"])


def match_tokens(answer: Tokens | None, reference: Tokens | None) -> BertScore:
    """Return the score of two texts; None is an empty one."""
    if answer is None or reference is None or not answer.counted.any() or not reference.counted.any():
        return BertScore()
    likeness = answer.vectors @ reference.vectors.T
    precision = float(likeness.max(dim=1).values[answer.counted].mean())
    recall = float(likeness.max(dim=0).values[reference.counted].mean())
    total = precision + recall
    return BertScore(precision, recall, 2 * precision * recall / total if total else 0.0)


def _load(folder: str) -> tuple[Any, Any]:
    """Return tokenizer and model in float32. Raises ModelError."""
    from transformers import AutoModel, AutoTokenizer

    from ragtune.models.checkpoint import quiet

    try:
        with quiet():
            if not Path(folder).is_dir():
                check_network()
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model = AutoModel.from_pretrained(folder, trust_remote_code=False, use_safetensors=True, dtype="float32")
        return tokenizer, model
    except Exception as error:
        raise ModelError(f"the encoder '{folder}' cannot be loaded for BERTScore ({type(error).__name__}: "
                         f"{str(error)[:200]}). Allowed: 'minilm', a folder or a Hugging Face name of an encoder with "
                         "safetensors.") from error


@lru_cache(maxsize=2)
def open_bertscorer(model: str = "minilm", layer: int | None = None) -> BertScorer:
    """Return the scorer of this encoder and layer, kept for the process."""
    return BertScorer(model, layer)


def score_bertscore(
    answers: Sequence[str], references: References, model: str = "minilm", layer: int | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Return BERTScore's F1, one an item. How high unlike texts come depends on the encoder: compare, do not read alone."""
    pair_texts(answers, references)
    return [found.f1 for found in open_bertscorer(model, layer).score(answers, references, progress)]
