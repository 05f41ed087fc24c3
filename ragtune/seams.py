"""Who handles the records: the small Protocols that one layer offers and another takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ragtune.records import Answer, Chunk, Hit, Message, Question, Score

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""

Report = Callable[[str, int, int], None]
"""Called with (what is being done, done, total); total 0 where it is not known."""


def progress_of(report: Report | None, task: str) -> Progress | None:
    """Return the progress callback that reports under the name of one task."""
    return None if report is None else lambda done, total: report(task, done, total)



@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors."""

    name: str
    dimension: int

    @property
    def fingerprint(self) -> str:
        """What an index remembers of its embedder: two embedders with one fingerprint give the same vectors."""
        ...

    def embed_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Return float32 vectors of length 1, shape (len(texts), dimension)."""
        ...

    def embed_questions(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 vectors of length 1, shape (len(texts), dimension)."""
        ...

    def count_tokens(self, text: str) -> int:
        """Return how many of the embedder's tokens the text has."""
        ...


@runtime_checkable
class Searcher(Protocol):
    """Finds chunks for a question, and hands out the chunks of a page."""

    def search(self, question: str, k: int, where: str | None = None) -> list[Hit]:
        """Return at most k hits, best first. Fewer than k is no error. Raises QuestionError for a bad filter."""
        ...

    def chunks_on_page(self, document: str, page: int) -> list[Chunk]:
        """Return the chunks of a page in reading order; an unknown document or page has none."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Reads question and hit together, more slowly and more closely than a searcher."""

    def score(self, question: str, hits: Sequence[Hit]) -> list[float]:
        """Return one score a hit, in their order; more is better. Scores of other questions are no measure."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Writes completions, greedily: the same prompts, the same completions."""

    name: str
    context_tokens: int

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length of the rendered chat prompt in the generator's own tokens."""
        ...

    def generate(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: Progress | None = None
    ) -> list[str]:
        """Return one completion per prompt, in order, without special tokens."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn: ``samples`` a prompt, from the words that together hold ``top_p`` of the probability.

    ``temperature`` 0 is greedy, so that all samples of a prompt are one; 1 draws by the model's own probabilities. The same
    ``seed`` gives the same samples of the same prompts where the engine can: see the ``sample`` of each.
    """

    samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


GREEDY = Sampling(temperature=0.0)


@runtime_checkable
class Sampler(Protocol):
    """A generator that can draw completions at random."""

    name: str

    def sample(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, sampling: Sampling,
        progress: Progress | None = None,
    ) -> list[list[str]]:
        """Return ``sampling.samples`` completions per prompt, in the prompts' order, without special tokens."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Scores an answer against its question's reference."""

    name: str

    def score(self, question: Question, answer: Answer) -> Score:
        """Return the score with its reason."""
        ...


@runtime_checkable
class Guard(Protocol):
    """Checks an answer before it is given out."""

    def check(self, answer: Answer) -> tuple[str, ...]:
        """Return the problems found; an empty tuple lets the answer pass."""
        ...
