"""The adapt stage: retrieval is fitted to questions and kept only where recall rises on questions it was not fitted on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.documents.pack import use_pack
from ragtune.errors import RecipeError, nearest
from ragtune.recipe.places import index_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Record
from ragtune.retrieval.gate import RecallRow
from ragtune.retrieval.index import open_index
from ragtune.seams import Report
from ragtune.stages.adapt_adapter import fit_query_adapter
from ragtune.stages.adapt_embedder import fit_tuned_embedder
from ragtune.stages.adapt_likelihoods import fit_by_likelihoods
from ragtune.stages.adapt_ranker import fit_page_ranker
from ragtune.stages.adapt_weights import fit_fusion_weights
from ragtune.stages.material import Fitter, gather_material


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


FITTERS: dict[str, Fitter] = {
    "adapter": fit_query_adapter, "weights": fit_fusion_weights, "ranker": fit_page_ranker, "embedder": fit_tuned_embedder,
    "likelihoods": fit_by_likelihoods,
}
"""What can be fitted. 'likelihoods' is a way to fit the adapter, so its versions lie among the adapter's."""
ALL = ("adapter", "weights", "ranker", "embedder")
"""What 'all' fits, in this order: what needs no tuned run."""


def run_adapt(
    recipe: Recipe, what: str = "adapter", questions: Path | None = None, out: Path | None = None,
    index: Path | None = None, report: Report | None = None,
) -> AdaptSummary:
    """Fit ``what`` (a name in FITTERS, or 'all') to questions; what passes the gate is written beside the index.

    Versions lie in ``<folder of the index>/../<what>/v1, v2, ...`` (``out`` takes the place of ``..``), with the current
    one named in the file ``current``; what is refused leaves nothing behind. Raises RecipeError for an unknown ``what``,
    QuestionError where the questions cannot be used, RunError where 'likelihoods' lacks a run, IndexFolderError for the
    index.
    """
    started = time.perf_counter()
    if what != "all" and what not in FITTERS:
        raise RecipeError(f"--what {what}: allowed are {', '.join(FITTERS)} and all.{nearest(what, FITTERS)}")
    source = Path(index) if index else index_folder(recipe)
    opened, parts = open_index(source), []
    with use_pack(opened.pack):  # questions and context lines as the index has them
        material = gather_material(recipe, opened, questions, report)
        for name in ALL if what == "all" else (what,):
            root = (Path(out) if out else source.parent) / ("adapter" if name == "likelihoods" else name)
            fitted = FITTERS[name](material, root)
            parts.append(AdaptedPart(name, fitted.verdict.is_accepted, fitted.verdict.reason,
                                     str(fitted.folder) if fitted.folder else "", fitted.verdict.rows, dict(fitted.facts)))
    return AdaptSummary(str(source), material.source, len(material.questions), len(set(material.parts)),
                        dict(material.left_out), tuple(parts), round(time.perf_counter() - started, 1))
