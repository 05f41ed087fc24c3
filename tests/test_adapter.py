"""Query adapters: identity start, unit length, folders that refuse another embedder, versions and the current one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import RunError
from ragtune.files import hash_manifest
from ragtune.retrieval.adapter import (
    NAMES,
    Adapter,
    adapter_for,
    find_version,
    identity,
    next_version,
    open_adapter,
    save_adapter,
    set_current,
)

KINDS = tuple(NAMES)


def unit(seed: int, count: int, dimension: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def drawn(kind: str, seed: int = 3, dimension: int = 8) -> Adapter:
    """An adapter far from the identity."""
    start, draw = identity(kind, dimension, 5), np.random.default_rng(seed)
    return Adapter(kind, {n: (a + draw.normal(size=a.shape)).astype(np.float32) for n, a in start.weights.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_identity_changes_nothing(kind: str) -> None:
    vectors = unit(0, 6)
    assert identity(kind, 8).transform(vectors) == pytest.approx(vectors, abs=1e-6)
    assert identity(kind, 8).transform(vectors[:0]).shape == (0, 8)


@given(st.sampled_from(KINDS), st.integers(0, 1000))
def test_output_has_length_one_and_does_not_depend_on_the_batch(kind: str, seed: int) -> None:
    adapter, vectors = drawn(kind, seed), unit(seed + 1, 4)
    moved = adapter.transform(vectors)
    assert moved.dtype == np.float32
    assert np.linalg.norm(moved, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    for row in range(4):
        assert adapter.transform(vectors[row : row + 1])[0] == pytest.approx(moved[row], abs=1e-5)


def test_a_vector_sent_to_nothing_stays() -> None:
    weight = np.diag([0.0, 1.0]).astype(np.float32)
    moved = Adapter("linear", {"weight": weight}).transform(np.array([[1.0, 0.0], [0.6, 0.8]]))
    assert moved.tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("shape", [(3, 7), (8,), (1, 2, 8)])
def test_vectors_of_another_dimension(shape: tuple[int, ...]) -> None:
    with pytest.raises(RunError, match="dimension 8, found shape"):
        identity("linear", 8).transform(np.ones(shape, np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_opened(tmp_path: Path, kind: str) -> None:
    adapter, vectors = drawn(kind), unit(1, 5)
    manifest = save_adapter(adapter, tmp_path / "v1", "emb:1", index_id="i", recall=[{"k": 5, "n": 9}])
    assert (manifest["adapter"], manifest["dimension"], manifest["fingerprint"]) == (kind, 8, "emb:1")
    opened = open_adapter(tmp_path / "v1", "emb:1")
    assert opened.transform(vectors).tobytes() == adapter.transform(vectors).tobytes()
    assert opened.facts["recall"] == [{"k": 5, "n": 9}]
    assert {path.name for path in (tmp_path / "v1").iterdir()} == {"adapter.safetensors", "manifest.json"}


def test_another_embedder_is_named_beside_its_own(tmp_path: Path) -> None:
    save_adapter(identity("linear", 8), tmp_path / "v1", "minilm:1")
    with pytest.raises(RunError, match=r"fitted for the embedder 'minilm:1', the index has 'other:2'.*ragtune adapt"):
        open_adapter(tmp_path / "v1", "other:2")


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no adapter folder at .*Do: ragtune adapt"):
        open_adapter(tmp_path / "nowhere", "e")
    folder = tmp_path / "v1"
    save_adapter(identity("linear", 8), folder, "e")
    data = bytearray((folder / "adapter.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "adapter.safetensors").write_bytes(bytes(data))
    with pytest.raises(RunError, match="adapter.safetensors is not what the manifest says"):
        open_adapter(folder, "e")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"adapter": "cubic"}, "holds the adapter 'cubic'.*allowed are linear, residual"),
        ({"adapter": "residual"}, "holds the adapter 'residual' with weight"),
        ({"dimension": 9}, "other shapes than the dimension 9"),
    ],
)
def test_a_manifest_that_does_not_fit_the_weights(tmp_path: Path, change: dict[str, object], says: str) -> None:
    save_adapter(identity("linear", 8), tmp_path / "v1", "e")
    path = tmp_path / "v1" / "manifest.json"
    manifest = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({**manifest, "manifest_sha256": hash_manifest(manifest)}))
    with pytest.raises(RunError, match=says):
        open_adapter(tmp_path / "v1", "e")


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    adapter = Adapter("linear", {"weight": np.full((8, 8), np.nan, np.float32)})
    save_adapter(adapter, tmp_path / "v1", "e")
    with pytest.raises(RunError, match="values that are no numbers"):
        open_adapter(tmp_path / "v1", "e")


def test_versions(tmp_path: Path) -> None:
    root = tmp_path / "adapter"
    assert find_version(root) is None
    assert next_version(root) == root / "v1"
    for name in ("v1", "v2", "v10"):
        save_adapter(identity("linear", 8), root / name, "e", note=name)
    assert next_version(root) == root / "v11"
    set_current(root / "v2")
    assert find_version(root) == root / "v2"
    assert open_adapter(root, "e").facts["note"] == "v2"
    assert open_adapter(root / "v10", "e").facts["note"] == "v10"
    set_current(root / "v10")
    assert open_adapter(root, "e").facts["note"] == "v10"


def test_what_the_recipe_may_name(tmp_path: Path) -> None:
    index = tmp_path / "index"
    assert adapter_for(None, index, "e") is None
    assert adapter_for("auto", index, "e") is None
    save_adapter(identity("linear", 8), tmp_path / "adapter/v1", "e", note="beside")
    set_current(tmp_path / "adapter/v1")
    save_adapter(identity("linear", 8), tmp_path / "mine", "e", note="mine")
    assert adapter_for(None, index, "e") is None
    assert adapter_for("auto", index, "e").facts["note"] == "beside"
    assert adapter_for(str(tmp_path / "mine"), index, "e").facts["note"] == "mine"
    assert adapter_for(str(tmp_path / "adapter"), index, "e").facts["note"] == "beside"
    with pytest.raises(RunError, match="no adapter folder at"):
        adapter_for(str(tmp_path / "none"), index, "e")
    with pytest.raises(RunError, match="'e', the index has 'f'"):
        adapter_for("auto", index, "f")


@pytest.mark.parametrize("text", ["v1", "{}", '{"version": "../.."}', '{"version": "v7"}', '{"version": 1}', "[]"])
def test_a_bad_current_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "current").write_text(text)
    with pytest.raises(RunError, match="fit again: ragtune adapt"):
        find_version(tmp_path)
