"""Fitting an adapter: InfoNCE over mined triples, stopped early on questions of held-out groups."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragtune.errors import QuestionError
from ragtune.recipe.schema import Adapting
from ragtune.records import Record
from ragtune.retrieval.adapter import Adapter, Kind, identity
from ragtune.retrieval.mine import Triples
from ragtune.seams import Progress

if TYPE_CHECKING:
    import numpy as np
    import torch


LossOf = Callable[["torch.Tensor", dict[str, Any], "torch.Generator"], "torch.Tensor"]


@dataclass(frozen=True)
class Fitting(Record):
    """How a fit went: questions learned from and held out, the epoch kept of those run, and what the held-out questions said
    before and after: the mean reciprocal rank among their own positives and negatives, or what the fit names instead."""

    train: int
    held_out: int
    epochs: int
    kept: int
    before: float
    after: float


def fit_adapter(
    triples: Triples, kind: Kind, settings: Adapting, progress: Progress | None = None
) -> tuple[Adapter, Fitting]:
    """Return an adapter fitted to the triples, and how it went; the identity where no epoch was better than it.

    InfoNCE (van den Oord et al., 2018) at ``settings.temperature``: any positive of a question against its mined negatives
    and the other positives of the batch, those on its own pages or nearly equal to its positives masked. After each epoch
    the questions of held-out groups decide; after ``settings.patience`` epochs without gain it ends. Deterministic under
    ``settings.seed``. Raises QuestionError where all questions are of one group.
    """
    train, held = hold_out(triples.groups, settings.held_out_share, settings.seed)
    lesson, test = _Lesson(triples.part(train)), triples.part(held)
    start = identity(kind, triples.questions.shape[1], settings.hidden, settings.seed)
    return descend(start, len(train), len(held), settings,
                   lambda batch, weights, draw: lesson.loss(batch, apply(kind, weights, lesson.questions[batch]), settings,
                                                            draw),
                   lambda adapter: score_candidates(test, adapter), progress)


def descend(
    start: Adapter, train: int, held: int, settings: Adapting, loss_of: LossOf, score_of: Callable[[Adapter], float],
    progress: Progress | None = None,
) -> tuple[Adapter, Fitting]:
    """Return the adapter of the epoch that held-out questions score highest, else the start, and how it went.

    ``loss_of`` is the loss of a batch of the ``train`` questions under the weights, ``score_of`` what ``held`` others say of
    an adapter (more is better). AdamW, and a pull to the start.
    """
    import torch

    torch.manual_seed(settings.seed)
    draw = torch.Generator().manual_seed(settings.seed)
    weights = {name: torch.nn.Parameter(torch.from_numpy(array.copy())) for name, array in start.weights.items()}
    anchors = {name: parameter.detach().clone() for name, parameter in weights.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=settings.lr, weight_decay=0.0)
    best, kept, before, epoch = start, 0, score_of(start), 0
    top = before
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(train, generator=draw)
        for batch in order.split(settings.batch_size):
            optimizer.zero_grad()
            loss = loss_of(batch, weights, draw)
            pull = sum(((weights[name] - anchors[name]) ** 2).sum() for name in weights)
            (loss + settings.pull * pull).backward()
            optimizer.step()
        current = Adapter(start.kind, {name: parameter.detach().numpy().copy() for name, parameter in weights.items()})
        score = score_of(current)
        if score > top + 1e-4:
            best, kept, top = current, epoch, score
        if progress:
            progress(epoch, settings.epochs)
        if epoch - kept >= settings.patience:
            break
    return best, Fitting(train, held, epoch, kept, round(before, 4), round(top, 4))


def apply(kind: Kind, weights: dict[str, Any], vectors: torch.Tensor) -> torch.Tensor:
    """Return what Adapter.transform returns, in torch, so that it can be learned."""
    import torch

    if kind == "linear":
        moved = vectors @ weights["weight"].T
    else:
        moved = vectors + torch.relu(vectors @ weights["first"].T + weights["bias"]) @ weights["second"].T
    return torch.nn.functional.normalize(moved, dim=-1)


def score_candidates(triples: Triples, adapter: Adapter) -> float:
    """Return the mean reciprocal rank of each question's first positive among its own positives and negatives."""
    import numpy as np

    questions = adapter.transform(triples.questions)

    def cosines(rows: np.ndarray) -> np.ndarray:
        found = np.einsum("nd,nmd->nm", questions, triples.vectors[rows])
        return np.where(rows >= 0, found, -np.inf)

    first = cosines(triples.positives).max(axis=1, keepdims=True)
    return float((1 / (1 + (cosines(triples.negatives) >= first).sum(axis=1))).mean())


class _Lesson:
    """The triples as tensors, and their loss."""

    def __init__(self, triples: Triples) -> None:
        import torch

        self.questions = torch.from_numpy(triples.questions)
        self.vectors = torch.from_numpy(triples.vectors)
        self.positives = torch.from_numpy(triples.positives)
        self.negatives = torch.from_numpy(triples.negatives)
        numbers = {page: number for number, page in enumerate(sorted(set().union(*triples.pages)))}
        self.pages = [frozenset(numbers[page] for page in pages) for pages in triples.pages]

    def loss(self, batch: torch.Tensor, moved: torch.Tensor, settings: Adapting, draw: torch.Generator) -> torch.Tensor:
        """Return the InfoNCE of a batch; ``moved`` are its adapted question vectors."""
        import torch

        positives, negatives = self.positives[batch], self.negatives[batch][:, : settings.negatives]
        right = self._cosines(moved, positives) / settings.temperature
        wrong = self._cosines(moved, negatives) / settings.temperature
        shown = self.vectors[positives[:, 0]]  # what the other questions of the batch see of each
        false = self._false(batch, positives, shown, settings.near_duplicate)
        others = (moved @ shown.T / settings.temperature).masked_fill(false, -math.inf)
        return (torch.logsumexp(torch.cat([right, wrong, others], dim=1), dim=1) - torch.logsumexp(right, dim=1)).mean()

    def _cosines(self, moved: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return (batch, rows) cosines, minus infinity where there is no row."""
        import torch

        return torch.einsum("nd,nmd->nm", moved, self.vectors[rows]).masked_fill(rows < 0, -math.inf)

    def _false(
        self, batch: torch.Tensor, positives: torch.Tensor, shown: torch.Tensor, near_duplicate: float
    ) -> torch.Tensor:
        """Return which of the batch's positives are no negatives for which question, shape (batch, batch)."""
        import torch

        pages = [self.pages[number] for number in batch.tolist()]
        same = torch.tensor([[not mine.isdisjoint(theirs) for theirs in pages] for mine in pages])
        near = torch.einsum("npd,md->npm", self.vectors[positives], shown).masked_fill((positives < 0).unsqueeze(-1), -1.0)
        return same | (near.amax(dim=1) >= near_duplicate)


def hold_out(groups: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the numbers of questions to learn from and of those held out: whole groups, about ``share`` of all."""
    names = sorted(set(groups))
    if len(names) < 2:
        raise QuestionError(f"all {len(groups)} questions are of one group ({', '.join(names) or 'none'}), so none can be "
                            "held out to stop the fit. Ask about more documents, or set adapting.split_by=document.")
    random.Random(f"{seed}:stop").shuffle(names)
    held: set[str] = set()
    for name in names[:-1]:
        if held and sum(group in held for group in groups) >= share * len(groups):
            break
        held.add(name)
    return [n for n, group in enumerate(groups) if group not in held], [n for n, group in enumerate(groups) if group in held]
