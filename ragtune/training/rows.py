"""Tuning rows turned into tokens, exactly as the model is asked later, and the order they are shown in."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ragtune.errors import RunError
from ragtune.models.chat import Chat
from ragtune.records import Example

NO_LOSS = -100
"""The label of a token that does not count in the loss."""
_MEGABATCH = 16  # batches among which rows of like length are put together


def encode_examples(examples: Sequence[Example], chat: Chat, max_tokens: int, source: str) -> list[dict[str, list[int]]]:
    """Return input_ids and labels of each example; labels are NO_LOSS on the prompt, so that only the completion counts.

    Raises RunError where an example is longer than ``max_tokens``: nothing is cut, because a cut prompt lacks its
    question and a cut row its answer.
    """
    rows = []
    for example in examples:
        prompt, completion = chat.encode_example(example.prompt, example.completion)
        rows.append({"input_ids": prompt + completion, "labels": [NO_LOSS] * len(prompt) + completion})
    check_lengths([len(row["input_ids"]) for row in rows], max_tokens, source)
    return rows


def check_lengths(
    lengths: Sequence[int], max_tokens: int, source: str, command: str = "ragtune dataset --recipe FILE"
) -> None:
    """Raise RunError where a row is longer than ``max_tokens``, saying how many are; ``command`` makes other rows."""
    if too_long := [length for length in lengths if length > max_tokens]:
        raise RunError(
            f"{source}: {len(too_long)} of {len(lengths)} rows are longer than the model's {max_tokens} tokens (the longest "
            f"has {max(too_long)}). Build the dataset for this model, with generator.max_prompt_tokens within its limit. "
            f"Do: {command}"
        )


class LengthOrder:
    """A sampler: rows in random order, yet neighbours of like length, so that little of a batch is padding.

    Each epoch's order depends on the seed and the epoch alone: a resumed run sees what an unbroken one would have.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = list(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; the trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def rows_of_step(self, step: int, accumulation: int) -> list[int]:
        """Return the rows an optimizer step (from 0) sees."""
        batches = -(-len(self._lengths) // self._batch_size)
        steps = -(-batches // accumulation)
        other = LengthOrder(self._lengths, self._batch_size, self._seed)
        other.set_epoch(step // steps)
        span = self._batch_size * accumulation
        return list(other)[step % steps * span : (step % steps + 1) * span]

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(self._seed * 1_000_003 + self._epoch)
        order = list(range(len(self._lengths)))
        draw.shuffle(order)
        span = self._batch_size * _MEGABATCH
        sorted_spans = [sorted(order[i : i + span], key=lambda row: -self._lengths[row]) for i in range(0, len(order), span)]
        batches = [rows[i : i + self._batch_size] for rows in sorted_spans for i in range(0, len(rows), self._batch_size)]
        last = batches.pop() if batches and len(batches[-1]) < self._batch_size else []  # a short batch stays last
        draw.shuffle(batches)
        return iter([row for batch in [*batches, last] for row in batch])
