"""The second engine: CTranslate2 gives the same greedy answers, several times faster on a CPU, and draws others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ragtune.errors import ModelError
from ragtune.files import read_manifest
from ragtune.models.adapt import check_adapter
from ragtune.models.chat import Chat
from ragtune.models.checkpoint import read_config, read_context_tokens
from ragtune.models.convert import KIND, WEIGHTS, convert_checkpoint, import_ctranslate2, logits_of
from ragtune.models.local import LocalGenerator
from ragtune.models.spoken import SpokenBatch, check_prompts
from ragtune.models.streaming import Say, Wish, Written
from ragtune.models.weights import SMALL, choose_device
from ragtune.recipe.schema import Generator as Section
from ragtune.seams import Sampling

T = TypeVar("T")
MAX_KEPT = 8
"""Most small models that stay open at once, the base and adapters merged with it."""
APART = 16
"""Tokens by which prompts of one batch may differ: CTranslate2 reads the shortest at once and the rest token by token."""


def choose_compute_type(dtype: str, device: str, quantization: str = "none") -> str:
    """Return CTranslate2's number type for a recipe's dtype; 'auto' is float32 on a CPU, 16 bits on CUDA.

    With ``quantization`` 'int8' it is int8 with that type for what stays unquantised.

    Raises ModelError for a type the device cannot compute in: CTranslate2 would take another without a word.
    """
    kind, _, number = device.partition(":")
    supported = import_ctranslate2().get_supported_compute_types(kind, int(number or 0))
    if quantization == "int8":
        return "int8_float32" if kind == "cpu" else "int8_bfloat16" if "int8_bfloat16" in supported else "int8_float16"
    if dtype == "auto":
        order = ("float32",) if kind == "cpu" else ("bfloat16", "float16", "float32")
        return next(name for name in order if name in supported)
    if dtype not in supported:
        allowed = ", ".join(name for name in ("float32", "bfloat16", "float16") if name in supported)
        raise ModelError(
            f"generator.dtype is '{dtype}', in which CTranslate2 does not compute on {device}. Allowed here: auto, "
            f"{allowed}. Or set generator.engine: transformers"
        )
    return dtype


class CTranslateGenerator(LocalGenerator):
    """A causal language model run by CTranslate2. An adapter is merged with the base, once, in the cache of conversions.

    Small models (below 50M parameters) answer one prompt a thread: threads on so little work only wait for each other.
    Larger ones put all threads on one batch of prompts of like length.
    """

    def __init__(self, section: Section, chat: Chat, adapter: Path | None = None) -> None:
        super().__init__(section, chat, read_context_tokens(read_config(section.model)))
        self._device = choose_device(section.device)
        self._compute_type = choose_compute_type(section.dtype, self._device, section.quantization)
        self._folder: Path | None = None
        self._engine: Any = None
        self._is_small = False
        self._kept: dict[Path | None, tuple[Path, Any, list[int]]] = {}
        """Small models stay open for the next switch: adapter -> (folder of the conversion, engine, stop tokens)."""
        self.adapter = None if adapter is None else check_adapter(adapter)
        self._use(self.adapter)

    def _use(self, adapter: Path | None) -> None:
        if adapter in self._kept:
            self._kept[adapter] = self._kept.pop(adapter)  # at the end: the first one is the one unused longest
            self._folder, self._engine, self.stop_ids = self._kept[adapter]
            self._is_small = True
            return
        folder = convert_checkpoint(self._section, self.chat, self._compute_type, adapter)
        manifest = read_manifest(folder, KIND, check_files=False)
        self._engine = None  # frees the weights of the model before, unless they are kept
        self._engine, self._is_small = self._open(folder / WEIGHTS)
        self._folder, self.stop_ids = folder, list(manifest["stop_ids"])
        if self._is_small:
            self._kept[adapter] = self._folder, self._engine, self.stop_ids
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]

    @contextlib.contextmanager
    def _seed(self, seed: int) -> Iterator[None]:
        """Draw from a seed inside the block, with the weights loaded anew.

        CTranslate2 seeds a worker thread when it first draws, and never again; which of several workers takes a prompt is
        chance. Hence a new worker, and one only.
        """
        weights = Path(str(self._folder)) / WEIGHTS
        import_ctranslate2().set_random_seed(seed)
        before = self._kept.get(self.adapter, (None, None))[1]
        self._engine = None  # large weights are never held twice
        try:
            self._engine, self._is_small = self._open(weights, is_seeded=True)
            yield
        finally:
            self._engine = None
            self._engine, self._is_small = (before, True) if before is not None else self._open(weights)

    def _open(self, weights: Path, is_seeded: bool = False) -> tuple[Any, bool]:
        """Return the loaded model and whether it works on one prompt a thread: a small one on a CPU, not to be seeded."""
        import torch

        kind, _, number = self._device.partition(":")
        bytes_each = 1 if self._compute_type.startswith("int8") else 4 if self._compute_type == "float32" else 2
        is_small = kind == "cpu" and not is_seeded and (weights / "model.bin").stat().st_size < SMALL * bytes_each
        threads = torch.get_num_threads()
        try:
            engine = import_ctranslate2().Generator(
                str(weights), device=kind, device_index=int(number or 0), compute_type=self._compute_type,
                inter_threads=threads if is_small else 1, intra_threads=1 if is_small else threads,
            )
        except RuntimeError as error:
            raise ModelError(
                f"CTranslate2 cannot open '{self.name}' on {self._device}: {str(error).strip().splitlines()[0][:200]}. "
                "Set generator.device: cpu, or generator.engine: transformers"
            ) from error
        return engine, is_small

    def _complete(self, batch: list[list[int]], max_new_tokens: int, sampling: Sampling) -> list[str]:
        completions = []
        for group in [batch] if self._is_small else _alike(batch, [len(row) for row in batch]):
            results = self._engine.generate_batch(
                [self.chat.tokenizer.convert_ids_to_tokens(ids) for ids in group],
                max_batch_size=1 if self._is_small else 0,
                max_length=max_new_tokens,
                include_prompt_in_result=False,
                end_token=self.stop_ids,
                **_drawing(sampling),
            )
            completions += [self.chat.decode(result.sequences_ids[0]) for result in results]
        return completions

    def stream(self, wishes: Sequence[Wish], say: Say) -> list[Written]:
        """Write the completions of a batch piece by piece: of a small model one a thread, of others those of like length.

        All wishes share sampling and adapter. Raises ModelError where a prompt does not fit the model's context.
        """
        sampling = wishes[0].sampling
        with self.with_adapter(wishes[0].adapter):
            rows = [self.chat.encode_prompt(wish.messages) for wish in wishes]
            check_prompts(rows, wishes, self.name, self.context_tokens)
            batch = SpokenBatch(wishes, rows, self.stop_ids, self.chat.decode, say)
            with self._seed(sampling.seed) if sampling.temperature and wishes[0].is_seeded else contextlib.nullcontext():
                order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
                for group in [order] if self._is_small else _alike(order, [len(rows[place]) for place in order]):
                    wanted = [place for place in group if batch.wants(place)]  # others may have gone while one was written
                    if wanted:
                        self._speak(wanted, rows, max(wishes[place].max_new_tokens for place in wanted), sampling, batch)
        return batch.written()

    def _speak(
        self, places: Sequence[int], rows: Sequence[Sequence[int]], most: int, sampling: Sampling, batch: SpokenBatch
    ) -> None:
        """Write the completions of some prompts, telling ``batch`` each token, from several threads at once."""
        ended: set[int] = set()

        def step(result: Any) -> bool:
            place = places[result.batch_id]
            if place not in ended and not batch.take(place, result.token_id):
                ended.add(place)
            return place in ended

        self._engine.generate_batch(
            [self.chat.tokenizer.convert_ids_to_tokens(list(rows[place])) for place in places],
            max_batch_size=1 if self._is_small else 0, max_length=most, include_prompt_in_result=False,
            end_token=self.stop_ids, callback=step, **_drawing(sampling),
        )


def _drawing(sampling: Sampling) -> dict[str, Any]:
    """Return CTranslate2's settings of how tokens are drawn."""
    if not sampling.temperature:
        return {"sampling_topk": 1}
    return {"sampling_topk": 0, "sampling_topp": sampling.top_p, "sampling_temperature": sampling.temperature}


def _alike(batch: Sequence[T], lengths: Sequence[int]) -> Iterator[Sequence[T]]:
    """Cut a batch, sorted by falling length, where prompts become more than ``APART`` tokens shorter than the first."""
    start = 0
    for end in range(1, len(batch) + 1):
        if end == len(batch) or lengths[start] - lengths[end] > APART:
            yield batch[start:end]
            start = end


class ConvertedGenerator(CTranslateGenerator):
    """A model that was exported in CTranslate2's format, run in its own number type, to be compared with its origin."""

    def __init__(self, section: Section, chat: Chat, weights: Path, compute_type: str, stop_ids: list[int]) -> None:
        LocalGenerator.__init__(self, section, chat, read_context_tokens(read_config(section.model)))
        self._device = choose_device(section.device)
        self._compute_type = compute_type
        self._folder = weights
        self._kept = {}
        self.stop_ids = stop_ids
        self._engine, self._is_small = self._open(weights)

    def _use(self, adapter: Path | None) -> None:
        if adapter is not None:
            raise ModelError(f"the exported model {self._folder} holds its adapter already and takes no other.")

    def row_logits(self, ids: list[int]) -> Any:
        """Return the float32 logits after each token of a row, shape (tokens, vocabulary)."""
        return logits_of(self._engine, ids)
