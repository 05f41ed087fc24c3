"""How large a model is and how much of it a method tunes, counted on the meta device: no weight is read."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import Any

from ragtune.models.checkpoint import read_config
from ragtune.models.weights import build_skeleton
from ragtune.recipe.schema import Training


@dataclass(frozen=True)
class Linear:
    """A linear layer inside the model's layers: its name, and how many inputs and outputs it has."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of a causal language model, in numbers; ``names`` are (name, elements) of all parameters."""

    parameters: int
    hidden: int
    layers: int
    vocabulary: int
    kv_width: int
    linears: tuple[Linear, ...]
    names: tuple[tuple[str, int], ...]
    dtype: str = ""

    @property
    def in_linears(self) -> int:
        """Parameters that 4-bit quantisation takes: those of the linear layers but the output's."""
        return sum(each.inputs * each.outputs for each in self.linears)

    @property
    def inner(self) -> int:
        """Width inside the MLP: of the widest linear layer."""
        return max((max(each.inputs, each.outputs) for each in self.linears), default=4 * self.hidden)


def read_sizes(model: str) -> ModelSizes:
    """Return the sizes of a recipe's model by its configuration. Raises ModelError where there is none to be had."""
    return measure_sizes(read_config(model))


def measure_sizes(config: Any) -> ModelSizes:
    """Return the sizes of the model that a configuration of transformers describes."""
    import torch

    skeleton: Any = build_skeleton(config)
    inner = config.get_text_config()
    head = skeleton.get_output_embeddings()
    heads = inner.num_attention_heads
    width = getattr(inner, "head_dim", None) or inner.hidden_size // heads
    linears = tuple(Linear(name, module.in_features, module.out_features) for name, module in skeleton.named_modules()
                    if isinstance(module, torch.nn.Linear) and module is not head)
    return ModelSizes(
        parameters=sum(p.numel() for p in skeleton.parameters()),
        hidden=inner.hidden_size,
        layers=inner.num_hidden_layers,
        vocabulary=inner.vocab_size,
        kv_width=width * (getattr(inner, "num_key_value_heads", None) or heads),
        linears=linears,
        names=tuple((name, p.numel()) for name, p in skeleton.named_parameters()),
        dtype=str(getattr(config, "dtype", None) or "").removeprefix("torch."),
    )


def count_trainable(weights: str, training: Training, sizes: ModelSizes) -> int:
    """Return how many parameters a choice of weights (a name in TUNABLE) tunes.

    Counted as the weights are defined: LoRA r(in + out) for each wrapped layer (arXiv 2106.09685), DoRA a length an output
    more (2402.09353), AdaLoRA half as much rank again at the start with a singular value each (2303.10512), bottlenecks two
    a layer (1902.00751), IA3 factors on keys, values and inner activations (2205.05638), soft prompts as many vectors as
    virtual tokens: one each, one a key and value of each layer (2101.00190), or a network of three layers (2103.10385).
    """
    wrapped = [each for each in sizes.linears if _is_wrapped(each.name, training.target_modules)]
    low_rank = sum(training.r * (each.inputs + each.outputs) for each in wrapped)
    first = max(training.r + 1, training.r * 3 // 2)
    h, tokens = sizes.hidden, training.virtual_tokens
    if weights == "modules":
        return sum(count for name, count in sizes.names if any(fnmatch.fnmatch(name, one) for one in training.modules))
    counts = {
        "full": sizes.parameters,
        "head": sizes.vocabulary * h,
        "last_layers": _in_last_layers(training.last_layers, sizes),
        "dora": low_rank + sum(each.outputs for each in wrapped),
        "adalora": sum(first * (each.inputs + each.outputs + 1) for each in wrapped),
        "bottleneck": 2 * sizes.layers * (2 * h * training.bottleneck + training.bottleneck + h),
        "ia3": sum(each.inputs if each.name.endswith("down_proj") else each.outputs for each in sizes.linears
                   if each.name.endswith(("k_proj", "v_proj", "down_proj"))),
        "prompt_tuning": tokens * h,
        "prefix_tuning": tokens * 2 * sizes.layers * sizes.kv_width,
        "p_tuning": tokens * h + 3 * (h * h + h),
    }
    return counts.get(weights, low_rank)


def _is_wrapped(name: str, targets: tuple[str, ...]) -> bool:
    return targets == ("all-linear",) or any(name == target or name.endswith(f".{target}") for target in targets)


def _in_last_layers(last: int, sizes: ModelSizes) -> int:
    """Count the parameters of the last layers and of what follows them, the output layer apart."""
    count = 0
    for name, elements in sizes.names:
        place = re.search(r"\.(?:layers|h|blocks|layer)\.(\d+)\.", name)
        is_last_norm = place is None and "norm" in name and "embed" not in name
        count += elements if is_last_norm or (place and int(place[1]) >= sizes.layers - last) else 0
    return count
