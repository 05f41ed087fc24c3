"""The parts of a causal language model, found by their shape: its layers, their final norm, its output layer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from ragtune.errors import ModelError


def find_layers(model: Any) -> tuple[str, Any]:
    """Return the path and the list of the model's layers. Raises ModelError where there is none of the stated length."""
    import torch

    count = model.config.get_text_config().num_hidden_layers
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return path, module
    raise ModelError(
        f"no list of {count} layers was found in a {type(model).__name__}. Set training.method: lora, or choose parameters "
        "by name with training.method: modules"
    )


def find_final_norms(model: Any, path: str) -> list[str]:
    """Return the paths of the norms that stand beside the list of layers at ``path``."""
    above = path.rpartition(".")[0]
    children = model.get_submodule(above).named_children()
    return [f"{above}.{name}".strip(".") for name, _ in children if "norm" in name.lower() or name.lower().startswith("ln")]


def find_output(model: Any) -> tuple[str, Any]:
    """Return the path and the module of the output layer. Raises ModelError where the model has none."""
    head = model.get_output_embeddings()
    for path, module in model.named_modules():
        if module is head and head is not None:
            return path, module
    raise ModelError(f"a {type(model).__name__} has no output layer of its own. Set training.method: lora")


def is_tied(model: Any) -> bool:
    """Whether the output layer and the embeddings of the input are one tensor."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and embeddings is not None and head.weight is embeddings.weight


def untie(model: Any) -> None:
    """Give the output layer a copy of its own of the weights it shares with the embeddings."""
    import torch

    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    _say_tied(model, False)


def tie_again(model: Any) -> None:
    """Let the output layer share the embeddings' weights again."""
    model.get_output_embeddings().weight = model.get_input_embeddings().weight
    _say_tied(model, True)


def _say_tied(model: Any, is_tied: bool) -> None:
    for config in {id(each): each for each in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = is_tied
    if hasattr(model, "get_expanded_tied_weights_keys"):  # what saving and loading go by
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)


def nearest_names(found: str, names: Iterable[str], count: int = 3) -> str:
    """Return the names most like the one that was not found, as words."""
    known = sorted(set(names))
    close = difflib.get_close_matches(found, known, n=count, cutoff=0.4)
    return ", ".join(close or known[:count])
