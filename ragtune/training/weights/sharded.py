"""Tuned weights of a model whose parameters lie in parts on several GPUs (FSDP2, DeepSpeed ZeRO-3), brought together."""

from __future__ import annotations

from typing import Any

from ragtune.models.processes import is_sharded


def gather_tuned(trainer: Any) -> dict[str, Any] | None:
    """Return the whole tensors of all parameters by name, on the CPU of the process that writes; {} in the others.

    None where every process holds the whole model, whose parameters can be read as they are. All processes must call it.
    """
    if not is_sharded():
        return None
    state: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model_wrapped) or {}
    return {name.removeprefix("module."): tensor.detach().cpu() for name, tensor in state.items()}
