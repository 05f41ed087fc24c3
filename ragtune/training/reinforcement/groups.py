"""Rounds of answers drawn in groups: how many there are, how often the weights change in each, which prompts come when."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

from ragtune.errors import RecipeError
from ragtune.training.job import Job


@dataclass(frozen=True)
class Plan:
    """``rounds`` of ``prompts`` x ``samples`` answers; ``updates`` optimizer steps learn from the answers of a round.

    ``slices`` are the parts of ``batch_size`` answers, on each of ``processes``, that a round's answers are read in.
    """

    rounds: int
    prompts: int
    samples: int
    slices: int
    inner_epochs: int
    accumulation: int
    processes: int = 1

    @property
    def updates(self) -> int:
        """Optimizer steps of a round."""
        return self.slices * self.inner_epochs // self.accumulation

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return self.rounds * self.updates


def plan_groups(job: Job) -> Plan:
    """Return the plan of a run, by the recipe alone; nothing is loaded. Steps of the recipe are rounds.

    Raises RecipeError where the answers of a round do not make whole optimizer steps.
    """
    training, settings = job.training, job.training.reinforce
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    answers, update = settings.prompts * settings.samples, training.batch_size * training.accumulation * processes
    if answers % update:
        many = f" on {processes} processes" if processes > 1 else ""
        fitting = [size for size in range(1, answers + 1) if not answers % (size * training.accumulation * processes)]
        allowed = f"Allowed with these is a training.batch_size of {', '.join(map(str, fitting))}" if fitting else (
            "Lower training.accumulation")
        raise RecipeError(
            f"training.reinforce.prompts {settings.prompts} x samples {settings.samples} are {answers} answers in a round, "
            f"which do not divide into optimizer steps of training.batch_size {training.batch_size} x accumulation "
            f"{training.accumulation}{many} = {update} answers. {allowed}. Or change prompts or samples."
        )
    rounds = training.max_steps if training.max_steps > 0 else max(
        1, math.ceil(training.epochs * len(job.train) / settings.prompts))
    slices = answers // (training.batch_size * processes)
    return Plan(rounds, settings.prompts, settings.samples, slices, settings.inner_epochs, training.accumulation, processes)


class GroupOrder:
    """A sampler that gives each round's answers their row, once for each time that the trainer reads them.

    A pass shows each row once, in an order of its own by seed and pass alone; its last round is filled up with the first
    rows of the pass, so that no row is left out and rounds are of one size. A resumed run asks what an unbroken one would.
    """

    def __init__(self, rows: int, plan: Plan, seed: int) -> None:
        self._rows, self._plan, self._seed, self._epoch = rows, plan, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass whose order comes next; the trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        plan = self._plan
        return math.ceil(self._rows / plan.prompts) * plan.prompts * plan.samples * plan.slices * plan.inner_epochs

    def __iter__(self) -> Iterator[int]:
        plan, order = self._plan, list(range(self._rows))
        random.Random(self._seed * 1_000_003 + self._epoch).shuffle(order)
        count = math.ceil(len(order) / plan.prompts)
        filled = [order[place % len(order)] for place in range(count * plan.prompts)]
        for start in range(0, len(filled), plan.prompts):
            drawn = [row for row in filled[start : start + plan.prompts] for _ in range(plan.samples)]
            for _ in range(plan.slices * plan.inner_epochs):
                yield from drawn
