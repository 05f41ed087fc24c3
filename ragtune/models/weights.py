"""Loading the weights of a language model onto a device, in full or quantised to 4 bits."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import ModelError
from ragtune.models.checkpoint import explain_loading, locate_model, quiet, read_config
from ragtune.models.processes import is_sharded, local_rank, world_size
from ragtune.recipe.schema import Generator as Section

if TYPE_CHECKING:
    import torch

BLOCK = 64  # NF4 keeps one scale for so many neighbouring weights
SMALL = 50_000_000  # parameters; below that float32 costs little and bfloat16 rounds away more than it saves


def choose_device(device: str) -> str:
    """Return 'cpu' or 'cuda:N' for a recipe's device; of several processes each has a GPU of its own.

    Raises ModelError where CUDA is asked for and absent, or where several processes are told to take the same GPU.
    """
    import torch

    if device == "auto":
        has_own = torch.cuda.is_available() and torch.cuda.device_count() > local_rank()
        return f"cuda:{local_rank()}" if has_own else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"generator.device is '{device}'. Allowed: auto, cpu, cuda, cuda:0, cuda:1, ...") from error
    if chosen.type == "cuda":
        if chosen.index is not None and world_size() > 1:
            raise ModelError(f"generator.device is '{device}', and {world_size()} processes were launched, each of which "
                             "has a GPU of its own. Set generator.device to auto.")
        number = local_rank() if chosen.index is None else chosen.index
        if not torch.cuda.is_available() or number >= torch.cuda.device_count():
            raise ModelError(
                f"generator.device is '{device}', but this machine offers {torch.cuda.device_count()} CUDA devices. "
                "Set generator.device to auto or cpu."
            )
        return f"cuda:{number}"
    return device


def half_dtype(device: str) -> torch.dtype:
    """Return the 16-bit type to compute in: bfloat16, or float16 on GPUs older than Ampere."""
    import torch

    return torch.bfloat16 if device == "cpu" or torch.cuda.is_bf16_supported(False) else torch.float16


def has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX; or an Arm chip of Apple's)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return platform.system() == "Darwin" and platform.machine() == "arm64"
    return "avx512_bf16" in flags or "amx_bf16" in flags


def build_skeleton(config: Any) -> torch.nn.Module:
    """Return the model without weights (on the meta device), to count parameters and see its layers."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        skeleton: torch.nn.Module = AutoModelForCausalLM.from_config(config)
    return skeleton


def choose_dtype(dtype: str, device: str, config: Any, parameters: int) -> torch.dtype:
    """Return the number type of the weights. 'auto' keeps the checkpoint's on CUDA; on a CPU it takes bfloat16 for
    models of 50M parameters and more where the hardware multiplies it, else float32."""
    import torch

    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if device != "cpu":
        stored = getattr(config, "dtype", None)
        stored = getattr(torch, stored) if isinstance(stored, str) else stored
        return stored if isinstance(stored, torch.dtype) else torch.bfloat16
    return torch.bfloat16 if parameters >= SMALL and has_fast_bfloat16() else torch.float32


def load_base(section: Section, dtype: str | None = None) -> Any:
    """Return the model of a recipe on its device, in 16 or 32 bits, from disk, ready to generate.

    Raises ModelError naming what was found, allowed and to be done.
    """
    from transformers import AutoModelForCausalLM

    device = choose_device(section.device)
    config = read_config(section.model)
    with quiet(), explain_loading(section.model):
        parameters = sum(parameter.numel() for parameter in build_skeleton(config).parameters())
        chosen = choose_dtype(dtype or section.dtype, device, config, parameters)
        model = AutoModelForCausalLM.from_pretrained(
            locate_model(section.model), dtype=chosen, device_map={"": device}, use_safetensors=True, trust_remote_code=False
        )
    return model.eval()


def load_4bit(section: Section) -> Any:
    """Return the model quantised to NF4 with double quantisation, ready to be tuned, never to be merged into.

    On CPUs with AVX512-BF16 bitsandbytes repacks the weights at the first forward pass in eval mode, after which
    gradients and dequantised weights are wrong (bitsandbytes #2078); the flag that allows it is switched off here.
    Raises ModelError also for a layer whose width is no multiple of 64, which bitsandbytes quantises wrongly.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    with quiet():
        from bitsandbytes.nn.modules import Linear4bit
    device = choose_device(section.device)
    is_slow_cpu = device == "cpu" and not has_fast_bfloat16()
    config = read_config(section.model)
    with quiet(), explain_loading(section.model):
        check_4bit_widths(build_skeleton(config), section.model)
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32 if is_slow_cpu else half_dtype(device),
            # Laid in parts on several GPUs, all of a layer's tensors want one storage type.
            bnb_4bit_quant_storage=half_dtype(device) if is_sharded() else torch.uint8,
        )
        model = AutoModelForCausalLM.from_pretrained(
            locate_model(section.model),
            quantization_config=quantization,
            dtype=torch.float32 if device == "cpu" else half_dtype(device),
            device_map={"": device},
            use_safetensors=True,
            trust_remote_code=False,
        )
    if device == "cpu":
        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False
    return model


def check_4bit_widths(skeleton: torch.nn.Module, name: str) -> None:
    """Raise ModelError for the first linear layer (the output head apart) whose input width 64 does not divide."""
    import torch

    model: Any = skeleton
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for path, module in skeleton.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head and module.in_features % BLOCK:
            raise ModelError(
                f"'{name}' cannot be quantised to 4 bits: the layer {path} takes {module.in_features} inputs, and 4-bit "
                f"blocks need a multiple of {BLOCK}. Set training.method to lora, or use a model whose widths are "
                f"multiples of {BLOCK}."
            )
