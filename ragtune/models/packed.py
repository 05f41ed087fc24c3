"""Writing a batch on a CPU: prompts are read one by one, without padding, then their answers go on together.

What limited batches there was the memory the cache of keys and values moves: transformers' own grows by being copied at
every token, all rows of it, those that ended and the padding too. Here it has room from the start, and rows leave it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier, Lock
from typing import TYPE_CHECKING, Any, cast

from ragtune.models.spoken import SpokenBatch
from ragtune.seams import Sampling

if TYPE_CHECKING:
    import torch

    Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]

MAX_PREFIX_BYTES = 256 << 20
"""Of keys and values kept of prompts: about thirty prompts of 900 tokens of the bundled model."""
LEAST_SHARE = 0.25
"""Of a prompt that must have been read before so that going on from there is a gain."""
_HARMLESS = frozenset({"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "do_sample", "temperature",
                       "top_p", "top_k", "max_length", "max_new_tokens", "_from_model_config", "use_cache",
                       "output_attentions", "output_hidden_states"})
"""Generation settings of a checkpoint that change nothing where ours are given."""


def is_packable(model: Any) -> bool:
    """Whether answers of this model can be written so: on a CPU, by plain attention, with no settings of its own."""
    config = getattr(model, "generation_config", None)
    return (model.device.type == "cpu" and not getattr(model, "virtual_tokens", 0) and config is not None
            and not set(config.to_diff_dict()) - _HARMLESS and _has_plain_cache(model))


def _has_plain_cache(model: Any) -> bool:
    from transformers.cache_utils import DynamicCache, DynamicLayer

    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


@lru_cache(maxsize=1)
def _roomy_layer() -> Any:
    """Return the class of a cache's layer that has room for what will be written; transformers is imported by then."""
    import torch
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):
        """Keys and values of rows aligned on the right, shape (rows, heads, width + room, dimension)."""

        def __init__(self, rows: Sequence[tuple[torch.Tensor, torch.Tensor]], width: int, room: int) -> None:
            super().__init__()
            first = rows[0][0]
            shape = (len(rows), first.shape[1], width + room, first.shape[3])
            self.lazy_initialization(first, first)
            self.roomy = [torch.zeros(shape, dtype=first.dtype) for _ in range(2)]
            for place, pair in enumerate(rows):
                for whole, one in zip(self.roomy, pair):
                    whole[place, :, width - one.shape[2] : width] = one[0]
            self._show(width)

        def _show(self, length: int) -> None:
            self.length = length
            self.keys, self.values = (whole[:, :, :length] for whole in self.roomy)

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            begin, end = self.length, self.length + key_states.shape[2]
            self.roomy[0][:, :, begin:end] = key_states
            self.roomy[1][:, :, begin:end] = value_states
            self._show(end)
            return self.keys, self.values  # type: ignore[return-value]  # None only before the first

        def keep(self, rows: Any) -> None:
            """Keep these rows alone."""
            self.roomy = [whole[rows] for whole in self.roomy]
            self._show(self.length)

    return RoomyLayer


class Prefixes:
    """The keys and values of prompts read lately: the next prompt that begins like one of them goes on from there.

    Passages stand before the question, so that another question on the same passages need not read them again. What goes
    on from kept ones differs by rounding alone. Threads may share it; ``counts`` are prompt tokens 'read' and 'reused'.
    """

    def __init__(self) -> None:
        self.counts = {"read": 0, "reused": 0}
        self._kept: dict[tuple[Hashable, tuple[int, ...]], Layers] = {}
        self._bytes = 0
        self._lock = Lock()

    def find(self, owner: Hashable, row: Sequence[int]) -> tuple[int, Layers]:
        """Return how many first tokens of a row need not be read, and their keys and values by layer.

        ``owner`` names the weights. The last token is always read: what follows it is asked for.
        """
        with self._lock:
            best, layers = 0, cast("Layers", ())
            for (whose, ids), each in self._kept.items():
                if whose == owner:
                    length = next((n for n, (a, b) in enumerate(zip(ids, row)) if a != b), min(len(ids), len(row)))
                    if min(length, len(row) - 1) > best:
                        best, layers = min(length, len(row) - 1), each
            # Going on needs a mask, which makes each token dearer by a fifth: a short beginning is no gain.
            best = best if best >= LEAST_SHARE * len(row) else 0
            self.counts["reused"] += best
            self.counts["read"] += len(row) - best
        return best, tuple((keys[:, :, :best], values[:, :, :best]) for keys, values in layers) if best else ()

    def keep(self, owner: Hashable, row: Sequence[int], layers: Layers) -> None:
        """Keep a row that was read, and let go what was read longest ago, beyond ``MAX_PREFIX_BYTES``."""
        with self._lock:
            key = owner, tuple(row)
            if key in self._kept:
                self._kept[key] = self._kept.pop(key)
                return
            self._kept[key] = layers
            self._bytes += _size(layers)
            while self._bytes > MAX_PREFIX_BYTES:
                self._bytes -= _size(self._kept.pop(next(iter(self._kept))))


def _size(layers: Layers) -> int:
    return sum(keys.nbytes + values.nbytes for keys, values in layers)


def write_packed(model: Any, rows: Sequence[Sequence[int]], most: int, sampling: Sampling, batch: SpokenBatch,
                 prefixes: Prefixes, owner: Hashable) -> None:
    """Write the completions of a batch of prompts, at most ``most`` tokens each, telling ``batch`` each token.

    ``prefixes`` holds what was read lately, ``owner`` names the weights there. Under ``torch.inference_mode``, with the
    seed set. A row that has ended is no longer calculated once half of them have.
    """
    import torch
    from transformers.cache_utils import Cache

    choose = _chooser(sampling)
    threads = torch.get_num_threads()
    readers = map if len(rows) == 1 or threads == 1 else _readers(threads).map
    found = readers(lambda place: _read(model, rows[place], prefixes, owner) if batch.wants(place) else None,
                    range(len(rows)))
    kept_rows = [(place, *each) for place, each in enumerate(found) if each is not None]
    if not kept_rows:
        return
    read: Any
    taken, read, logits = zip(*kept_rows)
    places: list[int] = list(taken)  # the prompt that stands in each row of the cache
    rows = [rows[place] for place in places]
    width = max(map(len, rows))
    del kept_rows, found
    # Layer by layer, so that no more than one is held twice.
    layers: list[Any] = [_roomy_layer()([one.pop(0) for one in read], width, most) for _ in range(len(read[0]))]
    cache = Cache(layers=layers)
    mask = torch.zeros((len(rows), width + most), dtype=torch.long)
    for place, row in enumerate(rows):
        mask[place, width - len(row) : width] = 1
    positions = torch.tensor([[len(row)] for row in rows])
    last = torch.cat(logits)
    goes_on = [True] * len(rows)
    for length in range(width, width + most):
        tokens = choose(last)
        for place, token in enumerate(tokens.tolist()):
            goes_on[place] = goes_on[place] and batch.take(places[place], token)
        if not any(goes_on) or length + 1 == width + most:
            return
        if sum(goes_on) <= len(places) // 2:
            kept = [place for place, on in enumerate(goes_on) if on]
            for layer in layers:
                layer.keep(kept)
            mask, positions, tokens = mask[kept], positions[kept], tokens[kept]
            places, goes_on = [places[row] for row in kept], [True] * len(kept)
        mask[:, length] = 1
        has_padding = bool((mask[:, : length + 1] == 0).any())
        last = model(input_ids=tokens[:, None], attention_mask=mask[:, : length + 1] if has_padding else None,
                     position_ids=positions, past_key_values=cache, use_cache=True).logits[:, -1]
        positions = positions + 1


@lru_cache(maxsize=1)
def _readers(threads: int) -> ThreadPoolExecutor:
    """Return as many threads as there are processors for this process; each calculates alone.

    Prompts side by side need not wait for each other, as threads on one prompt do at every layer: worst where other threads
    or processes want the processors too.
    """
    import torch

    pool = ThreadPoolExecutor(threads, "reader", initializer=torch.set_num_threads, initargs=(1,))
    all_here = Barrier(threads)
    list(pool.map(lambda _: all_here.wait(), range(threads)))
    torch.set_num_threads(threads)  # theirs alone is one; what they set counts for threads that begin later, too
    return pool


def _read(
    model: Any, row: Sequence[int], prefixes: Prefixes, owner: Hashable
) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    """Return a prompt's keys and values by layer, and the logits after it, shape (1, vocabulary)."""
    import torch
    from transformers.cache_utils import DynamicCache

    cache: Any = DynamicCache(config=model.config)
    start, layers = prefixes.find(owner, row)
    with torch.inference_mode():  # which counts for one thread
        for number, (keys, values) in enumerate(layers):
            cache.update(keys, values, number)
        logits = model(input_ids=torch.tensor([list(row[start:])]), past_key_values=cache, use_cache=True,
                       logits_to_keep=1).logits
    read = [(layer.keys, layer.values) for layer in cache.layers]
    prefixes.keep(owner, row, tuple(read))
    return read, logits[:, -1]


def _chooser(sampling: Sampling) -> Any:
    """Return what chooses the next tokens, shape (rows,), from logits, shape (rows, vocabulary)."""
    import torch
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    if not sampling.temperature:
        return lambda logits: logits.argmax(dim=-1)
    warp: Any = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_p < 1:
        warp.append(TopPLogitsWarper(sampling.top_p))
    return lambda logits: torch.multinomial(torch.softmax(warp(None, logits.float()), dim=-1), 1).squeeze(1)
