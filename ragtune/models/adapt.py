"""Putting a tuned adapter on the base model it was tuned on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ragtune.errors import RunError
from ragtune.files import hash_file, hash_text
from ragtune.models.checkpoint import quiet

FILES = ("adapter_config.json", "adapter_model.safetensors")


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


def load_adapter(model: Any, folder: Path, model_name: str, name: str = "default") -> Any:
    """Return the model with the adapter switched on, as a PeftModel; a PeftModel takes it beside those it has.

    Raises RunError for a folder without adapter and for one that does not fit the model.
    """
    path = check_adapter(folder)
    with quiet():
        from peft import PeftModel
        from safetensors import SafetensorError

        try:
            if not isinstance(model, PeftModel):
                return PeftModel.from_pretrained(model, str(path), adapter_name=name)
            model.load_adapter(str(path), adapter_name=name)
            return model
        except (RuntimeError, ValueError, OSError, KeyError, TypeError, SafetensorError) as error:
            first = str(error).strip().split("\n")[0][:300]
            raise RunError(
                f"the adapter at {path} does not fit '{model_name}': {first}. Open it on the model it was tuned on, or "
                "tune again. Do: ragtune train --recipe FILE"
            ) from error
