"""Fitting the ranker's weights: to a question file's evidence pages, kept only where held-out recall rises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.errors import RecipeError
from ragtune.files import building_folder, write_json, write_manifest
from ragtune.retrieval.adapter import next_version, set_current
from ragtune.retrieval.gate import judge_ranks
from ragtune.retrieval.rerank import FILE, Judged, Ranker, fit_weights, page_features
from ragtune.retrieval.search import IndexSearcher
from ragtune.retrieval.trial import SCOPES
from ragtune.stages.material import Fitted, Material

if TYPE_CHECKING:
    import numpy as np


def fit_page_ranker(material: Material, root: Path) -> Fitted:
    """Fit the ranker and write it as the next version under ``root`` where the gate lets it pass.

    Each fold is ranked by weights fitted on the others, and compared with the weights in force. Questions may name, in the
    metadata column ``also``, further pages that hold the answer (``12|40``): they count neither for nor against. Raises
    RecipeError where the recipe's search has no ranker.
    """
    recipe = material.recipe
    if recipe.retrieval.rerank != "ranker":
        raise RecipeError(f"retrieval.rerank is '{recipe.retrieval.rerank}', so no ranker is used. "
                          "Do: --set retrieval.rerank=ranker")
    searcher = IndexSearcher(material.index, recipe.retrieval)
    judged = judge_pages(material, searcher)
    in_force = [searcher.ranker.vector()] * len(material.questions)
    before = {scope: _ranks(items, in_force) for scope, items in judged.items()}
    after = rank_left_out(material, judged)
    verdict = judge_ranks(before, after, recipe.adapting.k, recipe.adapting.max_p)
    weights_of_all = fit_weights(judged["shared"])
    facts = {"weights": weights_of_all}
    if not verdict.is_accepted:
        return Fitted("ranker", verdict, None, facts)
    folder = next_version(root)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with building_folder(folder) as partial:
        write_json(partial / FILE, {"weights": weights_of_all, "fitted_on": material.facts()})
        write_manifest(partial, "ranker", recall=[row.to_dict() for row in verdict.rows], **material.facts())
    set_current(folder)
    return Fitted("ranker", verdict, folder, facts)


def rank_pages(material: Material, searcher: IndexSearcher, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each scope the ranks of the evidence as the ranker in force orders pages, when these are the vectors."""
    in_force = [searcher.ranker.vector()] * len(material.questions)
    return {scope: _ranks(_judge(material, searcher, scope, vectors), in_force) for scope in SCOPES}


def judge_pages(material: Material, searcher: IndexSearcher) -> dict[str, list[Judged]]:
    """Return for each scope the features of every question's pages, and which of them are evidence."""
    vectors = material.vectors if searcher.adapter is None else searcher.adapter.transform(material.vectors)
    return {scope: _judge(material, searcher, scope, vectors) for scope in SCOPES}


def rank_left_out(material: Material, judged: Mapping[str, Sequence[Judged]]) -> dict[str, np.ndarray]:
    """Return the ranks of the evidence when each fold is ordered by weights fitted on the others."""
    fitted: list[np.ndarray] = [Ranker({}, {}).vector()] * len(material.questions)
    for fold in material.folds:
        held = set(fold)
        weights = fit_weights([item for number, item in enumerate(judged["shared"]) if number not in held])
        for number in fold:
            fitted[number] = Ranker(weights, {}).vector()
    return {scope: _ranks(items, fitted) for scope, items in judged.items()}


def _judge(material: Material, searcher: IndexSearcher, scope: str, vectors: np.ndarray) -> list[Judged]:
    """Return the features of each question's pages, and which of them are evidence."""
    import numpy as np

    trial, signals, judged = material.trial, material.index.signals, []
    for number, question in enumerate(material.questions):
        keep = trial.keep(number, scope)  # type: ignore[arg-type]
        priors, routed = np.ones(len(trial.index.store.documents)), keep
        if scope == "shared" and searcher.retrieval.route:
            priors, routed, _ = searcher.route(question.text)
        asked, variants = searcher.ask(question.text, routed)
        candidates = searcher.gather(variants, vectors[number : number + 1], trial.depth, routed)
        pages, features, _ = page_features(signals, asked, candidates, priors)
        places = [(int(signals.document[page]), int(signals.number[page])) for page in pages]
        also = {int(page) for page in str(question.metadata.get("also") or "").split("|") if page.isdigit()}
        gold = trial.pages[number]
        beside = {(document, page) for document, _ in gold for page in also} - gold
        judged.append(Judged(features, np.array([place in gold for place in places]),
                             np.array([place not in beside for place in places])))
        if material.report and number % 10 == 9:
            material.report(f"weighing pages, {scope}", number + 1, len(material.questions))
    return judged


def _ranks(judged: Sequence[Judged], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return the rank of the first evidence page of each question, 0 where it is no candidate."""
    import numpy as np

    ranks = np.zeros(len(judged), dtype=np.int32)
    for number, (item, own) in enumerate(zip(judged, weights)):
        order = np.argsort(-np.round(item.features @ own, 6), kind="stable")
        hits = np.flatnonzero(item.is_gold[order])
        ranks[number] = hits[0] + 1 if len(hits) else 0
    return ranks
