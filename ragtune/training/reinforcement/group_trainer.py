"""TRL's trainers of GRPO and RLOO as ragtune runs them: its own prompts, rewards, reference, order of rows and curve."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ragtune.errors import RunError
from ragtune.files import write_jsonl
from ragtune.models.chat import Chat
from ragtune.models.local import find_stop_ids
from ragtune.records import Example
from ragtune.training.job import Job
from ragtune.training.reference import Reference
from ragtune.training.reinforcement.groups import GroupOrder, Plan
from ragtune.training.supervised.sft import build_follower

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


def build_trainer(
    model: Any, arguments: Any, job: Job, plan: Plan, chat: Chat, prompts: Sequence[Sequence[int]], score: Score
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
            return [list(prompts[int(row)]) for row in rows], None, {}

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
