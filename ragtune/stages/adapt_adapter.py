"""Fit the query adapter to mined triples and judge it by fold; what every way of fitting an adapter shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import RecipeError
from ragtune.retrieval.adapter import Adapter, Kind, next_version, save_adapter, set_current
from ragtune.retrieval.fit import Fitting, fit_adapter
from ragtune.retrieval.gate import Verdict, judge_ranks
from ragtune.retrieval.search import IndexSearcher
from ragtune.retrieval.trial import Ranks
from ragtune.seams import progress_of
from ragtune.stages.adapt_ranker import rank_pages
from ragtune.stages.material import Fitted, Material

if TYPE_CHECKING:
    import numpy as np

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)


def fit_query_adapter(material: Material, root: Path) -> Fitted:
    """Fit the recipe's kinds of query adapter and write the best that passes the gate as the next version under ``root``.

    Each fold is measured with an adapter fitted on the others, by the search of the recipe: with its ranker, if it has one.
    What is written is then fitted on all questions. Raises RecipeError where the search has no vectors to adapt.
    """
    settings, retrieval, report = material.recipe.adapting, material.recipe.retrieval, material.report
    is_ranked = retrieval.rerank == "ranker"
    if retrieval.method == "lexical" and not is_ranked:
        raise RecipeError("retrieval.method is 'lexical', which uses no vectors, so an adapter changes nothing. "
                          "Do: --set retrieval.method=fused")
    triples = material.triples
    trials = [try_kind(material, kind, lambda kind, numbers: fit_adapter(triples.part(numbers), kind, settings))
              for kind in settings.kinds]
    best = max(trials, key=lambda trial: (trial.verdict.is_accepted, trial.verdict.gain))
    facts: dict[str, Any] = {"masked": dict(triples.masked), "tried": {trial.kind: trial.verdict.reason for trial in trials}}
    if best.verdict.is_accepted and retrieval.method == "fused" and not is_ranked:
        facts["lexical_weights"] = try_weights(material, best.moved)
    return keep_best(material, root, best, facts, lambda: fit_adapter(
        triples, best.kind, settings, progress_of(report, "fitting the adapter")))


@dataclass(frozen=True)
class Tried:
    """One kind of adapter, each fold of questions mapped by a fit on the others: ``moved``, shape (questions, dimension)."""

    kind: Kind
    verdict: Verdict
    folds: tuple[Fitting, ...]
    moved: np.ndarray
    by_group: dict[str, dict[str, float]]


def try_kind(material: Material, kind: Kind, fit: Callable[[Kind, Sequence[int]], tuple[Adapter, Fitting]]) -> Tried:
    """Return how a kind of adapter does on held-out questions; ``fit`` learns from the questions of these numbers alone."""
    settings, before = material.recipe.adapting, rank_as_searched(material, material.vectors)
    moved, fittings = material.vectors.copy(), []
    for number, fold in enumerate(material.folds, start=1):
        adapter, fitting = fit(kind, sorted(set(range(len(material.questions))) - set(fold)))
        moved[list(fold)] = adapter.transform(material.vectors[list(fold)])
        fittings.append(fitting)
        if material.report:
            material.report(f"measuring {kind}", number, len(material.folds))
    after = rank_as_searched(material, moved)
    return Tried(kind, judge_ranks(before, after, settings.k, settings.max_p), tuple(fittings), moved,
                 recall_by_group(material, before["document"], after["document"]))


def keep_best(
    material: Material, root: Path, best: Tried, facts: dict[str, Any], fit: Callable[[], tuple[Adapter, Fitting]]
) -> Fitted:
    """Fit on all questions and write the next version under ``root``, where the gate lets the best pass."""
    facts = {"chosen": best.kind, "folds": [fitting.to_dict() for fitting in best.folds], "by_group": best.by_group, **facts}
    if not best.verdict.is_accepted:
        return Fitted("adapter", best.verdict, None, facts)
    adapter, fitting = fit()
    facts["fitting"] = fitting.to_dict()
    return Fitted("adapter", best.verdict, save_version(material, adapter, root, best.verdict, facts), facts)


def rank_as_searched(material: Material, vectors: np.ndarray) -> Ranks:
    """Return the ranks of the evidence as the recipe searches, when these are the questions' vectors.

    What raises the recall of the vectors alone may not raise that of the ranker, which knows more than they do. A
    cross-encoder is left out: it would read depth times as many texts as there are questions.
    """
    retrieval = material.recipe.retrieval
    if retrieval.rerank != "ranker":
        return material.trial.rank(vectors, retrieval)
    offline = tuple(name for name in retrieval.expand if name in ("glossary", "learned"))  # the others ask a model each time
    plain = retrieval.model_copy(update={"adapter": None, "where": None, "expand": offline})
    return rank_pages(material, IndexSearcher(material.index, plain), vectors)


def recall_by_group(material: Material, before: np.ndarray, after: np.ndarray) -> dict[str, dict[str, float]]:
    """Return for each group its questions and their recall at adapting.k, in the right document, before and after."""
    import numpy as np

    parts, k = np.array(material.parts), material.recipe.adapting.k
    found: dict[str, dict[str, float]] = {}
    for part in sorted(set(material.parts)):
        here = parts == part
        shares = [round(float(((ranks[here] > 0) & (ranks[here] <= k)).mean()), 3) for ranks in (before, after)]
        found[part] = {"n": int(here.sum()), "before": shares[0], "after": shares[1]}
    return found


def try_weights(material: Material, moved: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the recall at adapting.k with other weights of BM25, by weight and scope, for held-out adapted questions.

    Better vectors want less help from words, so the weight that was right without an adapter seldom is with one.
    """
    k, found = material.recipe.adapting.k, {}
    for weight in WEIGHTS:
        retrieval = material.recipe.retrieval.model_copy(update={"lexical_weight": weight, "dense_weight": 1.0})
        ranks = material.trial.rank(moved, retrieval)
        found[str(weight)] = {scope: round(float(((at > 0) & (at <= k)).mean()), 4) for scope, at in ranks.items()}
    return found


def save_version(material: Material, adapter: Adapter, root: Path, verdict: Verdict, facts: dict[str, Any]) -> Path:
    """Write the adapter as the next version under ``root``, make it the current one and return its folder."""
    folder = next_version(root)
    save_adapter(adapter, folder, material.index.embedder.fingerprint, **material.facts(), fit=facts, verdict=verdict.reason,
                 recall=[row.to_dict() for row in verdict.rows])
    set_current(folder)
    return folder
