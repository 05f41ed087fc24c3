"""Checkpoints of a loop of our own: tuned weights, value head and optimizer as safetensors, the rest as JSON. No pickles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragtune.errors import RunError
from ragtune.files import write_json

_COMPLETE = "complete"  # what sft.find_checkpoint looks for
_KEPT = 2  # checkpoints: the last, and the one before it should the last be cut short


def save_snapshot(
    checkpoints: Path, step: int, tensors: dict[str, Any], optimizer: Any, metrics: Sequence[dict[str, float]]
) -> None:
    """Write ``checkpoint-STEP``, marked as complete when all of it is on disk, and delete those before the last two."""
    from safetensors.torch import save_file

    folder = checkpoints / f"checkpoint-{step}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / "weights.safetensors")
    moments = {f"{place}.{name}": value.detach().contiguous()
               for place, state in optimizer.state_dict()["state"].items() for name, value in state.items()}
    save_file(moments, folder / "optimizer.safetensors")
    write_json(folder / "state.json", {"step": step, "metrics": list(metrics)})
    (folder / _COMPLETE).touch()
    steps = sorted(int(path.name.rpartition("-")[2]) for path in checkpoints.glob("checkpoint-*"))
    for old in steps[:-_KEPT]:
        shutil.rmtree(checkpoints / f"checkpoint-{old}", ignore_errors=True)


def load_snapshot(folder: Path, tensors: dict[str, Any], optimizer: Any) -> tuple[int, list[dict[str, float]]]:
    """Put a checkpoint's weights into ``tensors`` and its moments into the optimizer; return step and learning curve.

    Raises RunError where it is damaged or holds the tensors of another model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "weights.safetensors")
        moments = load_file(folder / "optimizer.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"the checkpoint {folder} is damaged ({error}). Delete it and tune again. "
                       "Do: ragtune train --recipe FILE") from error
    if {name: tensor.shape for name, tensor in weights.items()} != {name: t.shape for name, t in tensors.items()}:
        raise RunError(f"the checkpoint {folder} holds other weights than those tuned now. Delete it and tune again. "
                       "Do: ragtune train --recipe FILE")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(weights[name])
    states: dict[int, dict[str, Any]] = {}
    for name, value in moments.items():
        place, _, kind = name.partition(".")
        states.setdefault(int(place), {})[kind] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state["step"]), list(state["metrics"])
