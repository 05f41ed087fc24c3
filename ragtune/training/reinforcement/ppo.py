"""PPO: answers are drawn from the model, rewarded, and made likelier or rarer by a clipped objective. A loop of our own.

The objective is that of Schulman et al. (arXiv 1707.06347) with generalised advantages (arXiv 1506.02438), used on a
language model as in arXiv 1909.08593 and 2203.02155: an action is a token, its reward the divergence from the start at a
price, and that of the last token the answer's reward beside it. TRL 1.16 has no PPO.

One step is one round: ``reinforce.prompts`` prompts, ``reinforce.samples`` answers to each, ``reinforce.inner_epochs``
passes over them in updates of ``batch_size`` x ``accumulation`` answers. Steps, schedule, checkpoints and the curve count
rounds. All that is random in a round comes from the seed and the round's number alone, so that a resumed run draws what an
unbroken one would have drawn and no random state has to be kept.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ragtune.errors import ModelError, RunError
from ragtune.files import write_jsonl
from ragtune.models.chat import load_chat
from ragtune.models.checkpoint import portable_name, quiet
from ragtune.models.weights import load_4bit, load_base
from ragtune.records import Example
from ragtune.training.accuracy import AnswerWatch, open_watch
from ragtune.training.arguments import build_arguments, learning_factor, peak_lr
from ragtune.training.job import Fit, Job
from ragtune.training.reinforcement.actor import Actor
from ragtune.training.reinforcement.rollout import choose_rows, encode_prompts
from ragtune.training.reinforcement.rounds import learn, weigh_answers
from ragtune.training.reinforcement.snapshot import load_snapshot, save_snapshot
from ragtune.training.supervised.sft import count_parameters, find_checkpoint
from ragtune.training.weights.tunable import prepare, save_tuned

Reward = Callable[[Sequence[Example], Sequence[str], Sequence[bool]], list[float]]
"""Returns one number for each answer from examples, completions, and whether the model ended them itself. Where it has an
attribute ``means``, a dict, those go into the curve."""
_VALUE_LR = 10.0  # times the model's learning rate, where the recipe names none for the value head


def count_rounds(job: Job) -> int:
    """Return how many rounds the run takes: ``max_steps``, else ``epochs`` passes over the prompts."""
    training = job.training
    if training.max_steps > 0:
        return training.max_steps
    return max(1, math.ceil(training.epochs * len(job.train) / training.reinforce.prompts))


def fit_ppo(job: Job, reward: Reward | None = None) -> Fit:
    """Tune the generator's model by the rewards of its own answers and leave ``adapter/`` and ``metrics.jsonl``.

    ``reward`` stands in for that of the recipe (rewards.build_reward). Where a checkpoint is complete the run goes on from
    it. Raises RunError for a reward, loss or gradient that is not finite (naming step and rows; the last checkpoint stays),
    ModelError for prompts that do not fit the model or answers that do not fit the memory.
    """
    from transformers import set_seed

    training = job.training
    rounds = count_rounds(job)
    with quiet(), _naming_full_memory(job):
        chat = load_chat(job.generator)
        prompts = encode_prompts(job, chat)
        set_seed(training.seed)
        score = reward or _build_reward(job)
        model = load_4bit(job.generator) if job.method.is_4bit else load_base(job.generator)
        parameters = count_parameters(model)
        arguments = build_arguments(job, len(job.train), 0, model.device.type, parameters, False, steps=rounds)
        model = prepare(model, job, rounds)
        actor = Actor(model, chat, job.generator, training, job.start is not None)
        base = portable_name(job.generator.model)
        watch = open_watch(job, chat, lambda tuned, folder: save_tuned(tuned, folder, base))
        loop = _Loop(job, actor, score, prompts, rounds, peak_lr(job, parameters))
        last = find_checkpoint(job.checkpoints)
        if last:
            loop.step, loop.metrics = load_snapshot(last, model, actor.head, loop.optimizer)
        loop.run(arguments, watch)
        save_tuned(model, job.folder / "adapter", base)
        if watch:
            watch.finish(model, loop.step, job.folder / "adapter")
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    return Fit(
        steps=loop.step,
        trainable_parameters=sum(parameter.numel() for parameter in actor.tuned.values()),
        metrics=tuple(loop.metrics),
        resumed_from_step=int(last.name.rpartition("-")[2]) if last else 0,
    )


class _Loop:
    """The rounds of a run: ``step`` are those that are done, ``metrics`` the points of the curve, one a round."""

    def __init__(
        self, job: Job, actor: Actor, score: Reward, prompts: Sequence[tuple[int, ...]], rounds: int, rate: float
    ) -> None:
        import torch

        self.step = 0
        self.metrics: list[dict[str, float]] = []
        training = job.training
        self._job, self._actor, self._score, self._prompts, self._rounds = job, actor, score, prompts, rounds
        self._rates = (rate, training.reinforce.value_lr or _VALUE_LR * rate)
        self.optimizer = torch.optim.AdamW([
            {"params": list(actor.tuned.values()), "weight_decay": training.weight_decay},
            {"params": list(actor.head.parameters()), "weight_decay": 0.0},
        ], lr=rate)

    def run(self, arguments: Any, watch: AnswerWatch | None = None) -> None:
        """Do the rounds that are left, one after another, and tell those who listen; the watch or they may end it early."""
        from transformers import TrainerControl, TrainerState
        from transformers.integrations.integration_utils import get_reporting_integration_callbacks
        from transformers.trainer_callback import CallbackHandler

        job = self._job
        state, control = TrainerState(global_step=self.step, max_steps=self._rounds), TrainerControl()
        trackers = get_reporting_integration_callbacks(arguments.report_to)
        listeners = CallbackHandler([*trackers, *job.callbacks], self._actor.model, self._actor.chat.tokenizer,
                                    self.optimizer, None)
        control = listeners.on_train_begin(arguments, state, control)
        if job.progress:
            job.progress(self.step, self._rounds)
        while self.step < self._rounds and not control.should_training_stop and not (watch and watch.is_over(self.step)):
            point = self._do_round()
            self._actor.model.eval()
            if watch and watch.is_due(self.step):
                point["accuracy"] = watch.note(self._actor.model, self.step)
            write_jsonl(job.folder / "metrics.jsonl", self.metrics)
            if self.step % job.training.save_steps == 0:
                save_snapshot(job.checkpoints, self.step, self._actor.model, self._actor.head, self.optimizer, self.metrics)
            if job.progress:
                job.progress(self.step, self._rounds)
            state.global_step = self.step
            control = listeners.on_log(arguments, state, control, logs=dict(point))
            control = listeners.on_step_end(arguments, state, control)
        listeners.on_train_end(arguments, state, control)

    def _do_round(self) -> dict[str, float]:
        """Draw, reward and learn from the answers of one round; return its point of the curve."""
        import torch

        job, training = self._job, self._job.training
        settings = training.reinforce
        factor = learning_factor(training, self.step + 1, self._rounds + 1)  # no round is drawn to learn nothing from
        for group, rate in zip(self.optimizer.param_groups, self._rates):
            group["lr"] = rate * factor
        torch.manual_seed(training.seed * 1_000_003 + self.step)
        rows = choose_rows(len(self._prompts), settings.prompts, self.step, training.seed)
        answers = self._actor.draw([(row, self._prompts[row]) for row in rows for _ in range(settings.samples)])
        self.step += 1
        scores = self._score([job.train[answer.row] for answer in answers], [self._actor.text_of(a) for a in answers],
                             [answer.ended for answer in answers])
        for answer, value in zip(answers, scores, strict=True):
            if not math.isfinite(value):
                raise RunError(f"the reward is {value} at step {self.step}, of an answer to row {answer.row + 1} of "
                               "train.jsonl. Allowed are finite numbers. Mend the reward, then tune again; the last "
                               "checkpoint before it is kept until then.")
        drawn = weigh_answers(self._actor, answers, scores, training)
        parts = {name if name == "refused" else f"reward_{name}": value
                 for name, value in getattr(self._score, "means", {}).items()}
        learned = learn(self._actor, self.optimizer, drawn, training, self.step)
        point = {"step": self.step, **drawn.metrics, **parts, **learned, "learning_rate": self._rates[0] * factor}
        self.metrics.append(point)
        return point


def _build_reward(job: Job) -> Reward:
    from ragtune.training.reinforcement.rewards import build_reward

    built: Reward = build_reward(job)
    return built


@contextlib.contextmanager
def _naming_full_memory(job: Job) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{job.training.batch_size} answers (training.batch_size) or {job.generator.batch_size} drawn at once "
            "(generator.batch_size) do not fit into the device's memory. Lower them, or set training.gradient_checkpointing."
        ) from error
