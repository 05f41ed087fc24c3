"""Settings of a tuning run as the trainer takes them; every loop builds its arguments here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ragtune.models.processes import world_size
from ragtune.models.weights import SMALL, half_dtype, has_fast_bfloat16
from ragtune.recipe.schema import Training
from ragtune.training.job import Job

if TYPE_CHECKING:
    from trl import SFTConfig  # type: ignore[attr-defined]

_POINTS = 100  # of the learning curve at most
_EVALUATIONS = 3  # of the test loss, beside the one before the first step


def count_steps(training: Training, rows: int) -> int:
    """Return how many optimizer steps the run takes."""
    if training.max_steps > 0:
        return training.max_steps
    batches = math.ceil(rows / (training.batch_size * world_size()))
    return max(1, math.ceil(training.epochs * math.ceil(batches / training.accumulation)))


def peak_lr(job: Job, parameters: int) -> float:
    """Return the recipe's learning rate, else the method's by the model's size: small models learn with higher rates.

    Measured on the bundled model and filings (qlora, 154 steps): test loss 0.306 with 0.0002, 0.241 with 0.001.
    """
    return job.training.lr or job.method.lr[0 if parameters < SMALL else 1]


def build_arguments(job: Job, rows: int, test_rows: int, device: str, parameters: int, is_resumed: bool) -> SFTConfig:
    """Return the trainer's settings: checkpoints go into ``job.checkpoints``, nothing is sent or printed.

    Computes in bfloat16 where the hardware does (float16 on older GPUs, float32 on other CPUs). No length is set:
    the trainer would cut longer rows and drop those without a completion left; the rows were checked before.
    """
    import torch
    from trl import SFTConfig  # type: ignore[attr-defined]

    training = job.training
    steps = count_steps(training, rows)
    is_cpu = device == "cpu"
    is_float16 = not is_cpu and half_dtype(device) == torch.float16
    arguments = SFTConfig(
        output_dir=str(job.checkpoints),
        max_length=None,
        completion_only_loss=True,
        num_train_epochs=training.epochs,
        max_steps=training.max_steps if training.max_steps > 0 else -1,
        per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=training.batch_size,
        gradient_accumulation_steps=training.accumulation,
        learning_rate=peak_lr(job, parameters),
        lr_scheduler_type="linear",
        warmup_steps=round(training.warmup_share * steps),
        gradient_checkpointing=training.gradient_checkpointing,
        bf16=has_fast_bfloat16() if is_cpu else not is_float16,
        fp16=is_float16,
        use_cpu=is_cpu,
        dataloader_pin_memory=not is_cpu,
        eval_strategy="steps" if test_rows else "no",
        eval_steps=math.ceil(steps / _EVALUATIONS),
        eval_on_start=bool(test_rows) and not is_resumed,
        prediction_loss_only=True,
        logging_strategy="steps",
        logging_steps=max(1, steps // _POINTS),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=training.save_steps,
        save_total_limit=2,
        seed=training.seed,
        data_seed=training.seed,
        report_to=[],
        push_to_hub=False,
        disable_tqdm=True,
    )
    if not is_cpu and torch.cuda.device_count() > 1 and not torch.distributed.is_initialized():
        arguments._n_gpu = 1  # one process tunes on one GPU; DataParallel copies cannot hold quantised weights
    return arguments
