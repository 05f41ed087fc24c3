"""The bundled language model: a small reader of statement rows that ships with ragtune as package data.

It is an ordinary Llama checkpoint with its tokenizer, loaded by transformers like any other folder. It reads passages,
finds figures and answers in a few forms; it is no chat model. Its card, README.md in the folder, says how it was made
and what was measured.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ragtune.errors import ModelError
from ragtune.files import hash_file, hash_text

FOLDER = "bundled_weights"
CONTEXT_TOKENS = 2048
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
         "chat_template.jinja")
SHA256 = "8bb18595726d638b"
"""Of the digests of FILES in this order; scripts/pretrain/export.py writes it here whenever it writes the folder."""


def bundled_folder(check: bool = False) -> Path:
    """Return the folder of the bundled model; with ``check``, read every byte and compare.

    Raises ModelError where a file is missing, or where the files are not those that were shipped.
    """
    folder = Path(str(resources.files("ragtune.models"))) / FOLDER
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"the bundled model lacks {', '.join(missing)} in {folder}. Install ragtune again, or set generator.model to a "
            "folder or a Hugging Face name."
        )
    if check and hash_folder(folder) != SHA256:
        raise ModelError(
            f"the bundled model in {folder} is not the one that ships with this version (a file was changed or cut off). "
            "Install ragtune again."
        )
    return folder


def hash_folder(folder: Path) -> str:
    """Return the hash of the digests of FILES."""
    return hash_text("\n".join(hash_file(folder / name) for name in FILES))
