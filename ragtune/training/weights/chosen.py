"""Tuning the model's own weights: all, the output layer, the last layers, or those a pattern names."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ragtune.errors import RecipeError
from ragtune.models.layers import find_final_norms, find_layers, find_output, is_tied, nearest_names, untie
from ragtune.recipe.schema import Training


def choose_full(model: Any, _: Training) -> list[str]:
    """All parameters."""
    return [name for name, _ in model.named_parameters()]


def choose_head(model: Any, _: Training) -> list[str]:
    """The output layer's."""
    path, head = find_output(model)
    return [f"{path}.{name}" for name, _ in head.named_parameters()]


def choose_last_layers(model: Any, training: Training) -> list[str]:
    """Those of the last ``training.last_layers`` layers and of the final norm. Raises RecipeError for more than it has."""
    path, layers = find_layers(model)
    if training.last_layers > len(layers):
        raise RecipeError(f"training.last_layers is {training.last_layers}, but the model has {len(layers)} layers. "
                          f"Allowed: 1 to {len(layers)}.")
    places = [f"{path}.{number}" for number in range(len(layers) - training.last_layers, len(layers))]
    places += find_final_norms(model, path)
    return [name for name, _ in model.named_parameters() if name.startswith(tuple(f"{place}." for place in places))]


def choose_modules(model: Any, training: Training) -> list[str]:
    """Those whose names match a pattern of ``training.modules``. Raises RecipeError for a pattern that matches none."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    chosen: set[str] = set()
    for pattern in training.modules:
        found = fnmatch.filter(names, pattern)
        if not found:
            raise RecipeError(
                f"training.modules has '{pattern}', which matches no parameter of the model. Near it are: "
                f"{nearest_names(pattern, names)}. A * stands for any letters, as in '*.self_attn.*'."
            )
        chosen.update(found)
    return _without_twin(model, [name for name in names if name in chosen])


def _without_twin(model: Any, names: Sequence[str]) -> list[str]:
    """Of two names for one tensor keep the first, where both were chosen: they stay tied."""
    seen: set[int] = set()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return [name for name in names if not (id(parameters[name]) in seen or seen.add(id(parameters[name])))]  # type: ignore


Choice = Callable[[Any, Training], list[str]]


def open_chosen(model: Any, names: Collection[str]) -> bool:
    """Let these parameters be tuned, in float32, and no others; return whether the output layer was untied for it.

    It is, where it is chosen and shares its weights with embeddings that are not. Where the rest of the model has 16 bits,
    the layers that are tuned compute in 32.
    """
    import torch

    output = find_output(model)[0] + ".weight" if is_tied(model) else ""
    is_untied = output in names
    if is_untied:
        untie(model)
    dtype = model.dtype
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
        if name in names:
            parameter.data = parameter.data.float()
    if dtype != torch.float32 and any(not p.requires_grad and p.dtype == dtype for p in model.parameters()):
        for module in model.modules():
            if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
                module.register_forward_pre_hook(_widen, with_kwargs=True)
                module.register_forward_hook(_narrow_to(dtype))
    return is_untied


def _widen(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(_float, arguments)), {key: _float(value) for key, value in named.items()}


def _float(value: Any) -> Any:
    import torch

    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _narrow_to(dtype: Any) -> Callable[[Any, Any, Any], Any]:
    import torch

    def narrow(_: Any, __: Any, output: Any) -> Any:
        return output.to(dtype) if isinstance(output, torch.Tensor) and output.is_floating_point() else output

    return narrow
