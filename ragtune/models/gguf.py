"""GGUF files: written by llama.cpp's converter, which the user has, and read back by transformers to be compared."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragtune.errors import MissingPackage, ModelError
from ragtune.models.checkpoint import quiet

SCRIPT = "convert_hf_to_gguf.py"
NUMBERS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "q8_0": "q8_0"}
"""Number types of a GGUF file, and what the converter calls them."""
MAX_SECONDS = 3600
_MAGIC = b"GGUF"
_GET = (
    "Do: git clone https://github.com/ggml-org/llama.cpp && pip install -r "
    "llama.cpp/requirements/requirements-convert_hf_to_gguf.txt, then name the folder with --llama-cpp or in the "
    "environment variable LLAMA_CPP"
)


def find_converter(place: str | Path | None = None) -> Path:
    """Return llama.cpp's converter: of the folder (or the script) ``place``, else of $LLAMA_CPP, else on the PATH.

    Raises MissingPackage that names what to get; also where the package gguf, which reads the result back, is missing.
    """
    named = place or os.environ.get("LLAMA_CPP")
    if named:
        path = Path(named).expanduser()
        script = path if path.is_file() else path / SCRIPT
        if not script.is_file():
            raise MissingPackage(f"{path} has no {SCRIPT}. {_GET}.")
    elif found := shutil.which(SCRIPT):
        script = Path(found)
    else:
        raise MissingPackage(f"GGUF is written by llama.cpp's {SCRIPT}, which was not found. {_GET}.")
    if importlib.util.find_spec("gguf") is None:
        raise MissingPackage("a GGUF file is compared with the adapter by reading it back, for which the package gguf is "
                             "needed. Do: pip install 'ragtune[gguf]'")
    return script.resolve()


def convert_gguf(model: Path, out: Path, numbers: str, converter: Path, max_seconds: float = MAX_SECONDS) -> None:
    """Have the converter write a model folder (safetensors) as the file ``out``; ``numbers`` is a name in NUMBERS.

    It runs as a process of its own, without a network for Hugging Face's libraries. Raises ModelError where it fails,
    takes longer than ``max_seconds`` or writes no GGUF file.
    """
    command = [sys.executable, str(converter), str(model), "--outfile", str(out), "--outtype", NUMBERS[numbers]]
    code, said = _run(command, max_seconds)
    lines = [line for line in said.splitlines() if line.strip()] or ["it said nothing"]
    told = " | ".join(lines[-3:])[-600:]
    if code is None:
        raise ModelError(f"{converter.name} did not end within {max_seconds:.0f} s ({told}). Allow more with --max-seconds.")
    if code:
        advice = "Update llama.cpp (git pull), or export as safetensors"
        if "pre-tokenizer was not recognized" in said:
            advice = ("llama.cpp does not know this model's tokenizer: it knows those of published models by name. Export "
                      "as safetensors or ctranslate2")
        raise ModelError(f"{converter.name} failed with exit code {code}: {told}. {advice}.")
    if not out.is_file() or out.open("rb").read(4) != _MAGIC:
        raise ModelError(f"{converter.name} ended well and left no GGUF file ({told}). Update llama.cpp (git pull).")


def _run(command: Sequence[str], max_seconds: float) -> tuple[int | None, str]:
    """Return the exit code (None: stopped for the time it took) and what was said; its children end with it."""
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", env=surroundings, start_new_session=True) as process:
        try:
            said, _ = process.communicate(timeout=max_seconds)
            return process.returncode, said
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0] or ""
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def load_gguf(file: Path, device: str) -> Any:
    """Return the model of a GGUF file as transformers reads it: weights dequantised to float32, ready to generate.

    Raises ModelError for an architecture that transformers does not read from GGUF.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(
                str(file.parent), gguf_file=file.name, dtype=torch.float32, device_map={"": device}, trust_remote_code=False
            )
    except (ValueError, KeyError, NotImplementedError, RuntimeError, OSError, ImportError, IndexError) as error:
        first = (str(error).strip() or type(error).__name__).split("\n")[0][:300]
        raise ModelError(f"the GGUF file {file.name} cannot be read back by transformers: {first}") from error
    return model.eval()
