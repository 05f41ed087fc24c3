"""Which passages stand beside the gold one: from the search that serves, hard ones among them, or from anywhere.

RAFT's public code draws them uniformly (arXiv 2403.10131); what a model meets when serving comes from the retriever. Random
ones are here to be measured against.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ragtune.answering.prompt import render_chunk
from ragtune.datasets.gold import Need, holds_answer, justified_lines, owner_of
from ragtune.recipe.schema import Dataset
from ragtune.records import Chunk, Hit, Question

DrawChunk = Callable[[random.Random], Chunk]
"""Draws any chunk of the index."""
SPARE = 8
"""Hits beyond those needed, from which distractors are drawn, so that the rows of one question differ."""
_MOST_TRIES = 200


@dataclass(frozen=True)
class Distractors:
    """What may stand beside a question's gold: ``hits`` that do not hold its answer, ``hard`` the chunk ids of hard ones.

    With ``any_chunk`` they come from anywhere instead.
    """

    question: Question
    needs: tuple[Need, ...]
    hits: tuple[Hit, ...]
    hard: frozenset[str]
    any_chunk: DrawChunk | None = None

    def sample(self, draw: random.Random, count: int, hard_share: float | None) -> list[Hit]:
        """Draw ``count`` different hits, fewer where there are not so many.

        A ``hard_share`` of them are hard ones, as far as there are any; None takes them as they are ranked.
        """
        if self.any_chunk is not None:
            return self._from_anywhere(draw, count, self.any_chunk)
        if hard_share is None:
            return _distinct(draw, self.hits[: count + SPARE // 2], count)
        hard = [hit for hit in self.hits if hit.chunk.id in self.hard]
        easy = [hit for hit in self.hits if hit.chunk.id not in self.hard]
        wanted = sum(draw.random() < hard_share for _ in range(count))
        chosen = _distinct(draw, hard[: wanted + SPARE // 2], wanted)
        chosen += _distinct(draw, easy[: count + SPARE // 2], count - len(chosen))
        return chosen if len(chosen) >= count else chosen + _distinct(
            draw, [hit for hit in hard if hit not in chosen], count - len(chosen))

    def _from_anywhere(self, draw: random.Random, count: int, any_chunk: DrawChunk) -> list[Hit]:
        chosen: dict[str, Hit] = {}
        for _ in range(_MOST_TRIES):
            if len(chosen) == count:
                break
            chunk = any_chunk(draw)
            if not (self.needs and holds_answer(chunk, self.question, self.needs)):
                chosen.setdefault(chunk.id, Hit(chunk, 0.0, 1 + len(chosen), "random"))
        return list(chosen.values())


def gather_distractors(
    question: Question, hits: Sequence[Hit], needs: Sequence[Need], dataset: Dataset, any_chunk: DrawChunk | None = None
) -> Distractors:
    """Return what may stand beside the question's gold passage; ``any_chunk`` is used where the recipe wants random ones."""
    others = tuple(hit for hit in hits if not needs or not holds_answer(hit.chunk, question, needs))
    hard = {hit.chunk.id for hit in others if is_hard(hit.chunk, question, needs)} if dataset.hard_share is not None else ()
    is_random = dataset.distractor_source == "random"
    return Distractors(question, tuple(needs), others, frozenset(hard), any_chunk if is_random else None)


def is_hard(chunk: Chunk, question: Question, needs: Sequence[Need]) -> bool:
    """Tell whether a chunk is easily taken for the evidence: from another document of its owner, or with the same row."""
    documents = {need.evidence.document for need in needs}
    owners = {owner_of(gold) for need in needs for gold in need.chunks[:1]} - {None}
    if owner_of(chunk) in owners:
        return chunk.document not in documents
    return bool(labels_of(question) & {line.rpartition(" ")[0].rpartition(" ")[0].lower()
                                       for line in render_chunk(chunk).split("\n")})


def labels_of(question: Question) -> Collection[str]:
    """Return the labels, in small letters, of the rows that lead to the answer."""
    return {line.rpartition(": ")[0].rpartition(" ")[0].lower() for line in justified_lines(question)}


def _distinct(draw: random.Random, hits: Sequence[Hit], count: int) -> list[Hit]:
    return draw.sample(list(hits), min(count, len(hits)))
