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
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ragtune.errors import ModelError, RunError
from ragtune.files import write_jsonl
from ragtune.models.chat import Chat, load_chat
from ragtune.models.checkpoint import portable_name, quiet, read_config, read_context_tokens
from ragtune.models.local import find_stop_ids
from ragtune.models.weights import load_4bit, load_base
from ragtune.records import Example
from ragtune.training.accuracy import open_watch
from ragtune.training.arguments import build_arguments
from ragtune.training.groups import GroupOrder, Plan, plan_groups
from ragtune.training.job import Fit, Job
from ragtune.training.reference import Reference
from ragtune.training.rewards import build_reward
from ragtune.training.sft import build_follower, count_parameters, find_checkpoint
from ragtune.training.tunable import prepare, save_tuned

if TYPE_CHECKING:
    from transformers import TrainerCallback

Score = Callable[[Sequence[Example], Sequence[str], Sequence[bool]], list[float]]
"""Returns one number for each answer from examples, completions, and whether the model ended them itself. Where it has an
attribute ``means``, a dict, those go into the curve."""
_CURVE = {
    "reward": "reward", "reward_std": "reward_std", "frac_reward_zero_std": "equal_share", "kl": "kl", "entropy": "entropy",
    "clip_ratio/region_mean": "clip_share", "completions/mean_length": "completion_tokens",
    "completions/clipped_ratio": "cut_share", "loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate",
    "accuracy": "accuracy",
}
"""TRL's names of what it logs, and ours in metrics.jsonl."""


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
        "beta": 0.0,  # the trainer would make a reference of its own kind: see build_trainer
        "disable_dropout": True,  # the probabilities that are compared are those of one function, the one that draws
        "logging_steps": plan.updates,
        "save_steps": training.save_steps * plan.updates,
        "remove_unused_columns": False,
    }
    if device == "cpu":
        own["bf16"] = False
    config = GRPOConfig if job.method.loop == "grpo" else RLOOConfig
    return build_arguments(job, len(job.train), 0, device, parameters, is_resumed, config, plan.steps, **own)


def encode_prompts(job: Job, chat: Chat) -> list[list[int]]:
    """Return the token ids of each row's prompt, as served. Raises ModelError where one leaves no room for an answer."""
    limit = read_context_tokens(read_config(job.generator.model))
    new = job.generator.max_new_tokens
    prompts = [chat.encode_prompt(example.prompt) for example in job.train]
    longest = max(map(len, prompts))
    if longest + new > limit:
        raise ModelError(
            f"a prompt of {longest} tokens and an answer of {new} do not fit the model, which reads {limit}. Build the "
            "dataset for this model, with generator.max_prompt_tokens within its limit. Do: ragtune dataset --recipe FILE"
        )
    return prompts


def build_trainer(
    model: Any, arguments: Any, job: Job, plan: Plan, chat: Chat, prompts: Sequence[list[int]], score: Score
) -> Any:
    """Return TRL's trainer of the job's method, on rows that are numbers of prompts already encoded.

    The reference is the model at the start, whatever weights are tuned: TRL's own is an adapter 'ref' (which PiSSA would
    make by changing the base once more, and IA3 and AdaLoRA leave uncopied) or the base loaded once more.
    """
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOTrainer, RLOOTrainer  # type: ignore[attr-defined]

    base: Any = GRPOTrainer if job.method.loop == "grpo" else RLOOTrainer
    stops = set(find_stop_ids(model, chat))
    settings = job.training.reinforce

    def reward(prompts: list[str], completion_ids: list[list[int]], log_metric: Callable[[str, float], None], **_: Any
               ) -> list[float]:
        examples = [job.train[int(row)] for row in prompts]
        ended = [bool(ids) and ids[-1] in stops for ids in completion_ids]
        values = score(examples, [chat.decode(ids) for ids in completion_ids], ended)
        for row, value in zip(prompts, values, strict=True):
            if not math.isfinite(value):
                raise RunError(f"the reward is {value} of an answer to row {int(row) + 1} of train.jsonl. Allowed are "
                               "finite numbers. Mend the reward, then tune again; the last checkpoint is kept until then.")
        for name, value in getattr(score, "means", {}).items():
            log_metric(name if name == "refused" else f"reward_{name}", value)
        return values

    class GroupTrainer(base):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return GroupOrder(len(prompts), plan, self.args.seed)

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """The run folder has its own card; TRL's names paths of this machine."""

        def _tokenize_prompts(self, rows: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
            return [prompts[int(row)] for row in rows], None, {}

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            """A round depends on seed, round and weights alone, so a resumed run draws what an unbroken one would."""
            self.drawn_rows = sorted({int(row["prompt"]) + 1 for row in inputs})
            round_ = self.state.global_step // plan.updates
            torch.manual_seed((self.args.seed * 1_000_003 + round_) * plan.processes + self.accelerator.process_index)
            try:
                return super()._generate_and_score_completions(inputs)
            except RuntimeError as error:
                if "probability tensor" not in str(error):  # torch's words for logits that are no numbers
                    raise
                raise RunError(self.gone_wrong("the model gives no probabilities any more")) from error

        def gone_wrong(self, what: str) -> str:
            rows = ", ".join(map(str, self.drawn_rows[:8])) + (", ..." if len(self.drawn_rows) > 8 else "")
            return (f"{what} at step {self.state.global_step // plan.updates + 1}, on rows {rows} of train.jsonl. Lower "
                    f"training.lr (it is {self.args.learning_rate}), then tune again; the last checkpoint before it is kept "
                    "until then.")

        def _get_per_token_logps_and_entropies(self, model: Any, *rest: Any, **named: Any) -> Any:
            if model is not reference:
                return super()._get_per_token_logps_and_entropies(model, *rest, **named)
            with reference.in_place():
                return super()._get_per_token_logps_and_entropies(self.model, *rest, **named)

        def training_step(self, *rest: Any, **named: Any) -> Any:
            loss = super().training_step(*rest, **named)
            if not torch.isfinite(loss):
                raise RunError(self.gone_wrong(f"the loss is {float(loss)}"))
            return loss

    exact = [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]
    reference = Reference(model, job.start is not None)
    follower = build_follower(job.folder / "metrics.jsonl", plan.steps, None)
    with _without_copy(model):
        trainer: Any = GroupTrainer(
            model=model,
            reward_funcs=reward,
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": str(row)} for row in range(len(prompts))]),
            processing_class=chat.tokenizer,
            callbacks=[follower, _build_rounds(job, plan), *job.callbacks],
        )
    trainer.remove_callback(PrinterCallback)  # it prints the losses to stdout
    for parameter, data in exact:  # TRL rounds adapters of quantised models to bfloat16, which swallows small updates
        parameter.data = data
    if settings.kl:
        trainer.beta, trainer.ref_model = settings.kl, reference
    return trainer


@contextlib.contextmanager
def _without_copy(model: Any) -> Iterator[None]:
    """Keep RLOOTrainer, which does it whatever beta is, from copying the adapter into one of its own named 'ref'."""
    if not hasattr(model, "peft_config"):
        yield
        return
    find = model.get_parameter
    model.add_adapter = lambda *_, **__: None
    model.get_parameter = lambda name: find(name.replace(".ref.", ".default."))  # the copy is then made onto itself
    try:
        yield
    finally:
        del model.add_adapter, model.get_parameter


def _build_rounds(job: Job, plan: Plan) -> TrainerCallback:
    """Return the callback that counts rounds: progress, and the curve in our names."""
    from transformers import TrainerCallback

    class Rounds(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if job.progress:
                job.progress(state.global_step // plan.updates, plan.rounds)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if job.progress and state.global_step % plan.updates == 0:
                job.progress(state.global_step // plan.updates, plan.rounds)

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            write_jsonl(job.folder / "metrics.jsonl", read_curve(state.log_history, plan))

    return Rounds()


def read_curve(history: Sequence[dict[str, Any]], plan: Plan) -> list[dict[str, float]]:
    """Return the points of the curve, a step a round: TRL's measures in our names, and the parts of the reward."""
    points = []
    for logged in history:
        values = {_CURVE.get(name, name): value for name, value in logged.items()
                  if (name in _CURVE or name == "refused" or name.startswith("reward_")) and value is not None}
        if "loss" in values or "accuracy" in values:
            points.append({"step": math.ceil(logged["step"] / plan.updates),
                           **{name: float(value) for name, value in values.items()}})
    return points


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
