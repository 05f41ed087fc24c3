"""Tuned weights that replace the base's own: read, put in the base's place, and taken out again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import RunError
from ragtune.models.layers import is_tied, tie_again, untie

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of an adapter folder by name. Raises RunError where the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder / WEIGHTS} cannot be read: {str(error)[:200]}. Tune again. Do: ragtune train --recipe FILE"
                       ) from error


def check_tensors(model: Any, tensors: Mapping[str, torch.Tensor], folder: Path, name: str) -> None:
    """Raise RunError where the model has no parameters of these names and shapes: they belong to another base."""
    own = dict(model.named_parameters(remove_duplicate=False))
    for key, tensor in tensors.items():
        shape = tuple(own[key].shape) if key in own else None
        if shape != tuple(tensor.shape):
            found = f"has the shape {list(shape)} there" if shape else "is not in it"
            raise RunError(
                f"the adapter at {folder} does not fit '{name}': {key} {list(tensor.shape)} {found}. Open it on the model "
                "it was tuned on, or tune again. Do: ragtune train --recipe FILE"
            )


class ChangedWeights:
    """The tensors of a run that stand in place of the base's; ``put`` and ``take_out`` switch between the two.

    Of a large model the base's own tensors wait in the CPU's memory meanwhile.
    """

    def __init__(self, model: Any, tensors: Mapping[str, torch.Tensor], is_untied: bool) -> None:
        self._model = model
        self._tensors = dict(tensors)
        self._is_untied = is_untied
        self._own: dict[str, torch.Tensor] = {}

    def put(self) -> None:
        """Put the tuned tensors into the model, in the type and on the device of the base's."""
        import torch

        if self._own:
            return
        unties = self._is_untied and is_tied(self._model)
        if unties:
            untie(self._model)
        self._unties = unties
        parameters = dict(self._model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                self._own[name] = parameters[name].detach().to("cpu", copy=True)
                parameters[name].copy_(tensor)

    def take_out(self) -> None:
        """Put the base's own tensors back, bit for bit."""
        import torch

        parameters = dict(self._model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, tensor in self._own.items():
                parameters[name].copy_(tensor)
        if self._own and self._unties:
            tie_again(self._model)
        self._own = {}
