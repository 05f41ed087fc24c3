"""Checkpoints in CTranslate2's format: converted once from base (and adapter), checked by their logits, kept in a cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragtune.errors import MissingPackage, ModelError, RunError
from ragtune.files import building_folder, hash_text, read_manifest, write_manifest
from ragtune.models.adapt import check_base, check_mergeable, fingerprint_adapter, load_adapter, merge_loaded
from ragtune.models.chat import Chat
from ragtune.models.checkpoint import explain_loading, fingerprint_model, locate_model, portable_name, quiet
from ragtune.models.local import find_stop_ids
from ragtune.models.weights import load_base
from ragtune.recipe.schema import Generator as Section
from ragtune.records import Message

KIND = "conversion"
WEIGHTS = "weights"
VERSION = 1
"""Raise it when checkpoints are converted in another way: older folders of the cache are then not taken."""
MAX_DIFFERENCE = {"float32": 1e-3, "int8_float32": 0.15, "int8_float16": 0.15, "int8_bfloat16": 0.15}
"""Of logits between CTranslate2 and transformers, as a share of the largest one; other number types may round more. In 8
bits the bundled model's differ by .07."""
_ROUNDED = 0.05
_PROBE = (
    Message(role="system", content="Answer the question from the numbered passages."),
    Message(role="user", content="[1] Net sales 2021: 4,210\n\nQuestion: What were net sales in 2021?"),
)


def import_ctranslate2() -> Any:
    """Return the package. Raises MissingPackage naming the pip line."""
    try:
        import ctranslate2
    except ImportError as error:
        raise MissingPackage(
            "generator.engine 'ctranslate2' needs the package ctranslate2, which is not installed. "
            "Do: pip install 'ragtune[ctranslate2]', or set generator.engine: transformers"
        ) from error
    return ctranslate2


def cache_folder() -> Path:
    """Return where conversions are kept: $RAGTUNE_CACHE, else ragtune/ in the user's cache folder. Deleting it is safe."""
    if own := os.environ.get("RAGTUNE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ragtune"


def convert_checkpoint(section: Section, chat: Chat, compute_type: str, adapter: Path | None = None) -> Path:
    """Return the folder with the recipe's model, an adapter merged into it, in CTranslate2's format.

    It is named by the base's fingerprint, the adapter's hash, the number type and the converter's version, so that it is
    converted once; a damaged one is converted anew. Two processes wait for each other. Raises MissingPackage, ModelError
    for an architecture that CTranslate2 does not know or whose logits come out different, RunError for a wrong adapter.
    """
    version = import_ctranslate2().__version__
    tuned = fingerprint_adapter(adapter) if adapter else ""
    key = hash_text(f"{fingerprint_model(section.model)} {tuned} {compute_type} {version} {VERSION}")
    folder = cache_folder() / "ctranslate2" / f"{portable_name(section.model).rpartition('/')[2]}-{key}"
    with alone(folder, "generator.engine: transformers"):
        if not is_whole(folder):
            _convert(section, chat, compute_type, adapter, folder)
    return folder


@contextlib.contextmanager
def alone(folder: Path, advice: str) -> Iterator[None]:
    """Wait until no other process converts into this folder. Raises ModelError, with a setting as ``advice``."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.wait").open("w")
    except OSError as error:
        raise ModelError(
            f"cannot keep the converted model in {folder.parent}: {error.strerror}. Set the environment variable "
            f"RAGTUNE_CACHE to a folder that can be written, or set {advice}"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_whole(folder: Path) -> bool:
    """Whether a conversion lies in the folder undamaged."""
    try:
        read_manifest(folder, KIND)
    except RunError:
        return False
    return True


def _convert(section: Section, chat: Chat, compute_type: str, adapter: Path | None, folder: Path) -> None:
    """Read the model in float32, merge the adapter, write what CTranslate2 makes of it, and compare the two."""
    import torch

    name = portable_name(section.model)
    with quiet(), explain_loading(section.model):
        model = load_base(section.model_copy(update={"device": "cpu"}), "float32")
        if adapter is not None:
            check_mergeable(adapter)
            check_base(adapter, section.model)
            model = merge_loaded(load_adapter(model, adapter, name), adapter)
        ids = chat.encode_prompt(_PROBE)
        with torch.inference_mode():
            wanted = model(input_ids=torch.tensor([ids])).logits[0].float()
    stop_ids = find_stop_ids(model, chat)
    with quiet(), building_folder(folder) as partial:
        with explain_converting(name):
            write_weights(locate_model(section.model), model, chat.tokenizer, compute_type, partial / WEIGHTS)
            found = read_logits(partial / WEIGHTS, ids)
        difference = float((found - wanted).abs().max()) if found.shape == wanted.shape else float("nan")
        limit = MAX_DIFFERENCE.get(compute_type, _ROUNDED) * max(1.0, float(wanted.abs().max()))
        if not difference <= limit:
            raise ModelError(
                f"'{name}' answers differently in CTranslate2: its logits differ by {difference:.2g}, allowed are "
                f"{limit:.2g}. Nothing was kept. Set generator.engine: transformers"
            )
        write_manifest(partial, KIND, model=name, compute_type=compute_type, stop_ids=stop_ids,
                       converter=import_ctranslate2().__version__, largest_logit_difference=difference,
                       base_fingerprint=fingerprint_model(section.model),
                       adapter_hash=fingerprint_adapter(adapter) if adapter else "")


@contextlib.contextmanager
def explain_converting(name: str) -> Iterator[None]:
    """Turn what CTranslate2 raises for a model it cannot convert into ModelError."""
    try:
        yield
    except (ValueError, NotImplementedError, AttributeError, KeyError, TypeError, RuntimeError) as error:
        first = (str(error).strip() or "no reason given").split("\n")[0][:200]
        raise ModelError(
            f"CTranslate2 cannot convert '{name}' ({type(error).__name__}: {first}). Set generator.engine: transformers"
        ) from error


def write_weights(source: str, model: Any, tokenizer: Any, compute_type: str, out: Path) -> None:
    """Let CTranslate2 convert a model that is already in memory; it takes the model apart while doing so."""
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]
        def load_model(self, *_: Any, **__: Any) -> Any:
            return model

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return tokenizer

        def _load(self) -> Any:
            spec = super()._load()
            for token in ("bos_token", "eos_token", "unk_token"):
                if getattr(spec.config, token, "") is None:
                    setattr(spec.config, token, "")  # what it writes for none, its own reader refuses
            return spec

    Converter(source).convert(str(out), quantization=compute_type)


def read_logits(weights: Path, ids: list[int]) -> Any:
    """Return the float32 logits of a converted model, shape (tokens, vocabulary)."""
    engine = import_ctranslate2().Generator(str(weights), device="cpu", compute_type="float32", intra_threads=1)
    return logits_of(engine, ids)


def logits_of(engine: Any, ids: list[int]) -> Any:
    """Return the float32 logits of an opened CTranslate2 generator, shape (tokens, vocabulary)."""
    import numpy as np
    import torch

    types = import_ctranslate2()
    out = engine.forward_batch([ids]).to(types.DataType.float32).to_device(types.Device.cpu)
    return torch.from_numpy(np.array(out))[0]
