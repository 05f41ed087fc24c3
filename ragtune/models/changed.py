"""Tuned weights that replace the base's own: read, put in the base's place, and taken out again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import RunError
from ragtune.models.layers import is_tied, tie_again, untie

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of an adapter folder by name. Raises RunError where the file is missing or damaged."""
    with _open(folder) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _open(folder: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(folder / WEIGHTS), "pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder / WEIGHTS} cannot be read: {str(error)[:200]}. Tune again. Do: ragtune train --recipe FILE"
                       ) from error


def read_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an adapter folder's tensors by name, without reading them; raises as ``read_tensors``."""
    with _open(folder) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (it is no mapping)


def check_tensors(model: Any, shapes: Mapping[str, tuple[int, ...]], folder: Path, name: str) -> None:
    """Raise RunError where the model has no parameters of these names and shapes: they belong to another base."""
    own = dict(model.named_parameters(remove_duplicate=False))
    for key, wanted in shapes.items():
        shape = tuple(own[key].shape) if key in own else None
        if shape != wanted:
            found = f"has the shape {list(shape)} there" if shape else "is not in it"
            raise RunError(
                f"the adapter at {folder} does not fit '{name}': {key} {list(wanted)} {found}. Open it on the model it was "
                "tuned on, or tune again. Do: ragtune train --recipe FILE"
            )


class ChangedWeights:
    """The tensors of a run that stand in place of the base's; ``put`` and ``take_out`` switch between the two.

    The base's own wait in the CPU's memory meanwhile, and the run's are read from its folder each time.
    """

    def __init__(self, model: Any, folder: Path, is_untied: bool) -> None:
        self._model, self._folder = model, folder
        self._is_untied = is_untied
        self._unties = False
        self._own: dict[str, torch.Tensor] = {}

    def put(self) -> None:
        """Put the tuned tensors into the model, in the type and on the device of the base's."""
        self._unties = self._is_untied and is_tied(self._model)
        if self._unties:
            untie(self._model)
        parameters = dict(self._model.named_parameters(remove_duplicate=False))
        with _open(self._folder) as file:
            for name in file.keys():  # noqa: SIM118
                own = parameters[name].data
                self._own[name] = own.to("cpu")
                parameters[name].data = file.get_tensor(name).to(own.device, own.dtype)

    def take_out(self) -> None:
        """Put the base's own tensors back, bit for bit."""
        parameters = dict(self._model.named_parameters(remove_duplicate=False))
        for name, tensor in self._own.items():
            parameters[name].data = tensor.to(parameters[name].device)
        if self._unties:
            tie_again(self._model)
        self._own, self._unties = {}, False
