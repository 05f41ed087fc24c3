"""The adapt stage: retrieval is fitted to questions and kept only where recall rises on questions it was not fitted on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.documents.pack import use_pack
from ragtune.errors import RecipeError, nearest
from ragtune.recipe.places import index_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Record
from ragtune.retrieval.adapter import Adapter, next_version, save_adapter, set_current
from ragtune.retrieval.fit import Fitting, fit_adapter
from ragtune.retrieval.gate import RecallRow, Verdict, judge_ranks
from ragtune.retrieval.index import open_index
from ragtune.retrieval.search import IndexSearcher
from ragtune.retrieval.trial import Ranks
from ragtune.seams import Report, progress_of
from ragtune.stages.adapt_embedder import fit_tuned_embedder
from ragtune.stages.adapt_ranker import fit_page_ranker, rank_pages
from ragtune.stages.adapt_weights import fit_fusion_weights
from ragtune.stages.material import Fitted, Fitter, Material, gather_material

if TYPE_CHECKING:
    import numpy as np

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class AdaptedPart(Record):
    """What came of one part: recall on held-out questions before and after, the verdict, the folder if one was written."""

    what: str
    is_accepted: bool
    verdict: str
    folder: str
    recall: tuple[RecallRow, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class AdaptSummary(Record):
    """What was fitted, from how many questions of how many groups."""

    index: str
    source: str
    questions: int
    groups: int
    left_out: dict[str, int]
    parts: tuple[AdaptedPart, ...]
    seconds: float

    @property
    def is_accepted(self) -> bool:
        """Whether the gate let anything pass."""
        return any(part.is_accepted for part in self.parts)


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
    triples, before = material.triples, rank_as_searched(material, material.vectors)
    judged: dict[Any, tuple[Verdict, list[Fitting], np.ndarray, Any]] = {}
    for kind in settings.kinds:
        moved, fittings = material.vectors.copy(), []
        for number, fold in enumerate(material.folds, start=1):
            others = [n for n in range(len(material.questions)) if n not in set(fold)]
            adapter, fitting = fit_adapter(triples.part(others), kind, settings)
            moved[list(fold)] = adapter.transform(material.vectors[list(fold)])
            fittings.append(fitting)
            if report:
                report(f"measuring {kind}", number, len(material.folds))
        after = rank_as_searched(material, moved)
        judged[kind] = judge_ranks(before, after, settings.k, settings.max_p), fittings, moved, after
    kind = max(judged, key=lambda kind: (judged[kind][0].is_accepted, judged[kind][0].gain))
    verdict, fittings, moved, after = judged[kind]
    facts: dict[str, Any] = {
        "chosen": kind, "masked": dict(triples.masked), "folds": [fitting.to_dict() for fitting in fittings],
        "tried": {name: tried.reason for name, (tried, *_) in judged.items()},
        "by_group": recall_by_group(material, before["document"], after["document"]),
    }
    if not verdict.is_accepted:
        return Fitted("adapter", verdict, None, facts)
    if retrieval.method == "fused" and not is_ranked:
        facts["lexical_weights"] = try_weights(material, moved)
    adapter, fitting = fit_adapter(triples, kind, settings, progress_of(report, "fitting the adapter"))
    facts["fitting"] = fitting.to_dict()
    return Fitted("adapter", verdict, save_version(material, adapter, root, verdict, facts), facts)


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


FITTERS: dict[str, Fitter] = {
    "adapter": fit_query_adapter, "weights": fit_fusion_weights, "ranker": fit_page_ranker, "embedder": fit_tuned_embedder,
}
"""What can be fitted, in the order 'all' takes them."""


def run_adapt(
    recipe: Recipe, what: str = "adapter", questions: Path | None = None, out: Path | None = None,
    index: Path | None = None, report: Report | None = None,
) -> AdaptSummary:
    """Fit ``what`` (a name in FITTERS, or 'all') to questions; what passes the gate is written beside the index.

    Versions lie in ``<folder of the index>/../<what>/v1, v2, ...`` (``out`` takes the place of ``..``), with the current
    one named in the file ``current``; what is refused leaves nothing behind. Raises RecipeError for an unknown ``what``,
    QuestionError where the questions cannot be used, IndexFolderError for the index.
    """
    started = time.perf_counter()
    if what != "all" and what not in FITTERS:
        raise RecipeError(f"--what {what}: allowed are {', '.join(FITTERS)} and all.{nearest(what, FITTERS)}")
    source = Path(index) if index else index_folder(recipe)
    opened, parts = open_index(source), []
    with use_pack(opened.pack):  # questions and context lines as the index has them
        material = gather_material(recipe, opened, questions, report)
        for name in FITTERS if what == "all" else (what,):
            fitted = FITTERS[name](material, (Path(out) if out else source.parent) / name)
            parts.append(AdaptedPart(name, fitted.verdict.is_accepted, fitted.verdict.reason,
                                     str(fitted.folder) if fitted.folder else "", fitted.verdict.rows, dict(fitted.facts)))
    return AdaptSummary(str(source), material.source, len(material.questions), len(set(material.parts)),
                        dict(material.left_out), tuple(parts), round(time.perf_counter() - started, 1))
