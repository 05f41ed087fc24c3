"""The pairs stage: a dataset folder goes in, preference pairs and KTO labels made from its rows come out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtune.answering.prompt import parse_completion, prompt_hash
from ragtune.datasets.folder import OpenedDataset, open_dataset
from ragtune.datasets.lineage import Tracer
from ragtune.datasets.prefer import PairsResult, build_labels, build_pairs, render_pair
from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import RunError
from ragtune.evaluation.answers import score_answer
from ragtune.files import building_folder, hash_file, write_jsonl, write_manifest
from ragtune.recipe.places import dataset_folder, index_folder, pairs_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Example, Outcome, Pair, Question, Record
from ragtune.retrieval.index import Index, open_index
from ragtune.seams import Report, progress_of

SIDES = {"train": "", "test": "_test"}
"""What stands behind the names of a side's files: pairs.jsonl and kto.jsonl, pairs_test.jsonl and kto_test.jsonl."""


@dataclass(frozen=True)
class PairsSummary(Record):
    """What was made. ``train`` and ``test`` count pairs by reason, by kind and by what the rejected half does, and KTO's
    labels; ``skipped`` counts by side and reason what gave no pair."""

    folder: str
    dataset: str
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    seconds: float = 0.0


@in_recipe_pack
def run_pairs(
    recipe: Recipe, dataset: Path | None = None, index: Path | None = None, out: Path | None = None,
    report: Report | None = None,
) -> PairsSummary:
    """Make the recipe's pairs folder, or ``out``, from the rows of the recipe's dataset folder, or ``dataset``.

    Rows that the recipe's index, or ``index``, has made outdated are left out and counted. Raises RunError where the dataset
    is missing, damaged or rendered by another prompt, or gives no pair; IndexFolderError for the index.
    """
    started, target = time.perf_counter(), out or pairs_folder(recipe)
    opened = open_dataset(dataset or dataset_folder(recipe))
    _check_prompt(opened, recipe)
    searched = open_index(index or index_folder(recipe))
    results: dict[str, PairsResult] = {}
    for side, rows in (("train", opened.train), ("test", opened.test)):
        questions = opened.questions(side)
        fresh, outdated = _leave_outdated(rows, questions, searched)
        made = build_pairs(fresh, questions, score_completion, recipe.pairs, progress_of(report, f"{side} pairs"))
        results[side] = PairsResult(made.pairs, {**made.skipped, **outdated})
    if not results["train"].pairs:
        raise RunError(
            f"{opened.folder}: its {len(opened.train)} training rows gave no pair ({_tell(results['train'].skipped)}). "
            "Raise the shares in the recipe's section 'pairs', or build the dataset anew. Do: ragtune dataset --recipe FILE")
    with building_folder(target) as folder:
        counts = {side: _save(folder, result.pairs, end) for (side, end), result in zip(SIDES.items(), results.values())}
        summary = PairsSummary(str(target), str(opened.folder), counts["train"], counts["test"],
                               {side: dict(result.skipped) for side, result in results.items()},
                               round(time.perf_counter() - started, 1))
        write_manifest(
            folder, "pairs", id=hash_file(folder / "pairs.jsonl")[:16], recipe=recipe.model_dump(mode="json"),
            dataset_id=opened.manifest["id"], index_id=searched.id, prompt_hash=opened.manifest["prompt_hash"],
            counts={key: value for key, value in summary.to_dict().items() if key not in ("folder", "dataset", "seconds")},
        )
    return summary


def score_completion(question: Question, completion: str) -> Outcome:
    """Return the scorer's outcome of a whole completion, as it stands: nothing is put right, no guard looks at it."""
    text, _, _, is_refusal = parse_completion(completion)
    outcome = score_answer(question, text, is_refusal or None).outcome
    assert outcome is not None
    return outcome


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
