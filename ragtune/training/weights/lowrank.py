"""PEFT's configurations for a recipe's settings, and what three of the methods need beside them.

PiSSA and OLoRA take their start out of the base's weights: what is saved is turned into a plain LoRA of twice the rank on
the untouched base, W + BA - B'A' with the start B'A'. AdaLoRA gives up singular values by a schedule over the steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragtune.errors import ModelError, RecipeError
from ragtune.models.layers import nearest_names
from ragtune.recipe.schema import Training

STARTS = {"pissa": "pissa", "olora": "olora"}
"""The methods that take their start out of the base's weights, and PEFT's name for each."""


def find_targets(model: Any, training: Training) -> Any:
    """Return PEFT's target_modules. Raises RecipeError for a layer the model has not, naming the nearest."""
    import torch

    if training.target_modules == ("all-linear",):
        return "all-linear"
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    for target in training.target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            raise RecipeError(
                f"training.target_modules has '{target}', but the model has no linear layer of this name. Allowed: "
                f"all-linear, or ends of names; near it are {nearest_names(target, {n.rpartition('.')[2] for n in linear})}."
            )
    return sorted(training.target_modules)


def build_lora(model: Any, training: Training, weights: str) -> Any:
    """LoRA on every linear layer but the head, as QLoRA has it (arXiv 2305.14314): y = Wx + alpha/r BAx."""
    from peft import LoraConfig, TaskType

    targets = find_targets(model, training)
    return LoraConfig(
        r=training.r, lora_alpha=training.alpha, lora_dropout=training.dropout, target_modules=targets,
        task_type=TaskType.CAUSAL_LM, use_rslora=weights == "rslora", use_dora=weights == "dora",
        init_lora_weights=STARTS.get(weights, True),  # type: ignore[arg-type]
    )


def build_adalora(model: Any, training: Training, steps: int) -> Any:
    """AdaLoRA: starts with half as many singular values again as ``r`` for each layer and keeps ``r`` on the average.

    A tenth of the steps passes before values are given up and a quarter is left when none are any more. The penalty on
    bases that are not orthonormal is added by ``allocate`` in lowrank_steps, whatever the loss is.
    """
    from peft import AdaLoraConfig, TaskType

    last = min(max(1, steps // 4), steps - 1)
    return AdaLoraConfig(
        init_r=max(training.r + 1, training.r * 3 // 2), target_r=training.r, lora_alpha=training.alpha,
        lora_dropout=training.dropout, target_modules=find_targets(model, training), task_type=TaskType.CAUSAL_LM,
        total_step=steps, tinit=min(steps // 10, max(0, steps - last - 1)), tfinal=last, deltaT=max(1, steps // 50),
        orth_reg_weight=0.0,
    )


def build_ia3(model: Any, training: Training) -> Any:
    """IA3: learned factors on keys, values and the inner activations of the MLP, all starting at one (arXiv 2205.05638).

    Raises ModelError for an architecture of which PEFT does not know which layers these are.
    """
    from peft import IA3Config, TaskType
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as KNOWN

    kind = model.config.model_type
    if kind not in KNOWN:
        raise ModelError(f"PEFT does not know which layers IA3 scales in a '{kind}' model; it knows "
                         f"{', '.join(sorted(KNOWN))}. Set training.method: lora")
    return IA3Config(task_type=TaskType.CAUSAL_LM)


def build_prompt(model: Any, training: Training) -> Any:
    """Prompt tuning: learned tokens before the prompt, which start as tokens of the vocabulary (arXiv 2104.08691)."""
    from peft import PromptTuningConfig, TaskType

    return PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=training.virtual_tokens,
                              prompt_tuning_init="SAMPLE_VOCAB")


def build_prefix(model: Any, training: Training) -> Any:
    """Prefix tuning: learned keys and values before those of each layer (arXiv 2101.00190), without its reparametrisation.

    Raises RecipeError with gradient checkpointing, which recomputes layers without them.
    """
    from peft import PrefixTuningConfig, TaskType

    if training.gradient_checkpointing:
        raise RecipeError("training.gradient_checkpointing is true, with which prefix tuning does not work: the keys and "
                          "values before the prompt are not there when a layer is computed again. Set it to false, or set "
                          "training.method: p_tuning")
    return PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=training.virtual_tokens)


def build_p_tuning(model: Any, training: Training) -> Any:
    """P-tuning: learned tokens before the prompt, given by a small network while tuning (arXiv 2103.10385)."""
    from peft import PromptEncoderConfig, TaskType

    return PromptEncoderConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=training.virtual_tokens,
                               encoder_reparameterization_type="MLP",
                               encoder_hidden_size=model.config.get_text_config().hidden_size)


def start_from_weights(model: Any, config: Any, kept: Path) -> tuple[Any, dict[str, Any]]:
    """Return a PeftModel whose LoRA starts from the base's weights (PiSSA, OLoRA), and that start by name.

    The start is kept in the file ``kept`` until the run is done: a run that goes on takes it from there, as a singular
    vector worked out again may point the other way.
    """
    import torch
    from peft import get_peft_model
    from safetensors.torch import load_file, save_file

    if not kept.is_file():
        peft_model = get_peft_model(model, config)
        start = {name: p.detach().cpu().clone() for name, p in peft_model.named_parameters() if p.requires_grad}
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".tmp")
        save_file({name: tensor.contiguous() for name, tensor in start.items()}, str(partial))
        partial.replace(kept)
        return peft_model, start
    how, config.init_lora_weights = config.init_lora_weights, True
    peft_model = get_peft_model(model, config)
    start = load_file(str(kept))
    parameters = dict(peft_model.named_parameters())
    with torch.no_grad():
        for name, tensor in start.items():
            parameters[name].copy_(tensor)
        for module in peft_model.modules():
            if "default" in getattr(module, "lora_A", {}):
                weight = module.get_base_layer().weight
                product = module.lora_B["default"].weight.float() @ module.lora_A["default"].weight.float()
                weight.copy_((weight.float() - module.scaling["default"] * product).to(weight.dtype))
    config.init_lora_weights = how
    return peft_model, start


def without_start(tensors: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors of a LoRA of twice the rank that adds to the untouched base what was tuned less the start.

    ``tensors`` are named as in an adapter file, ``start`` as parameters of the PeftModel.
    """
    import torch

    doubled = {}
    for name, tensor in tensors.items():
        first = start[name.replace(".weight", ".default.weight")].to(tensor.device, tensor.dtype)
        doubled[name] = torch.cat([tensor, first], 0) if ".lora_A." in name else torch.cat([tensor, -first], 1)
    return doubled
