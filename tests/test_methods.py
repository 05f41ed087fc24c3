"""Every method in the table on the bundled model: some real steps, saved, opened again, switched off to exactly the base."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_rows

from ragtune.answering.prompt import REFUSAL
from ragtune.datasets.folder import parse_row
from ragtune.datasets.prefer import build_labels
from ragtune.errors import RunError
from ragtune.models.language import TransformersGenerator, open_generator
from ragtune.recipe.places import REFINING
from ragtune.recipe.schema import Generator, Training
from ragtune.records import Example, Message, Pair, Question
from ragtune.training.job import Fit, Job
from ragtune.training.methods import LOOPS, METHODS, RETRIEVER, SHAPES
from ragtune.training.preferences.reward import load_reward_model
from ragtune.training.weights.tunable import TUNABLE

BUNDLED = Generator(device="cpu", max_new_tokens=16, batch_size=16)
TRAINED = [name for name, method in METHODS.items() if method.loop != RETRIEVER]
PROMPT = [Message(role="user", content="[1] Net sales 2021: 4,210\n\nQuestion: What were net sales in 2021?")]
LR = {"ia3": 3e-2, "adalora": 2e-2, "prompt_tuning": 5e-2, "p_tuning": 3e-2, "prefix_tuning": 3e-2, "full": 1e-3,
      "continued_pretraining": 1e-3}


def make_material(shape: str) -> tuple[list[Any], dict[str, Question]]:
    """Return eight rows of a shape and the questions they came from."""
    examples, questions = [], {}
    for number, row in enumerate(make_rows(8, seed=1, amounts=3)):
        example = parse_row({**row, "provenance": {"question_id": f"q{number}"}}, "here")
        examples.append(example)
        questions[f"q{number}"] = Question(f"q{number}", "?", example.completion.rpartition(": ")[2].partition(" [")[0])
    pairs = [Pair(e.prompt, e.completion, REFUSAL, {**e.provenance, "reason": "needless_refusal"}) for e in examples]
    made: dict[str, list[Any]] = {
        "prompt_completion": examples, "prompts": examples, "pairs": pairs, "labels": build_labels(pairs),
        "documents": [{"text": f"{e.prompt[-1]['content']}\n{e.completion}"} for e in examples],
    }
    return made[shape], questions


def tune(name: str, folder: Path) -> Fit:
    """Tune by a method for six steps (of reinforcement: two rounds), over and over the same rows."""
    method = METHODS[name]
    rows, questions = make_material(method.shape)
    is_drawn = method.shape == "prompts"
    training = Training.model_validate({
        "method": name, "lr": LR.get(name, 3e-3), "max_steps": 2 if is_drawn else 6, "batch_size": 8, "warmup_share": 0.0,
        "schedule": "constant", "r": 4, "alpha": 8, "virtual_tokens": 4,
        "reinforce": {"samples": 4, "prompts": 4, "inner_epochs": 1}})
    folder.mkdir()
    return method.fit(Job(BUNDLED, training, method, rows, [], folder, questions=questions))


def open_bundled(adapter: Path | None = None) -> TransformersGenerator:
    generator = open_generator(BUNDLED, adapter)
    assert isinstance(generator, TransformersGenerator)
    return generator


@pytest.fixture(scope="module")
def base() -> Any:
    return open_bundled().logits(PROMPT)


@pytest.mark.parametrize("name", TRAINED)
def test_it_tunes_the_bundled_model_and_what_is_saved_answers(name: str, base: Any, tmp_path: Path) -> None:
    import torch

    fit = tune(name, tmp_path / "run")
    method = METHODS[name]
    assert fit.steps == (2 if method.shape == "prompts" else 6)
    assert fit.trainable_parameters > 0
    if method.shape == "prompts":
        assert all(0 <= point["reward"] <= 1.25 for point in fit.metrics), "rewards of the evaluator"
    else:
        losses = [point["loss"] for point in fit.metrics if "loss" in point]
        assert losses[-1] < losses[0], losses
    files = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert files == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "metrics.jsonl"}
    adapter = tmp_path / "run" / "adapter"
    if name == "reward":
        scorer = load_reward_model(BUNDLED, adapter)
        assert len(scorer.score([PROMPT, PROMPT], ["4,210 [1]", REFUSAL])) == 2
        with pytest.raises(RunError):
            open_bundled(adapter)
        return
    tuned, again = open_bundled(adapter), open_bundled(adapter)
    logits = tuned.logits(PROMPT)
    assert torch.equal(logits, again.logits(PROMPT))
    if method.shape != "prompts":  # two rounds whose answers were all worth the same teach nothing
        assert (logits - base).abs().max() > 1e-4
    with tuned.without_adapter():
        assert torch.equal(tuned.logits(PROMPT), base), "switched off it is the base, bit for bit"
    assert torch.equal(tuned.logits(PROMPT), logits)


def test_the_table_is_whole() -> None:
    assert {method.shape for method in METHODS.values()} == set(SHAPES)
    assert {method.loop for method in METHODS.values()} == {*LOOPS, RETRIEVER}
    assert {method.weights for method in METHODS.values()} - {"query adapter"} <= set(TUNABLE)
    assert set(TUNABLE) == {METHODS[name].weights for name in TRAINED}
    assert {name for name, method in METHODS.items() if method.family in ("preferences", "reinforcement")} == set(REFINING)
    assert all(method.description.endswith(".") for method in METHODS.values())
    assert isinstance(make_material("prompts")[0][0], Example)
    assert dataclasses.is_dataclass(METHODS["lora"])
