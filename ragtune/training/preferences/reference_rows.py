"""The frozen policy that DPO and KTO measure against: what the model says before the first step.

Its log probabilities are computed once, by the model that is then tuned, and stand beside the rows. So there is no second
model and no second adapter in memory, whatever weights are tuned and however the base is quantised, and no copy of the start
is saved with the result. TRL would keep an adapter "ref" (which for PiSSA changes the base's weights once more, and AdaLoRA
refuses), or load the base a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragtune.seams import Progress
from ragtune.training.preferences.pairs import Row, count_tokens
from ragtune.training.reference import Reference


def build_no_reference(config: Any) -> Any:
    """Return what TRL's trainers are given as reference model, so that they make none. It answers nothing."""
    import torch

    class NoReference(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = config

        def forward(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError("the reference's log probabilities stand beside the rows")

    return NoReference()


def build_reference(
    trainer: Any, rows: Sequence[Row], names: tuple[str, str], is_start: bool, progress: Progress | None = None,
    shown: Sequence[int] | None = None,
) -> list[Row]:
    """Return for each row its two reference log probabilities (nats, summed over the completion) under ``names``.

    To be called before the first step. ``shown`` are the rows that the run comes to see (None: all); the others get NaN,
    which would stop the run. ``is_start``: an earlier adapter is tuned further and is the reference; else it is the base.
    """
    import torch

    order = sorted(range(len(rows)) if shown is None else set(shown), key=lambda row: -count_tokens(rows[row]))
    found: list[Row] = [dict.fromkeys(names, float("nan")) for _ in rows]
    size = trainer.args.per_device_eval_batch_size
    was_training = trainer.model.training
    trainer.model.eval()
    with torch.no_grad(), Reference(trainer.model, is_start).in_place():
        for first in range(0, len(order), size):
            numbers = order[first : first + size]
            batch = trainer._prepare_inputs(trainer.data_collator([rows[number] for number in numbers]))
            values = [each.float().tolist() for each in trainer.compute_ref_log_probs(trainer.model, batch)]
            for number, *both in zip(numbers, *values):
                found[number] = dict(zip(names, both))
            if progress:
                progress(first + len(numbers), len(order))
    trainer.model.train(was_training)
    return found
