"""The table of weights that can be tuned: how a loaded model is made ready for each, and how what was tuned is saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ragtune.errors import RecipeError, nearest
from ragtune.models.adapt import OWN_TYPE, check_adapter, check_base, load_adapter, read_adapter_config
from ragtune.models.bottleneck import add_bottlenecks
from ragtune.models.changed import WEIGHTS
from ragtune.models.checkpoint import portable_name, quiet
from ragtune.models.processes import is_main
from ragtune.training.job import Job
from ragtune.training.weights import chosen, lowrank

Kind = Literal["weights", "low rank", "scale", "bottleneck", "soft prompt"]


@dataclass(frozen=True)
class Tunable:
    """One choice of weights. ``is_mergeable``: the result can be made part of the base's weights, at no cost when asked.

    ``four_bits``: where the base may have 4 bits while these are tuned.
    """

    description: str
    kind: Kind
    is_mergeable: bool
    four_bits: tuple[str, ...] = ()

    def allows_4bit(self, device: str) -> bool:
        """Whether the base may have 4 bits on this device ('cpu', 'cuda:0')."""
        return device.partition(":")[0] in self.four_bits


_ANYWHERE = ("cpu", "cuda")
TUNABLE: dict[str, Tunable] = {
    "full": Tunable("all parameters", "weights", True),
    "head": Tunable("the output layer, untied from the embeddings where they are one", "weights", True),
    "last_layers": Tunable("the last layers and the final norm", "weights", True),
    "modules": Tunable("parameters whose names match a pattern", "weights", True),
    "lora": Tunable("W + alpha/r BA", "low rank", True, _ANYWHERE),
    "rslora": Tunable("W + alpha/sqrt(r) BA", "low rank", True, _ANYWHERE),
    "dora": Tunable("direction and length of W apart, the direction with a LoRA", "low rank", True, ("cuda",)),
    "pissa": Tunable("LoRA from the largest singular vectors of W", "low rank", True),
    "olora": Tunable("LoRA from the QR decomposition of W", "low rank", True),
    "adalora": Tunable("W + P diag(e) Q, entries of e given up while tuning", "low rank", True, _ANYWHERE),
    "bottleneck": Tunable("h + U gelu(D h) after attention and MLP", "bottleneck", False),
    "ia3": Tunable("factors on keys, values and inner activations", "scale", True, _ANYWHERE),
    "prompt_tuning": Tunable("learned tokens before the prompt", "soft prompt", False, _ANYWHERE),
    "prefix_tuning": Tunable("learned keys and values before the prompt's", "soft prompt", False, _ANYWHERE),
    "p_tuning": Tunable("learned tokens before the prompt, given by a small network", "soft prompt", False, _ANYWHERE),
}


@dataclass
class Tuning:
    """What saving needs to know of a model that was made ready; it stands on the model as ``model.ragtune_tuning``."""

    weights: str
    settings: dict[str, Any] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    rank_pattern: dict[str, list[bool]] | None = None


def find_tunable(job: Job) -> str:
    """Return the name of the weights a job tunes. Raises RecipeError for one that is not in the table."""
    name = job.training.weights or job.method.weights
    if name not in TUNABLE:
        raise RecipeError(f"training.weights is '{name}'. Allowed: {', '.join(TUNABLE)}.{nearest(name, TUNABLE)}")
    return name


def prepare(model: Any, job: Job, steps: int) -> Any:
    """Return the model (of load_base or load_4bit) ready to be tuned for ``steps`` optimizer steps.

    That is a PeftModel, or the model itself with bottlenecks or with some of its own parameters open; what is tuned is
    float32 and the rest needs no gradient. Where ``job.start`` is given that adapter is tuned further. The start depends on
    ``training.seed`` alone. Raises RecipeError for settings that do not fit the weights or the model, ModelError for a model
    that cannot be tuned this way, RunError for a start that does not fit.
    """
    import torch

    weights = find_tunable(job)
    _check_4bit(model, weights)
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []), quiet():
        torch.manual_seed(job.training.seed)
        if job.start is not None:
            model = _go_on(model, job, weights)
        else:
            model = _BUILD[TUNABLE[weights].kind](model, job, weights, steps)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _check_4bit(model: Any, weights: str) -> None:
    if not getattr(model, "is_quantized", False) or TUNABLE[weights].allows_4bit(model.device.type):
        return
    place = "on a CPU" if TUNABLE[weights].four_bits else "on any device"
    others = ", ".join(name for name, each in TUNABLE.items() if each.allows_4bit(model.device.type))
    raise RecipeError(
        f"the weights '{weights}' cannot be tuned on a base of 4 bits {place}. With 4 bits: {others}. Or keep the base in "
        f"16 or 32 bits. Do: --set training.method={weights if weights in ('full', 'head', 'dora') else 'lora'}"
    )


def _open_weights(model: Any, job: Job, weights: str, _: int) -> Any:
    choose: dict[str, chosen.Choice] = {"full": chosen.choose_full, "head": chosen.choose_head,
                                        "last_layers": chosen.choose_last_layers, "modules": chosen.choose_modules}
    names = choose[weights](model, job.training)
    is_untied = chosen.open_chosen(model, set(names))
    model.ragtune_tuning = Tuning(weights, {"is_untied": is_untied})
    return model


def _add_bottlenecks(model: Any, job: Job, weights: str, _: int) -> Any:
    model.requires_grad_(False)
    names = set(add_bottlenecks(model, job.training.bottleneck))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    model.ragtune_tuning = Tuning(weights, {"width": job.training.bottleneck})
    return model


def _wrap(model: Any, job: Job, weights: str, steps: int) -> Any:
    from peft import get_peft_model

    training = job.training
    build: dict[str, Callable[[], Any]] = {
        "adalora": lambda: lowrank.build_adalora(model, training, steps),
        "ia3": lambda: lowrank.build_ia3(model, training),
        "prompt_tuning": lambda: lowrank.build_prompt(model, training),
        "prefix_tuning": lambda: lowrank.build_prefix(model, training),
        "p_tuning": lambda: lowrank.build_p_tuning(model, training),
    }
    config = build[weights]() if weights in build else lowrank.build_lora(model, training, weights)
    tuning = Tuning(weights)
    if weights in lowrank.STARTS:
        model, tuning.start = lowrank.start_from_weights(model, config, job.checkpoints / "start.safetensors")
    else:
        model = get_peft_model(model, config)
    model.ragtune_tuning = tuning
    return model


_BUILD: dict[Kind, Callable[[Any, Job, str, int], Any]] = {
    "weights": _open_weights, "bottleneck": _add_bottlenecks, "low rank": _wrap, "scale": _wrap, "soft prompt": _wrap,
}


def _go_on(model: Any, job: Job, weights: str) -> Any:
    """Return the model with the start's adapter on it and open."""
    folder = check_adapter(job.start or Path())
    config = read_adapter_config(folder)
    kind = config.get(OWN_TYPE) or str(config.get("peft_type"))
    fits = {"weights": kind == "weights", "bottleneck": kind == "bottleneck", "low rank": kind in ("LORA", "ADALORA"),
            "scale": kind == "IA3", "soft prompt": kind in ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING")}
    if not fits[TUNABLE[weights].kind] and (job.training.weights or job.method.loop in ("sft", "text")):
        raise RecipeError(
            f"the run to go on from, {folder}, tuned {kind}, and this method tunes {weights}. Tune the same weights "
            "further, or make one model of base and adapter first (ragtune merge) and set generator.model to it."
        )
    name = portable_name(job.generator.model)
    check_base(folder, job.generator.model)
    model = load_adapter(model, folder, name, is_trainable=True)
    if OWN_TYPE in config:
        from ragtune.models.changed import read_tensors

        names = set(read_tensors(folder))
        is_untied = chosen.open_chosen(model, names)
        model.ragtune_tuning = Tuning(weights, {"is_untied": is_untied or bool(config.get("is_untied")),
                                                **({"width": config["width"]} if "width" in config else {})})
    else:
        model.ragtune_tuning = Tuning(weights, {"start": folder.name})
    return model


def count_virtual(model: Any) -> int:
    """Return how many tokens a soft prompt puts before the prompt's own in the logits; keys and values put none."""
    config = getattr(model, "active_peft_config", None)
    if config is None or not config.is_prompt_learning or config.peft_type == "PREFIX_TUNING":
        return 0
    return int(config.num_virtual_tokens)


def save_tuned(model: Any, folder: Path, base_name: str, state: dict[str, Any] | None = None) -> None:
    """Write what was tuned as an adapter folder: adapter_model.safetensors and adapter_config.json.

    ``base_name`` names the base without a path of this machine. The folder is to be loaded on the base as it was, also
    after PiSSA and OLoRA. ``state`` holds the tensors of a model in parts (sharded.gather_tuned). Of several processes one
    writes.
    """
    if not is_main():
        return
    tuning: Tuning = getattr(model, "ragtune_tuning", Tuning("lora"))
    folder.mkdir(parents=True, exist_ok=True)
    save = _save_peft if hasattr(model, "peft_config") else _save_own
    config = save(model, folder, tuning, state)
    config["base_model_name_or_path"] = base_name
    for key in ("target_modules", "feedforward_modules"):
        if isinstance(config.get(key), list):  # a set in PEFT, in another order each time
            config[key] = sorted(config[key])
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def _save_own(model: Any, folder: Path, tuning: Tuning, state: dict[str, Any] | None) -> dict[str, Any]:
    from safetensors.torch import save_file

    opened = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    tensors = {name: (state[name] if state else p).cpu().contiguous() for name, p in opened.items()}
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    kind = "bottleneck" if "width" in tuning.settings else "weights"
    count = sum(tensor.numel() for tensor in tensors.values())
    return {OWN_TYPE: kind, "weights": tuning.weights, "parameters": count, **tuning.settings}


def _save_peft(model: Any, folder: Path, tuning: Tuning, state: dict[str, Any] | None) -> dict[str, Any]:
    """Let PEFT save the adapter 'default', then make plain what only tuning needs."""
    from safetensors.torch import load_file, save_file

    if tuning.rank_pattern is not None:
        model.peft_config["default"].rank_pattern = tuning.rank_pattern
    model.save_pretrained(str(folder), selected_adapters=["default"], state_dict=state)
    (folder / "README.md").unlink(missing_ok=True)
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if tuning.start:
        doubled = lowrank.without_start(load_file(str(folder / WEIGHTS)), tuning.start)
        save_file(doubled, str(folder / WEIGHTS), metadata={"format": "pt"})
        config.update(r=2 * config["r"], lora_alpha=2 * config["lora_alpha"], init_lora_weights=True)
    if config["peft_type"] == "P_TUNING":  # its network is for tuning alone: what it gave are tokens like any others
        from peft import PromptTuningConfig, TaskType

        plain = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, inference_mode=True, prompt_tuning_init="RANDOM")
        kept = {key: config.get(key) for key in ("num_virtual_tokens", "token_dim", "num_transformer_submodules",
                                                 "num_attention_heads", "num_layers")}
        config = {**json.loads(json.dumps(plain.to_dict(), default=str)), **kept}
    return config
