"""What a checkpoint holds beside the trainer's own files, so that each kind of tuned weights goes on exactly as it was.

PEFT's own checkpoints lose the network of P-tuning and AdaLoRA's importances, and the trainer's of a whole model round or
retie what is tuned: here every tuned parameter is kept as it is. Loops that are no Trainer call these functions themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ragtune.errors import RunError

FILE = "tuned.safetensors"
ORTHOGONALITY = 0.5
"""Weight of AdaLoRA's penalty |P'P - I| + |QQ' - I|, averaged over the matrices (arXiv 2303.10512, PEFT's default)."""
_AVERAGES = ("exp_avg_ipt", "exp_avg_unc", "ipt")


def keep_state(model: Any, folder: Path) -> None:
    """Write every tuned parameter, and what AdaLoRA knows of them, into a checkpoint folder.

    Raises RunError where one is no number: a checkpoint of it is of no use.
    """
    import torch
    from safetensors.torch import save_file

    tuned = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    tensors = {f"parameter:{name}": parameter.detach().cpu().contiguous() for name, parameter in tuned}
    bad = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
    if bad:
        raise RunError(f"{bad.removeprefix('parameter:')} holds values that are no numbers when {folder.name} is to be "
                       "written. Lower training.lr, then tune again; the checkpoint before it is kept until then.")
    allocator, pattern = _find_allocator(model), None
    if allocator is not None:
        pattern = model.ragtune_tuning.rank_pattern
        for kind in _AVERAGES:
            tensors |= {f"{kind}:{name}": tensor.cpu().contiguous() for name, tensor in getattr(allocator, kind).items()}
    save_file(tensors, str(folder / FILE), metadata={"rank_pattern": json.dumps(pattern)})


def restore_state(model: Any, folder: Path) -> None:
    """Put back what ``keep_state`` wrote. Raises RunError where it belongs to other weights."""
    import torch
    from safetensors import safe_open

    if not (folder / FILE).is_file():
        return
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with safe_open(str(folder / FILE), "pt") as file:
        pattern = json.loads((file.metadata() or {}).get("rank_pattern", "null"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    kept = {name.removeprefix("parameter:"): tensor for name, tensor in tensors.items() if name.startswith("parameter:")}
    if {name: p.shape for name, p in parameters.items()} != {name: tensor.shape for name, tensor in kept.items()}:
        raise RunError(f"the checkpoint {folder} was made while other weights were tuned. Delete it, then tune again.")
    with torch.no_grad():
        for name, tensor in kept.items():
            parameters[name].copy_(tensor)
    if (allocator := _find_allocator(model)) is not None:
        model.ragtune_tuning.rank_pattern = pattern
        for kind in _AVERAGES:
            found = {name.removeprefix(f"{kind}:"): value for name, value in tensors.items() if name.startswith(f"{kind}:")}
            setattr(allocator, kind, {name: tensor.to(model.device) for name, tensor in found.items()})


def before_step(model: Any) -> None:
    """Add the gradient of AdaLoRA's penalty; to be called after the backward pass and before the optimizer's step."""
    if _find_allocator(model) is None:
        return
    import torch

    sides = [(name, p) for name, p in model.named_parameters() if p.requires_grad and ("lora_A" in name or "lora_B" in name)]
    penalty = torch.zeros((), device=model.device)
    for name, p in sides:
        product = p @ p.T if "lora_A" in name else p.T @ p
        penalty = penalty + torch.linalg.norm(product - torch.eye(len(product), device=p.device))
    (penalty * (ORTHOGONALITY / len(sides))).backward()


def after_step(model: Any, step: int) -> None:
    """Let AdaLoRA give up singular values; after the optimizer's step number ``step`` (from 0), with its gradients."""
    if _find_allocator(model) is None:
        return
    config = model.peft_config["default"]
    # Between steps PEFT must not know the pattern: it would cut the tensors of a checkpoint that is to be tuned on.
    config.rank_pattern = model.ragtune_tuning.rank_pattern
    model.base_model.update_and_allocate(step)
    model.ragtune_tuning.rank_pattern, config.rank_pattern = config.rank_pattern, None


def _find_allocator(model: Any) -> Any:
    """Return AdaLoRA's rank allocator of a model that tunes it from its start, else None."""
    tuning = getattr(model, "ragtune_tuning", None)
    if tuning is None or tuning.weights != "adalora" or "start" in tuning.settings:
        return None
    return model.base_model.rankallocator
