"""What the generators that run on this machine share: budgets, the order of batches, the switching of adapters."""

from __future__ import annotations

import contextlib
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
from ragtune.seams import Progress

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
    """A causal language model on this machine, greedy; an engine says how it takes an adapter and completes a batch."""

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
    def _complete(self, batch: list[list[int]], max_new_tokens: int) -> list[str]:
        """Return the completions of one batch of token ids, longest first."""

    def attach(self, adapter: Path | None) -> None:
        """Answer with this adapter from now on, or with the base alone for None. Raises RunError for a wrong one."""
        path = None if adapter is None else check_adapter(adapter)
        self._use(path)
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

    def generate(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: Progress | None = None
    ) -> list[str]:
        """Return one greedy completion per prompt, in order, without special tokens.

        Raises ModelError where a prompt and its completion would not fit the model's context.
        """
        encoded = [self.chat.encode_prompt(messages) for messages in prompts]
        longest = max(map(len, encoded), default=0)
        if longest + max_new_tokens > self.context_tokens:
            raise ModelError(
                f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit '{self.name}', which reads "
                f"{self.context_tokens}. Lower generator.max_prompt_tokens or retrieval.k."
            )
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i]))  # the largest first: memory fails early
        completions = [""] * len(encoded)
        for start in range(0, len(order), self._section.batch_size):
            batch = order[start : start + self._section.batch_size]
            for position, text in zip(batch, self._complete([encoded[i] for i in batch], max_new_tokens)):
                completions[position] = text
            if progress:
                progress(min(start + len(batch), len(order)), len(order))
        return completions
