"""Embedders: the bundled weights against sentence-transformers, windows, numbers that are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ragtune.errors import ModelError
from ragtune.models import embed
from ragtune.models.embed import MiniLMEmbedder, SentenceEmbedder, minilm_folder, normalise, open_embedder
from ragtune.seams import Embedder

TEXTS = [
    "Net sales 2021: 4,210",
    "What drove the decline in gross margin?",
    "a",
    "",
    "Purchases of property, plant and equipment (PP&E) (1,577) (1,373) (1,420)",
    "Prose of some length. " * 30,
]


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    return open_embedder("minilm")


def test_contract(minilm: Embedder) -> None:
    """What any Embedder keeps."""
    assert isinstance(minilm, Embedder)
    done: list[tuple[int, int]] = []
    vectors = minilm.embed_passages(TEXTS, lambda *said: done.append(said))
    assert vectors.shape == (len(TEXTS), minilm.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert done[-1] == (len(TEXTS), len(TEXTS))
    one_by_one = np.concatenate([minilm.embed_passages([text]) for text in TEXTS])
    assert ((vectors * one_by_one).sum(1) > 0.9995).all()
    assert ((vectors * minilm.embed_questions(TEXTS)).sum(1) > 0.9999).all()
    assert minilm.embed_passages([]).shape == (0, minilm.dimension)
    assert minilm.count_tokens("net sales") == 2
    assert minilm.count_tokens("") == 0
    assert minilm.fingerprint == "minilm:53aa51172d14:256"


def test_nearness(minilm: Embedder) -> None:
    passages = minilm.embed_passages(["Capital expenditures rose.", "The cat sat on the mat."])
    assert np.argmax(passages @ minilm.embed_questions(["How much was spent on equipment?"])[0]) == 0


def test_equal_to_sentence_transformers(monkeypatch: pytest.MonkeyPatch, minilm: Embedder) -> None:
    rival = SentenceEmbedder(str(minilm_folder()))
    wanted = rival.embed_passages(TEXTS)
    assert ((minilm.embed_passages(TEXTS) * wanted).sum(1) > 0.9995).all()  # bfloat16 where the processor has it
    monkeypatch.setattr(embed, "has_fast_bfloat16", lambda: False)
    assert ((MiniLMEmbedder("torch").embed_passages(TEXTS) * wanted).sum(1) > 0.99999).all()
    assert rival.dimension == 384
    assert rival.count_tokens("net sales") == 2
    assert rival.embed_questions(["net sales"]).shape == (1, 384)
    assert rival.fingerprint.endswith(":256")


def test_all_windows_of_a_long_text_count(minilm: Embedder) -> None:
    long = "revenue " * 400
    assert float(minilm.embed_passages([long])[0] @ minilm.embed_passages([long + "banana apple cherry " * 100])[0]) < 0.97


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gt_changed"
    shutil.copytree(minilm_folder().parent, package)
    with (package / "model" / "model.safetensors").open("r+b") as file:
        file.seek(5000)
        file.write(b"x")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(embed, "MINILM_PACKAGE", "gt_changed")
    with pytest.raises(ModelError, match=r"is not the official all-MiniLM-L6-v2: found sha256 .* pip install"):
        MiniLMEmbedder()


@pytest.mark.parametrize("name", ["no/such-model-of-ours", "folder"])
def test_models_that_are_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)

    def no_network() -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(embed, "check_network", no_network)
    with pytest.raises(ModelError, match=rf"the embedder '{name}' cannot be loaded.*Allowed: 'minilm', 'hash'"):
        open_embedder(name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_vectors_that_are_none(bad: float) -> None:
    with pytest.raises(ModelError, match="returned 1 vectors that are not numbers or of length 0"):
        normalise(np.array([[1.0, 0.0], [bad, bad]]), "x")
