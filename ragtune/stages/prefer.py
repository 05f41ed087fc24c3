"""The pairs stage: a dataset folder goes in, preference pairs and KTO labels come out: of mistakes about its rows, or of
what a tuned run itself answers to its training questions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtune.answering.prompt import prompt_hash
from ragtune.datasets.distract import labels_of
from ragtune.datasets.elsewhere import Elsewhere, find_rows
from ragtune.datasets.folder import OpenedDataset, open_dataset
from ragtune.datasets.lineage import Tracer
from ragtune.datasets.pairs_card import render_pairs_card
from ragtune.datasets.prefer import PairsResult, build_labels, build_pairs, render_pair
from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import RunError
from ragtune.files import building_folder, hash_file, write_jsonl, write_manifest
from ragtune.recipe.places import dataset_folder, index_folder, pairs_folder, supervised_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Example, Pair, Question, Record
from ragtune.retrieval.index import Index, open_index
from ragtune.seams import Report, progress_of
from ragtune.stages.sampled import Sampled, sample_pairs, score_completion

SIDES = {"train": "", "test": "_test"}
"""What stands behind the names of a side's files: pairs.jsonl and kto.jsonl, pairs_test.jsonl and kto_test.jsonl. Sampled
answers are to training questions only."""


@dataclass(frozen=True)
class PairsSummary(Record):
    """What was made. ``train`` and ``test`` count pairs by reason, by kind and by what the rejected half does, and KTO's
    labels; ``skipped`` counts by side and reason what gave no pair. ``sampled`` says what a run answered: how many
    questions and samples, and how many of these were correct, wrong and refused."""

    folder: str
    dataset: str
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    seconds: float = 0.0
    sampled: Mapping[str, Any] = field(default_factory=dict)


@in_recipe_pack
def run_pairs(
    recipe: Recipe, dataset: Path | None = None, index: Path | None = None, out: Path | None = None,
    report: Report | None = None, run: Path | None = None,
) -> PairsSummary:
    """Make the recipe's pairs folder, or ``out``, from the recipe's dataset folder, or ``dataset``.

    Rows that the recipe's index, or ``index``, has made outdated are left out and counted. With ``pairs.from_run`` the pairs
    are of answers that the recipe's run, or ``run``, gives to the training questions. Raises RunError where the dataset or
    the run is missing, damaged, does not fit or was rendered by another prompt, or where there is no pair;
    IndexFolderError for the index, ModelError for a generator or a judge that cannot be used.
    """
    started, target = time.perf_counter(), out or pairs_folder(recipe)
    opened = open_dataset(dataset or dataset_folder(recipe))
    _check_prompt(opened, recipe)
    folder_of_index = index or index_folder(recipe)
    sampled: Sampled | None = None
    if recipe.pairs.from_run:
        sampled = sample_pairs(recipe, opened, folder_of_index, run or supervised_folder(recipe), report)
        results, index_id = {"train": sampled.result}, sampled.index_id
    else:
        searched = open_index(folder_of_index)
        results, index_id = _mistake(recipe, opened, searched, report), searched.id
    if not results["train"].pairs:
        way = ("Raise pairs.samples or pairs.temperature." if sampled else "Raise the shares in the recipe's section "
               "'pairs', or build the dataset anew. Do: ragtune dataset --recipe FILE")
        raise RunError(f"{opened.folder}: its {len(opened.train)} training rows gave no pair "
                       f"({_tell(results['train'].skipped)}). {way}")
    with building_folder(target) as folder:
        counts = {side: _save(folder, result.pairs, SIDES[side]) for side, result in results.items()}
        summary = PairsSummary(str(target), str(opened.folder), counts["train"], counts.get("test", {}),
                               {side: dict(result.skipped) for side, result in results.items()},
                               round(time.perf_counter() - started, 1), sampled.facts if sampled else {})
        told = {key: value for key, value in summary.to_dict().items() if key not in ("folder", "dataset", "seconds")}
        card = render_pairs_card(told, recipe, str(opened.manifest["id"]))
        (folder / "README.md").write_text(card, encoding="utf-8")
        write_manifest(
            folder, "pairs", id=hash_file(folder / "pairs.jsonl")[:16], recipe=recipe.model_dump(mode="json"),
            dataset_id=opened.manifest["id"], index_id=index_id, prompt_hash=opened.manifest["prompt_hash"],
            run_id=sampled.run_id if sampled else "", counts=told,
        )
    return summary


def _mistake(
    recipe: Recipe, opened: OpenedDataset, searched: Index, report: Report | None
) -> dict[str, PairsResult]:
    """Return the pairs of both sides' rows and mistakes about them."""
    questions = {side: opened.questions(side) for side in SIDES}
    elsewhere = _find_elsewhere(recipe, opened, searched, questions, report)
    results: dict[str, PairsResult] = {}
    for side in SIDES:
        fresh, outdated = _leave_outdated(opened.side(side), questions[side], searched)
        made = build_pairs(fresh, questions[side], score_completion, recipe.pairs, progress_of(report, f"{side} pairs"),
                           elsewhere[side])
        results[side] = PairsResult(made.pairs, {**made.skipped, **outdated})
    return results


def _find_elsewhere(
    recipe: Recipe, opened: OpenedDataset, searched: Index, questions: Mapping[str, Sequence[Question]],
    report: Report | None,
) -> dict[str, Elsewhere]:
    """Return the rows of other companies by side. Training pairs say nothing of a document kept from training."""
    if not recipe.pairs.other_company:
        return {side: Elsewhere() for side in SIDES}
    tested = {evidence.document for question in questions["test"] for evidence in question.evidence}
    trained = {document.name for document in searched.documents()} - set(opened.manifest.get("excluded", ())) - tested
    labels = {label for asked in questions.values() for question in asked for label in labels_of(question)}
    documents = sorted(trained | tested & set(searched.store.positions))
    found = find_rows(searched, documents, labels, progress_of(report, "rows of other companies"))
    return {"train": Elsewhere({name: rows for name, rows in found.rows.items() if name in trained}), "test": found}


def _check_prompt(opened: OpenedDataset, recipe: Recipe) -> None:
    wanted, found = prompt_hash(recipe.answering.names_rows), opened.manifest.get("prompt_hash")
    if found != wanted:
        raise RunError(f"{opened.folder} was rendered by prompt {found}, this ragtune and recipe render by {wanted}: its "
                       "pairs would teach another prompt than the one that serves. Do: ragtune dataset --recipe FILE")


def _leave_outdated(
    rows: Sequence[Example], questions: Sequence[Question], index: Index
) -> tuple[list[Example], dict[str, int]]:
    """Return the rows that the index still shows as they are, and how many others there are, by reason."""
    known, tracer = {question.id: question for question in questions}, Tracer(index)
    fresh, outdated = [], Counter[str]()
    for row in rows:
        reasons = tracer.trace(row, known.get(str(row.provenance.get("question_id")))).reasons
        if reasons:
            outdated[f"the row is outdated: {reasons[0]}"] += 1
        else:
            fresh.append(row)
    return fresh, dict(outdated)


def _save(folder: Path, pairs: Sequence[Pair], end: str) -> dict[str, Any]:
    """Write the two files of a side and return its counts."""
    labels = build_labels(pairs)
    write_jsonl(folder / f"pairs{end}.jsonl", map(render_pair, pairs))
    write_jsonl(folder / f"kto{end}.jsonl", labels)

    def count(name: str) -> dict[str, int]:
        return dict(sorted(Counter(str(pair.provenance.get(name)) for pair in pairs).items()))

    return {"pairs": len(pairs), "rows": len({repr(pair.prompt) for pair in pairs}), "reasons": count("reason"),
            "kinds": count("kind"), "rejected": count("rejected_outcome"),
            "kto": {"desirable": sum(row["label"] for row in labels),
                    "undesirable": sum(not row["label"] for row in labels)}}


def _tell(skipped: Mapping[str, int]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in skipped.items()) or "none was looked at"
