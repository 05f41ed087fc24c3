"""Bottleneck adapters: small layers after attention and MLP that can be switched off to give exactly the base.

Houlsby et al., Parameter-Efficient Transfer Learning for NLP (arXiv 1902.00751): each sublayer's output h, before it is
added to the residual stream, becomes h + U gelu(D h + d) + u. U and u start at zero, so that an untuned one changes nothing.
They hold a non-linearity and cannot be merged into the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragtune.errors import ModelError
from ragtune.models.layers import find_layers

if TYPE_CHECKING:
    import torch

NAME = "bottleneck"
_PLACES = (("attn", "attention"), ("mlp", "feed_forward", "ffn", "block_sparse_moe"))


def add_bottlenecks(model: Any, width: int) -> list[str]:
    """Put a bottleneck of this inner width after attention and MLP of each layer; return the names of its parameters.

    They are float32, whatever the model computes in. Raises ModelError where the layers have no such parts.
    """
    hidden = model.config.get_text_config().hidden_size
    path, layers = find_layers(model)
    for number, layer in enumerate(layers):
        for place in _PLACES:
            part = _find_part(layer, place, f"{path}.{number}")
            if NAME not in dict(part.named_children()):
                part.add_module(NAME, _build(hidden, width, next(layer.parameters()).device))
                if _add not in part._forward_hooks.values():
                    part.register_forward_hook(_add)
    return [name for name, _ in model.named_parameters() if f".{NAME}." in name]


def switch_bottlenecks(model: Any, is_on: bool) -> None:
    """Let the bottlenecks of a model speak, or not: then it is exactly the base."""
    for module in model.modules():
        if hasattr(module, "is_bottleneck"):
            module.is_on = is_on


def remove_bottlenecks(model: Any) -> None:
    """Take the bottlenecks out of a model again."""
    for module in model.modules():
        if NAME in module._modules:
            del module._modules[NAME]


def _find_part(layer: Any, words: tuple[str, ...], path: str) -> Any:
    for word in words:
        for name, child in layer.named_children():
            if word in name.lower() and "norm" not in name.lower():
                return child
    raise ModelError(
        f"the layer {path} has no part named like {' or '.join(words)} for a bottleneck adapter to follow. Set "
        "training.method: lora, or use another model."
    )


def _add(module: Any, _: Any, output: Any) -> Any:
    """The forward hook of an attention or MLP: it finds its bottleneck on the module, so that copies of a model work."""
    bottleneck = getattr(module, NAME, None)
    if bottleneck is None or not bottleneck.is_on:
        return output
    if isinstance(output, tuple):
        return (bottleneck(output[0]), *output[1:])
    return bottleneck(output)


def _build(hidden: int, width: int, device: torch.device) -> torch.nn.Module:
    import torch

    class Bottleneck(torch.nn.Module):
        """h + up(gelu(down(h))), in float32 and back in the type it came in."""

        is_bottleneck = True

        def __init__(self) -> None:
            super().__init__()
            self.down = torch.nn.Linear(hidden, width, device=device, dtype=torch.float32)
            self.up = torch.nn.Linear(width, hidden, device=device, dtype=torch.float32)
            torch.nn.init.normal_(self.down.weight, std=0.02)
            for start in (self.down.bias, self.up.weight, self.up.bias):
                torch.nn.init.zeros_(start)
            self.is_on = True

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            inner = torch.nn.functional.gelu(self.down(states.float()))
            return states + self.up(inner).to(states.dtype)

    return Bottleneck()
