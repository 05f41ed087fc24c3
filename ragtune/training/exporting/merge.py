"""Making one model of base and adapter, and checking that it answers alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragtune.errors import RunError
from ragtune.files import building_folder, write_manifest
from ragtune.models.adapt import check_adapter, check_base, check_mergeable, load_adapter, merge_loaded
from ragtune.models.chat import load_chat
from ragtune.models.checkpoint import explain_loading, fingerprint_model, portable_name, quiet
from ragtune.models.weights import load_base
from ragtune.recipe.schema import Generator
from ragtune.records import Message

MAX_DIFFERENCE = 1e-4  # of logits in float32, between the adapter and the merged model
_PROBE = (
    Message(role="system", content="Answer the question from the numbered passages."),
    Message(role="user", content="[1] Net sales 2021: 4,210\n\nQuestion: What were net sales in 2021?"),
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def merge_weights(section: Generator, adapter: Path, folder: Path, dtype: str) -> None:
    """Write base + adapter into a folder: safetensors in the number type ``dtype``, configuration, tokenizer; no pickles.

    The base is read anew from disk in 16 or 32 bits: weights that were quantised round the update away, and bitsandbytes
    garbles them after an evaluation on some CPUs. Raises RunError for an adapter that does not fit, ModelError for one that
    cannot be merged.
    """
    check_mergeable(check_adapter(adapter))
    check_base(adapter, section.model)
    chat = load_chat(section)
    with quiet(), explain_loading(section.model):
        model = load_adapter(load_base(section, dtype), adapter, portable_name(section.model))
        save_model(merge_loaded(model, adapter), chat.tokenizer, folder)


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer as transformers reads them, weights as safetensors alone."""
    model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
    strip_pickles(folder)


def strip_pickles(folder: Path) -> None:
    """Delete what only unpickling could read, such as training_args.bin: nobody should load that from another."""
    for path in [path for pattern in _PICKLES for path in folder.rglob(pattern)]:
        path.unlink()


def merge_adapter(section: Generator, adapter: Path, out: Path) -> float:
    """Write base + adapter as one model folder (safetensors, tokenizer); return the largest logit difference.

    In float32 unless the recipe names another type. Raises RunError where the merged model's logits leave the adapter's by
    more than ``MAX_DIFFERENCE`` (a 50th of the largest logit below float32), and then writes nothing. The stage
    export_model asks held-out questions besides.
    """
    import torch

    dtype = "float32" if section.dtype == "auto" else section.dtype
    ids = torch.tensor([load_chat(section).encode_prompt(_PROBE)])
    with building_folder(out) as folder:
        merge_weights(section, adapter, folder, dtype)
        wanted = _logits(load_adapter(load_base(section, dtype), adapter, portable_name(section.model)), ids)
        difference = float((_logits(_reload(folder, section, dtype), ids) - wanted).abs().max())
        limit = MAX_DIFFERENCE if dtype == "float32" else 0.02 * float(wanted.abs().max())
        if not difference <= limit:
            raise RunError(
                f"the merged model's logits differ from the adapter's by {difference:.2g}, allowed are {limit:.2g}. Nothing "
                "was written. Merge in float32 (generator.dtype: float32), or serve the adapter itself."
            )
        write_manifest(folder, "model", base_model=portable_name(section.model), dtype=dtype,
                       base_fingerprint=fingerprint_model(section.model), largest_logit_difference=difference)
    return difference


def _reload(folder: Path, section: Generator, dtype: str) -> Any:
    return load_base(section.model_copy(update={"model": str(folder)}), dtype)


def _logits(model: Any, ids: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model.eval()(input_ids=ids.to(model.device)).logits.float().cpu()
