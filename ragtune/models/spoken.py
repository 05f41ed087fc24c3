"""A batch of completions while they are written: each row's tokens become text, and a row ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from ragtune.errors import ModelError
from ragtune.models.streaming import Pieces, Say, Wish, Written


def check_prompts(rows: Sequence[Sequence[int]], wishes: Sequence[Wish], name: str, context_tokens: int) -> None:
    """Raise ModelError for the first prompt that with its completion is longer than the model reads."""
    for row, wish in zip(rows, wishes):
        if len(row) + wish.max_new_tokens > context_tokens:
            raise ModelError(f"a prompt of {len(row)} tokens and {wish.max_new_tokens} new ones do not fit '{name}', which "
                             f"reads {context_tokens}. Ask for fewer tokens, or lower generator.max_prompt_tokens.")


class SpokenBatch:
    """Takes the tokens of a batch step by step, as transformers' generate gives them to a streamer (``put``, ``end``)."""

    def __init__(self, wishes: Sequence[Wish], rows: Sequence[Sequence[int]], stop_ids: Sequence[int],
                 decode: Callable[[Sequence[int]], str], say: Say) -> None:
        self._wishes, self._rows, self._stops, self._say = wishes, rows, frozenset(stop_ids), say
        self._pieces = [Pieces(decode) for _ in wishes]
        self._ends: list[Literal["stop", "length", "cancelled"] | None] = [None] * len(wishes)
        self._has_prompt = False

    def put(self, value: Any) -> None:
        """Take the prompt, which comes first, then one token of each row."""
        if not self._has_prompt:
            self._has_prompt = True
            return
        for place, token in enumerate(value.tolist()):
            self.take(place, token)

    def wants(self, place: int) -> bool:
        """Tell whether a row that has no token yet is still wanted, before its prompt is read."""
        if self._ends[place] is None and not self._say(place, ""):
            self._ends[place] = "cancelled"
        return self._ends[place] is None

    def take(self, place: int, token: int) -> bool:
        """Take one token of a row that has not ended; return whether it goes on."""
        if self._ends[place] is not None:
            return False
        pieces = self._pieces[place]
        if token in self._stops:
            self._end(place, "stop")
            return False
        if not self._say(place, pieces.add(token)):  # asked at every token, also where it completes no character
            self._ends[place] = "cancelled"
        elif len(pieces.ids) >= self._wishes[place].max_new_tokens:
            self._end(place, "length")
        return self._ends[place] is None

    def _end(self, place: int, why: Literal["stop", "length"]) -> None:
        self._ends[place] = why
        rest = self._pieces[place].finish()
        if rest:
            self._say(place, rest)

    def end(self) -> None:
        """Take the end of all rows."""

    def ended(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Tell generate which rows have ended, bool, shape (batch,)."""
        import torch

        return torch.tensor([end is not None for end in self._ends], device=input_ids.device)

    def written(self) -> list[Written]:
        """Return the completions."""
        return [Written(pieces.sent, len(row), len(pieces.ids), end or "length")
                for pieces, row, end in zip(self._pieces, self._rows, self._ends)]
