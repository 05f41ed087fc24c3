"""What each token of a drawn answer was worth: rewards a token, returns and advantages, on tensors alone.

All tensors are (answers, tokens) and a mask is 1 on the tokens that were drawn, which stand first in their row, and 0 on the
padding after them. The reward with a penalty a token is that of RLHF (arXiv 1909.08593, 2203.02155); the advantages are the
generalised ones of Schulman et al. (GAE, arXiv 1506.02438).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the tokens that count; 0 where none does."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values with mean 0 and standard deviation 1 over the tokens that count, 0 on the others.

    Values that are all alike become 0: no token was better than another.
    """
    centred = (values - masked_mean(values, mask)) * mask
    return centred / (masked_mean(centred.square(), mask).sqrt() + 1e-8)


def estimate_divergence(logps: Tensor, other: Tensor) -> Tensor:
    """Return for each token an estimate of KL(p || q), p the distribution it was drawn from and q that of ``other``.

    The one of low variance that is never negative: q/p - 1 - log(q/p) (k3 of joschu.net/blog/kl-approx.html).
    """
    log_ratio = other - logps
    return log_ratio.exp() - 1 - log_ratio


def token_rewards(scores: Tensor, logps: Tensor, reference: Tensor, mask: Tensor, kl: float) -> Tensor:
    """Return the reward of each token: -kl (log p - log p_reference), and the answer's score, (answers,), on its last."""
    import torch

    rewards = -kl * (logps - reference) * mask
    rows = torch.arange(len(rewards), device=rewards.device)
    rewards[rows, mask.sum(dim=1).long() - 1] += scores
    return rewards


def estimate_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns of each token, 0 on padding.

    A_t = sum over l of (gamma lambda)^l delta_{t+l}, with delta_t = r_t + gamma V_{t+1} - V_t; the return is A_t + V_t.
    ``values`` are V of the state before each token. After an answer's last token the value is 0, whether it ended by
    itself or at the limit of tokens: what would have come after that limit is never read by anyone, so it is worth nothing.
    """
    import torch

    advantages = torch.zeros_like(rewards)
    valued = values * mask
    following = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(following)
    for token in reversed(range(rewards.shape[1])):
        delta = rewards[:, token] + gamma * next_value - valued[:, token]
        following = (delta + gamma * gae_lambda * following) * mask[:, token]
        advantages[:, token] = following
        next_value = valued[:, token]
    return advantages, advantages + valued


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Return which share of the returns' variance the values foresaw: 1 all, 0 none, below 0 worse than their mean."""
    spread = masked_mean((returns - masked_mean(returns, mask)).square(), mask)
    error = returns - values
    missed = masked_mean((error - masked_mean(error, mask)).square(), mask)
    return float(1 - missed / spread) if float(spread) > 1e-12 else 0.0
