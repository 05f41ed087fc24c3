"""Making a loaded base ready to be tuned (LoRA alone)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragtune.training.job import Job


def prepare(model: Any, job: Job, steps: int) -> Any:
    """Return the model with LoRA, or with the adapter the job starts from, in float32."""
    from peft import PeftModel, get_peft_model
    from transformers import set_seed

    from ragtune.training.sft import _build_lora

    set_seed(job.training.seed)
    weights = job.training.weights or job.method.weights
    if weights == "full":
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    elif job.start:
        model = PeftModel.from_pretrained(model, str(job.start), is_trainable=True)
    else:
        model = get_peft_model(model, _build_lora(job.training))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def save_tuned(model: Any, folder: Path, base_name: str) -> None:
    """Save the adapter."""
    from ragtune.training.sft import save_adapter

    save_adapter(model, folder, base_name)
