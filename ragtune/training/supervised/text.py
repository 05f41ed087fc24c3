"""Continued pre-training: the documents' running text, every token counting in the loss (arXiv 2004.10964)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragtune.errors import RunError
from ragtune.models.chat import load_chat
from ragtune.training.job import Fit, Job
from ragtune.training.supervised.sft import count_window, fit_rows


def fit_text(job: Job) -> Fit:
    """Tune the generator's model on packed texts (rows with ``text``) and leave ``adapter/`` and ``metrics.jsonl``.

    Which weights are tuned is ``training.weights``, by default all. It goes on and raises as ``fit_sft``.
    """
    chat = load_chat(job.generator)
    limit = count_window(job)
    return fit_rows(job, chat, encode_texts(job.train, chat.tokenizer, limit, "the texts to learn"),
                    encode_texts(job.test, chat.tokenizer, limit, "the texts kept for testing"), ())


def encode_texts(
    texts: Sequence[dict[str, Any]], tokenizer: Any, max_tokens: int, source: str
) -> list[dict[str, list[int]]]:
    """Return input_ids and labels of each text; all tokens count, end-of-text tokens between documents too.

    A text longer than ``max_tokens`` becomes several rows: nothing is left out. Raises RunError where none has two tokens.
    """
    rows = []
    for ids in tokenizer([str(text["text"]) for text in texts], add_special_tokens=False)["input_ids"] if texts else ():
        parts = [ids[start : start + max_tokens] for start in range(0, len(ids), max_tokens)]
        rows += [{"input_ids": part, "labels": list(part)} for part in parts if len(part) > 1]
    if texts and not rows:
        raise RunError(f"{source}: no text has two tokens, of which the second could be learned. "
                       "Do: ragtune index --recipe FILE")
    return rows
