"""Supervised tuning: TRL's SFTTrainer on prompt/completion rows, the loss on the completion alone."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import RunError
from ragtune.files import write_jsonl
from ragtune.models.chat import load_chat
from ragtune.models.checkpoint import portable_name, quiet, read_config, read_context_tokens
from ragtune.models.processes import is_main, wait_for_all
from ragtune.models.weights import load_4bit, load_base
from ragtune.recipe.schema import Training
from ragtune.seams import Progress
from ragtune.training.arguments import build_arguments, count_steps
from ragtune.training.job import Fit, Job
from ragtune.training.rows import NO_LOSS, LengthOrder, encode_examples

if TYPE_CHECKING:
    from transformers import TrainerCallback

logger = logging.getLogger(__name__)
_COMPLETE = "complete"  # written into a checkpoint when all of it is on disk
CURVE = ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm")


def fit_sft(job: Job) -> Fit:
    """Tune the generator's model on prompt/completion rows (Examples) and leave ``adapter/`` and ``metrics.jsonl``.

    Where a checkpoint is complete the run goes on from it, with the order of rows, optimizer and schedule it had. Raises
    RunError for rows that do not fit or a loss that is not a number, ModelError for a model that cannot be loaded this way.
    """
    generator, training = job.generator, job.training
    chat = load_chat(generator)
    chat.tokenizer.padding_side = "right"
    limit = read_context_tokens(read_config(generator.model))
    with quiet():
        rows = encode_examples(job.train, chat, limit, "train.jsonl")
        test_rows = sorted(encode_examples(job.test, chat, limit, "test.jsonl"), key=lambda row: -len(row["input_ids"]))
        model = load_4bit(generator) if job.method.is_4bit else load_base(generator)
        last = find_checkpoint(job.checkpoints)
        arguments = build_arguments(job, len(rows), len(test_rows), model.device.type, count_parameters(model),
                                    last is not None)
        follower = build_follower(job.folder / "metrics.jsonl", count_steps(training, len(rows)), job.progress)
        trainer = _build_trainer(
            model, arguments, rows, test_rows, chat.tokenizer, _build_lora(training), [follower, *job.callbacks]
        )
        _check_rows(trainer, rows, test_rows)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if is_main():
            save_adapter(trainer.model, job.folder / "adapter", portable_name(generator.model))
    wait_for_all(model.device.type)
    if is_main():
        shutil.rmtree(job.checkpoints, ignore_errors=True)  # optimizer states are pickles: none leaves the machine
    return Fit(
        steps=trainer.state.global_step,
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        metrics=tuple(curve_of(trainer.state.log_history)),
        resumed_from_step=int(last.name.rpartition("-")[2]) if last else 0,
    )


def _build_lora(training: Training) -> Any:
    """LoRA on every linear layer but the head, as QLoRA has it (arXiv 2305.14314): y = Wx + alpha/r BAx."""
    from peft import LoraConfig, TaskType

    return LoraConfig(r=training.r, lora_alpha=training.alpha, lora_dropout=training.dropout, target_modules="all-linear",
                      task_type=TaskType.CAUSAL_LM)


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
    peft_config: Any,
    callbacks: Sequence[TrainerCallback],
) -> Any:
    """Return an SFTTrainer with our order of rows, float32 adapters and, on a CPU, a loss without wasted logits."""
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTTrainer  # type: ignore[attr-defined]

    class RowTrainer(SFTTrainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            together = self.args.train_batch_size * self.args.world_size  # each process takes its part of such a batch
            return LengthOrder([len(row["input_ids"]) for row in rows], together, self.args.seed)

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """The run folder has its own card; TRL's names paths of this machine."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """TRL's loss; off Triton it multiplies every position with the vocabulary, here only those that count."""
            if inputs["input_ids"].device.type != "cpu" or return_outputs:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            labels = inputs["labels"][:, 1:]
            positions = (labels != NO_LOSS).any(dim=0).nonzero().squeeze(1)
            sent = {key: value for key, value in inputs.items() if key != "labels"}
            logits = model(**sent, use_cache=False, logits_to_keep=positions).logits.float()
            total = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, positions].flatten(), reduction="sum")
            if num_items_in_batch is None:
                return total / (labels != NO_LOSS).sum().clamp(min=1)
            scale = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            return total * scale / num_items_in_batch

    trainer: Any = RowTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(list(rows)),
        eval_dataset=Dataset.from_list(list(test_rows)) if test_rows else None,
        processing_class=tokenizer,
        peft_config=peft_config,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)  # it prints the losses to stdout
    # TRL keeps adapters of quantised models in bfloat16, whose 8 bits swallow small updates; they are small enough.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return trainer


def build_follower(curve: Path, steps: int, progress: Progress | None) -> TrainerCallback:
    """Return the callback that reports progress, writes the learning curve and stops a run that went wrong."""
    from transformers import TrainerCallback

    class Follower(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if progress:
                progress(state.global_step, steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if progress:
                progress(state.global_step, steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            points = curve_of(state.log_history)
            if is_main():
                write_jsonl(curve, points)
            loss = points[-1].get("loss", 0.0) if points else 0.0
            if not math.isfinite(loss):
                raise RunError(
                    f"the loss is {loss} at step {state.global_step}. Lower training.lr (it is {args.learning_rate}), "
                    "then tune again; the last checkpoint before it is kept until then."
                )

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            wait_for_all(args.device.type)  # each process keeps its random numbers there
            if is_main():
                (folder / "training_args.bin").unlink(missing_ok=True)
                (folder / _COMPLETE).touch()

    return Follower()


def curve_of(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Return the logged points that hold a loss, with the fields of the learning curve."""
    points = [point for point in history if "loss" in point or "eval_loss" in point]
    return [{key: int(p[key]) if key == "step" else float(p[key]) for key in CURVE if key in p} for p in points]


def save_adapter(model: Any, folder: Path, base: str) -> None:
    """Save the adapter as safetensors; its configuration names the base without a path of this machine."""
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    if isinstance(config.get("target_modules"), list):  # a set in PEFT, in another order each time
        config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
