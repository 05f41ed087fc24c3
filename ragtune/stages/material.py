"""What retrieval is fitted with: questions whose pages are known, laid on an index and dealt into folds by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.datasets.ask import ask_questions, documents_kept
from ragtune.datasets.locate import locate_evidence
from ragtune.datasets.questions import read_questions
from ragtune.datasets.split import draw_folds, group_by, join_questions
from ragtune.errors import QuestionError
from ragtune.files import hash_text
from ragtune.recipe.places import dataset_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Question
from ragtune.retrieval.gate import Verdict
from ragtune.retrieval.index import Index
from ragtune.retrieval.mine import Triples, mine_triples
from ragtune.retrieval.trial import Trial
from ragtune.seams import Report, progress_of

if TYPE_CHECKING:
    import numpy as np

FEWEST_PARTS = 3  # one to measure on, one to stop the fit by, one to learn from


@dataclass
class Material:
    """An index with usable questions. ``parts[n]`` is what question n is held out by; ``folds`` number the questions.

    ``left_out`` counts the questions that cannot be used, by reason; ``source`` says where they are from.
    """

    recipe: Recipe
    index: Index
    questions: tuple[Question, ...]
    parts: tuple[str, ...]
    folds: tuple[tuple[int, ...], ...]
    source: str
    left_out: Mapping[str, int]
    report: Report | None = None

    @cached_property
    def trial(self) -> Trial:
        """The questions laid on the index."""
        return Trial(self.index, self.questions, max(self.recipe.retrieval.candidates, 2 * self.recipe.adapting.k))

    @cached_property
    def vectors(self) -> np.ndarray:
        """The questions' vectors, float32 of length 1, shape (questions, dimension)."""
        if self.report:
            self.report("embedding questions", 0, 0)
        return self.index.embedder.embed_questions([question.text for question in self.questions])

    @cached_property
    def triples(self) -> Triples:
        """The questions with mined positives and negatives."""
        settings = self.recipe.adapting
        for scope, name in (("shared", "the index"), ("document", "documents")):
            self.trial.find_lexical(scope, progress_of(self.report, f"asking {name} by words"))  # type: ignore[arg-type]
        return mine_triples(self.trial, self.vectors, self.parts, settings.negatives, settings.near_duplicate,
                            progress_of(self.report, "mining negatives"))

    def facts(self) -> dict[str, Any]:
        """Return what a manifest says of the index and the questions."""
        return {
            "index_id": self.index.id,
            "questions": {"source": self.source, "count": len(self.questions), "left_out": dict(self.left_out),
                          "hash": hash_text("\n".join(f"{q.id} {q.text}" for q in self.questions)),
                          "groups": sorted(set(self.parts)), "folds": len(self.folds)},
            "settings": self.recipe.adapting.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class Fitted:
    """What a fitter made: its verdict, the folder it wrote, None where the gate refused it, and what else is to be told."""

    what: str
    verdict: Verdict
    folder: Path | None
    facts: Mapping[str, Any] = field(default_factory=dict)


Fitter = Callable[[Material, Path], Fitted]
"""Takes the material and the folder of versions; writes a version only where the gate lets it pass."""


def gather_material(recipe: Recipe, index: Index, questions: Path | None = None, report: Report | None = None) -> Material:
    """Return the recipe's material: of the file ``questions``, else of the recipe's, else asked from statement rows.

    Questions count that name evidence in the index, on documents that dataset.where keeps and that are not kept apart for
    evaluation. Raises QuestionError where they are of fewer than three groups, or none can be used.
    """
    settings = recipe.adapting
    file = questions or (Path(name) if (name := settings.questions or recipe.dataset.questions) else None)
    if file is not None:
        (asked, _), source = locate_evidence(read_questions(file), index), f"the file {file.name}"
    else:
        asked = ask_questions(index, settings.ask_count, settings.seed, recipe.dataset.where,
                              progress_of(report, "asking questions"))
        source = "asked from the statement rows of the index"
    group_of = group_by(settings.split_by or recipe.dataset.split_by, {d.name: d.metadata for d in index.documents()})
    usable, left_out = _select(recipe, index, asked, group_of)
    parts = join_questions(usable, group_of)
    if len(set(parts)) < FEWEST_PARTS:
        raise QuestionError(
            f"{len(usable)} of {len(asked)} questions can be used ({_tell(left_out)}), of {len(set(parts))} group(s) by "
            f"'{settings.split_by or recipe.dataset.split_by}'; at least {FEWEST_PARTS} are needed to measure on groups "
            "that were not learned from. Ask about more documents, or set adapting.split_by=document"
        )
    folds = draw_folds(parts, settings.folds, settings.seed)
    return Material(recipe, index, tuple(usable), tuple(parts), tuple(map(tuple, folds)), source, left_out, report)


def _select(
    recipe: Recipe, index: Index, asked: Sequence[Question], group_of: Callable[[Question], Sequence[str]]
) -> tuple[list[Question], dict[str, int]]:
    """Return the usable questions and how many others there are, by reason."""
    kept = {document.name for document in documents_kept(index, recipe.dataset.where)}
    positions, places = index.store.positions, set[tuple[int, int]]()
    for document, first, last in index.places.tolist():
        places.update((document, page) for page in range(first, last + 1))
    reserved = _reserved(recipe, index, group_of)
    usable, left_out = [], Counter[str]()
    for question in asked:
        names = {evidence.document for evidence in question.evidence}
        if not names:
            left_out["without evidence"] += 1
        elif not names <= set(positions):
            left_out["document not in the index"] += 1
        elif not names <= kept:
            left_out["outside dataset.where"] += 1
        elif any((positions[e.document], e.page) not in places for e in question.evidence):
            left_out["page without text"] += 1
        elif reserved.intersection(group_of(question)):
            left_out["kept apart for evaluation"] += 1
        else:
            usable.append(question)
    return usable, dict(left_out)


def _reserved(recipe: Recipe, index: Index, group_of: Callable[[Question], Sequence[str]]) -> set[str]:
    """Return the groups kept apart for evaluation: of dataset.test_where and of the dataset folder's test questions."""
    groups: set[str] = set()
    if recipe.dataset.test_where:
        for document in documents_kept(index, recipe.dataset.test_where):
            groups.update(group_of(Question(document.name, document.name, metadata={"document": document.name})))
    file = dataset_folder(recipe) / "questions_test.jsonl"
    if file.is_file():
        for question in read_questions(file):
            if all(evidence.document in index.store.positions for evidence in question.evidence) and question.evidence:
                groups.update(group_of(question))
    return groups


def _tell(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none left out"
