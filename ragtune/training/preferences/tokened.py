"""TRL's trainers of preferences on rows that are tokens already, so that nothing is rendered anew, cut or dropped."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ragtune.errors import RunError
from ragtune.models.chat import Chat
from ragtune.models.checkpoint import portable_name
from ragtune.training.accuracy import AnswerWatch
from ragtune.training.arguments import count_steps
from ragtune.training.job import Fit, Job
from ragtune.training.preferences.pairs import Row, count_tokens
from ragtune.training.rows import LengthOrder
from ragtune.training.supervised.sft import build_follower, curve_of
from ragtune.training.weights.tunable import save_tuned


def build_trainer(
    trainer_class: Any, model: Any, arguments: Any, given: Sequence[Row], test_given: Sequence[Row], rows: Sequence[Row],
    chat: Chat, job: Job, extra: dict[str, Any], watch: AnswerWatch | None = None,
) -> Any:
    """Return the trainer on rows that are tokens already, in our order, with our curve; ``watch`` may end it early."""
    from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers import PrinterCallback, Trainer

    lengths = [count_tokens(row) for row in rows]

    class RowTrainer(trainer_class):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            """The rows are tokens already: those the model is asked with. TRL's could be cut or rendered otherwise."""
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
            """They are computed when the trainer stands (see reference.py)."""
            return dataset

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return LengthOrder(lengths, self.args.train_batch_size, self.args.seed)

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """The run folder has its own card; TRL's names paths of this machine."""

        def prediction_step(self, model: Any, inputs: Any, *others: Any, **named: Any) -> Any:
            """TRL averages batches; a batch counts as often here as it has rows."""
            before = {key: len(values) for key, values in self._measured().items()}
            found = super().prediction_step(model, inputs, *others, **named)
            size = next(len(inputs[key]) for key in ("label", "chosen_input_ids", "input_ids") if key in inputs)
            for key, values in self._measured().items():
                if len(values) == before.get(key, 0) + 1 and key != "num_tokens":
                    values.extend(values[-1:] * (size - 1))
            return found

        def log(self, logs: dict[str, float], *others: Any) -> None:
            """What the reward trainer calls accuracy is of pairs; the curve's accuracy is of answers."""
            measured = getattr(self, "_metrics", {}).get("train" if self.model.training else "eval", {})
            if "accuracy" in measured:
                measured["rewards/accuracies"] = measured.pop("accuracy")
            super().log(logs, *others)

        def _measured(self) -> Any:
            return (self._metrics if hasattr(self, "_metrics") else self._stored_metrics)["eval"]

    follower = build_follower(job.folder / "metrics.jsonl", count_steps(job.training, len(rows)), job.progress)
    watching = [watch.callback()] if watch else []
    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        trainer: Any = RowTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(list(given)),
            eval_dataset=Dataset.from_list(list(test_given)) if test_given else None,
            processing_class=chat.tokenizer,
            callbacks=[follower, *watching, *job.callbacks],
            **extra,
        )
    finally:
        if had_bars:
            enable_progress_bars()
    for callback in watching:  # past TRL's own log, which would empty what it has gathered since the last step
        callback.log = partial(Trainer.log, trainer)  # type: ignore[attr-defined]
    trainer.remove_callback(PrinterCallback)  # it prints the losses to stdout
    return trainer


def check_rows(trainer: Any, rows: Sequence[Row], test_rows: Sequence[Row]) -> None:
    """Raise RunError where the trainer kept fewer rows or tokens than it was given: TRL drops and cuts without a word.

    It cuts when it makes a batch, so the longest row is looked at as the model would see it.
    """
    for side, dataset, mine in (("training", trainer.train_dataset, rows), ("test", trainer.eval_dataset, test_rows)):
        kept = 0 if dataset is None else len(dataset)
        if kept != len(mine):
            _report(f"{kept} of {len(mine)} {side} rows")
        if mine:
            longest = max(range(len(mine)), key=lambda number: count_tokens(mine[number]))
            batch = trainer.data_collator([dataset[longest]])
            masks = [mask for key, mask in batch.items() if key.endswith("attention_mask") and not key.startswith("KL_")]
            seen = max(int(mask.sum(-1).max()) for mask in masks)
            if seen != count_tokens(mine[longest]):
                _report(f"{seen} of the {count_tokens(mine[longest])} tokens of the longest {side} row")


def _report(kept: str) -> None:
    raise RunError(f"the trainer kept {kept}. This is a fault in ragtune or TRL; please report it with the versions in the "
                   "manifest.")


def run_trainer(trainer: Any, job: Job, last: Path | None, watch: AnswerWatch | None = None) -> Fit:
    """Tune, save the adapter (the best one that was watched) and clear the checkpoints away."""
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    save_tuned(trainer.model, job.folder / "adapter", portable_name(job.generator.model))
    if watch:
        watch.finish(trainer.model, trainer.state.global_step, job.folder / "adapter")
    shutil.rmtree(job.checkpoints, ignore_errors=True)  # optimizer states are pickles: none leaves the machine
    return Fit(
        steps=trainer.state.global_step,
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        metrics=tuple(curve_of(trainer.state.log_history)),
        resumed_from_step=int(last.name.rpartition("-")[2]) if last else 0,
    )
