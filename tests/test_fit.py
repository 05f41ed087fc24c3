"""Fitting: what InfoNCE learns carries over to held-out groups, false negatives are masked, noise is not learned."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ragtune.errors import QuestionError
from ragtune.recipe.schema import Adapting
from ragtune.retrieval.adapter import identity
from ragtune.retrieval.fit import _Lesson, apply, fit_adapter, hold_out, score_candidates
from ragtune.retrieval.mine import Triples

torch.set_num_threads(1)
D = 16


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def turned(count: int = 240, groups: int = 6, noise: bool = False, seed: int = 0) -> Triples:
    """Chunks are the questions turned by one rotation, which a linear map can learn; with noise they are anything."""
    draw = np.random.default_rng(seed)
    rotation = np.linalg.qr(np.eye(D) + 0.8 * draw.normal(size=(D, D)))[0]
    questions = unit(draw.normal(size=(count, D)))
    right = unit(draw.normal(size=(count, D))) if noise else unit(questions @ rotation.T)
    wrong = unit(questions[:, None] + 0.9 * draw.normal(size=(count, 8, D))).reshape(-1, D)
    negatives = count + np.arange(count * 8).reshape(count, 8)
    return Triples(questions, np.concatenate([right, wrong]), np.arange(count)[:, None], negatives, np.arange(count * 9),
                   tuple(frozenset({(n, 1)}) for n in range(count)), tuple(f"g{n % groups}" for n in range(count)), {})


@pytest.mark.parametrize("kind", ["linear", "residual"])
def test_what_is_learned_holds_for_questions_of_other_groups(kind: str) -> None:
    triples = turned()
    seen = [n for n, group in enumerate(triples.groups) if group != "g5"]
    unseen = [n for n, group in enumerate(triples.groups) if group == "g5"]
    adapter, fitting = fit_adapter(triples.part(seen), kind, Adapting(lr=0.01, pull=0.0, hidden=64))
    before = score_candidates(triples.part(unseen), identity(kind, D))
    assert before < 0.4
    assert score_candidates(triples.part(unseen), adapter) > (0.8 if kind == "linear" else before + 0.2)
    assert fitting.train + fitting.held_out == len(seen)
    assert 0 < fitting.kept <= fitting.epochs <= 30
    assert fitting.after > fitting.before


def test_one_seed_gives_one_adapter() -> None:
    triples, settings = turned(60), Adapting(epochs=3)
    first, second = (fit_adapter(triples, "linear", settings)[0] for _ in range(2))
    other = fit_adapter(triples, "linear", Adapting(epochs=3, seed=1))[0]
    assert first.weights["weight"].tobytes() == second.weights["weight"].tobytes()
    assert first.weights["weight"].tobytes() != other.weights["weight"].tobytes()


def test_noise_stops_early_near_the_start() -> None:
    _, fitting = fit_adapter(turned(noise=True), "linear", Adapting(patience=2))
    assert fitting.epochs < 30
    assert fitting.after - fitting.before < 0.1


def test_the_pull_keeps_the_map_near_its_start() -> None:
    settings = {"lr": 0.01, "epochs": 12, "patience": 12}
    far, near = (fit_adapter(turned(), "linear", Adapting(pull=pull, **settings))[0].weights["weight"]
                 for pull in (0.0, 10.0))
    assert np.linalg.norm(near - np.eye(D)) < 0.5 * np.linalg.norm(far - np.eye(D))


def test_torch_and_numpy_map_alike() -> None:
    for kind in ("linear", "residual"):
        draw, start = np.random.default_rng(1), identity(kind, D, 9)
        weights = {name: (array + draw.normal(size=array.shape)).astype(np.float32) for name, array in start.weights.items()}
        vectors = turned(5).questions
        ours = type(start)(kind, weights).transform(vectors)
        theirs = apply(kind, {name: torch.from_numpy(array) for name, array in weights.items()}, torch.from_numpy(vectors))
        assert theirs.numpy() == pytest.approx(ours, abs=1e-5)


def loss_of(triples: Triples, **settings: float) -> float:
    lesson, batch = _Lesson(triples), torch.arange(len(triples.questions))
    return float(lesson.loss(batch, lesson.questions, Adapting(**settings), torch.Generator()))


def test_loss_is_infonce() -> None:
    """Against a plain count: one positive, its negatives, and the other questions' positives."""
    triples = turned(6)
    logits = triples.questions @ triples.vectors.T / 0.05
    wanted = 0.0
    for n in range(6):
        rows = [n, *triples.negatives[n], *(m for m in range(6) if m != n)]
        wanted += np.log(np.exp(logits[n, rows]).sum()) - logits[n, n]
    assert loss_of(triples) == pytest.approx(wanted / 6, rel=1e-4)


def test_other_positives_of_the_same_page_or_nearly_equal_are_masked() -> None:
    triples = turned(6)
    plain = loss_of(triples)
    one_page = dataclasses.replace(triples, pages=tuple(frozenset({(0, 1)}) for _ in range(6)))
    alone = np.mean([loss_of(triples.part([n])) for n in range(6)])
    assert loss_of(one_page) == pytest.approx(alone, rel=1e-5)
    assert loss_of(one_page) < plain
    assert loss_of(triples, near_duplicate=1e-6) < plain


def test_several_positives_count_as_one_and_empty_places_as_none() -> None:
    triples = turned(4)
    padded = dataclasses.replace(triples, positives=np.pad(triples.positives, ((0, 0), (0, 2)), constant_values=-1),
                                 negatives=np.pad(triples.negatives, ((0, 0), (0, 3)), constant_values=-1))
    assert loss_of(padded) == pytest.approx(loss_of(triples), rel=1e-6)
    assert score_candidates(padded, identity("linear", D)) == score_candidates(triples, identity("linear", D))
    both = dataclasses.replace(triples, positives=np.concatenate([triples.positives, triples.negatives[:, :1]], axis=1),
                               negatives=triples.negatives[:, 1:])
    assert loss_of(both) < loss_of(triples)


def test_groups_are_held_out_whole() -> None:
    groups = ["a"] * 5 + ["b"] * 3 + ["c"] * 2
    for seed in range(10):
        train, held = hold_out(groups, 0.2, seed)
        assert sorted(train + held) == list(range(10))
        assert not {groups[n] for n in train} & {groups[n] for n in held}
        assert train
        assert held
    with pytest.raises(QuestionError, match="all 2 questions are of one group"):
        fit_adapter(turned(2, groups=1), "linear", Adapting())
