"""Embedding by OpenVINO, three to four times as fast on a CPU: the model is converted once, checked, kept in the cache.

The conversion takes the torch module itself: sentence-transformers' own OpenVINO backend needs optimum, which cannot be
installed beside transformers 5. It computes in bfloat16 where the processor does. Once converted, neither torch nor
transformers is loaded, so the first question is answered seconds sooner.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import MissingPackage, ModelError
from ragtune.files import building_folder, hash_text, read_manifest, write_manifest
from ragtune.models.checkpoint import quiet
from ragtune.models.convert import KIND, alone, cache_folder, is_whole
from ragtune.models.weights import has_fast_bfloat16

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
VERSION = 1
"""Raise it when models are converted in another way: older folders of the cache are then not taken."""
LEAST_COSINE = 0.999
"""Of each sample's vector between OpenVINO and torch in float32; below it a conversion is refused."""
ADVICE = "index.embedder_engine: torch"
_MODEL = "model.xml"

Encode = Callable[["np.ndarray", "np.ndarray"], "np.ndarray"]
"""Takes token ids and mask, int64, shape (texts, tokens); returns the mean of the last layer, shape (texts, dimension)."""


def has_openvino() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("openvino") is not None


def import_openvino() -> Any:
    """Return the package. Raises MissingPackage naming the pip line."""
    try:
        import openvino
    except ImportError as error:
        raise MissingPackage("index.embedder_engine 'openvino' needs the package openvino, which is not installed. "
                             f"Do: pip install 'ragtune[openvino]', or set {ADVICE}") from error
    return openvino


def has_graphics_card() -> bool:
    """Whether an NVIDIA card is there, which torch computes on, without importing torch to ask."""
    return Path("/dev/nvidia0").exists() or os.environ.get("CUDA_VISIBLE_DEVICES", "") not in ("", "-1")


def count_cores() -> int:
    """Return the processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OpenVinoEncoder:
    """A converted encoder, opened. Any thread may call it; they wait for each other."""

    batch_size = 16  # measured: a tenth faster than 32

    def __init__(self, folder: Path) -> None:
        openvino = import_openvino()
        threads = int(os.environ.get("OMP_NUM_THREADS") or 0) or count_cores()
        precision = "bf16" if has_fast_bfloat16() else "f32"
        self.speedup = float(read_manifest(folder, KIND, check_files=False).get("speedup", 1.0))
        compiled = openvino.Core().compile_model(str(folder / _MODEL), "CPU", {
            "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
        self.request = compiled.create_infer_request()
        self.lock = threading.Lock()

    def __call__(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the mean of the last layer over each text's tokens, float32, shape (texts, dimension)."""
        with self.lock:
            vectors: np.ndarray = self.request.infer({"input_ids": ids, "attention_mask": mask})[0].copy()
        return vectors


def open_encoder(
    name: str, fingerprint: str, load: Callable[[], Any], samples: Sequence[tuple[np.ndarray, np.ndarray]]
) -> OpenVinoEncoder:
    """Return the encoder of this fingerprint, converted where the cache does not hold it yet.

    ``load`` returns its torch module in float32 (a BERT whose output has ``last_hidden_state``); ``samples`` are batches of
    ids and masks that both must embed alike. Raises MissingPackage, ModelError where they do not.
    """
    version = import_openvino().__version__
    folder = cache_folder() / "openvino" / f"{name}-{hash_text(f'{fingerprint} {version} {VERSION} {has_fast_bfloat16()}')}"
    with alone(folder, ADVICE):
        if not is_whole(folder):
            _convert(name, fingerprint, load, samples, folder)
    return OpenVinoEncoder(folder)


def pool_by_torch(model: Any) -> Encode:
    """Return a torch model as an encoder, on the device and in the number type it has."""
    import torch

    def encode(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        device = next(model.parameters()).device
        given, marks = torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
        with torch.inference_mode():
            states = model(input_ids=given, attention_mask=marks).last_hidden_state.float()
            weights = marks.unsqueeze(-1).float()
            means: np.ndarray = ((states * weights).sum(1) / weights.sum(1)).cpu().numpy()
        return means

    return encode


def _convert(
    name: str, fingerprint: str, load: Callable[[], Any], samples: Sequence[tuple[np.ndarray, np.ndarray]], folder: Path
) -> None:
    """Convert, compare with torch in float32 on the samples, and time both."""
    openvino, model = import_openvino(), load()
    wanted, torch_s = _time(pool_by_torch(model), samples)
    with building_folder(folder) as partial:
        try:
            with quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that shapes seen in tracing might be taken for constant: compared below
                converted = openvino.convert_model(_pooled(model), example_input=_example())
            openvino.save_model(converted, str(partial / _MODEL), compress_to_fp16=False)
        except (RuntimeError, TypeError, ValueError) as error:
            first = str(error).strip().split("\n")[0][:200]
            raise ModelError(f"OpenVINO cannot convert '{name}' ({first}). Set {ADVICE}") from error
        write_manifest(partial, KIND, model=name, fingerprint=fingerprint)
        found, openvino_s = _time(OpenVinoEncoder(partial), samples)
        cosine = least_cosine(wanted, found)
        if not cosine >= LEAST_COSINE:
            raise ModelError(f"'{name}' embeds differently in OpenVINO: the cosine to torch is {cosine:.5f}, allowed is "
                             f"{LEAST_COSINE} or more. Nothing was kept. Set {ADVICE}")
        (partial / "manifest.json").unlink()
        write_manifest(partial, KIND, model=name, fingerprint=fingerprint, least_cosine=cosine,
                       speedup=round(torch_s / openvino_s, 2), converter=openvino.__version__)
    log.info("converted '%s': cosine %.5f, %.1f times as fast as torch in float32", name, cosine, torch_s / openvino_s)


def _pooled(model: Any) -> Any:
    """Return a torch module that gives the mean of the model's last layer."""
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            means: torch.Tensor = (states * weights).sum(1) / weights.sum(1)
            return means

    return Pooled().eval()


def _example() -> dict[str, Any]:
    import torch

    mask = torch.ones((2, 16), dtype=torch.long)
    mask[1, 9:] = 0  # so that the branch for padded texts is the one traced
    return {"input_ids": torch.ones((2, 16), dtype=torch.long), "attention_mask": mask}


def _time(encode: Encode, samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[list[np.ndarray], float]:
    """Return the vectors of each batch and the CPU seconds of a second pass over them."""
    vectors = [encode(ids, mask) for ids, mask in samples]
    started = time.process_time()
    for ids, mask in samples:
        encode(ids, mask)
    return vectors, max(1e-6, time.process_time() - started)


def least_cosine(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Return the smallest cosine between vectors that should be alike; NaN where the shapes differ."""
    import numpy as np

    if [part.shape for part in wanted] != [part.shape for part in found]:
        return float("nan")
    one, two = np.concatenate(list(wanted)), np.concatenate(list(found))
    return float(((one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)).min())
