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


def merge_adapter(section: Generator, adapter: Path, out: Path) -> float:
    """Write base + adapter as one model folder (safetensors, tokenizer); return the largest logit difference.

    The base is read anew from disk, in float32 unless the recipe names another type: weights that were quantised
    round the update away, and bitsandbytes garbles them after an evaluation on some CPUs. Raises RunError where the
    merged model's logits leave the adapter's by more than ``MAX_DIFFERENCE`` (a 50th of the largest logit below
    float32), and then writes nothing.
    """
    import torch

    check_mergeable(check_adapter(adapter))
    check_base(adapter, section.model)
    dtype = "float32" if section.dtype == "auto" else section.dtype
    chat = load_chat(section)
    ids = torch.tensor([chat.encode_prompt(_PROBE)])
    with quiet(), explain_loading(section.model), building_folder(out) as folder:
        model = load_adapter(load_base(section, dtype), adapter, portable_name(section.model)).eval()
        wanted = _logits(model, ids)
        merged = merge_loaded(model, adapter)
        merged.save_pretrained(str(folder), safe_serialization=True)
        chat.tokenizer.save_pretrained(str(folder))
        (folder / "training_args.bin").unlink(missing_ok=True)
        del model, merged
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
        return model(input_ids=ids.to(model.device)).logits.float().cpu()
