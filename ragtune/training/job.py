"""What a tuning loop is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.recipe.schema import Generator, Training
from ragtune.records import Question
from ragtune.seams import Progress
from ragtune.training.methods import Method

if TYPE_CHECKING:
    from transformers import TrainerCallback


@dataclass(frozen=True)
class Job:
    """One tuning run. ``train`` and ``test`` are what the method's shape says (see methods.SHAPES).

    ``folder`` is the run folder in the making: the loop leaves ``adapter/`` and ``metrics.jsonl`` there and keeps its
    checkpoints under ``folder/checkpoints``; where one is complete the loop goes on from it. ``start`` is the adapter of an
    earlier run on the same base that is tuned further. ``questions`` are those the rows came from, by id, for rewards and
    for the measure of answer accuracy, which is taken on ``held_out``: rows of the training side that are not learned from.
    """

    generator: Generator
    training: Training
    method: Method
    train: Sequence[Any]
    test: Sequence[Any]
    folder: Path
    progress: Progress | None = None
    callbacks: Sequence[TrainerCallback] = ()
    questions: Mapping[str, Question] = field(default_factory=dict)
    start: Path | None = None
    held_out: Sequence[Any] = ()

    @property
    def checkpoints(self) -> Path:
        """Where the loop keeps what it resumes from."""
        return self.folder / "checkpoints"


@dataclass(frozen=True)
class Fit:
    """What a tuning loop gives back. ``metrics`` are the points of its curve, as in metrics.jsonl."""

    steps: int
    trainable_parameters: int
    metrics: tuple[dict[str, float], ...] = field(default=())
    resumed_from_step: int = 0
