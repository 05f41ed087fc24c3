"""The generation engines behind one seam: what streams by itself does, the others give their completions whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragtune.errors import ModelError
from ragtune.models.streaming import Say, Streamer, Wish, Written
from ragtune.records import Message
from ragtune.seams import Generator


def open_streamer(generator: Generator) -> Streamer:
    """Return the generator itself where it streams, else one that gives each completion in one piece."""
    return generator if isinstance(generator, Streamer) else WholeStreamer(generator)


class WholeStreamer:
    """A generator without streaming (extractive, echo) as a Streamer; it has no adapters."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.name: str = generator.name
        self.context_tokens: int = generator.context_tokens

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length of the rendered chat prompt in tokens."""
        count: int = self._generator.count_tokens(messages)
        return count

    def stream(self, wishes: Sequence[Wish], say: Say) -> list[Written]:
        """Write the completions whole. Raises ModelError for a wish with an adapter."""
        if any(wish.adapter for wish in wishes):
            raise ModelError(f"'{self.name}' takes no adapter. Ask the model without one.")
        texts = self._generator.generate([wish.messages for wish in wishes], max(w.max_new_tokens for w in wishes))
        for place, text in enumerate(texts):
            say(place, text)
        return [Written(text, self.count_tokens(wish.messages), self.count_tokens([Message(role="assistant", content=text)]),
                        "stop") for wish, text in zip(wishes, texts)]
