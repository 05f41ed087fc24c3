"""Settings of every trainer: schedules against their formulas, what is handed on, what is refused."""

from __future__ import annotations

import importlib.util
import math

import pytest

from ragtune.errors import MissingPackage, RecipeError
from ragtune.recipe.schema import Generator, Training
from ragtune.training.arguments import build_arguments, count_steps, learning_factor
from ragtune.training.job import Job
from ragtune.training.methods import METHODS


def job_for(folder, method="lora", **training):
    settings = Training(method=method, **training)
    return Job(Generator(device="cpu"), settings, METHODS[method], [None] * 40, [], folder)


def arguments_for(folder, method="lora", rows=40, **training):
    return build_arguments(job_for(folder, method, **training), rows, 8, "cpu", 1000, False)


def expected(schedule, step, steps, warmup, decay):
    """The formulas, written once more."""
    if step < warmup:
        return step / warmup
    if schedule == "linear":
        return (steps - step) / (steps - warmup)
    if schedule == "cosine":
        return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (steps - warmup))
    if schedule == "constant":
        return 1.0
    return 1.0 if step < steps - decay else 1 - math.sqrt((step - steps + decay) / decay)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "warmup_stable_decay", "constant"])
@pytest.mark.parametrize(("warmup_share", "decay_share", "warmup", "decay"), [(0.1, 0.2, 4, 8), (0.0, 1.0, 0, 40),
                                                                              (0.5, 1.0, 20, 20)])
def test_the_learning_rate_follows_its_schedule(tmp_path, schedule, warmup_share, decay_share, warmup, decay):
    import torch
    from transformers import get_scheduler

    arguments = arguments_for(tmp_path, schedule=schedule, warmup_share=warmup_share, decay_share=decay_share, lr=0.01,
                              max_steps=40)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate)
    scheduler = get_scheduler(arguments.lr_scheduler_type, optimizer, arguments.get_warmup_steps(40), 40,
                              arguments.lr_scheduler_kwargs)
    seen = []
    for _ in range(40):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx([0.01 * expected(schedule, step, 40, warmup, decay) for step in range(40)], abs=1e-12)
    training = job_for(tmp_path, schedule=schedule, warmup_share=warmup_share, decay_share=decay_share).training
    assert seen == pytest.approx([0.01 * learning_factor(training, step, 40) for step in range(40)], abs=1e-12)


def test_steps_count_batches_of_accumulated_rows():
    assert count_steps(Training(batch_size=8, accumulation=2, epochs=3), 33) == 9
    assert count_steps(Training(batch_size=8, epochs=0.01), 8) == 1
    assert count_steps(Training(max_steps=5), 1000) == 5


def test_the_recipes_settings_reach_the_trainer(tmp_path):
    arguments = arguments_for(tmp_path, weight_decay=0.1, max_grad_norm=0.5, neftune_alpha=5.0, accumulation=4,
                              gradient_checkpointing=True, batch_size=2)
    assert (arguments.weight_decay, arguments.max_grad_norm, arguments.neftune_noise_alpha) == (0.1, 0.5, 5.0)
    assert (arguments.gradient_accumulation_steps, arguments.per_device_train_batch_size) == (4, 2)
    assert arguments.gradient_checkpointing
    assert arguments.gradient_checkpointing_kwargs == {"use_reentrant": False}
    assert arguments.report_to == []
    assert arguments.max_length is None


def config_classes():
    from trl import DPOConfig, GRPOConfig, KTOConfig, RewardConfig, RLOOConfig, SFTConfig
    from trl.experimental.cpo import CPOConfig
    from trl.experimental.orpo import ORPOConfig

    return {"sft": SFTConfig, "dpo": DPOConfig, "kto": KTOConfig, "orpo": ORPOConfig, "simpo": CPOConfig,
            "reward": RewardConfig, "grpo": GRPOConfig, "rloo": RLOOConfig}


@pytest.mark.parametrize("loop", ["sft", "dpo", "kto", "orpo", "simpo", "reward", "grpo", "rloo"])
def test_every_trainer_takes_the_same_settings_and_its_own(tmp_path, loop):
    config = config_classes()[loop]
    own = {"beta": 0.3, "learning_rate": 0.125} if loop not in ("sft", "reward") else {"learning_rate": 0.125}
    method = "lora" if loop == "sft" else loop
    job = job_for(tmp_path, method, schedule="cosine", weight_decay=0.2, warmup_share=0.5, batch_size=8)
    arguments = build_arguments(job, 40, 8, "cpu", 1000, False, config, steps=20, **own)
    assert type(arguments) is config
    assert (arguments.lr_scheduler_type, arguments.weight_decay, arguments.warmup_steps) == ("cosine", 0.2, 10)
    assert (arguments.max_steps, arguments.learning_rate, arguments.output_dir) == (20, 0.125, str(job.checkpoints))
    assert arguments.report_to == []
    assert getattr(arguments, "max_length", None) is None
    assert getattr(arguments, "beta", 0.3) == 0.3


def test_a_loops_wrong_field_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="betta"):
        build_arguments(job_for(tmp_path), 40, 8, "cpu", 1000, False, betta=1)


def test_what_does_not_go_together_is_refused(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "deepspeed" else find(name, *rest))
    with pytest.raises(RecipeError, match="grpo learns from answers it draws"):
        arguments_for(tmp_path, "grpo", neftune_alpha=5.0)
    with pytest.raises(RecipeError, match="packing is for supervised tuning on rows, and dpo takes others"):
        arguments_for(tmp_path, "dpo", packing=True)
    with pytest.raises(RecipeError, match="there is no such file"):
        arguments_for(tmp_path, deepspeed=str(tmp_path / "none.json"))
    (tmp_path / "zero.json").write_text("{}")
    with pytest.raises(MissingPackage, match="pip install deepspeed"):
        arguments_for(tmp_path, deepspeed=str(tmp_path / "zero.json"))
