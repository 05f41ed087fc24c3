"""Supervised tuning: TRL's SFTTrainer on prompt/completion rows, the loss on the completion alone."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import RunError
from ragtune.files import write_jsonl
from ragtune.models.chat import Chat, load_chat
from ragtune.models.checkpoint import portable_name, quiet, read_config, read_context_tokens
from ragtune.models.processes import is_main, is_sharded, wait_for_all
from ragtune.models.weights import load_4bit, load_base
from ragtune.recipe.schema import Training
from ragtune.records import Example
from ragtune.seams import Progress
from ragtune.training.accuracy import open_watch
from ragtune.training.arguments import build_arguments, count_steps
from ragtune.training.job import Fit, Job
from ragtune.training.rows import NO_LOSS, LengthOrder, encode_examples
from ragtune.training.supervised.packing import PackedCollator, check_apart, check_packable, pack_rows
from ragtune.training.weights.sharded import gather_tuned
from ragtune.training.weights.state import after_step, before_step, keep_state, restore_state
from ragtune.training.weights.tunable import TUNABLE, count_virtual, find_tunable, prepare, save_tuned

if TYPE_CHECKING:
    from transformers import TrainerCallback

logger = logging.getLogger(__name__)
DIVERGED = "diverged"
"""The file in a run folder in the making that says its loss was no number: it may go on with another learning rate."""
_COMPLETE = "complete"  # written into a checkpoint when all of it is on disk
CURVE = ("step", "epoch", "loss", "eval_loss", "accuracy", "learning_rate", "grad_norm")
_PREFERENCE = {"rewards/chosen": "rewards/chosen", "rewards/rejected": "rewards/rejected",
               "rewards/accuracies": "pair_accuracy", "rewards/margins": "margin", "margin": "margin"}
_FIELDS = {**{name: name for name in CURVE}, **_PREFERENCE,
           **{f"eval_{name}": f"eval_{ours}" for name, ours in _PREFERENCE.items()}}


def fit_sft(job: Job) -> Fit:
    """Tune the generator's model on prompt/completion rows (Examples) and leave ``adapter/`` and ``metrics.jsonl``.

    Where a checkpoint is complete the run goes on from it, with the order of rows, optimizer and schedule it had. Raises
    RunError for rows that do not fit or a loss that is not a number, ModelError for a model that cannot be loaded this way.
    """
    chat = load_chat(job.generator)
    limit = count_window(job)
    return fit_rows(job, chat, encode_examples(job.train, chat, limit, "train.jsonl"),
                    encode_examples(job.test, chat, limit, "test.jsonl"), [name_example(row) for row in job.train])


def count_window(job: Job) -> int:
    """Return how many tokens a row may have: those the model reads, less the learned ones before a prompt."""
    taken = job.training.virtual_tokens if TUNABLE[find_tunable(job)].kind == "soft prompt" else 0
    return read_context_tokens(read_config(job.generator.model)) - taken


def name_example(example: Example) -> str:
    """Return the id of the question a row asks, '' where it tells none."""
    return str(example.provenance.get("question_id", ""))


def fit_rows(
    job: Job, chat: Chat, rows: list[dict[str, list[int]]], test_rows: Sequence[dict[str, list[int]]], names: Sequence[str]
) -> Fit:
    """Tune the generator's model on rows of input_ids and labels; ``names`` are what errors call the training rows.

    Raises as ``fit_sft``.
    """
    generator, training = job.generator, job.training
    chat.tokenizer.padding_side = "right"
    with quiet():
        test_rows = sorted(test_rows, key=lambda row: -len(row["input_ids"]))
        model = load_4bit(generator) if job.method.is_4bit else load_base(generator)
        if training.packing:
            check_packable(training.weights or job.method.weights, training.method)
            check_apart(model, rows)
            rows, names = pack_rows(rows, training.seed), ()
        last = find_checkpoint(job.checkpoints)
        arguments = build_arguments(job, len(rows), len(test_rows), model.device.type, count_parameters(model),
                                    last is not None)
        steps = count_steps(training, len(rows))
        order = _order(rows, training)
        follower = build_follower(job.folder / "metrics.jsonl", steps, job.progress,
                                  lambda step: name_batch(order.rows_of_step(step, training.accumulation), names))
        base = portable_name(generator.model)
        watch = open_watch(job, chat, lambda tuned, folder: save_tuned(tuned, folder, base))
        watching = [watch.callback()] if watch else []
        trainer = _build_trainer(
            prepare(model, job, steps), arguments, rows, test_rows, chat.tokenizer, [follower, *watching, *job.callbacks]
        )
        for callback in watching:
            callback.log = trainer.log  # type: ignore[attr-defined]
        _check_rows(trainer, rows, test_rows)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        state = gather_tuned(trainer)
        if is_main():
            save_tuned(trainer.model, job.folder / "adapter", base, state)
            if watch:
                watch.finish(trainer.model, trainer.state.global_step, job.folder / "adapter")
    wait_for_all(model.device.type)
    if is_main():
        shutil.rmtree(job.checkpoints, ignore_errors=True)  # optimizer states are pickles: none leaves the machine
    return Fit(
        steps=trainer.state.global_step,
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        metrics=tuple(curve_of(trainer.state.log_history)),
        resumed_from_step=int(last.name.rpartition("-")[2]) if last else 0,
    )


def count_parameters(model: Any) -> int:
    """Return how many weights the model has; a 4-bit matrix packs two into a byte."""
    return sum(p.numel() * (2 if p.dtype.itemsize == 1 else 1) for p in model.parameters())


def find_checkpoint(checkpoints: Path) -> Path | None:
    """Return the last complete checkpoint; one that a kill cut short is deleted."""
    complete = []
    for path in checkpoints.glob("checkpoint-*"):
        if (path / _COMPLETE).is_file():
            complete.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _check_rows(trainer: Any, rows: Sequence[dict[str, list[int]]], test_rows: Sequence[dict[str, list[int]]]) -> None:
    """Raise RunError where the trainer kept fewer rows, or fewer tokens that count, than it was given: TRL drops and cuts
    rows without a word."""
    kept, given = [], []
    for dataset, mine in ((trainer.train_dataset, rows), (trainer.eval_dataset, test_rows)):
        labels = dataset.with_format("numpy")["labels"] if dataset is not None else ()
        kept.append((len(labels), sum(int((row != NO_LOSS).sum()) for row in labels)))
        given.append((len(mine), sum(label != NO_LOSS for row in mine for label in row["labels"])))
    if kept != given:
        raise RunError(f"the trainer kept {kept[0][0]} of {given[0][0]} training rows with {kept[0][1]} of {given[0][1]} "
                       f"completion tokens, and {kept[1][0]} of {given[1][0]} test rows with {kept[1][1]} of {given[1][1]}. "
                       "This is a fault in ragtune or TRL; please report it with the versions in the manifest.")


def _build_trainer(
    model: Any,
    arguments: Any,
    rows: Sequence[dict[str, list[int]]],
    test_rows: Sequence[dict[str, list[int]]],
    tokenizer: Any,
    callbacks: Sequence[TrainerCallback],
) -> Any:
    """Return an SFTTrainer with our order of rows, float32 adapters and, on a CPU, a loss without wasted logits."""
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTTrainer  # type: ignore[attr-defined]

    # TRL reads the output layer's weights past the layer itself, and knows nothing of tokens before the prompt.
    is_own_loss = TUNABLE[model.ragtune_tuning.weights].kind in ("weights", "soft prompt")

    class RowTrainer(SFTTrainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            together = self.args.train_batch_size * self.args.world_size  # each process takes its part of such a batch
            return LengthOrder([len(row["input_ids"]) for row in rows], together, self.args.seed)

        def training_step(self, *arguments: Any, **named: Any) -> Any:
            loss = super().training_step(*arguments, **named)
            for callback in self.callback_handler.callbacks:
                if hasattr(callback, "see"):
                    callback.see(loss, self.state.global_step)
            return loss

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """The run folder has its own card; TRL's names paths of this machine."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """TRL's loss; off Triton it multiplies every position with the vocabulary, here only those that count."""
            if (inputs["input_ids"].device.type != "cpu" and not is_own_loss) or return_outputs:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            labels = inputs["labels"][:, 1:]
            positions = (labels != NO_LOSS).any(dim=0).nonzero().squeeze(1)
            sent = {key: value for key, value in inputs.items() if key != "labels"}
            logits = model(**sent, use_cache=False, logits_to_keep=positions + count_virtual(self.model)).logits.float()
            total = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, positions].flatten(), reduction="sum")
            if num_items_in_batch is None:
                return total / (labels != NO_LOSS).sum().clamp(min=1)
            scale = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            return total * scale / num_items_in_batch

    tuned = [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]
    trainer: Any = RowTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(list(rows)),
        eval_dataset=Dataset.from_list(list(test_rows)) if test_rows else None,
        data_collator=PackedCollator(tokenizer.pad_token_id) if rows and "seq_lengths" in rows[0] else None,
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)  # it prints the losses to stdout
    # TRL rounds adapters of quantised models to bfloat16, whose 8 bits swallow small updates; they are small enough.
    for parameter, exact in tuned:
        parameter.data = exact
    return trainer


def set_peak_lr(optimizer: Any, scheduler: Any, peak: float) -> None:
    """Let a run that goes on have another peak learning rate than its checkpoint's, at the same point of the schedule."""
    inner = getattr(scheduler, "scheduler", scheduler)
    times = peak / inner.base_lrs[0]
    if times == 1:
        return
    inner.base_lrs = [lr * times for lr in inner.base_lrs]
    for group in optimizer.param_groups:
        group.update(lr=group["lr"] * times, initial_lr=group["initial_lr"] * times)
    inner._last_lr = [group["lr"] for group in optimizer.param_groups]


def _order(rows: Sequence[dict[str, list[int]]], training: Training) -> LengthOrder:
    """Return the order rows are shown in; each process takes its part of a batch of all."""
    together = training.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    return LengthOrder([len(row["input_ids"]) for row in rows], together, training.seed)


def name_batch(rows: Sequence[int], names: Sequence[str], most: int = 8) -> str:
    """Return rows of a batch as words: their places in the file from 1, and the questions they ask."""
    places = ", ".join(str(row + 1) for row in rows[:most]) + (", ..." if len(rows) > most else "")
    asked = ", ".join(dict.fromkeys(names[row] for row in rows[:most] if row < len(names) and names[row]))
    return f"rows {places}" + (f": {asked}" if asked else "")


def build_follower(
    curve: Path, steps: int, progress: Progress | None, name_rows: Callable[[int], str] | None = None
) -> TrainerCallback:
    """Return the callback that reports progress, writes the learning curve and stops a run that went wrong.

    ``name_rows`` tells the rows of a step (counted from 0) for the error about a loss that is no number.
    """
    import torch
    from transformers import TrainerCallback

    class Follower(TrainerCallback):
        def __init__(self) -> None:
            self.losses: list[tuple[int, Any]] = []

        def see(self, loss: Any, step: int) -> None:
            """Keep the loss of a forward pass until the next log, where it costs no waiting for the device."""
            self.losses.append((step, loss.detach()))

        def check(self, args: Any, step: int, loss: float) -> None:
            """Raise RunError where the loss, or that of a forward pass since the last check, is no number."""
            seen, self.losses = self.losses, []
            bad = next((each for each in seen if not torch.isfinite(each[1]).all()), None)
            if bad is None and math.isfinite(loss):
                return
            at, found = (step - 1, loss) if bad is None else (bad[0], float(bad[1].float().mean()))
            (Path(args.output_dir).parent / DIVERGED).touch()
            where = f" ({name_rows(at)})" if name_rows else ""
            raise RunError(
                f"the loss is {found} at step {at + 1}{where}. Lower training.lr (it is {args.learning_rate}), then tune "
                "again: it goes on from the last checkpoint before that."
            )

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **named: Any) -> None:
            if state.global_step and not is_sharded():
                restore_state(model, Path(args.output_dir) / f"checkpoint-{state.global_step}")
                set_peak_lr(named["optimizer"], named["lr_scheduler"], args.learning_rate)
            if progress:
                progress(state.global_step, steps)

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            before_step(model)

        def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            after_step(model, state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if progress:
                progress(state.global_step, steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            points = curve_of(state.log_history)
            if is_main():
                write_jsonl(curve, points)
            self.check(args, state.global_step, points[-1].get("loss", 0.0) if points else 0.0)

        def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.check(args, state.global_step, 0.0)
            wait_for_all(args.device.type)  # each process keeps its random numbers there
            if is_main():
                if not is_sharded():  # where a process holds but its part, the trainer's own checkpoint has all
                    keep_state(model, folder)
                (folder / "training_args.bin").unlink(missing_ok=True)
                (folder / _COMPLETE).touch()

    return Follower()


def curve_of(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Return the logged points that hold a loss, with the fields of the learning curve."""
    points = [point for point in history if {"loss", "eval_loss", "accuracy"} & set(point)]
    return [{ours: int(p[key]) if key == "step" else float(p[key]) for key, ours in _FIELDS.items() if key in p}
            for p in points]
