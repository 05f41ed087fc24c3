"""Writing completions piece by piece: what an engine that serves offers beside whole completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from ragtune.records import Message
from ragtune.seams import GREEDY, Sampling

Say = Callable[[int, str], bool]
"""Called for every token with the prompt's place in its batch and the next piece of its text, which may be empty; False
ends that completion."""


@dataclass(frozen=True)
class Written:
    """One completion as it was written. ``stop`` says why it ended: said whole, at its length, or no longer wanted."""

    text: str
    prompt_tokens: int
    tokens: int
    stop: Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Wish:
    """What is asked of an engine: the prompt, the most tokens, how they are drawn, with which adapter (None: the base).

    ``is_seeded`` says that the asker gave the seed and wants the same again: it is drawn alone, since in a batch what is
    drawn for a prompt depends on the others.
    """

    messages: Sequence[Message]
    max_new_tokens: int
    sampling: Sampling = GREEDY
    adapter: Path | None = None
    is_seeded: bool = False


@runtime_checkable
class Streamer(Protocol):
    """A generator that can write a batch of completions piece by piece."""

    name: str
    context_tokens: int

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length of the rendered chat prompt in tokens."""
        ...

    def stream(self, wishes: Sequence[Wish], say: Say) -> list[Written]:
        """Write the completions of a batch whose wishes share sampling and adapter, calling ``say`` with each piece.

        The pieces of a completion together are its text. Returns them in order. Raises ModelError, RunError.
        """
        ...


class Pieces:
    """Token ids of one completion as text in pieces: a piece is given out once no later token can change it."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self.ids: list[int] = []
        self.sent = ""

    def add(self, token: int) -> str:
        """Return the text that is certain now and was not given out yet; '' where there is none."""
        self.ids.append(token)
        text = self._decode(self.ids)
        if text.endswith("�") or not text.startswith(self.sent):  # half of a character; spaces that are stripped at the end
            return ""
        piece, self.sent = text[len(self.sent) :], text
        return piece

    def finish(self) -> str:
        """Return what is left."""
        text = self._decode(self.ids)
        piece = text[len(self.sent) :] if text.startswith(self.sent) else ""
        self.sent = text
        return piece
