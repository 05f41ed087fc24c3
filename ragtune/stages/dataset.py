"""The dataset stage: questions and an index go in, tuning rows whose passages come from that index's search come out."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ragtune.answering.prompt import prompt_hash
from ragtune.datasets.ask import ask_questions, documents_kept
from ragtune.datasets.card import CardFacts, count_rows, find_columns, render_card
from ragtune.datasets.distract import DrawChunk
from ragtune.datasets.folder import save_rows
from ragtune.datasets.instruct import BuildResult, build_examples
from ragtune.datasets.leaks import check_leaks, check_repeats, find_leaks, find_repeats, leave_out
from ragtune.datasets.lengths import FILE as LENGTHS
from ragtune.datasets.lengths import count_lengths, draw_lengths
from ragtune.datasets.locate import locate_evidence
from ragtune.datasets.questions import read_questions
from ragtune.datasets.split import GroupOf, group_by, split_by_groups, split_questions
from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import QuestionError
from ragtune.files import building_folder, hash_file, write_manifest
from ragtune.models.language import open_counter, read_window
from ragtune.recipe.places import dataset_folder, index_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Chunk, Document, Question, Record
from ragtune.retrieval.index import Index
from ragtune.retrieval.search import IndexSearcher, open_searcher
from ragtune.seams import Report, progress_of


@dataclass(frozen=True)
class DatasetSummary(Record):
    """What was built. ``train`` and ``test`` count rows by kind and mode; ``missing`` counts questions by the document or
    page that the index does not have, or as LOST; ``located`` counts the pieces of evidence by how their page was found;
    ``repeated`` counts training questions left out for one they are like; ``dropped`` and ``skipped`` count rows left out,
    by side and reason, ``cut_off`` the rows whose completion is longer than the generator's ever is."""

    folder: str
    questions: int
    train_questions: int
    test_questions: int
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    missing: Mapping[str, int] = field(default_factory=dict)
    outside_filter: int = 0
    located: Mapping[str, int] = field(default_factory=dict)
    repeated: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    cut_off: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Asked:
    """The questions of a recipe and where they are from. ``lost`` are the ids of those whose evidence was on no page."""

    questions: Sequence[Question]
    source: str
    located: Mapping[str, int] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()


LOST = "evidence found on no page"


@in_recipe_pack
def run_dataset(
    recipe: Recipe, out: Path | None = None, index: Path | None = None, report: Report | None = None
) -> DatasetSummary:
    """Build the recipe's dataset folder, or ``out``, from the recipe's index folder, or ``index``.

    Raises QuestionError for a question file that cannot be used or of which nothing is left, and for training questions
    that are asked again in the test or evaluation questions; IndexFolderError for the index, ModelError where the model
    reads less than a row may hold, RunError where too many rows had to be left out or the folder cannot be written.
    """
    started = time.perf_counter()
    window = read_window(recipe.generator)
    section, target = recipe.dataset, out or dataset_folder(recipe)
    searcher = open_searcher(index or index_folder(recipe), recipe.retrieval)
    documents = {document.name: document for document in searcher.index.documents()}
    kept = {document.name for document in documents_kept(searcher.index, section.where)}
    groups = group_by(section.split_by, {name: document.metadata for name, document in documents.items()})
    named = {d.name for d in documents_kept(searcher.index, section.test_where)} if section.test_where else set()
    named = _test_documents((), documents, groups, named)
    asked = _gather(recipe, searcher.index, named, report)
    questions, missing, outside = _select(asked, documents, kept, _count_pages(searcher.index))
    if named:
        train, test = split_by_groups(questions, set().union(*_groups_of(named, groups).values()), groups)
    else:
        train, test = split_questions(questions, section.split_by, section.test_share, section.seed, groups)
    train, repeated = _without_repeats(train, test, recipe)
    excluded = set(documents) - kept | _test_documents(test, documents, groups, named)
    built = _build(recipe, searcher, train, test, excluded, groups, window, report)
    count_tokens = open_counter(recipe.generator)
    summary = DatasetSummary(
        str(target), len(questions), len(train), len(test), count_rows(built["train"].examples),
        count_rows(built["test"].examples), missing, outside, asked.located,
        repeated, {side: dict(b.dropped) for side, b in built.items()}, {side: dict(b.skipped) for side, b in built.items()},
        {side: b.cut_off for side, b in built.items()}, round(time.perf_counter() - started, 1),
    )
    facts = CardFacts(recipe, searcher.index.id, asked.source, {"train": _documents_of(train), "test": _documents_of(test)},
                      summary.dropped, summary.skipped, missing, find_columns([*train, *test], documents),
                      {side: count_lengths(b.examples, count_tokens) for side, b in built.items()}, repeated,
                      summary.cut_off)
    with building_folder(target) as folder:
        save_rows(folder, built["train"].examples, built["test"].examples, train, test)
        card = render_card(built["train"].examples, built["test"].examples, facts)
        (folder / "README.md").write_text(card, encoding="utf-8")
        if drawing := draw_lengths(facts.lengths, recipe.generator.max_prompt_tokens):
            (folder / LENGTHS).write_bytes(drawing)
        write_manifest(
            folder, "dataset", id=hash_file(folder / "train.jsonl")[:16], recipe=recipe.model_dump(mode="json"),
            index_id=searcher.index.id, prompt_hash=prompt_hash(recipe.answering.names_rows), source=asked.source,
            excluded=sorted(excluded),
            counts={key: value for key, value in summary.to_dict().items() if key not in ("folder", "seconds")},
        )
    return summary


def _without_repeats(
    train: Sequence[Question], test: Sequence[Question], recipe: Recipe
) -> tuple[list[Question], dict[str, int]]:
    """Return the training questions that ask what no other one does, and how many were left out, by what they are like.

    Raises QuestionError where those of a file are asked again on the test side, or for evaluation, or more than once where
    the recipe says so. Questions that were asked here nobody can mend: they are left out.
    """
    section, kept, counts = recipe.dataset, list(train), Counter[str]()
    sides: dict[str, Sequence[Question]] = {"the test questions": test}
    if recipe.evaluation.questions:
        file = Path(recipe.evaluation.questions)
        sides[f"evaluation.questions, {file.name}"] = read_questions(file)
    for source, apart in sides.items():
        if section.questions:
            check_leaks(kept, apart, source)
        else:
            leaks = find_leaks(kept, apart)
            kept = leave_out(kept, leaks)
            counts[f"asked again in {source}"] = len(leaks)
    if section.near_duplicates == "fail":
        check_repeats(kept)
    elif section.near_duplicates == "drop":
        repeats = find_repeats(kept)
        kept = leave_out(kept, repeats)
        counts["like another training question"] = len(repeats)
    if train and not kept:
        raise QuestionError(
            f"all {len(train)} training questions are asked again elsewhere: {_reasons(counts)}. Ask more "
            "(dataset.ask_count), or split by what joins them (dataset.split_by, such as company).")
    return kept, dict(+counts)


def _reasons(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in counts.items())


def _build(
    recipe: Recipe, searcher: IndexSearcher, train: Sequence[Question], test: Sequence[Question],
    excluded: set[str], groups: GroupOf, window: int, report: Report | None,
) -> dict[str, BuildResult]:
    """Return the rows of both sides: drawn for training, as served for testing."""
    section, count_tokens = recipe.dataset, open_counter(recipe.generator)
    names = {question.id: list(groups(question)) for question in [*train, *test]}
    return {
        "train": build_examples(train, searcher, count_tokens, section, recipe.retrieval, recipe.generator,
                                progress_of(report, "training rows"), excluded=excluded, groups=names,
                                names_rows=recipe.answering.names_rows, context_tokens=window,
                                any_chunk=_draw_from(searcher, excluded)),
        "test": build_examples(test, searcher, count_tokens, section, recipe.retrieval, recipe.generator,
                               progress_of(report, "test rows"), is_served=True, groups=names,
                               names_rows=recipe.answering.names_rows, context_tokens=window),
    }


def _draw_from(searcher: IndexSearcher, excluded: set[str]) -> DrawChunk:
    """Return what draws any chunk of the index, or the page it stands on, the excluded documents aside."""
    store = searcher.index.store
    positions = {position for name, position in store.positions.items() if name in excluded}
    rows = [row for row, (document, _, _) in enumerate(store.places()) if document not in positions]

    def draw_chunk(draw: random.Random) -> Chunk:
        return searcher.shown_of(draw.choice(rows))

    return draw_chunk


def _gather(recipe: Recipe, index: Index, named: set[str], report: Report | None) -> Asked:
    """Return the questions of the recipe's file, their evidence on pages of the index, or asked from its statements.

    Where test documents are ``named``, they are asked about apart from the others: a test_share of the questions.
    """
    section = recipe.dataset
    if section.questions:
        read = read_questions(Path(section.questions))
        located, outcomes = locate_evidence(read, index)
        lost = frozenset(before.id for before, after in zip(read, located) if before.evidence and not after.evidence)
        return Asked(located, f"the file `{Path(section.questions).name}`", dict(sorted(outcomes.items())), lost)
    progress, source = progress_of(report, "asking questions"), "asked from the statement rows of the index, offline"
    if not named:
        return Asked(ask_questions(index, section.ask_count, section.seed, section.where, progress), source)
    kept = f"({section.where}) and " if section.where else ""
    asked_test = round(section.test_share * section.ask_count) or 1
    names = ", ".join(json.dumps(name, ensure_ascii=False) for name in sorted(named))
    counts = {f"document not in ({names})": section.ask_count - asked_test, f"document in ({names})": asked_test}
    sides = [ask_questions(index, count, section.seed, kept + where, progress) for where, count in counts.items()]
    return Asked([question for side in sides for question in side], source)


def _count_pages(index: Index) -> Callable[[str], int]:
    """Return what tells a document's number of pages, read once each."""
    return cache(lambda name: max((page.number for page in index.document(name).pages), default=0))


def _select(
    asked: Asked, documents: Mapping[str, Document], kept: set[str], count_pages: Callable[[str], int]
) -> tuple[list[Question], dict[str, int], int]:
    """Return the questions that can be used, how many name each missing document or page, and how many a filter keeps out.

    A question without evidence counts as about the document its metadata name, if any. Raises QuestionError where none
    is left.
    """
    usable, missing, outside = [], Counter[str](), 0
    for question in asked.questions:
        named = _documents_of([question])
        lacking = [name for name in named if name not in documents]
        beyond = [f"{e.document} page {e.page} (it has {count_pages(e.document)})" for e in question.evidence
                  if e.document in documents and e.page > count_pages(e.document)]
        if lacking or beyond:
            missing.update([*lacking, *beyond][:1])
        elif question.id in asked.lost:
            missing[LOST] += 1
        elif named and not kept.issuperset(named):
            outside += 1
        else:
            usable.append(question)
    if not usable:
        raise QuestionError(
            f"none of {len(asked.questions)} questions is about a document of the index: {sum(missing.values())} name a "
            f"document or page that is missing ({', '.join(sorted(missing)[:5]) or 'none'}), {outside} question(s) lie "
            "outside dataset.where. Index the documents the questions are about (evidence names a file without its suffix), "
            "mend the evidence, or mend dataset.where."
        )
    return usable, dict(sorted(missing.items())), outside


def _documents_of(questions: Sequence[Question]) -> list[str]:
    """Return the names of the documents that questions are about, sorted."""
    names = {evidence.document for question in questions for evidence in question.evidence}
    names |= {str(question.metadata["document"]) for question in questions
              if not question.evidence and question.metadata.get("document")}
    return sorted(names)


def _groups_of(names: Iterable[str], groups: GroupOf) -> dict[str, set[str]]:
    """Return document name -> its groups; a document without the column that is split by belongs to none."""
    found = {}
    for name in names:
        try:
            found[name] = set(groups(Question(f"document {name}", name, metadata={"document": name})))
        except QuestionError:
            found[name] = set()
    return found


def _test_documents(
    questions: Sequence[Question], documents: Iterable[str], groups: GroupOf, named: Iterable[str] = ()
) -> set[str]:
    """Return the documents of the test side: those named, those its questions are about, all others of their groups."""
    names = {*named, *_documents_of(questions)}
    tested = {group for question in questions for group in groups(question)}
    tested = tested.union(*_groups_of(names, groups).values())
    return names | {name for name, own in _groups_of(documents, groups).items() if tested & own}
