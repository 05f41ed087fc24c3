"""The cross-encoder on a tiny model of random weights: order, batches, progress, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragtune.errors import ModelError
from ragtune.records import Chunk, Hit
from ragtune.retrieval import cross
from ragtune.retrieval.cross import CrossEncoderReranker
from ragtune.seams import Reranker

TEXTS = ["Net sales rose to 4,210.", "The cat sat.", "", "Cost of sales fell " * 400]
WORDS = ("net sales rose to the cat sat cost of fell what were in 4 2 1 0 , . ?").split()


def make_cross_encoder(folder: Path, labels: int = 1) -> Path:
    """Write a random BERT that scores pairs, with its word-piece tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS), *"abcdefghijklmnopqrstuvwxyz"]
    numbers = {word: number for number, word in enumerate(vocabulary)}
    BertTokenizerFast(vocab=numbers, model_max_length=64).save_pretrained(folder)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=64, num_labels=labels, initializer_range=0.5)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoderReranker:
    return CrossEncoderReranker(str(make_cross_encoder(tmp_path_factory.mktemp("cross") / "model")))


def test_scores_are_in_order_and_do_not_depend_on_the_batch(reranker: CrossEncoderReranker,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    scores = reranker.score_texts("What were net sales?", TEXTS, lambda done, total: seen.append((done, total)))
    assert len(scores) == len(TEXTS)
    assert len(set(scores)) == len(TEXTS)
    assert all(isinstance(score, float) for score in scores)
    assert seen == [(4, 4)]
    assert reranker.score_texts("What were net sales?", TEXTS[::-1]) == pytest.approx(scores[::-1], abs=1e-5)
    assert scores != pytest.approx(reranker.score_texts("The cat?", TEXTS), abs=1e-6)
    monkeypatch.setattr(cross, "BATCH_SIZE", 3)
    assert reranker.score_texts("What were net sales?", TEXTS) == pytest.approx(scores, abs=1e-5)
    assert reranker.score_texts("What were net sales?", []) == []


def test_scores_equal_the_library(reranker: CrossEncoderReranker) -> None:
    pairs = [("net sales", text) for text in TEXTS]
    assert reranker.score_texts("net sales", TEXTS) == pytest.approx(reranker.model.predict(pairs).tolist(), abs=1e-5)


def test_it_scores_hits(reranker: CrossEncoderReranker) -> None:
    assert isinstance(reranker, Reranker)
    hits = [Hit(Chunk(str(n), "d", "D", text, 1, 1, 0, len(text)), 0.0, n, "dense") for n, text in enumerate(TEXTS)]
    assert reranker.score("net sales", hits) == reranker.score_texts("net sales", TEXTS)


@pytest.mark.parametrize("name", ["no/such-cross-encoder", "folder"])
def test_models_that_are_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)

    def no_network() -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(cross, "check_network", no_network)
    with pytest.raises(ModelError, match=rf"the cross-encoder '{name}' cannot be loaded.*Allowed: a folder or the name"):
        CrossEncoderReranker(name)


def test_a_classifier_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gives 3 scores a pair, wanted 1"):
        CrossEncoderReranker(str(make_cross_encoder(tmp_path / "three", labels=3)))


def test_scores_that_are_no_numbers(reranker: CrossEncoderReranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reranker.model, "predict", lambda pairs, **rest: np.full(len(pairs), np.nan))
    with pytest.raises(ModelError, match="returned 4 scores that are no numbers"):
        reranker.score_texts("x", TEXTS)
