"""RA-DIT's retriever step: the divergence by hand, what is learned carries over, and from a tuned run to a version."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_adapt import home, make_recipe  # noqa: F401
from tiny_model import make_tiny_model

from ragtune.errors import ModelError, RunError
from ragtune.models.language import TransformersGenerator, open_generator
from ragtune.recipe.schema import Adapting, Generator
from ragtune.records import Message
from ragtune.retrieval.adapter import find_version, open_adapter
from ragtune.retrieval.distil import Likelihoods, divergence, fit_to_likelihoods
from ragtune.stages import adapt_likelihoods
from ragtune.stages.adapt import run_adapt

torch.set_num_threads(1)
D, K = 16, 6


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def turned(count: int = 240, seed: int = 0) -> Likelihoods:
    """Of each question's passages the one that a rotation of the question points to makes the answer likely."""
    draw = np.random.default_rng(seed)
    rotation = np.linalg.qr(np.eye(D) + 0.8 * draw.normal(size=(D, D)))[0]
    questions = unit(draw.normal(size=(count, D)))
    passages = unit(questions[:, None] + 0.9 * draw.normal(size=(count, K, D)))
    right = draw.integers(K, size=count)
    passages[np.arange(count), right] = unit(questions @ rotation.T)
    scores = np.where(np.arange(K) == right[:, None], -0.1, -2.0).astype(np.float32)
    return Likelihoods(questions, passages, scores, tuple(f"g{n % 6}" for n in range(count)))


def test_the_divergence_is_that_of_two_softmaxes() -> None:
    settings = Adapting(temperature=0.5, likelihood_temperature=2.0)
    question = torch.tensor([[1.0, 0.0]])
    passages = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]])
    scores = torch.tensor([[-1.0, -3.0, -math.inf]])  # the third is no passage
    found = [math.exp(1.0 / 0.5), math.exp(0.0)]
    wanted = [math.exp(-1.0 / 2.0), math.exp(-3.0 / 2.0)]
    p, q = ([value / sum(values) for value in values] for values in (found, wanted))
    expected = sum(b * math.log(b / a) for a, b in zip(p, q))
    assert float(divergence(question, passages, scores, settings)) == pytest.approx(expected, abs=1e-6)
    alike = torch.tensor([[2.0 / 0.5 * 1.0, 0.0, -math.inf]])  # the likelihoods say what the cosines say
    assert float(divergence(question, passages, alike, settings)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", ["linear", "residual"])
def test_what_is_learned_holds_for_questions_of_other_groups(kind: Any) -> None:
    likelihoods = turned()
    seen = [n for n, group in enumerate(likelihoods.groups) if group != "g5"]
    unseen = likelihoods.part([n for n, group in enumerate(likelihoods.groups) if group == "g5"])
    adapter, fitting = fit_to_likelihoods(likelihoods.part(seen), kind, Adapting(lr=0.01, pull=0.0, hidden=64))

    def first(questions: np.ndarray) -> float:
        cosines = np.einsum("nd,nkd->nk", questions, unseen.passages)
        return float((cosines.argmax(axis=1) == unseen.log_likelihoods.argmax(axis=1)).mean())

    assert first(adapter.transform(unseen.questions)) > first(unseen.questions) + 0.3
    assert fitting.after > fitting.before
    again, _ = fit_to_likelihoods(likelihoods.part(seen), kind, Adapting(lr=0.01, pull=0.0, hidden=64))
    assert all((again.weights[name] == adapter.weights[name]).all() for name in adapter.weights)


PROMPTS = [[Message(role="user", content=text)] for text in ("What were net sales?", "A longer question about 2021?")]


def test_a_completion_is_scored_alike_alone_and_in_a_batch(tmp_path: Path) -> None:
    generator = open_generator(Generator(model=str(make_tiny_model(tmp_path / "tiny")), device="cpu"))
    assert isinstance(generator, TransformersGenerator)
    said = ["Net sales 2021: 4,210", "Not found"]
    together = generator.score_completions(PROMPTS, said)
    for number in range(2):
        prompt, completion = generator.chat.encode_example(PROMPTS[number], said[number])
        with torch.inference_mode():
            logits = torch.log_softmax(generator.model(torch.tensor([prompt + completion])).logits[0].float(), dim=-1)
        by_hand = [float(logits[len(prompt) + at - 1, token]) for at, token in enumerate(completion)]
        assert together[number] == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-5)
        assert generator.score_completions(PROMPTS[number:number + 1], said[number:number + 1]) == pytest.approx(
            together[number:number + 1], abs=1e-5)
    with pytest.raises(ModelError, match="reads 2048"):
        generator.score_completions(PROMPTS[:1], ["sales " * 3000])


class Reader:
    """Finds an answer likely where the passage is that of the evidence: what a tuned model should."""

    def __init__(self, material: Any) -> None:
        self.wanted = {q.text: material.index.page_text(q.evidence[0].document, q.evidence[0].page)
                       for q in material.questions}

    def count_tokens(self, messages: Any) -> int:
        return sum(len(message["content"].split()) for message in messages)

    def score_completions(self, prompts: Any, completions: Any, progress: Any = None) -> list[float]:
        scores = []
        for prompt in prompts:
            shown = prompt[-1]["content"]
            scores.append(-0.1 if any(text in shown and page in shown for text, page in self.wanted.items()) else -3.0)
        return scores


def test_an_adapter_is_fitted_to_likelihoods_and_written_among_the_adapters(
    home: Path, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:
    monkeypatch.setattr(adapt_likelihoods, "open_tuned", Reader)
    summary = run_adapt(make_recipe(home, passages=16), "likelihoods")
    part = summary.parts[0]
    assert summary.is_accepted
    assert Path(part.folder) == find_version(home / "work/t/adapter") == home / "work/t/adapter/v1"
    right = next(row for row in part.recall if (row.scope, row.k) == ("document", 1))
    assert right.after > right.before + 0.2
    assert (part.facts["learned_from"], part.facts["passages"], part.facts["answerable"]) == ("likelihoods", 16, 144)
    assert open_adapter(home / "work/t/adapter", "hash:256").kind == "linear"


def test_without_a_run_it_says_what_to_do(home: Path) -> None:  # noqa: F811
    with pytest.raises(RunError, match="no run folder at .* Do: ragtune train"):
        run_adapt(make_recipe(home), "likelihoods")
