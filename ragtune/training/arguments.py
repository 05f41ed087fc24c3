"""Settings of a tuning run as the trainer takes them; every loop builds its arguments here."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import math
from pathlib import Path
from typing import Any

from ragtune.errors import MissingPackage, RecipeError
from ragtune.models.processes import world_size
from ragtune.models.weights import SMALL, half_dtype, has_fast_bfloat16
from ragtune.recipe.schema import Training
from ragtune.training.job import Job
from ragtune.training.trackers import open_trackers, run_name

logger = logging.getLogger(__name__)
SCHEDULES = {"linear": "linear", "cosine": "cosine", "warmup_stable_decay": "warmup_stable_decay",
             "constant": "constant_with_warmup"}
"""Ours by transformers' name of each."""
_POINTS = 100  # of the learning curve at most
_EVALUATIONS = 3  # of the test loss, beside the one before the first step
_MANY_PASSES = 50  # over the rows, from which max_steps is more likely a slip than meant
_DRAWN = ("ppo", "grpo", "rloo")  # loops that draw answers: noise on embeddings would be in what is rewarded


def count_steps(training: Training, rows: int) -> int:
    """Return how many optimizer steps the run takes; ``rows`` are those of a forward pass, so packed ones where packed."""
    if training.max_steps > 0:
        return training.max_steps
    batches = math.ceil(rows / (training.batch_size * world_size()))
    return max(1, math.ceil(training.epochs * math.ceil(batches / training.accumulation)))


def peak_lr(job: Job, parameters: int) -> float:
    """Return the recipe's learning rate, else the method's by the model's size: small models learn with higher rates.

    Measured on the bundled model and filings (qlora, 154 steps): test loss 0.306 with 0.0002, 0.241 with 0.001.
    """
    return job.training.lr or job.method.lr[0 if parameters < SMALL else 1]


def count_warmup(training: Training, steps: int) -> int:
    """Return in how many steps the learning rate rises."""
    return round(training.warmup_share * steps)


def count_decay(training: Training, steps: int) -> int:
    """Return in how many steps it falls under warmup_stable_decay; what warming up took is not taken again."""
    return max(1, min(round(training.decay_share * steps), steps - count_warmup(training, steps)))


def learning_factor(training: Training, step: int, steps: int) -> float:
    """Return what the peak learning rate is multiplied by in step ``step`` (from 0) of ``steps``.

    The trainers' own schedules give the same values; loops without a trainer take them from here. Warming up is linear in
    all; then linear to 0, half a cosine to 0, constant, or constant and at last 1 - sqrt(progress) (arXiv 2405.18392).
    """
    warmup = count_warmup(training, steps)
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, steps - warmup)
    if training.schedule == "linear":
        return max(0.0, 1 - progress)
    if training.schedule == "cosine":
        return max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))
    if training.schedule == "constant":
        return 1.0
    decay = count_decay(training, steps)
    falling = (step - (steps - decay)) / decay
    return 1.0 if falling < 0 else max(0.0, 1 - math.sqrt(falling))


def build_arguments(
    job: Job, rows: int, test_rows: int, device: str, parameters: int, is_resumed: bool,
    config: type[Any] | None = None, steps: int | None = None, **own: Any,
) -> Any:
    """Return the trainer's settings: checkpoints go into ``job.checkpoints``, nothing is sent or printed.

    ``config`` is the trainer's class of settings (SFTConfig, DPOConfig, KTOConfig, RewardConfig, GRPOConfig, RLOOConfig,
    ORPOConfig, CPOConfig; none: SFTConfig), ``own`` its loop's own fields, which count before those made here. Where the
    loop's steps are not rows by batch, ``steps`` tells them; the schedule, the curve and max_steps follow it.

    Computes in bfloat16 where the hardware does (float16 on older GPUs, float32 on other CPUs). No length is set:
    the trainers would cut longer rows and drop those without a completion left; the rows were checked before. Raises
    RecipeError for settings that do not go together, MissingPackage for a tracker or DeepSpeed that is not installed.
    """
    import torch
    from trl import SFTConfig  # type: ignore[attr-defined]

    chosen: type[Any] = config or SFTConfig
    training = job.training
    _check_settings(job)
    total = steps or count_steps(training, rows)
    if training.max_steps > 0 and rows and training.max_steps > _MANY_PASSES * count_steps(_one_pass(training), rows):
        logger.warning("training.max_steps %d passes over the %d rows more than %d times", training.max_steps, rows,
                       _MANY_PASSES)
    is_cpu = device == "cpu"
    is_float16 = not is_cpu and half_dtype(device) == torch.float16
    settings: dict[str, Any] = {
        "output_dir": str(job.checkpoints),
        "run_name": run_name(job),
        "max_length": None,
        "completion_only_loss": True,
        "num_train_epochs": training.epochs,
        "max_steps": steps or (training.max_steps if training.max_steps > 0 else -1),
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.accumulation,
        "learning_rate": peak_lr(job, parameters),
        "lr_scheduler_type": SCHEDULES[training.schedule],
        "lr_scheduler_kwargs": ({"num_decay_steps": count_decay(training, total), "decay_type": "1-sqrt"}
                                if training.schedule == "warmup_stable_decay" else None),
        "warmup_steps": count_warmup(training, total),
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "neftune_noise_alpha": training.neftune_alpha,
        "gradient_checkpointing": training.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if training.gradient_checkpointing else None,
        "deepspeed": training.deepspeed,
        "ddp_find_unused_parameters": False,  # every tuned parameter has a gradient in each step
        "bf16": has_fast_bfloat16() if is_cpu else not is_float16,
        "fp16": is_float16,
        "use_cpu": is_cpu,
        "dataloader_pin_memory": not is_cpu,
        "eval_strategy": "steps" if test_rows else "no",
        "eval_steps": math.ceil(total / _EVALUATIONS),
        "eval_on_start": bool(test_rows) and not is_resumed,
        "prediction_loss_only": True,
        "logging_strategy": "steps",
        "logging_steps": max(1, total // _POINTS),
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": training.save_steps,
        "save_total_limit": 2,
        "seed": training.seed,
        "data_seed": training.seed,
        "report_to": open_trackers(job),
        "push_to_hub": False,
        "disable_tqdm": True,
    }
    known = {field.name for field in dataclasses.fields(chosen)}
    arguments = chosen(**{name: value for name, value in {**settings, **own}.items() if name in known or name in own})
    if not is_cpu and torch.cuda.device_count() > 1 and not torch.distributed.is_initialized():
        arguments._n_gpu = 1  # one process tunes on one GPU; DataParallel copies cannot hold quantised weights
    return arguments


def _one_pass(training: Training) -> Training:
    return training.model_copy(update={"max_steps": -1, "epochs": 1.0})


def _check_settings(job: Job) -> None:
    """Raise RecipeError for settings that do not go together, MissingPackage where DeepSpeed is asked for and absent."""
    training = job.training
    if training.neftune_alpha and job.method.loop in _DRAWN:
        raise RecipeError(f"training.neftune_alpha is set, and {training.method} learns from answers it draws: noise on the "
                          "embeddings would be in them. Leave it out (null).")
    if training.packing and job.method.loop != "sft":
        raise RecipeError(f"training.packing is for supervised tuning on rows, and {training.method} takes others"
                          + (" (running text fills its rows anyway)" if job.method.loop == "text" else "")
                          + ". Do: --set training.packing=false")
    if training.deepspeed is None:
        return
    if not Path(training.deepspeed).is_file():
        raise RecipeError(f"training.deepspeed is '{training.deepspeed}', and there is no such file. Name DeepSpeed's JSON "
                          "configuration, or leave it out (null).")
    if importlib.util.find_spec("deepspeed") is None:
        raise MissingPackage("training.deepspeed needs DeepSpeed, which is not installed. Do: pip install deepspeed")
