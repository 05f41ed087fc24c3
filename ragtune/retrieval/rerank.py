"""The offline reranker: pages ordered by a linear model over what both searchers and the pages' signals say.

Small on purpose: some twenty features with a weight each, fitted by the softmax over the pages of a question (ListNet, Cao
et al., ICML 2007). A page's score is worked out from all its chunks; of the chunks of one page the one is shown that
matches best itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.errors import RunError
from ragtune.records import Record
from ragtune.retrieval.adapter import find_version
from ragtune.retrieval.asked import Asked
from ragtune.retrieval.dense import Found
from ragtune.retrieval.signals import Signals

if TYPE_CHECKING:
    import numpy as np

_BELOW = 100.0  # taken off the score of a page's second chunk, which stands below the best chunks of all pages
FILE = "ranker.json"
SHIPPED = Path(__file__).with_name("ranker.json")
CHUNK_FEATURES = ("dense", "lexical", "expanded")
FEATURES = (
    *CHUNK_FEATURES, "dense_second", "terms_on_page", "line_items", "section_named", "section_of_terms", "section_of_topic",
    "lasting_named", "lasting_of_topic", "any_statement", "rows", "rows_unasked", "contents", "document",
)
"""Scores of the best chunk, dense also of the second; then what the page shows. Left out because held-out recall did not
fall without: years over the columns, place in the document, length of the page, second-best words."""


@dataclass(frozen=True)
class Candidates:
    """What the searchers say of the chunks that may be hits, as arrays of one length."""

    rows: np.ndarray
    """Chunk rows, rising."""
    dense: np.ndarray
    """Cosine with the question."""
    lexical: np.ndarray
    """BM25 score of the question's words."""
    expanded: np.ndarray
    """BM25 score with the wordings that were added."""


@dataclass(frozen=True)
class Ranker(Record):
    """Weights of the features, and what they were fitted on."""

    weights: Mapping[str, float]
    fitted_on: Mapping[str, object]

    def vector(self) -> np.ndarray:
        """Return the weights in the order of FEATURES."""
        import numpy as np

        return np.array([self.weights.get(name, 0.0) for name in FEATURES])

    def rank(self, signals: Signals, asked: Asked, found: Candidates, priors: np.ndarray, k: int) -> Found:
        """Return k chunk rows with scores, best first: the best chunk of each page in the order of pages, then, where there
        are fewer pages, the second of each, and so on. The chunks of the first page that hold line items asked for which its
        best one lacks come right behind it.

        ``priors`` holds a weight in [0, 1] for each document position. Equal scores are ordered by place.
        """
        import numpy as np

        weights = self.vector()
        pages, features, chunks = page_features(signals, asked, found, priors)
        scores = features @ weights
        own = chunks @ weights[: len(CHUNK_FEATURES)]
        if asked.terms:  # of a statement's chunks, the one that holds the rows asked for
            holds = signals.terms[np.ix_(found.rows, np.array(asked.terms))].mean(axis=1)
            own += weights[FEATURES.index("terms_on_page")] * holds
        starts = np.searchsorted(signals.page_of[found.rows], pages)
        ends = np.append(starts[1:], len(found.rows))
        ranked = []
        for page in np.lexsort((pages, -np.round(scores, 6)))[:k].tolist():
            span = slice(int(starts[page]), int(ends[page]))
            order = np.lexsort((found.rows[span], -np.round(own[span], 6)))
            ranked.append((float(scores[page]), found.rows[span][order].tolist()))
        hits = [(rows[0], score) for score, rows in ranked]
        if ranked and asked.terms:  # a ratio's other row may stand in another chunk of the first page
            score, rows = ranked[0]
            beside = _covering(signals.terms[np.ix_(np.array(rows), np.array(asked.terms))])
            hits[1:1] = [(rows[place], score) for place in beside]
            ranked[0] = score, [row for place, row in enumerate(rows) if place not in beside]
        places = range(1, max((len(rows) for _, rows in ranked), default=0) if len(hits) < k else 1)
        hits += [(rows[place], score - place * _BELOW) for place in places for score, rows in ranked if place < len(rows)]
        return hits[:k]


def page_features(
    signals: Signals, asked: Asked, found: Candidates, priors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the page rows the candidates stand on, shape (pages,), their features, shape (pages, len(FEATURES)), and
    those of the chunks themselves, shape (candidates, len(CHUNK_FEATURES)).

    Scores of searchers are in standard deviations over the candidates, so that questions can be compared.
    """
    import numpy as np

    page_of = signals.page_of[found.rows]
    pages, starts = np.unique(page_of, return_index=True)
    ends = np.append(starts[1:], len(page_of))
    scores = [standardise(found.dense), standardise(found.lexical), standardise(found.expanded)]
    chunks = np.stack(scores, axis=1)
    has_terms = float(bool(asked.terms))
    unasked = float(not asked.terms and signals.has_known_rows)
    if asked.terms:
        shown = np.maximum.reduceat(signals.terms[np.ix_(found.rows, np.array(asked.terms))], starts, axis=0).mean(axis=1)
    else:
        shown = np.zeros(len(pages))
    sections, lasting = signals.sections[pages], signals.lasting[pages]
    rows = np.log1p(signals.rows[pages])
    features = np.stack([
        *np.maximum.reduceat(chunks, starts, axis=0).T,
        _second(scores[0], starts, ends),
        shown,
        has_terms * np.log1p(signals.shown[pages]),
        *(_share(sections, wanted) for wanted in (asked.named, asked.of_terms, asked.of_topics)),
        *(_share(lasting, wanted) for wanted in (asked.named, asked.of_topics)),
        has_terms * (sections & np.array(asked.tables, dtype=bool)).any(axis=1),
        has_terms * rows,
        unasked * rows,
        signals.is_contents[pages],
        np.log(np.maximum(priors[signals.document[pages]], 1e-3)),
    ], axis=1).astype(np.float64)
    return pages, features, chunks


def _covering(holds: np.ndarray) -> list[int]:
    """Return the places of the rows after the first that hold what those taken before them lack, shape (rows, terms)."""
    covered, taken = holds[0], []
    for place in range(1, len(holds)):
        if (holds[place] & ~covered).any():
            covered = covered | holds[place]
            taken.append(place)
    return taken


def _second(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the second largest value of each run, the only one where a run has one."""
    import numpy as np

    order = np.lexsort((-values, np.repeat(np.arange(len(starts)), ends - starts)))
    return values[order[np.minimum(starts + 1, ends - 1)]]


def _share(sections: np.ndarray, wanted: Mapping[int, float]) -> np.ndarray:
    """Return for each page the largest weight of a wanted section that it has."""
    import numpy as np

    if not wanted:
        return np.zeros(len(sections))
    return (sections[:, list(wanted)] * np.array(list(wanted.values()))).max(axis=1)


def standardise(values: np.ndarray) -> np.ndarray:
    """Return values as standard deviations above their mean; values that are all alike are 0."""
    spread = values.std()
    result: np.ndarray = (values - values.mean()) / spread if spread > 1e-9 else values * 0.0
    return result


@lru_cache(maxsize=8)
def open_ranker(path: Path = SHIPPED) -> Ranker:
    """Return the ranker in a JSON file. Raises RunError where it is missing, broken or holds other features."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        ranker = Ranker({str(name): float(weight) for name, weight in values["weights"].items()}, values["fitted_on"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"the ranker {path} cannot be read ({error}). Fit it again: ragtune adapt --what ranker") from error
    if unknown := sorted(set(ranker.weights) - set(FEATURES)):
        raise RunError(f"the ranker {path} weighs {', '.join(unknown)}; allowed are {', '.join(FEATURES)}. "
                       "Fit it again: ragtune adapt --what ranker")
    return ranker


def ranker_for(setting: str | None, index_folder: Path) -> Ranker:
    """Return the ranker that ``retrieval.ranker`` names for an index folder: 'auto' takes the current version beside the
    index, else the shipped one, as null does. Raises RunError as ``open_ranker`` does.
    """
    if setting not in (None, "auto"):
        return open_ranker(Path(str(setting)) / FILE)
    version = find_version(Path(index_folder).parent / "ranker") if setting == "auto" else None
    return open_ranker(SHIPPED if version is None else version / FILE)


@dataclass(frozen=True)
class Judged:
    """One question to fit on: its pages' features, which of them are evidence, and which may count (others are masked)."""

    features: np.ndarray
    is_gold: np.ndarray
    counts: np.ndarray


def fit_weights(judged: Sequence[Judged], ridge: float = 0.02, steps: int = 600) -> dict[str, float]:
    """Return the weights that make the evidence pages likeliest under a softmax over each question's pages.

    ``ridge`` holds the weights of standardised features small. Full-batch Adam; repeatable.
    """
    import numpy as np
    import torch

    kept = [(item.features[item.counts], item.is_gold[item.counts]) for item in judged if item.is_gold.any()]
    everything = np.concatenate([features for features, _ in kept])
    spread = np.where(everything.std(0) > 1e-9, everything.std(0), 1.0)
    inputs = torch.tensor(everything / spread, dtype=torch.float32)
    group = torch.tensor(np.repeat(np.arange(len(kept)), [len(gold) for _, gold in kept]))
    gold = torch.tensor(np.concatenate([gold for _, gold in kept]), dtype=torch.float32)
    weights = torch.zeros(len(FEATURES), requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.03)
    for _ in range(steps):
        scores = inputs @ weights
        highest = torch.full((len(kept),), -1e9).scatter_reduce(0, group, scores.detach(), "amax")
        exponentials = torch.exp(scores - highest[group])
        total = torch.zeros(len(kept)).index_add(0, group, exponentials)
        right = torch.zeros(len(kept)).index_add(0, group, exponentials * gold)
        loss = (torch.log(total) - torch.log(right + 1e-12)).mean() + ridge * (weights**2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: round(float(value), 4) for name, value in zip(FEATURES, weights.detach().numpy() / spread)}
