"""Checkpoints of a loop of our own: tuned weights, value head and optimizer as safetensors, the rest as JSON. No pickles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragtune.errors import RunError
from ragtune.files import write_json
from ragtune.training.weights.state import keep_state, restore_state

_COMPLETE = "complete"  # what sft.find_checkpoint looks for
_KEPT = 2  # checkpoints: the last, and the one before it should the last be cut short


def save_snapshot(
    checkpoints: Path, step: int, model: Any, head: Any, optimizer: Any, metrics: Sequence[dict[str, float]]
) -> None:
    """Write ``checkpoint-STEP``, marked as complete when all of it is on disk, and delete those before the last two.

    Raises RunError where a tuned weight is no number.
    """
    from safetensors.torch import save_file

    folder = checkpoints / f"checkpoint-{step}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    keep_state(model, folder)
    states = optimizer.state_dict()["state"]
    moments = {f"{place}.{name}": value for place, state in states.items() for name, value in state.items()}
    for name, tensors in (("head", head.state_dict()), ("optimizer", moments)):
        plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(plain, str(folder / f"{name}.safetensors"))
    write_json(folder / "state.json", {"step": step, "metrics": list(metrics)})
    (folder / _COMPLETE).touch()
    for path in sorted(checkpoints.glob("checkpoint-*"), key=_step_of)[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def load_snapshot(folder: Path, model: Any, head: Any, optimizer: Any) -> tuple[int, list[dict[str, float]]]:
    """Put a checkpoint's weights and moments where they belong; return its step and learning curve.

    Raises RunError where it is damaged or belongs to other weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        moments = load_file(str(folder / "optimizer.safetensors"))
        head.load_state_dict(load_file(str(folder / "head.safetensors")))
        restore_state(model, folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise RunError(f"the checkpoint {folder} is damaged ({error}). Delete it and tune again. "
                       "Do: ragtune train --recipe FILE") from error
    states: dict[int, dict[str, Any]] = {}
    for name, value in moments.items():
        place, _, kind = name.partition(".")
        states.setdefault(int(place), {})[kind] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state["step"]), list(state["metrics"])


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
