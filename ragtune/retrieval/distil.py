"""Fitting an adapter to what a language model makes of the passages: those that make the answer likely are to be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragtune.recipe.schema import Adapting
from ragtune.retrieval.adapter import Adapter, Kind, identity
from ragtune.retrieval.fit import Fitting, apply, descend, hold_out
from ragtune.seams import Progress

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Likelihoods:
    """Questions with passages and how likely each makes the reference answer.

    ``questions`` are float32 vectors of length 1, shape (n, d); ``passages`` those of the k passages of each, shape
    (n, k, d); ``log_likelihoods`` the mean log probability a token of the answer after each passage, shape (n, k), minus
    infinity where a question has fewer passages. ``groups`` are what questions are held out by.
    """

    questions: np.ndarray
    passages: np.ndarray
    log_likelihoods: np.ndarray
    groups: tuple[str, ...]

    def part(self, numbers: Sequence[int]) -> Likelihoods:
        """Return those of these questions alone."""
        import numpy as np

        at = np.asarray(numbers, dtype=np.int64)
        return Likelihoods(self.questions[at], self.passages[at], self.log_likelihoods[at],
                           tuple(self.groups[n] for n in at))


def fit_to_likelihoods(
    likelihoods: Likelihoods, kind: Kind, settings: Adapting, progress: Progress | None = None
) -> tuple[Adapter, Fitting]:
    """Return an adapter whose cosines follow the likelihoods, and how it went; the identity where no epoch was better.

    RA-DIT's retriever step (arXiv 2310.01352, after REPLUG, arXiv 2301.12652), with the passages' side frozen: the smallest
    KL(q || p), p = softmax(cosine / ``settings.temperature``) over the question's passages and
    q = softmax(mean log likelihood / ``settings.likelihood_temperature``). Those papers take KL(p || q), whose gradient
    fades where p is sure of another passage: where a rotation was to be learned, a linear map then put the right one of six
    passages first for .10 of held-out questions, with KL(q || p), as in Atlas (arXiv 2208.03299), for .90.

    After each epoch the KL of the questions of held-out groups decides; ``before`` and ``after`` of the Fitting are its
    negative. Deterministic under ``settings.seed``. Raises QuestionError where all questions are of one group.
    """
    import torch

    train, held = hold_out(likelihoods.groups, settings.held_out_share, settings.seed)
    lesson, test = likelihoods.part(train), likelihoods.part(held)
    start = identity(kind, likelihoods.questions.shape[1], settings.hidden, settings.seed)
    tensors = [tuple(map(torch.from_numpy, (part.questions, part.passages, part.log_likelihoods)))
               for part in (lesson, test)]

    def loss_of(batch: torch.Tensor, weights: dict[str, Any], draw: torch.Generator) -> torch.Tensor:
        questions, passages, scores = (tensor[batch] for tensor in tensors[0])
        return divergence(apply(kind, weights, questions), passages, scores, settings)

    def score_of(adapter: Adapter) -> float:
        moved = torch.from_numpy(adapter.transform(test.questions))
        return -float(divergence(moved, tensors[1][1], tensors[1][2], settings))

    return descend(start, len(train), len(held), settings, loss_of, score_of, progress)


def divergence(
    moved: torch.Tensor, passages: torch.Tensor, log_likelihoods: torch.Tensor, settings: Adapting
) -> torch.Tensor:
    """Return the mean KL(q || p) in nats of a batch of adapted question vectors, as ``fit_to_likelihoods`` says."""
    import torch

    absent = torch.isinf(log_likelihoods)
    cosines = torch.einsum("nd,nkd->nk", moved, passages) / settings.temperature
    found = torch.log_softmax(cosines.masked_fill(absent, -torch.inf), dim=1)
    wanted = torch.log_softmax(log_likelihoods / settings.likelihood_temperature, dim=1)
    return (wanted.exp() * (wanted - found).masked_fill(absent, 0.0)).nan_to_num().sum(dim=1).mean()
