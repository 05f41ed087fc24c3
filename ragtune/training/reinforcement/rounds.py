"""One round of PPO: what the drawn answers were worth, and the passes in which the model learns from them."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragtune.errors import RunError
from ragtune.recipe.schema import Training
from ragtune.training.reinforcement.actor import Actor
from ragtune.training.reinforcement.advantages import (
    estimate_advantages,
    estimate_divergence,
    explained_variance,
    masked_mean,
    token_rewards,
    whiten,
)
from ragtune.training.reinforcement.objective import policy_losses, value_losses
from ragtune.training.reinforcement.rollout import Drawn
from ragtune.training.weights.state import after_step, before_step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Round:
    """Drawn answers and, for each of their tokens, what it is learned with; tensors are (answers, longest completion)."""

    answers: Sequence[Drawn]
    mask: Tensor
    logps: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    metrics: dict[str, float]


def weigh_answers(actor: Actor, answers: Sequence[Drawn], scores: Sequence[float], training: Training) -> Round:
    """Return the round's advantages and returns, whitened over all its tokens, and what it measured.

    An answer cut at the limit of tokens ends there: it is rewarded for what it says, as it would be served, and no value is
    put in for what it might have gone on to say.
    """
    import torch

    settings = training.reinforce
    width = max(len(answer.completion) for answer in answers)
    columns: dict[str, list[Tensor]] = {"mask": [], "logps": [], "values": [], "entropy": [], "reference": []}
    with torch.no_grad():
        for start in range(0, len(answers), training.batch_size):
            part = answers[start : start + training.batch_size]
            batch, reading = actor.read(part, with_entropy=True)
            assert reading.entropy is not None
            found = (batch.mask, reading.logps, reading.values, reading.entropy, actor.read_reference(part))
            for name, column in zip(columns, found):
                padded = torch.nn.functional.pad(column * batch.mask, (0, width - batch.mask.shape[1]))
                columns[name].append(padded)
        mask, logps, values, entropy, reference = (torch.cat(parts) for parts in columns.values())
        rewards = token_rewards(torch.tensor(scores, device=mask.device), logps, reference, mask, settings.kl)
        advantages, returns = estimate_advantages(rewards, values, mask, settings.gamma, settings.gae_lambda)
        metrics = {
            "reward": sum(scores) / len(scores),
            "reward_std": statistics.pstdev(scores),
            "kl": float(masked_mean(estimate_divergence(logps, reference), mask)),
            "entropy": float(masked_mean(entropy, mask)),
            "explained_variance": explained_variance(values, returns, mask),
            "completion_tokens": float(mask.sum()) / len(answers),
            "cut_share": sum(not answer.ended for answer in answers) / len(answers),
        }
        return Round(answers, mask, logps, values, whiten(advantages, mask), returns, metrics)


def learn(actor: Actor, optimizer: Any, round_: Round, training: Training, step: int) -> dict[str, float]:
    """Pass over the round's answers ``inner_epochs`` times, in an order by seed and step; return the means of the passes.

    An update takes ``batch_size`` x ``accumulation`` answers, each token weighing alike. The gradients of the tuned weights
    and of the value head are shortened each on its own, so that neither scales the other. The passes end early where the
    model has left the one that drew by more than clip^2 nats a token, twice the divergence of a model all of whose
    probabilities stand at the clip's edge: beyond, the drawn answers say little about it. Raises RunError naming the step
    and the rows where the loss or a gradient is not finite.
    """
    import torch

    settings = training.reinforce
    order = list(range(len(round_.answers)))
    draw = random.Random(f"{training.seed}:{step}")
    sums = dict.fromkeys(("loss", "policy_loss", "value_loss", "clip_share", "grad_norm", "drift"), 0.0)
    updates = 0
    for _ in range(settings.inner_epochs):
        draw.shuffle(order)
        size = training.batch_size * training.accumulation
        for start in range(0, len(order), size):
            places = order[start : start + size]
            found = _add_gradients(actor, round_, places, training)
            where = f"at step {step}, on answers to the rows {_name_rows(round_.answers, places)}"
            _check_finite(found["loss"], f"the loss is {found['loss']} {where}", training)
            if found["drift"] > settings.clip**2:
                optimizer.zero_grad(set_to_none=True)
                return _means(sums, updates)
            before_step(actor.model)
            norms = [torch.nn.utils.clip_grad_norm_([p for p in group["params"] if p.grad is not None],
                                                    training.max_grad_norm) for group in optimizer.param_groups]
            found["grad_norm"] = float(norms[0])
            _check_finite(sum(map(float, norms)), f"a gradient is not finite {where}", training)
            optimizer.step()
            if not updates:  # AdaLoRA's schedule counts rounds, and takes each of its steps once
                after_step(actor.model, step - 1)
            optimizer.zero_grad(set_to_none=True)
            updates += 1
            sums = {name: value + found[name] for name, value in sums.items()}
    return _means(sums, updates)


def _add_gradients(actor: Actor, round_: Round, places: Sequence[int], training: Training) -> dict[str, float]:
    """Add up the gradients of the losses' means over the tokens of these answers; return the means."""
    import torch

    settings = training.reinforce
    tokens = round_.mask[list(places)].sum()
    found = dict.fromkeys(("loss", "policy_loss", "value_loss", "clip_share", "drift"), 0.0)
    for start in range(0, len(places), training.batch_size):
        part = list(places[start : start + training.batch_size])
        batch, reading = actor.read([round_.answers[place] for place in part])
        width = batch.mask.shape[1]
        drawn, before, advantages, returns = (
            values[part, :width] for values in (round_.logps, round_.values, round_.advantages, round_.returns))
        policy, clipped = policy_losses(reading.logps, drawn, advantages, settings.clip)
        value = value_losses(reading.values, before, returns, settings.clip)
        loss = ((policy + settings.value_weight * value) * batch.mask).sum() / tokens
        loss.backward()
        with torch.no_grad():
            parts = {"loss": loss, "policy_loss": (policy * batch.mask).sum() / tokens,
                     "value_loss": (value * batch.mask).sum() / tokens, "clip_share": (clipped * batch.mask).sum() / tokens,
                     "drift": (estimate_divergence(drawn, reading.logps) * batch.mask).sum() / tokens}
            found = {name: total + float(parts[name]) for name, total in found.items()}
    return found


def _means(sums: dict[str, float], updates: int) -> dict[str, float]:
    return {**{name: value / max(1, updates) for name, value in sums.items()}, "updates": updates}


def _name_rows(answers: Sequence[Drawn], places: Sequence[int]) -> str:
    rows = sorted({answers[place].row + 1 for place in places})
    return ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "") + " of train.jsonl"


def _check_finite(value: float, message: str, training: Training) -> None:
    if not math.isfinite(value):
        raise RunError(f"{message}. Lower training.lr (it is {training.lr or 'the default of method and model'}), then tune "
                       "again; the last checkpoint before it is kept until then.")
