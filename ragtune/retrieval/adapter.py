"""Query-side adapters: a small map on question vectors, so that nothing is embedded again when it changes.

'linear' is W x, 'residual' x + W2 act(W1 x + b); both begin as the identity and return vectors of length 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ragtune.errors import RunError
from ragtune.files import building_folder, read_manifest, recover_folder, write_json, write_manifest

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["linear", "residual"]
NAMES: dict[Kind, tuple[str, ...]] = {"linear": ("weight",), "residual": ("first", "bias", "second")}
FILE = "adapter.safetensors"
CURRENT = "current"


class Adapter:
    """A map on question vectors. ``weights`` are float32 arrays by name:

    linear ``weight`` (d, d); residual ``first`` (h, d), ``bias`` (h,) and ``second`` (d, h).
    """

    def __init__(self, kind: Kind, weights: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None) -> None:
        self.kind, self.weights, self.facts = kind, dict(weights), dict(facts or {})
        self.dimension = int(weights["weight" if kind == "linear" else "second"].shape[0])

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Return the adapted vectors, float32 of length 1, shape (n, d).

        Raises RunError for vectors of another dimension. A vector that the map sends to nothing stays as it is.
        """
        import numpy as np

        vectors = np.asarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise RunError(f"the adapter maps vectors of dimension {self.dimension}, found shape {vectors.shape}. "
                           "Use the index it was fitted for, or fit it again: ragtune adapt")
        if self.kind == "linear":
            moved = vectors @ self.weights["weight"].T
        else:
            hidden = np.maximum(vectors @ self.weights["first"].T + self.weights["bias"], 0)
            moved = vectors + hidden @ self.weights["second"].T
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        return np.where(lengths > 1e-6, moved / np.maximum(lengths, 1e-6), vectors).astype(np.float32)


def identity(kind: Kind, dimension: int, hidden: int = 0, seed: int = 0) -> Adapter:
    """Return an adapter that changes nothing yet: where fitting begins. ``hidden`` is the inner width of 'residual'."""
    import numpy as np

    if kind == "linear":
        return Adapter(kind, {"weight": np.eye(dimension, dtype=np.float32)})
    draw, hidden = np.random.default_rng(seed), hidden or dimension
    first = draw.normal(0, dimension**-0.5, (hidden, dimension)).astype(np.float32)
    return Adapter(kind, {"first": first, "bias": np.zeros(hidden, np.float32),
                          "second": np.zeros((dimension, hidden), np.float32)})


def save_adapter(adapter: Adapter, folder: Path, fingerprint: str, **facts: Any) -> dict[str, Any]:
    """Write an adapter folder, whole or not at all, and return its manifest.

    ``fingerprint`` is the embedder's it was fitted for; ``facts`` (index id, hash of the questions, recall before and
    after) go into the manifest as they are.
    """
    from safetensors.numpy import save_file

    with building_folder(folder) as partial:
        save_file({name: array.copy() for name, array in adapter.weights.items()}, str(partial / FILE))
        return write_manifest(partial, "adapter", adapter=adapter.kind, dimension=adapter.dimension, fingerprint=fingerprint,
                              **facts)


def open_adapter(folder: Path, fingerprint: str) -> Adapter:
    """Return the adapter of a folder: a version, or a folder of versions, whose current one is taken.

    Raises RunError where it is missing or damaged, or was fitted for another embedder than ``fingerprint`` names.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = find_version(Path(folder)) or Path(folder)
    manifest = read_manifest(folder, "adapter")
    if manifest.get("fingerprint") != fingerprint:
        raise RunError(f"the adapter {folder} was fitted for the embedder '{manifest.get('fingerprint')}', the index has "
                       f"'{fingerprint}'. Fit it again for this index: ragtune adapt --recipe FILE, or set "
                       "retrieval.adapter=null")
    kind, dimension = manifest.get("adapter"), manifest.get("dimension")
    try:
        weights = {name: array.astype(np.float32) for name, array in load_file(str(folder / FILE)).items()}
    except (SafetensorError, OSError) as error:
        raise RunError(f"{folder / FILE} cannot be read ({error}). Fit it again: ragtune adapt") from error
    if kind not in NAMES or sorted(weights) != sorted(NAMES[kind]):
        raise RunError(f"{folder} holds the adapter '{kind}' with {', '.join(sorted(weights))}; allowed are "
                       f"{', '.join(NAMES)}. Fit it again: ragtune adapt")
    adapter = Adapter(kind, weights, manifest)
    shapes = {name: array.shape for name, array in identity(kind, int(dimension or 0), _width(weights)).weights.items()}
    if any(weights[name].shape != shape or not np.isfinite(weights[name]).all() for name, shape in shapes.items()):
        raise RunError(f"{folder / FILE} holds other shapes than the dimension {dimension} says, or values that are no "
                       "numbers. Fit it again: ragtune adapt")
    return adapter


def _width(weights: Mapping[str, np.ndarray]) -> int:
    return int(weights["bias"].shape[0]) if "bias" in weights else 0


def adapter_for(setting: str | None, index_folder: Path, fingerprint: str) -> Adapter | None:
    """Return the adapter that ``retrieval.adapter`` names for an index folder, None where it names none.

    'auto' takes the current version beside the index, and none where nothing was fitted; anything else is a folder.
    Raises RunError as ``open_adapter`` does.
    """
    if setting is None:
        return None
    if setting != "auto":
        return open_adapter(Path(setting), fingerprint)
    found = find_version(Path(index_folder).parent / "adapter")
    return None if found is None else open_adapter(found, fingerprint)


def next_version(root: Path) -> Path:
    """Return the folder of the next version under ``root``: v1, v2, ..."""
    taken = [int(path.name[1:]) for path in root.glob("v*") if path.name[1:].isdigit()] if root.is_dir() else []
    return root / f"v{max(taken, default=0) + 1}"


def set_current(version: Path) -> None:
    """Make a version the current one of the folder it lies in."""
    write_json(version.parent / CURRENT, {"version": version.name})


def find_version(root: Path) -> Path | None:
    """Return the current version under ``root``, None where there is none. Raises RunError where it names one not there."""
    path = root / CURRENT
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["version"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}). Delete it, or fit again: ragtune adapt") from error
    version = root / str(name)
    recover_folder(version)
    if Path(str(name)).name != name or not version.is_dir():
        raise RunError(f"{path} names the version '{name}', which is not there. Delete it, or fit again: ragtune adapt")
    return version
