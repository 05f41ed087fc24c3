"""Power and the smallest difference that can be shown: against statsmodels' approximation and by simulation."""

import numpy as np
import pytest

from ragtune.errors import RunError
from ragtune.evaluation.statistics.compare import mcnemar_p
from ragtune.evaluation.statistics.detectable import (
    describe_detectable,
    mcnemar_power,
    minimum_detectable_difference,
    questions_needed,
)


def test_power_as_simulated() -> None:
    draw = np.random.default_rng(0)
    n, difference, discordant = 100, 0.15, 0.25
    chances = [(discordant - difference) / 2, (discordant + difference) / 2, 1 - discordant]
    drawn = draw.multinomial(n, chances, 4000)
    ps = {(a, b): mcnemar_p(a, b) for a, b in {(int(a), int(b)) for a, b, _ in drawn}}
    shown = np.mean([b > a and ps[int(a), int(b)] <= 0.05 for a, b, _ in drawn])
    assert mcnemar_power(n, difference, discordant) == pytest.approx(shown, abs=0.025)
    assert mcnemar_power(n, -difference, discordant) == mcnemar_power(n, difference, discordant)


def test_without_a_difference_the_level_is_kept() -> None:
    assert mcnemar_power(200, 0.0, 0.3) <= 0.025


def test_near_the_normal_approximation_for_many_questions() -> None:
    n, discordant = 4000, 0.3
    found = minimum_detectable_difference(n, discordant)
    assert found is not None
    # Connor (Biometrics 43, 1987): n = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2
    needed = (1.959964 * discordant**0.5 + 0.841621 * (discordant - found**2) ** 0.5) ** 2 / found**2
    assert needed == pytest.approx(n, rel=0.04)


def test_the_smallest_difference_has_just_the_power() -> None:
    found = minimum_detectable_difference(150, 0.3)
    assert found is not None
    assert mcnemar_power(150, found, 0.3) == pytest.approx(0.8, abs=1e-6)
    wider = minimum_detectable_difference(150, 0.3, design_effect=2.0)
    assert wider is not None
    assert wider == pytest.approx(minimum_detectable_difference(75, 0.3), abs=1e-12)
    assert wider > found
    assert "12.8 points" in describe_detectable(150, 0.3)


def test_too_few_discordant_questions_show_nothing() -> None:
    assert minimum_detectable_difference(20, 0.1) is None
    assert minimum_detectable_difference(20, 0.0) is None
    assert "no difference can be shown" in describe_detectable(20, 0.1)


def test_the_sentence_says_how_many_questions_a_small_difference_would_take() -> None:
    said = describe_detectable(100, 0.3)
    assert said.endswith(f"To show 5 points takes about {questions_needed(0.05, 0.3):,} questions.")
    assert "To show" not in describe_detectable(5000, 0.3)  # smaller ones are shown already
    assert "To show" not in describe_detectable(100, 0.03)  # so few answers differ that none can be that large


def test_questions_needed_turns_it_round() -> None:
    n = questions_needed(0.1, 0.3)
    found = minimum_detectable_difference(n, 0.3)
    assert found is not None
    assert found <= 0.1
    assert found == pytest.approx(0.1, abs=0.004)
    assert questions_needed(0.1, 0.3, design_effect=1.5) == pytest.approx(1.5 * n, abs=1)


@pytest.mark.parametrize("call", [
    lambda: mcnemar_power(10, 0.4, 0.3), lambda: mcnemar_power(10, 0.1, 1.3), lambda: mcnemar_power(10, 0.1, float("nan")),
    lambda: minimum_detectable_difference(0, 0.3), lambda: minimum_detectable_difference(10, 0.3, power=80),
    lambda: questions_needed(0.0, 0.3), lambda: minimum_detectable_difference(10, 0.3, design_effect=0.2),
])  # fmt: skip
def test_bad_input_is_said(call) -> None:
    with pytest.raises(RunError):
        call()
