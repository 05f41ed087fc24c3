"""Putting a tuned adapter on the base model it was tuned on: PEFT's kinds and ours."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ragtune.errors import ModelError, RunError
from ragtune.files import hash_file, hash_text
from ragtune.models.bottleneck import add_bottlenecks, remove_bottlenecks
from ragtune.models.changed import ChangedWeights, check_tensors, read_shapes, read_tensors
from ragtune.models.checkpoint import fingerprint_model, portable_name, quiet
from ragtune.models.layers import is_tied, untie

FILES = ("adapter_config.json", "adapter_model.safetensors")
OWN_TYPE = "ragtune_type"
"""The key by which adapter_config.json tells our own kinds, 'weights' and 'bottleneck', from PEFT's."""
_SOFT = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING")


def check_adapter(folder: Path, task: str = "CAUSAL_LM") -> Path:
    """Return the folder's full path. Raises RunError where it holds no adapter, or one that neither answers (CAUSAL_LM) nor
    scores (SEQ_CLS) as ``task`` wants."""
    path = Path(folder).resolve()
    if not (path / FILES[0]).is_file():
        raise RunError(f"no adapter at {path}: {FILES[0]} is missing. Do: ragtune train --recipe FILE")
    found = _read_task(path / FILES[0])
    if found == "SEQ_CLS" != task:
        raise RunError(f"the adapter at {path} is a reward model: it scores answers and writes none. Name it in "
                       "training.reinforce.reward_model, and answer with a run of another method. "
                       "Do: ragtune train --recipe FILE --method lora")
    if task == "SEQ_CLS" != found:
        raise RunError(f"the adapter at {path} is no reward model: it writes answers and scores none. "
                       "Do: ragtune train --recipe FILE --method reward")
    return path


def _read_task(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("task_type") or "CAUSAL_LM")
    except (ValueError, AttributeError):  # what loads it says what is wrong
        return "CAUSAL_LM"


def fingerprint_adapter(folder: Path) -> str:
    """Return 16 hex digits of the adapter's settings and weights."""
    return hash_text("".join(hash_file(folder / name) for name in FILES if (folder / name).is_file()))


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Return the adapter's settings. Raises RunError where they cannot be read."""
    try:
        config = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / FILES[0]} cannot be read: {str(error)[:200]}. Tune again. Do: ragtune train --recipe FILE"
                       ) from error
    if not isinstance(config, dict):
        raise RunError(f"{folder / FILES[0]} holds no settings. Tune again. Do: ragtune train --recipe FILE")
    return config


def find_kind(folder: Path) -> str:
    """Return what an adapter is: 'weights', 'bottleneck', 'soft prompt', or 'peft' for those PEFT adds to the weights."""
    config = read_adapter_config(folder)
    if OWN_TYPE in config:
        if config[OWN_TYPE] not in ("weights", "bottleneck"):
            raise RunError(f"the adapter at {folder} is of the kind '{config[OWN_TYPE]}', which this ragtune does not know. "
                           "Allowed: weights, bottleneck, and PEFT's. Use the ragtune it was tuned with, or tune again.")
        return str(config[OWN_TYPE])
    return "soft prompt" if config.get("peft_type") in _SOFT else "peft"


def is_mergeable(folder: Path) -> bool:
    """Whether the adapter can be made part of the base's weights."""
    return find_kind(folder) in ("weights", "peft")


def check_base(folder: Path, model: str) -> None:
    """Raise RunError where an adapter was tuned on another base than ``model`` (generator.model).

    The manifest of the run it lies in tells by the base's fingerprint, where there is one; else Hugging Face names tell.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        manifest = json.loads((folder.parent / "manifest.json").read_text(encoding="utf-8"))
        if tuned := manifest.get("base_fingerprint"):
            if tuned != (used := fingerprint_model(model)):
                before, now = f"{manifest.get('base_model')}' ({tuned})", f"{portable_name(model)}' ({used})"
                raise RunError(_other_base(folder, before, now))
            return
    base = str(read_adapter_config(folder).get("base_model_name_or_path") or "")
    if base != model and all(_is_known(name) for name in (base, model)):
        raise RunError(_other_base(folder, f"{base}'", f"{model}'"))


def _is_known(name: str) -> bool:
    """Whether the name alone tells which model it is: that of a folder does not."""
    return name == "bundled" or ("/" in name and not Path(name).is_absolute() and not Path(name).is_dir())


def _other_base(folder: Path, tuned: str, used: str) -> str:
    return (f"the adapter at {folder} was tuned on '{tuned} and is put on '{used}. Set generator.model to the model it was "
            "tuned on, or tune again. Do: ragtune train --recipe FILE")


def load_adapter(model: Any, folder: Path, model_name: str, name: str = "default", is_trainable: bool = False) -> Any:
    """Return the model with the adapter switched on.

    PEFT's kinds come as a PeftModel (a PeftModel takes them beside those it has); changed weights take the place of the
    model's own and bottlenecks are added to it, in place. Raises RunError for a folder without adapter and for one that does
    not fit the model.
    """
    path = check_adapter(folder)
    kind = find_kind(path)
    if kind in ("weights", "bottleneck"):
        _load_own(model, path, kind, model_name)
        return model
    if kind == "soft prompt":
        _check_width(model, path, model_name)
    with quiet():
        from peft import PeftModel
        from safetensors import SafetensorError

        try:
            if kind == "soft prompt" and is_trainable:
                return _open_soft(model, path)
            if not isinstance(model, PeftModel):
                return PeftModel.from_pretrained(model, str(path), adapter_name=name, is_trainable=is_trainable)
            model.load_adapter(str(path), adapter_name=name, is_trainable=is_trainable)
            return model
        except (RuntimeError, ValueError, OSError, KeyError, TypeError, SafetensorError) as error:
            first = str(error).strip().split("\n")[0][:300]
            raise RunError(
                f"the adapter at {path} does not fit '{model_name}': {first}. Open it on the model it was tuned on, or "
                "tune again. Do: ragtune train --recipe FILE"
            ) from error


def _open_soft(model: Any, path: Path) -> Any:
    """Return the model with a soft prompt that can be tuned further, which PEFT does not load as such."""
    import torch
    from peft import PeftConfig, get_peft_model

    config = PeftConfig.from_pretrained(str(path))
    if str(config.peft_type).endswith("P_TUNING"):
        raise ValueError("the network that gave its tokens is not in it")
    config.inference_mode, config.prompt_tuning_init = False, "RANDOM"  # type: ignore[attr-defined]
    peft_model = get_peft_model(model, config)
    with torch.no_grad():
        peft_model.prompt_encoder["default"].embedding.weight.copy_(read_tensors(path)["prompt_embeddings"])
    return peft_model


def _check_width(model: Any, path: Path, model_name: str) -> None:
    """Raise RunError where a soft prompt was made for vectors, layers or heads of other sizes than the model's."""
    config, inner = read_adapter_config(path), model.config.get_text_config()
    found = {"token_dim": inner.hidden_size, "num_layers": inner.num_hidden_layers}
    if config.get("peft_type") == "PREFIX_TUNING":
        heads = getattr(inner, "num_key_value_heads", None) or inner.num_attention_heads
        found["token_dim"] = heads * (getattr(inner, "head_dim", None) or inner.hidden_size // inner.num_attention_heads)
    for name, wanted in found.items():
        if config.get(name) not in (None, wanted):
            raise RunError(f"the adapter at {path} does not fit '{model_name}': its {name} is {config[name]}, the model's "
                           f"is {wanted}. Open it on the model it was tuned on. Do: ragtune train --recipe FILE")


def _load_own(model: Any, path: Path, kind: str, model_name: str) -> None:
    import torch

    config, tensors = read_adapter_config(path), read_tensors(path)
    if kind == "weights":
        check_tensors(model, read_shapes(path), path, model_name)
        if config.get("is_untied") and is_tied(model):
            untie(model)
    else:
        remove_bottlenecks(model)
        add_bottlenecks(model, int(config["width"]))
        check_tensors(model, read_shapes(path), path, model_name)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for key, tensor in tensors.items():
            parameters[key].copy_(tensor)


def open_changed(model: Any, folder: Path, model_name: str) -> ChangedWeights:
    """Return the switch between a model's own weights and those of an adapter of the kind 'weights'."""
    check_tensors(model, read_shapes(folder), folder, model_name)
    return ChangedWeights(model, folder, bool(read_adapter_config(folder).get("is_untied")))


def merge_loaded(model: Any, folder: Path) -> Any:
    """Return the plain model that ``load_adapter`` gave with the adapter in its weights.

    Raises ModelError for soft prompts and bottlenecks, which have no place there.
    """
    check_mergeable(folder)
    return model.merge_and_unload(safe_merge=True) if find_kind(folder) == "peft" else model


def check_mergeable(folder: Path) -> None:
    """Raise ModelError for an adapter that cannot be made part of the base's weights."""
    kind = find_kind(folder)
    if kind not in ("weights", "peft"):
        what = "its tokens stand before the prompt" if kind == "soft prompt" else "its layers hold a non-linearity"
        raise ModelError(
            f"the adapter at {folder} is a {kind} and cannot be merged into the weights: {what}. Serve it beside the "
            "base with generator.engine: transformers, or tune with training.method: lora"
        )
