from __future__ import annotations
from typing import Any
def prepare(model: Any, job: Any, steps: int) -> Any:
    from peft import get_peft_model
    from ragtune.models.adapt import load_adapter
    from ragtune.training.sft import _build_lora
    if job.start is not None:
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, str(job.start), is_trainable=True)
    elif (job.training.weights or job.method.weights) == "full":
        for p in model.parameters(): p.requires_grad_(True)
    else:
        model = get_peft_model(model, _build_lora(job.training))
    for p in model.parameters():
        if p.requires_grad: p.data = p.data.float()
    return model
def save_tuned(model: Any, folder: Any, base: str) -> None:
    from ragtune.training.sft import save_adapter
    save_adapter(model, folder, base)
def learning_factor(training: Any, step: int, steps: int) -> float:
    warmup = round(training.warmup_share * steps)
    return step / max(1, warmup) if step < warmup else max(0.0, 1 - (step - warmup) / max(1, steps - warmup))
