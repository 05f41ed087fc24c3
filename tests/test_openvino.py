"""OpenVINO: the same vectors as torch, converted once, refused where they differ, left out where it is not installed."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ragtune.errors import MissingPackage, ModelError
from ragtune.files import read_manifest
from ragtune.models import embed, openvino
from ragtune.models.convert import KIND, cache_folder
from ragtune.models.embed import MiniLMEmbedder, open_embedder
from ragtune.models.openvino import LEAST_COSINE, least_cosine, open_encoder

pytest.importorskip("openvino")

TEXTS = ["Net sales 2021: 4,210", "a", "", "What drove the decline in gross margin?", "Prose of some length. " * 30,
         "Purchases of property, plant and equipment (PP&E) (1,577) (1,373) (1,420)", "净销售额",
         *[f"row {n} " * n for n in range(40)]]


@pytest.fixture(scope="module")
def fast() -> MiniLMEmbedder:
    embedder = open_embedder("minilm", "openvino")
    assert isinstance(embedder, MiniLMEmbedder)
    return embedder


def conversions() -> list[Path]:
    return sorted(path for path in (cache_folder() / "openvino").iterdir() if not path.name.startswith("."))


def test_it_embeds_as_torch_does(fast: MiniLMEmbedder) -> None:
    slow = MiniLMEmbedder("torch")
    cosines = (fast.embed_passages(TEXTS) * slow.embed_passages(TEXTS)).sum(1)
    assert cosines.min() > LEAST_COSINE
    assert fast.fingerprint == slow.fingerprint
    one_by_one = np.concatenate([fast.embed_questions([text]) for text in TEXTS[:8]])
    assert ((fast.embed_passages(TEXTS[:8]) * one_by_one).sum(1) > 0.9995).all()


def test_it_is_converted_once_and_a_damaged_one_anew(fast: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = fast.embed_questions(["Net sales"])
    (folder,) = conversions()
    manifest = read_manifest(folder, KIND)
    assert manifest["least_cosine"] >= LEAST_COSINE
    assert manifest["speedup"] > 0
    made: list[str] = []
    whole = openvino._convert
    monkeypatch.setattr(openvino, "_convert", lambda *given: made.append(given[0]) or whole(*given))
    assert np.array_equal(MiniLMEmbedder("openvino").embed_questions(["Net sales"]), wanted)
    assert made == []
    weights = bytearray((folder / "model.bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / "model.bin").write_bytes(bytes(weights))
    assert np.array_equal(MiniLMEmbedder("openvino").embed_questions(["Net sales"]), wanted)
    assert made == ["minilm"]


def test_one_that_embeds_otherwise_is_refused(fast: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = conversions()
    monkeypatch.setattr(openvino, "VERSION", 99)
    monkeypatch.setattr(openvino, "least_cosine", lambda *_: 0.93)
    with pytest.raises(ModelError, match=r"cosine to torch is 0.93000, allowed is 0.999 .* index.embedder_engine: torch"):
        MiniLMEmbedder("openvino").embed_questions(["x"])
    assert conversions() == before
    assert MiniLMEmbedder("auto").embed_questions(["x"]).shape == (1, 384)  # by torch


def test_a_model_it_cannot_convert(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class Odd(torch.nn.Linear):
        def forward(self, input_ids, attention_mask):
            from types import SimpleNamespace

            if torch.jit.is_tracing():
                raise RuntimeError("unlike all others")
            return SimpleNamespace(last_hidden_state=input_ids.unsqueeze(-1).float() + 1)

    sample = np.ones((1, 4), dtype=np.int64)
    with pytest.raises(ModelError, match="OpenVINO cannot convert 'odd'"):
        open_encoder("odd", "odd:1", lambda: Odd(2, 2), [(sample, sample)])


def test_threads_may_embed_together(fast: MiniLMEmbedder) -> None:
    wanted = [fast.embed_questions([text])[0] for text in TEXTS[:8]]
    with ThreadPoolExecutor(4) as pool:
        for found, vector in zip(pool.map(lambda text: fast.embed_questions([text])[0], TEXTS[:8]), wanted):
            assert np.array_equal(found, vector)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(embed, "has_openvino", lambda: False)
    with pytest.raises(MissingPackage, match=r"pip install 'ragtune\[openvino\]', or set index.embedder_engine: torch"):
        MiniLMEmbedder("openvino").embed_questions(["x"])
    assert MiniLMEmbedder("auto").embed_questions(["x"]).shape == (1, 384)


def test_other_embedders_have_one_engine() -> None:
    with pytest.raises(ModelError, match="runs the embedder 'minilm' only; found 'some/model'"):
        open_embedder("some/model", "openvino")


def test_once_converted_torch_is_not_loaded(fast: MiniLMEmbedder) -> None:
    program = ("import sys; from ragtune.models.embed import open_embedder; "
               "open_embedder('minilm', 'openvino').embed_questions(['x']); print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "False"


def test_cosines() -> None:
    one = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert least_cosine([one], [one]) == 1.0
    assert least_cosine([one], [one * [[3.0], [-1.0]]]) == -1.0
    assert np.isnan(least_cosine([one], [one[:1]]))
