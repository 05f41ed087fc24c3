"""The clipped objective of PPO and the clipped loss of its values (Schulman et al., arXiv 1707.06347), token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def policy_losses(logps: Tensor, drawn: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Return the loss of each token and whether its clipping took the gradient away.

    The loss is -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), the ratio being the token's probability now over that it
    was ``drawn`` with: a good token gains nothing by more than 1 + clip, a bad one by less than 1 - clip.
    """
    import torch

    ratio = (logps - drawn).exp()
    free = -ratio * advantages
    held = -ratio.clamp(1 - clip, 1 + clip) * advantages
    return torch.maximum(free, held), held > free


def value_losses(values: Tensor, before: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Return half the squared error of each value, or that of the value kept within ``clip`` of ``before`` if it is larger.

    So a value gains nothing by moving further than that from what it was when the answers were drawn.
    """
    import torch

    held = before + (values - before).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (held - returns).square())
