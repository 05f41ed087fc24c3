"""Write a checkpoint as a Hugging Face folder: safetensors, config, tokenizer with chat template, generation defaults."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from shape import Reader, Shape, to_llama
from tokenizer import save_tokenizer

from ragtune.models import bundled
from ragtune.models.bundled import hash_folder

CHECKPOINT = "checkpoint.pt"


def load_reader(checkpoint: Path) -> tuple[Reader, dict[str, Any]]:
    """Return the model of a checkpoint in float32, and the whole checkpoint."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    model = Reader(Shape(**state["shape"]))
    model.load_state_dict(state["weights"])
    return model.eval(), state


def export(checkpoint: Path, tokenizer_folder: Path, folder: Path) -> None:
    """Write the folder; the weights are bfloat16, as they were trained with, and take two bytes each."""
    from transformers import AutoTokenizer, GenerationConfig

    model, state = load_reader(checkpoint)
    llama = to_llama(model).bfloat16()
    llama.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=96, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    folder.mkdir(parents=True, exist_ok=True)
    llama.save_pretrained(folder)
    save_tokenizer(AutoTokenizer.from_pretrained(tokenizer_folder), folder)
    if folder.resolve() == (Path(bundled.__file__).parent / bundled.FOLDER).resolve():
        _pin(hash_folder(folder))
    print(
        json.dumps(
            {
                "step": state["step"],
                "tokens": state["tokens"],
                "minutes": round(state["elapsed_s"] / 60, 1),
                "parameters": llama.num_parameters(),
            }
        )
    )


def _pin(digest: str) -> None:
    """Write the folder's hash into ragtune/models/bundled.py."""
    module = Path(bundled.__file__)
    module.write_text(re.sub(r'^SHA256 = ".*"$', f'SHA256 = "{digest}"', module.read_text(), flags=re.MULTILINE))


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("ragtune/models/bundled_weights"))
    options = parser.parse_args()
    export(options.work / CHECKPOINT, options.work / "tokenizer", options.folder)


if __name__ == "__main__":
    main()
