"""The model as it was before the first step, which a tuned one is held near: no second copy of the base is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


def name_trainable(model: Any) -> dict[str, Any]:
    """Return the parameters that are tuned by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


class Reference:
    """Puts the start in the model's place for the forwards inside a block.

    With an adapter of PEFT that begins as nothing, that is the base with the adapter switched off. Otherwise (an earlier
    run's adapter tuned further, other weights than PEFT's, an adapter that takes its start from the base's own weights) it
    is a frozen copy of the tuned parameters, whose tensors change places with theirs: memory for those alone.
    """

    def __init__(self, model: Any, has_start: bool) -> None:
        self._model = model
        self._copies: list[tuple[Any, Any]] = []
        if has_start or not _begins_as_base(model):
            self._copies = [(parameter, parameter.detach().clone()) for parameter in name_trainable(model).values()]

    @property
    def is_base(self) -> bool:
        """Whether the start is the base itself, with the adapter switched off."""
        return not self._copies

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model speak as it did at the start; without gradients."""
        import torch

        with torch.no_grad(), self._model.disable_adapter() if self.is_base else contextlib.nullcontext():
            self._swap()
            try:
                yield
            finally:
                self._swap()

    def _swap(self) -> None:
        for place, (parameter, copy) in enumerate(self._copies):
            parameter.data, held = copy, parameter.data
            self._copies[place] = (parameter, held)


def _begins_as_base(model: Any) -> bool:
    """Whether switching the adapter off gives the base: PiSSA and OLoRA take a part out of its weights."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return False
    return all(getattr(config, "init_lora_weights", True) is True for config in model.peft_config.values())
