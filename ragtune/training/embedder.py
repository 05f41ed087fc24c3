"""Fine-tuning the embedder itself with sentence-transformers; the index has to be embedded anew with the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragtune.errors import ModelError
from ragtune.models.embed import minilm_folder
from ragtune.recipe.schema import Adapting
from ragtune.seams import Progress

Row = tuple[str, ...]
"""Question, positive, negatives: the texts as they are embedded, as many in every row."""


def start_model(name: str) -> str:
    """Return the folder or name that tuning an embedder starts from. Raises ModelError for 'hash', which has no weights."""
    if name == "hash":
        raise ModelError("the embedder 'hash' has no weights to tune. Index with 'minilm' or a sentence-transformers model.")
    return str(minilm_folder()) if name == "minilm" else name


def tune_embedder(
    start: str, rows: Sequence[Row], settings: Adapting, folder: Path, progress: Progress | None = None
) -> float:
    """Tune a model of sentence-transformers on rows of texts, write it into ``folder`` and return the last mean loss.

    MultipleNegativesRankingLoss (Henderson et al., 2017; cosine times 20): the positive against the row's negatives and the
    texts of the batch's other rows; no text stands twice in a batch, so another question's equal positive is no negative.
    Raises ModelError where ``start`` cannot be loaded.
    """
    import tempfile

    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers
    from transformers.trainer_callback import PrinterCallback

    try:
        model = SentenceTransformer(start, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ModelError(f"the embedder '{start}' cannot be loaded to be tuned ({type(error).__name__}: "
                         f"{str(error)[:200]}). Name a folder, or a model fetched before, in index.embedder.") from error
    names = ["anchor", "positive", *(f"negative_{n}" for n in range(1, len(rows[0]) - 1))]
    dataset = Dataset.from_dict({name: [row[column] for row in rows] for column, name in enumerate(names)})
    has_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch, num_train_epochs=settings.embedder_epochs, learning_rate=settings.embedder_lr,
            per_device_train_batch_size=settings.embedder_batch_size, warmup_steps=0.1, seed=settings.seed,
            batch_sampler=BatchSamplers.NO_DUPLICATES, save_strategy="no", report_to="none", logging_strategy="no",
            disable_tqdm=True, use_cpu=not has_gpu, bf16=has_gpu, fp16=False, dataloader_pin_memory=has_gpu,
        )
        trainer: Any = SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=dataset, loss=MultipleNegativesRankingLoss(model),
            callbacks=[_reporter(progress)] if progress else None)
        trainer.remove_callback(PrinterCallback)  # it prints on stdout, where results go
        loss = float(trainer.train().training_loss)
    model.save_pretrained(str(folder), create_model_card=False)
    return loss


def _reporter(progress: Progress) -> Any:
    """Return the trainer's callback that reports steps."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            progress(state.global_step, state.max_steps)

    return Reporter()
