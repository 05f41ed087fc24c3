"""Mining what an adapter learns from: chunks that answer a question, and chunks both searchers take for answers wrongly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from ragtune.records import Question
from ragtune.retrieval.trial import SCOPES, Trial
from ragtune.seams import Progress

if TYPE_CHECKING:
    import numpy as np

_FIGURE = re.compile(r"\d[\d,]*(?:\.\d+)?")
_YEAR = re.compile(r"(?:19|20)\d\d")
_FEWEST_DIGITS = 3  # a shorter figure stands on half of all pages, so it tells nothing


@dataclass(frozen=True)
class Triples:
    """Questions with what they are to find and what they are not.

    ``questions`` are float32 vectors of length 1, shape (n, d); ``vectors`` those of the chunks, shape (r, d).
    ``positives`` (n, p) and ``negatives`` (n, m) number rows of ``vectors``, the best first, -1 where there is no more;
    ``rows`` are the chunk rows of the index that ``vectors`` stand for. ``pages`` are the evidence pages as (document
    position, page), ``groups`` what questions are held out by, ``masked`` how many candidates were left out and why.
    """

    questions: np.ndarray
    vectors: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    rows: np.ndarray
    pages: tuple[frozenset[tuple[int, int]], ...]
    groups: tuple[str, ...]
    masked: Mapping[str, int]

    def part(self, numbers: Sequence[int]) -> Triples:
        """Return the triples of these questions alone; the chunks stay as they are."""
        import numpy as np

        at = np.asarray(numbers, dtype=np.int64)
        return Triples(self.questions[at], self.vectors, self.positives[at], self.negatives[at], self.rows,
                       tuple(self.pages[n] for n in at), tuple(self.groups[n] for n in at), self.masked)


def mine_triples(
    trial: Trial, questions: np.ndarray, groups: Sequence[str], count: int, near_duplicate: float = 0.98,
    progress: Progress | None = None,
) -> Triples:
    """Return positives and up to ``count`` hard negatives for each question of a trial; ``questions`` are its vectors.

    Positives are the chunks of the evidence pages that hold the evidence's lines, or all of those pages where none does.
    Negatives are the best hits of vectors and of BM25, in the whole index and in the question's own document, taken in
    turn. Left out as false negatives: chunks on an evidence page, chunks with a positive's text or a cosine to it of at
    least ``near_duplicate``, and chunks that hold a figure the answer rests on.
    """
    import numpy as np

    masked: Counter[str] = Counter()
    hits = {scope: (trial.find_dense(questions, scope), trial.find_lexical(scope)) for scope in SCOPES}
    texts = _Texts(trial)
    chosen: list[tuple[list[int], list[int]]] = []
    for number, question in enumerate(trial.questions):
        found = [[row for row, _ in rows[number]] for pair in hits.values() for rows in pair]
        candidates = list(dict.fromkeys(row for row in chain.from_iterable(zip_longest(*found)) if row is not None))
        gold = trial.gold[number].tolist()
        texts.load([*gold, *candidates])
        positives = find_positives(question, gold, texts.at)
        kept = _drop_false(question, positives, candidates, set(gold), texts.at, trial, near_duplicate, masked)
        chosen.append((positives, kept[:count]))
        if progress:
            progress(number + 1, len(trial.questions))
    rows = np.array(sorted({row for pair in chosen for part in pair for row in part}), dtype=np.int64)
    place = {int(row): at for at, row in enumerate(rows)}
    return Triples(
        np.asarray(questions, dtype=np.float32), vectors_at(trial, rows), _pad([[place[r] for r in p] for p, _ in chosen]),
        _pad([[place[r] for r in n] for _, n in chosen]), rows, tuple(trial.pages), tuple(groups), dict(masked))


def find_positives(question: Question, gold: Sequence[int], texts: Mapping[int, str]) -> list[int]:
    """Return the rows among ``gold`` that hold a whole line of the evidence, else all of them."""
    lines = [_squeeze(line) for evidence in question.evidence for line in evidence.text.splitlines()]
    lines = [line for line in lines if len(line) > 8 and any(map(str.isalpha, line)) and any(map(str.isdigit, line))]
    return [row for row in gold if any(line in _squeeze(texts[row]) for line in lines)] or list(gold)


def figures_of(question: Question) -> frozenset[str]:
    """Return the figures that give an answer away: those of the answer and of the rows that lead to it, no years.

    Digits only, so that ``4,210`` and ``4210`` are one figure; figures under three digits say too little.
    """
    lines = [line for line in question.justification.splitlines() if " = " not in line]
    told = [question.answer, *(line.rpartition(": ")[2] for line in lines)]
    return frozenset(figure for text in told for figure in _figures(text))


def _figures(text: str) -> list[str]:
    found = [figure.replace(",", "").rstrip(".") for figure in _FIGURE.findall(text) if not _YEAR.fullmatch(figure)]
    return [figure for figure in found if sum(map(str.isdigit, figure)) >= _FEWEST_DIGITS]


def _drop_false(
    question: Question, positives: Sequence[int], candidates: Sequence[int], gold: set[int], texts: Mapping[int, str],
    trial: Trial, near_duplicate: float, masked: Counter[str],
) -> list[int]:
    """Return the candidates that are no answers, in order; what is left out is counted by its reason."""
    figures, same = figures_of(question), {_squeeze(texts[row]) for row in positives}
    near: dict[int, float] = {}
    if candidates:
        closeness = (vectors_at(trial, candidates) @ vectors_at(trial, positives).T).max(axis=1)
        near = dict(zip(candidates, closeness.tolist()))
    kept = []
    for row in candidates:
        if row in gold:
            masked["same page"] += 1
        elif _squeeze(texts[row]) in same:
            masked["same text"] += 1
        elif near[row] >= near_duplicate:
            masked["near duplicate"] += 1
        elif figures and not figures.isdisjoint(_figures(texts[row])):
            masked["holds the figure"] += 1
        else:
            kept.append(row)
    return kept


def vectors_at(trial: Trial, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the chunk vectors of these rows, shape (len(rows), dimension)."""
    import numpy as np

    vectors: np.ndarray = trial.index.dense.reconstruct_batch(np.asarray(rows, dtype=np.int64))
    return vectors


class _Texts:
    """The chunks' texts, each read once."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.at: dict[int, str] = {}

    def load(self, rows: Sequence[int]) -> None:
        """Read the rows not read yet."""
        new = [row for row in dict.fromkeys(rows) if row not in self.at]
        self.at.update((row, chunk.text) for row, chunk in zip(new, self.trial.index.store.chunks_at(new)))


def _squeeze(text: str) -> str:
    return " ".join(text.lower().split())


def _pad(lists: Sequence[Sequence[int]]) -> np.ndarray:
    """Return lists as rows of one array, filled up with -1."""
    import numpy as np

    padded = np.full((len(lists), max([1, *map(len, lists)])), -1, dtype=np.int64)
    for number, values in enumerate(lists):
        padded[number, : len(values)] = values
    return padded
