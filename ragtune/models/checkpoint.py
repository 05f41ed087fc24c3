"""Finding a language model: the bundled one, a folder, or a Hugging Face name; what it is and what is wrong with it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragtune.errors import ModelError
from ragtune.files import hash_file

_HASHED_BYTES = 256 << 20
_FINGERPRINTED = ("*.safetensors", "config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                  "chat_template.jinja")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and notices of the model libraries off stderr; errors still come as exceptions."""
    from transformers.utils import logging as notices

    level, bars = notices.get_verbosity(), notices.is_progress_bar_enabled()
    others = [logging.getLogger(name) for name in ("bitsandbytes", "peft", "accelerate", "huggingface_hub", "datasets")]
    before = [logger.level for logger in others]
    notices.set_verbosity_error()
    notices.disable_progress_bar()
    for logger in others:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what the libraries rename among themselves
            # PEFT takes AdaLoRA's pattern of kept values for LoRA's of ranks, and a layer that kept none for a fault.
            warnings.filterwarnings("ignore", ".*rank_pattern keys did not match.*", RuntimeWarning)
            warnings.filterwarnings("ignore", ".*LoRA tensor.s. have invalid shape.*")
            yield
    finally:
        notices.set_verbosity(level)
        if bars:
            notices.enable_progress_bar()
        for logger, old in zip(others, before):
            logger.setLevel(old)


def portable_name(model: str) -> str:
    """Return the model's name without a machine path: a folder is called by its last part."""
    return Path(model).name if Path(model).is_dir() else model


def locate_model(model: str) -> str:
    """Return what transformers loads: the folder of the bundled model or of ``model``, else the Hugging Face name.

    Raises ModelError for a path that is no model folder.
    """
    if model == "bundled":
        from ragtune.models.bundled import bundled_folder

        return str(bundled_folder())
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"{folder} is not a model folder: it has no config.json. generator.model is 'bundled', a folder with "
                "config.json, *.safetensors and a tokenizer, a Hugging Face name, or provider:model."
            )
        return str(folder)
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ModelError(
            f"no model folder at {model}. generator.model is 'bundled', an existing folder, a Hugging Face name such as "
            "Qwen/Qwen2.5-1.5B-Instruct, or provider:model such as openai:gpt-4o-mini."
        )
    return model


@contextlib.contextmanager
def explain_loading(model: str) -> Iterator[None]:
    """Turn what transformers raises for a model that cannot be loaded into ModelError."""
    from safetensors import SafetensorError

    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise ModelError(
                f"'{model}' does not fit into the device's memory. Use a smaller model, smaller batches (batch_size), or "
                "training.method: qlora."
            ) from error
        first = str(error).strip().split("\n")[0][:300]
        if Path(model).is_dir():
            raise ModelError(
                f"the model folder {model} cannot be loaded: {first}. It must hold config.json, *.safetensors and a "
                "tokenizer that transformers knows (no code of its own, no pickles). Fetch or save it again."
            ) from error
        raise ModelError(
            f"the model '{model}' cannot be loaded: {first}. A Hugging Face name needs network access once (and "
            "HF_TOKEN for gated models), with safetensors weights; afterwards it is read from the cache. Without a "
            "network: generator.model: bundled, or a folder on this machine."
        ) from error


def read_config(model: str) -> Any:
    """Return the model's configuration. Raises ModelError where there is none to be had."""
    from transformers import AutoConfig

    with quiet(), explain_loading(model):
        return AutoConfig.from_pretrained(locate_model(model), trust_remote_code=False)


def fingerprint_model(model: str) -> str:
    """Return 16 hex digits that change with the configuration, the tokenizer or the weights.

    Weight files over 256 MiB count by size and header (names, shapes and offsets of the tensors) to stay quick.
    Raises ModelError where the model is not on this machine yet and cannot be fetched.
    """
    folder = Path(locate_model(model))
    if not folder.is_dir():
        from transformers.utils.hub import cached_file

        with quiet(), explain_loading(model):
            folder = Path(str(cached_file(model, "config.json"))).parent
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _FINGERPRINTED for path in folder.glob(pattern)}):
        digest.update(f"{path.name}:{path.stat().st_size}:{_digest_file(path)}\n".encode())
    return digest.hexdigest()[:16]


def _digest_file(path: Path) -> str:
    if path.stat().st_size <= _HASHED_BYTES:
        return hash_file(path)
    with path.open("rb") as file:
        length = min(int.from_bytes(file.read(8), "little"), 64 << 20)
        return hashlib.sha256(file.read(length)).hexdigest()


def read_context_tokens(config: Any, default: int = 4096) -> int:
    """Return how many tokens the model can attend to, by its configuration."""
    inner = config.get_text_config() if hasattr(config, "get_text_config") else config
    return int(getattr(inner, "max_position_embeddings", None) or default)
