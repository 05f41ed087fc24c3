"""GRPO and RLOO: several answers to a prompt are drawn, and each is made likelier as far as it beats the others.

TRL's trainers do the mathematics: GRPO (arXiv 2402.03300) weighs an answer by its distance from the group's mean reward in
the group's standard deviations, token by token, with the divergence from the start in the loss; RLOO (arXiv 2402.14740) by
its distance from the mean of the others, answer by answer, with the divergence in the reward. Prompts, stops, rewards, the
start that is kept near, order and checkpoints are ours. An answer that is cut at max_new_tokens is learned from like any
other: it would be cut when served, and nothing else teaches a model to come to an end.

A step of the recipe and of the curve is a round of ``reinforce.prompts`` x ``reinforce.samples`` answers, as in PPO; for the
trainer, its callbacks and the names of its checkpoints it is the several optimizer steps that learn from them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Iterator
from typing import Any

from ragtune.errors import ModelError
from ragtune.files import write_jsonl
from ragtune.models.chat import Chat, load_chat
from ragtune.models.checkpoint import portable_name, quiet
from ragtune.models.local import find_stop_ids
from ragtune.models.weights import load_4bit, load_base
from ragtune.training.accuracy import open_watch
from ragtune.training.arguments import build_arguments
from ragtune.training.job import Fit, Job
from ragtune.training.reinforcement.group_trainer import Score, build_trainer, read_curve
from ragtune.training.reinforcement.groups import Plan, plan_groups
from ragtune.training.reinforcement.rewards import build_reward
from ragtune.training.reinforcement.rollout import encode_prompts
from ragtune.training.supervised.sft import count_parameters, find_checkpoint
from ragtune.training.weights.tunable import prepare, save_tuned


def fit_policy(job: Job, reward: Score | None = None) -> Fit:
    """Tune the generator's model by the rewards of its own answers and leave ``adapter/`` and ``metrics.jsonl``.

    ``reward`` stands in for that of the recipe (rewards.build_reward). Where a checkpoint is complete the run goes on from
    it. Raises RecipeError for settings that do not fit each other, before anything is loaded; RunError for a reward or loss
    that is not finite (naming step and rows; the last checkpoint stays); ModelError for prompts that do not fit the model.
    """
    plan = plan_groups(job)
    generator = job.generator
    with quiet(), _naming_full_memory(job):
        chat = load_chat(generator)
        prompts = encode_prompts(job, chat)
        score: Score = reward or build_reward(job)
        model = load_4bit(generator) if job.method.is_4bit else load_base(generator)
        parameters = count_parameters(model)
        model.generation_config.eos_token_id = find_stop_ids(model, chat)
        last = find_checkpoint(job.checkpoints)
        arguments = _build_arguments(job, plan, model.device.type, parameters, last is not None)
        trainer = build_trainer(prepare(model, job, plan.steps), arguments, job, plan, chat, prompts, score)
        watch = _watch(job, plan, chat, trainer)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        save_tuned(trainer.model, job.folder / "adapter", portable_name(generator.model))
        if watch:
            watch.finish(trainer.model, trainer.state.global_step, job.folder / "adapter")
    points = read_curve(trainer.state.log_history, plan)
    write_jsonl(job.folder / "metrics.jsonl", points)
    shutil.rmtree(job.checkpoints, ignore_errors=True)  # optimizer states are pickles: none leaves the machine
    return Fit(
        steps=math.ceil(trainer.state.global_step / plan.updates),
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        metrics=tuple(points),
        resumed_from_step=int(last.name.rpartition("-")[2]) // plan.updates if last else 0,
    )


def _build_arguments(job: Job, plan: Plan, device: str, parameters: int, is_resumed: bool) -> Any:
    """Return GRPOConfig or RLOOConfig. The policy is read in the number type it draws in: no rounding comes between."""
    from trl import GRPOConfig, RLOOConfig  # type: ignore[attr-defined]

    training, settings = job.training, job.training.reinforce
    own: dict[str, Any] = {
        "num_generations": settings.samples,
        "generation_batch_size": settings.prompts * settings.samples,
        "num_iterations": settings.inner_epochs,
        "max_completion_length": job.generator.max_new_tokens,
        "temperature": settings.temperature,
        "epsilon": settings.clip,
        "beta": 0.0,  # the trainer would make a reference of its own kind: see group_trainer.build_trainer
        "disable_dropout": True,  # the probabilities that are compared are those of one function, the one that draws
        "logging_steps": plan.updates,
        "save_steps": training.save_steps * plan.updates,
        "remove_unused_columns": False,
    }
    if device == "cpu":
        own["bf16"] = False
    config = GRPOConfig if job.method.loop == "grpo" else RLOOConfig
    return build_arguments(job, len(job.train), 0, device, parameters, is_resumed, config, plan.steps, **own)


def _watch(job: Job, plan: Plan, chat: Chat, trainer: Any) -> Any:
    """Return the watch on held-out accuracy, where the recipe asks for it; its steps are rounds too."""
    scaled = job.training.model_copy(update={"stop_steps": job.training.stop_steps * plan.updates})
    name = portable_name(job.generator.model)
    scaled_job = dataclasses.replace(job, training=scaled)
    watch = open_watch(scaled_job, chat, lambda model, folder: save_tuned(model, folder, name))
    if watch:
        callback: Any = watch.callback()
        callback.log = trainer.log
        trainer.add_callback(callback)
    return watch


@contextlib.contextmanager
def _naming_full_memory(job: Job) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        answers = job.training.reinforce.prompts * job.training.reinforce.samples
        raise ModelError(
            f"{answers} answers drawn at once (training.reinforce.prompts x samples) or {job.training.batch_size} read at "
            "once (training.batch_size) do not fit into the device's memory. Lower them, or set gradient_checkpointing."
        ) from error
