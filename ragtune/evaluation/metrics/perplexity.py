"""Perplexity of texts under a language model: after a context or without one, longer than the model's window or not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ragtune.errors import RunError
from ragtune.models.checkpoint import read_context_tokens
from ragtune.records import Record
from ragtune.seams import Progress


@dataclass(frozen=True)
class Perplexity(Record):
    """How surprising a text was: the sum of -ln p over its scored ``tokens``, and its length in ``characters``.

    Perplexities of models with other tokenizers do not compare; ``bits_per_character`` does.
    """

    nll: float
    tokens: int
    characters: int

    @property
    def mean_nll(self) -> float:
        """-ln p a token, the score for paired tests (a mean of perplexities is ruled by the worst text)."""
        return self.nll / self.tokens

    @property
    def perplexity(self) -> float:
        """e to the mean; infinite where that is too large for a float."""
        return math.exp(self.mean_nll) if self.mean_nll < 709 else math.inf

    @property
    def bits_per_character(self) -> float:
        """The bits that an ideal coder would spend on a character of the text."""
        return self.nll / math.log(2) / self.characters


def total_perplexity(found: Sequence[Perplexity]) -> Perplexity:
    """Return the perplexity over all texts together. Raises RunError where there are none."""
    if not found:
        raise RunError("there are no texts to sum up. Give at least one.")
    return Perplexity(math.fsum(one.nll for one in found), sum(one.tokens for one in found),
                      sum(one.characters for one in found))


def measure_perplexity(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    contexts: Sequence[str] | None = None,
    window: int | None = None,
    stride: int | None = None,
    progress: Progress | None = None,
) -> list[Perplexity]:
    """Return the perplexity of each text under a causal model of transformers (a generator's ``model`` and tokenizer).

    ``contexts`` are read before the texts and not scored: a rendered prompt before its answer, say. Contexts bring their
    own special tokens; where neither context nor text begins with the model's token for the beginning, it is put before
    them. Without one a text's first token is read but not scored. What is longer than ``window`` tokens (None: all the model
    reads) is read in windows that begin ``stride`` tokens apart (None: half a window), so that each token after the first
    window is scored once, after at least window - stride others; the shorter the stride, the closer to unbounded context.

    Raises RunError for unequal numbers, a text without a token to score, a window or stride out of range, or a model
    that returns what is no number.
    """
    limit = read_context_tokens(model.config)
    window = limit if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not 2 <= window <= limit or not 1 <= stride < window:
        raise RunError(f"the window is {window} tokens and the stride {stride}. Allowed is a window of 2 to {limit}, all "
                       "that the model reads, and a stride of at least 1 and less than the window.")
    if contexts is not None and len(contexts) != len(texts):
        raise RunError(f"found {len(contexts)} contexts for {len(texts)} texts. Give one for each, '' where there is none.")
    found = []
    for place, text in enumerate(texts):
        before, ids = _encode(tokenizer, contexts[place] if contexts else "", text)
        first = max(1, len(before))
        if len(before) + len(ids) <= first:
            raise RunError(f"text {place + 1}, {text[:40]!r}, has no token that could be scored. Leave empty texts out.")
        nll = _sum_nll(model, [*before, *ids], first, window, stride)
        if not math.isfinite(nll):
            raise RunError(f"the model gives {nll} for text {place + 1}. Load it in float32, or mend its weights.")
        found.append(Perplexity(nll, len(before) + len(ids) - first, max(1, len(text))))
        if progress:
            progress(place + 1, len(texts))
    return found


def _encode(tokenizer: Any, context: str, text: str) -> tuple[list[int], list[int]]:
    """Return the ids that are read only and those to be scored."""
    before, ids = (list(tokenizer(part, add_special_tokens=False)["input_ids"]) if part else [] for part in (context, text))
    begin = tokenizer.bos_token_id
    if begin is not None and (before or ids)[:1] != [begin]:
        before = [begin, *before]
    return before, ids


def cut_windows(length: int, first: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, end, from which on to score) over positions 0 to length; each from ``first`` on is scored once."""
    scored = first
    for begin in range(0, length, stride):
        end = min(begin + window, length)
        if end > scored:
            yield begin, end, scored
            scored = end
        if end == length:
            return


def _sum_nll(model: Any, ids: list[int], first: int, window: int, stride: int) -> float:
    import torch

    total = []
    for begin, end, scored in cut_windows(len(ids), first, window, stride):
        read = torch.tensor([ids[begin:end]], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=read).logits[0, scored - begin - 1 : -1]
        targets = read[0, scored - begin :]
        losses = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
        total.append(float(losses.sum()))
    return math.fsum(total)
