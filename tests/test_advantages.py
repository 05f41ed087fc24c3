"""Returns, advantages and the clipped objective against values worked out by hand, which are written out here."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.training.reinforcement.advantages import (
    estimate_advantages,
    estimate_divergence,
    explained_variance,
    masked_mean,
    token_rewards,
    whiten,
)
from ragtune.training.reinforcement.objective import policy_losses, value_losses


def tensor(values):
    import torch

    return torch.tensor(values, dtype=torch.float64)


def test_advantages_and_returns_by_hand():
    """gamma .9, lambda .8, so that gamma lambda is .72. The second answer has two tokens; what stands after them is junk.

    First:  delta_3 = 1 - .6 = .4; delta_2 = 0 + .9 x .6 - .4 = .14; delta_1 = 0 + .9 x .4 - .5 = -.14
            A_3 = .4; A_2 = .14 + .72 x .4 = .428; A_1 = -.14 + .72 x .428 = .16816
    Second: delta_2 = .5 - .3 = .2; delta_1 = -.1 + .9 x .3 - .2 = -.03
            A_2 = .2; A_1 = -.03 + .72 x .2 = .114
    """
    rewards = tensor([[0.0, 0.0, 1.0], [-0.1, 0.5, 7.0]])
    values = tensor([[0.5, 0.4, 0.6], [0.2, 0.3, 9.0]])
    mask = tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    advantages, returns = estimate_advantages(rewards, values, mask, 0.9, 0.8)
    assert advantages.tolist() == [pytest.approx([0.16816, 0.428, 0.4]), pytest.approx([0.114, 0.2, 0.0])]
    assert returns.tolist() == [pytest.approx([0.66816, 0.828, 1.0]), pytest.approx([0.314, 0.5, 0.0])]


def test_four_tokens_with_a_penalty_on_each_by_hand():
    """The penalty .1 x (log p - log p_ref) is taken from each token, the score 2 is put on the last.

    log p - log p_ref = 1, -2, 0, .5, so r = -.1, .2, 0, 1.95. With all values 0 and gamma lambda = .72:
    A_4 = 1.95; A_3 = .72 x 1.95 = 1.404; A_2 = .2 + .72 x 1.404 = 1.21088; A_1 = -.1 + .72 x 1.21088 = .7718336
    """
    mask = tensor([[1.0, 1.0, 1.0, 1.0]])
    rewards = token_rewards(tensor([2.0]), tensor([[-1.0, -3.0, -2.0, -0.5]]), tensor([[-2.0, -1.0, -2.0, -1.0]]), mask, 0.1)
    assert rewards.tolist() == [pytest.approx([-0.1, 0.2, 0.0, 1.95])]
    advantages, _ = estimate_advantages(rewards, rewards * 0, mask, 0.9, 0.8)
    assert advantages.tolist() == [pytest.approx([0.7718336, 1.21088, 1.404, 1.95])]


def test_the_score_stands_on_each_answers_own_last_token():
    mask = tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    junk = tensor([[0.0, 5.0, 5.0], [0.0, 0.0, 0.0]])
    rewards = token_rewards(tensor([3.0, -1.0]), junk, junk * 0, mask, 1.0)
    assert rewards.tolist() == [[3.0, 0.0, 0.0], [0.0, 0.0, -1.0]]


numbers = st.floats(-5, 5)
answers = st.integers(1, 7).flatmap(lambda n: st.tuples(st.lists(numbers, min_size=n, max_size=n),
                                                        st.lists(numbers, min_size=n, max_size=n), st.integers(1, n)))


@settings(max_examples=60, deadline=None)
@given(answers)
def test_undiscounted_an_advantage_is_what_came_after_less_the_value(answer):
    rewards, values, length = answer
    mask = tensor([[1.0] * length + [0.0] * (len(rewards) - length)])
    advantages, returns = estimate_advantages(tensor([rewards]), tensor([values]), mask, 1.0, 1.0)
    for token in range(length):
        later = math.fsum(rewards[token:length])
        assert float(returns[0, token]) == pytest.approx(later, abs=1e-9)
        assert float(advantages[0, token]) == pytest.approx(later - values[token], abs=1e-9)
    assert not advantages[0, length:].any()


@settings(max_examples=60, deadline=None)
@given(answers, st.floats(0.1, 1.0))
def test_with_lambda_0_an_advantage_is_the_error_of_one_step(answer, gamma):
    rewards, values, length = answer
    mask = tensor([[1.0] * length + [0.0] * (len(rewards) - length)])
    advantages, _ = estimate_advantages(tensor([rewards]), tensor([values]), mask, gamma, 0.0)
    for token in range(length):
        following = values[token + 1] if token + 1 < length else 0.0
        assert float(advantages[0, token]) == pytest.approx(rewards[token] + gamma * following - values[token], abs=1e-9)


def test_whitening_counts_valid_tokens_only():
    mask = tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    values = whiten(tensor([[1.0, 2.0, 100.0], [3.0, 4.0, 5.0]]), mask)
    assert values.tolist() == [pytest.approx([-math.sqrt(2), -math.sqrt(0.5), 0.0]),
                               pytest.approx([0.0, math.sqrt(0.5), math.sqrt(2)])]
    assert whiten(tensor([[3.0, 3.0]]), tensor([[1.0, 1.0]])).tolist() == [[0.0, 0.0]]
    assert float(masked_mean(tensor([[2.0, 100.0]]), tensor([[1.0, 0.0]]))) == 2.0


@pytest.mark.parametrize(("ratio", "advantage", "loss", "is_clipped"), [
    (1.0, 2.0, -2.0, False),   # as drawn
    (1.5, 2.0, -2.4, True),    # a good token made likelier than 1 + clip gains no more: -1.2 x 2
    (0.5, 2.0, -1.0, False),   # a good token made rarer counts in full: -.5 x 2
    (0.5, -2.0, 1.6, True),    # a bad token made rarer than 1 - clip gains no more: .8 x 2
    (1.5, -2.0, 3.0, False),   # a bad token made likelier counts in full: 1.5 x 2
    (1.1, -2.0, 2.2, False),   # within the clip
])
def test_the_clipped_objective_by_hand(ratio, advantage, loss, is_clipped):
    logps = tensor([[math.log(ratio * 0.3)]]).requires_grad_()
    losses, clipped = policy_losses(logps, tensor([[math.log(0.3)]]), tensor([[advantage]]), 0.2)
    assert losses.item() == pytest.approx(loss)
    assert clipped.item() is is_clipped
    losses.sum().backward()
    assert logps.grad.item() == pytest.approx(0.0 if is_clipped else -ratio * advantage)


@pytest.mark.parametrize(("value", "loss", "has_gradient"), [
    (1.1, 0.5 * 0.9**2, True),    # within .2 of 1.0
    (1.5, 0.5 * 0.8**2, False),   # further towards the return 2 than 1.2 gains no more: (1.2 - 2)^2
    (0.5, 0.5 * 1.5**2, True),    # further from it counts in full: (.5 - 2)^2
])
def test_a_values_loss_by_hand(value, loss, has_gradient):
    values = tensor([[value]]).requires_grad_()
    losses = value_losses(values, tensor([[1.0]]), tensor([[2.0]]), 0.2)
    assert losses.item() == pytest.approx(loss)
    losses.sum().backward()
    assert bool(values.grad.any()) is has_gradient


def test_divergence_is_estimated_without_bias_and_never_negative():
    """p = (.5, .5), q = (.9, .1): the mean over p of the estimate is KL(p || q) = .5 log(.5/.9) + .5 log(.5/.1)."""
    p, q = tensor([0.5, 0.5]).log(), tensor([0.9, 0.1]).log()
    found = estimate_divergence(p, q)
    assert float((p.exp() * found).sum()) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert (found >= 0).all()
    assert not estimate_divergence(p, p).any()


def test_explained_variance():
    mask = tensor([[1.0, 1.0, 1.0, 0.0]])
    returns = tensor([[1.0, 2.0, 3.0, 9.0]])
    assert explained_variance(returns, returns, mask) == pytest.approx(1.0)
    assert explained_variance(returns * 0 + 2, returns, mask) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3.0)
    assert explained_variance(returns, returns * 0, mask) == 0.0
