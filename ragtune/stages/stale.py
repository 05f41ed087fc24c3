"""The stale stage: which tuning rows an index of today has made outdated, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ragtune.answering.prompt import prompt_hash
from ragtune.datasets.folder import open_dataset
from ragtune.datasets.lineage import REASONS, Lineage, Tracer
from ragtune.documents.pack import in_recipe_pack
from ragtune.recipe.places import dataset_folder, index_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Record
from ragtune.retrieval.index import open_index
from ragtune.seams import Report

_EACH = 200  # rows between two reports


@dataclass(frozen=True)
class StaleRow(Record):
    """An outdated row: ``line`` of its file, counted from 1, why, and the documents that changed, as far as they are known.

    ``holds_evidence`` says whether the pages of its evidence still hold it, so that building the row anew will do; None
    where it has none or it cannot be told.
    """

    side: str
    line: int
    question_id: str
    reasons: tuple[str, ...]
    documents: tuple[str, ...] = ()
    holds_evidence: bool | None = None


@dataclass(frozen=True)
class StaleSummary(Record):
    """What an index made of a dataset. A row counts under each of its reasons (datasets/lineage.py); ``evidence`` counts
    outdated rows whose evidence pages still hold it, do not, or that have none. ``documents`` counts outdated rows by
    document. ``is_same_index`` and ``is_same_prompt`` compare with what the dataset was built by."""

    dataset: str
    index: str
    is_same_index: bool
    is_same_prompt: bool
    rows: Mapping[str, int]
    stale: Mapping[str, int]
    reasons: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    evidence: Mapping[str, int] = field(default_factory=dict)
    documents: Mapping[str, int] = field(default_factory=dict)
    outdated: tuple[StaleRow, ...] = ()

    @property
    def question_ids(self) -> tuple[str, ...]:
        """The questions of outdated rows, each once, in the order of the rows."""
        return tuple(dict.fromkeys(row.question_id for row in self.outdated))


@in_recipe_pack
def run_stale(
    recipe: Recipe, dataset: Path | None = None, index: Path | None = None, report: Report | None = None
) -> StaleSummary:
    """Compare the recipe's dataset folder, or ``dataset``, with the recipe's index as it is now, or ``index``.

    Raises RunError where the dataset is missing or damaged, IndexFolderError for the index.
    """
    opened = open_dataset(dataset or dataset_folder(recipe))
    today = open_index(index or index_folder(recipe))
    tracer = Tracer(today)
    outdated: list[StaleRow] = []
    sides = {"train": opened.train, "test": opened.test}
    for side, rows in sides.items():
        questions = {question.id: question for question in opened.questions(side)}
        for line, example in enumerate(rows, start=1):
            traced = tracer.trace(example, questions.get(str(example.provenance.get("question_id"))))
            if traced.reasons:
                outdated.append(_outdate(traced, side, line))
            if report and (line % _EACH == 0 or line == len(rows)):
                report(f"tracing {side} rows", line, len(rows))
    reasons = {side: Counter(reason for row in outdated if row.side == side for reason in row.reasons) for side in sides}
    held = Counter("still held" if row.holds_evidence else "none or unknown" if row.holds_evidence is None else "not held"
                   for row in outdated)
    return StaleSummary(
        str(opened.folder), str(today.folder), opened.manifest.get("index_id") == today.id,
        opened.manifest.get("prompt_hash") == prompt_hash(recipe.answering.names_rows),
        {side: len(rows) for side, rows in sides.items()},
        {side: sum(row.side == side for row in outdated) for side in sides},
        {side: {reason: counts[reason] for reason in REASONS if counts[reason]} for side, counts in reasons.items()},
        dict(sorted(held.items())),
        dict(sorted(Counter(name for row in outdated for name in row.documents).items())), tuple(outdated),
    )


def _outdate(traced: Lineage, side: str, line: int) -> StaleRow:
    return StaleRow(side, line, traced.question_id, traced.reasons, traced.outdated_documents, traced.holds_evidence)
