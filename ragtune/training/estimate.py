"""What a tuning run will take, in memory and time, before anything is loaded; a run that does not fit is refused.

Sources: memory of weights, gradients and AdamW as in ZeRO (arXiv 1910.02054, section 3), 4-bit weights as in QLoRA
(2305.14314), activations counted layer by layer as in Korthikanti et al. (2205.05198, section 4), here for a layer with
RMSNorm, gated MLP and an attention that stores no scores; time by floating-point operations (2001.08361, section 2.1).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from ragtune.errors import RunError
from ragtune.models.weights import choose_device, choose_dtype, has_fast_bfloat16
from ragtune.recipe.schema import Recipe, Training
from ragtune.training.arguments import count_steps
from ragtune.training.methods import Method, find_method
from ragtune.training.sizes import ModelSizes, count_trainable, read_sizes

GIB = 1 << 30
_BITS_4 = 0.5 + 0.127 / 8  # bytes a weight: NF4 with double quantisation of its scales
_SCORED = 0.12  # of a row's tokens count in the loss: the completion
_LIBRARIES = 125 << 20  # what torch, TRL and the trainer hold beside all that is counted here; measured on a CPU
_HOLES = {"cpu": 3.5, "cuda": 1.15}  # what an allocator takes for uneven batches, by what they hold; measured on a CPU
_HOLES_EVEN = {"cpu": 1.4, "cuda": 1.05}  # for batches all of one length, as those of running text are
_BYTES_PER_S = {"cpu": 0.25e9, "cuda": 4e11}  # of kept activations, with all that is done to them; a CPU's thread, measured
_MEAN = 0.7  # of the longest row, as what rows are long on the average
_ROOM = 0.9  # of the free memory that a run may take: the estimate is no promise
_EFFICIENCY = 0.35  # of the speed of a large matrix product that tuning's products reach
_PAIRED = ("dpo", "orpo", "simpo", "kto", "reward")  # each row is two in the forward pass
_DRAWN = ("ppo", "grpo", "rloo")


@dataclass(frozen=True)
class Estimate:
    """Memory in bytes at its highest, by what holds it; ``seconds`` for ``rows`` rows, ``free`` what the device has."""

    method: str
    device: str
    parameters: int
    trainable: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    cache: int
    working: int
    tokens: int
    rows: int
    steps: int
    seconds: float
    free: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.cache + self.working

    @property
    def share(self) -> float:
        """Trainable parameters by those of the model."""
        return self.trainable / max(1, self.parameters)

    def sentence(self) -> str:
        """Say in a line what the run will take."""
        parts = {name: getattr(self, name) for name in ("weights", "gradients", "optimizer", "activations", "cache")}
        told = ", ".join(f"{name} {_size(value)}" for name, value in parts.items() if value)
        return (f"{self.method} tunes {self.trainable:,} of {self.parameters:,} parameters ({100 * self.share:.3g}%) on "
                f"{self.device}: about {_size(self.total)} at batches of up to {self.tokens:,} tokens ({told}), "
                f"{_size(self.free)} free; about {_duration(self.seconds)} for {self.rows:,} rows")

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, with share and total."""
        return {**asdict(self), "share": self.share, "total": self.total}


def estimate_run(recipe: Recipe, rows: int = 1000, longest: int = 0, sizes: ModelSizes | None = None) -> Estimate:
    """Return what the recipe's tuning run will take, nothing loaded.

    ``longest`` is the longest row in tokens; 0 takes the recipe's longest prompt and completion, an upper bound. On the
    bundled model and the demo's uneven rows (growth of the process in 50 steps) it is 0.8 to 0.9 of the peak for lora and
    full, 1.0 to 1.8 for qlora, orpo, simpo and dpo. Raises RecipeError for an unknown method, ModelError for a model whose
    configuration is not to be had.
    """
    training, method = recipe.training, find_method(recipe.training.method)
    sizes = sizes or read_sizes(recipe.generator.model)
    device = choose_device(recipe.generator.device)
    longest = longest or recipe.generator.max_prompt_tokens + recipe.generator.max_new_tokens
    trainable = count_trainable(training.weights or method.weights, training, sizes)
    wide = _base_bytes(recipe, sizes, device)
    frozen = sizes.parameters - (trainable if method_tunes_own(training, method) else 0)
    packed = min(sizes.in_linears, frozen) if method.is_4bit else 0
    tokens = training.batch_size * longest * (2 if method.loop in _PAIRED else 1)
    is_mixed = device != "cpu" or has_fast_bfloat16()
    # bitsandbytes gives back what it got: on a CPU 32 bits
    kept = _activation_bytes(sizes, training, tokens, longest, 2 if is_mixed and (wide == 2 or not packed) else 4, method)
    steps = count_steps(training, rows)
    step_s = _step_seconds(sizes, training, method, tokens, longest, device, is_mixed) + _MEAN * kept / _bytes_per_s(device)
    return Estimate(
        method=training.method, device=device, parameters=sizes.parameters, trainable=trainable,
        weights=round(4 * trainable + packed * _BITS_4 + (frozen - packed) * wide),
        gradients=4 * trainable,
        optimizer=8 * trainable,
        activations=round((_HOLES_EVEN if method.loop == "text" else _HOLES)[device.partition(":")[0]] * kept),
        cache=_cache_bytes(recipe, sizes, method, longest),
        working=round(_LIBRARIES + 4 * max((each.inputs * each.outputs for each in sizes.linears), default=0)),
        tokens=tokens, rows=rows, steps=steps,
        seconds=steps * training.accumulation * step_s,
        free=free_memory(device),
    )


def method_tunes_own(training: Training, method: Method) -> bool:
    """Whether the weights tuned are the model's own rather than beside them."""
    return (training.weights or method.weights) in ("full", "head", "last_layers", "modules")


def _base_bytes(recipe: Recipe, sizes: ModelSizes, device: str) -> int:
    """Return the bytes of a weight of the base that is not quantised."""
    import torch

    class Stored:
        dtype = sizes.dtype or "bfloat16"

    if find_method(recipe.training.method).is_4bit:
        return 4 if device == "cpu" else 2
    chosen: torch.dtype = choose_dtype(recipe.generator.dtype, device, Stored, sizes.parameters)
    return chosen.itemsize


def _activation_bytes(
    sizes: ModelSizes, training: Training, tokens: int, longest: int, width: int, method: Method
) -> float:
    """Return what a forward pass keeps for the way back. ``width``: bytes of a number in the linear layers, 2 or 4.

    Of a token in a layer: the residual stream twice in 32 bits, each linear layer's input in ``width``, queries, keys,
    values and the attention's result, the gate before and after its activation and both factors of the MLP. Then mask and
    logits: those of the tokens that count, as they come, in 32 bits, and their gradient.
    """
    h, f, kv = sizes.hidden, sizes.inner, sizes.kv_width
    layers = {"head": 0, "last_layers": min(training.last_layers, sizes.layers)}.get(
        training.weights or method.weights, sizes.layers)  # no way back below the first that is tuned
    layer = 8 * h + width * (5 * h + (4 * h + 2 * kv) + 4 * f)
    kept = tokens * (4 * h * layers + layer if training.gradient_checkpointing else layer * layers)
    mask = 5 * (tokens / longest) * longest**2
    scored = tokens * (1.0 if method.loop == "text" else _SCORED)
    return kept + mask + scored * sizes.vocabulary * (width + 12)


def _cache_bytes(recipe: Recipe, sizes: ModelSizes, method: Method, longest: int) -> int:
    """Return what keys and values take while answers are written: to reward them, or to measure accuracy."""
    if method.loop not in _DRAWN and not recipe.training.stop_patience:
        return 0
    together = recipe.generator.batch_size
    if method.loop in _DRAWN:
        together = max(together, recipe.training.reinforce.prompts * recipe.training.reinforce.samples)
    return 2 * 4 * sizes.layers * sizes.kv_width * together * longest


def _step_seconds(
    sizes: ModelSizes, training: Training, method: Method, tokens: int, longest: int, device: str, is_mixed: bool
) -> float:
    """Return the seconds of a forward and backward pass: 2 operations a weight and token forward, 2 back to the inputs,
    2 more to the weights where they are tuned, 2 to compute layers again, and the attention's over the rows' length."""
    own = sizes.parameters if method_tunes_own(training, method) else 0
    passes = 4 * sizes.parameters + 2 * own + (2 * sizes.parameters if training.gradient_checkpointing else 0)
    attention = 6 * sizes.layers * sizes.hidden * longest
    drawn = 2 * sizes.parameters * 3 if method.loop in _DRAWN else 0  # writing is bound by memory: counted thrice
    return _MEAN * tokens * (passes + attention + drawn) / (_EFFICIENCY * _measure_flops(device, is_mixed))


def _bytes_per_s(device: str) -> float:
    import torch

    kind = device.partition(":")[0]
    return _BYTES_PER_S[kind] * (torch.get_num_threads() if kind == "cpu" else 1)


_flops: dict[tuple[str, bool], float] = {}


def _measure_flops(device: str, is_mixed: bool) -> float:
    """Return how many operations a second this device reaches in a matrix product, measured for an instant."""
    import torch

    if (device, is_mixed) not in _flops:
        side = 512 if device == "cpu" else 4096
        dtype = torch.bfloat16 if is_mixed else torch.float32
        matrix = torch.ones((side, side), dtype=dtype, device=device)
        best = float("inf")
        for _ in range(4):
            started = time.perf_counter()
            for _ in range(2):
                float((matrix @ matrix)[0, 0])  # reading a number waits for the GPU
            best = min(best, time.perf_counter() - started)
        _flops[device, is_mixed] = 2 * 2 * side**3 / best
    return _flops[device, is_mixed]


def free_memory(device: str) -> int:
    """Return the bytes that are free on the device; on a CPU those that the system gives without swapping."""
    if device != "cpu":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil  # type: ignore[import-untyped]  # comes with accelerate

    free = int(psutil.virtual_memory().available)
    for limit, used in (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),):
        try:
            with open(limit, encoding="ascii") as one, open(used, encoding="ascii") as two:
                free = min(free, int(one.read()) - int(two.read()))
        except (OSError, ValueError):  # no container, or one without a limit
            continue
    return free


def check_fits(recipe: Recipe, rows: int = 1000, longest: int = 0) -> Estimate:
    """Return the estimate of the recipe's run. Raises RunError where it is more than is free, saying what would fit.

    ``training.check_memory: false`` lets the run try all the same.
    """
    sizes = read_sizes(recipe.generator.model)
    found = estimate_run(recipe, rows, longest, sizes)
    if not recipe.training.check_memory or found.total <= _ROOM * found.free:
        return found
    ways = _find_ways(recipe, rows, longest, sizes, found.free)
    told = ("It would fit with " + ", or with ".join(ways)) if ways else "Nothing tried would fit: take a smaller model"
    raise RunError(f"{found.sentence()}: too much. {told}. To try all the same: --set training.check_memory=false")


def _find_ways(recipe: Recipe, rows: int, longest: int, sizes: ModelSizes, free: int) -> list[str]:
    """Return the settings that would fit, the least change first: at most two."""
    training = recipe.training
    ways: list[dict[str, Any]] = []
    if not training.gradient_checkpointing and (training.weights or training.method) != "prefix_tuning":
        ways.append({"gradient_checkpointing": True})
    size, accumulation = training.batch_size, training.accumulation
    while size > 1:
        size, accumulation = size // 2, accumulation * 2
        ways.append({"batch_size": size, "accumulation": accumulation})
    smallest = {"batch_size": 1, "accumulation": training.batch_size * training.accumulation, "gradient_checkpointing": True}
    ways.append(smallest)
    if find_method(training.method).loop == "sft":
        ways += [{"method": "qlora"}, {"method": "qlora", **smallest}]
    fitting = []
    for way in ways:
        other = recipe.model_copy(update={"training": training.model_copy(update=way)})
        if estimate_run(other, rows, longest, sizes).total <= _ROOM * free:
            fitting.append(" ".join(f"training.{name}={str(value).lower()}" for name, value in way.items()))
    return fitting[:2]


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / (1 << 20):.0f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
