"""What the generators that run on this machine share: budgets, the order of batches, the switching of adapters."""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import ModelError
from ragtune.models.adapt import check_adapter
from ragtune.models.chat import Chat
from ragtune.models.checkpoint import fingerprint_model, portable_name
from ragtune.recipe.schema import Generator as Section
from ragtune.records import Message
from ragtune.seams import GREEDY, Progress, Sampling

if TYPE_CHECKING:
    from typing_extensions import Self


def find_stop_ids(model: Any, chat: Chat) -> list[int]:
    """Return the tokens that end an answer: those of the tokenizer and those of the model's generation settings."""
    own = getattr(model.generation_config, "eos_token_id", None)
    return sorted({*chat.stop_ids, *([own] if isinstance(own, int) else own or [])})


def check_budget(section: Section, context_tokens: int) -> None:
    """Raise ModelError where the longest prompt and completion are together more than the model reads."""
    if section.max_prompt_tokens + section.max_new_tokens > context_tokens:
        raise ModelError(
            f"generator.max_prompt_tokens {section.max_prompt_tokens} + max_new_tokens {section.max_new_tokens} is more "
            f"than '{portable_name(section.model)}' can read: {context_tokens} tokens. Lower generator.max_prompt_tokens to "
            f"at most {context_tokens - section.max_new_tokens}."
        )


class LocalGenerator(ABC):
    """A causal language model on this machine; an engine says how it takes an adapter and completes a batch."""

    def __init__(self, section: Section, chat: Chat, context_tokens: int) -> None:
        self.name = portable_name(section.model)
        self.context_tokens = context_tokens
        self.chat = chat
        self.adapter: Path | None = None
        self.stop_ids: list[int] = []
        self._section = section
        check_budget(section, context_tokens)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the base model's configuration, tokenizer and weights."""
        return fingerprint_model(self._section.model)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length of the rendered chat prompt in the model's tokens."""
        return self.chat.count_tokens(messages)

    @abstractmethod
    def _use(self, adapter: Path | None) -> None:
        """Answer with this adapter (a full path that holds one), or with the base alone for None."""

    @abstractmethod
    def _complete(self, batch: list[list[int]], max_new_tokens: int, sampling: Sampling) -> list[str]:
        """Return one completion of each row of a batch of token ids, longest first; ``sampling.seed`` is the batch's own."""

    def _seed(self, seed: int) -> contextlib.AbstractContextManager[None]:
        """Begin to draw from a seed inside the block, where the engine has a state of its own to do so."""
        return contextlib.nullcontext()

    def attach(self, adapter: Path | None) -> None:
        """Answer with this adapter from now on, or with the base alone for None. Raises RunError for a wrong one, and goes
        on with the former.

        Nothing is read anew where it already does so.
        """
        path = None if adapter is None else check_adapter(adapter)
        if path != self.adapter:
            try:
                self._use(path)
            except BaseException:
                self._use(self.adapter)  # a switch that failed half-way left neither the one nor the other
                raise
            self.adapter = path

    @contextlib.contextmanager
    def with_adapter(self, adapter: Path | None) -> Iterator[Self]:
        """Answer with another adapter (None: the base) inside the block, with the former one after it."""
        before = self.adapter
        self.attach(adapter)
        try:
            yield self
        finally:
            self.attach(before)

    def without_adapter(self) -> contextlib.AbstractContextManager[Self]:
        """Answer with the base model inside the block."""
        return self.with_adapter(None)

    def generate_each(
        self, prompts: Sequence[Sequence[Message]], adapters: Sequence[Path | None], max_new_tokens: int
    ) -> list[str]:
        """Return one greedy completion per prompt, each of its own adapter (None: the base), in the prompts' order.

        For requests that come together and are for different runs: those of one adapter are one batch. Raises ModelError
        where there is not one adapter for each prompt.
        """
        if len(adapters) != len(prompts):
            raise ModelError(f"found {len(adapters)} adapters for {len(prompts)} prompts. Name one for each, None for the "
                             "base.")
        completions = [""] * len(prompts)
        for adapter in dict.fromkeys(adapters):
            places = [place for place, other in enumerate(adapters) if other == adapter]
            with self.with_adapter(adapter):
                for place, text in zip(places, self.generate([prompts[place] for place in places], max_new_tokens)):
                    completions[place] = text
        return completions

    def generate(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: Progress | None = None
    ) -> list[str]:
        """Return one greedy completion per prompt, in order, without special tokens.

        Raises ModelError where a prompt and its completion would not fit the model's context.
        """
        return [completion for completion, in self.sample(prompts, max_new_tokens, GREEDY, progress)]

    def sample(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, sampling: Sampling,
        progress: Progress | None = None,
    ) -> list[list[str]]:
        """Return ``sampling.samples`` completions per prompt, in order; ``progress`` counts completions.

        The same seed gives the same completions of the same prompts with the same ``generator.batch_size``, on the same
        device and packages. Raises ModelError where a prompt and its completion would not fit the model's context.
        """
        encoded = [self.chat.encode_prompt(messages) for messages in prompts]
        longest = max(map(len, encoded), default=0)
        if longest + max_new_tokens > self.context_tokens:
            raise ModelError(
                f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit '{self.name}', which reads "
                f"{self.context_tokens}. Lower generator.max_prompt_tokens or retrieval.k."
            )
        # The largest first: memory fails early. A greedy completion is written once, however many are asked for.
        times = sampling.samples if sampling.temperature else 1
        order = [i for i in sorted(range(len(encoded)), key=lambda i: -len(encoded[i])) for _ in range(times)]
        completions: list[list[str]] = [[] for _ in prompts]
        with self._seed(sampling.seed) if sampling.temperature else contextlib.nullcontext():
            for start in range(0, len(order), self._section.batch_size):
                batch = order[start : start + self._section.batch_size]
                drawn = dataclasses.replace(sampling, seed=sampling.seed + start)
                for place, text in zip(batch, self._complete([encoded[i] for i in batch], max_new_tokens, drawn)):
                    completions[place].append(text)
                if progress:
                    progress(min(start + len(batch), len(order)), len(order))
        return [each * (sampling.samples // times) for each in completions]
