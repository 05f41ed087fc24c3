"""What a tuning method learns from: rows of a dataset or pairs folder, or text of an index, by the method's shape."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtune.datasets.folder import open_dataset, read_examples
from ragtune.datasets.prefer import read_pairs
from ragtune.datasets.questions import read_questions
from ragtune.errors import RunError
from ragtune.files import hash_file, hash_text, read_jsonl, read_manifest
from ragtune.recipe.places import dataset_folder, pairs_folder
from ragtune.recipe.schema import Recipe, Training
from ragtune.records import Question
from ragtune.seams import Report
from ragtune.stages.export import read_texts
from ragtune.training.methods import SHAPES, Method, Shape

_FILES: dict[Shape, tuple[str, str, str]] = {
    "prompt_completion": ("dataset", "train.jsonl", "test.jsonl"),
    "prompts": ("dataset", "train.jsonl", "test.jsonl"),
    "documents": ("dataset", "train.jsonl", "test.jsonl"),
    "pairs": ("pairs", "pairs.jsonl", "pairs_test.jsonl"),
    "labels": ("pairs", "kto.jsonl", "kto_test.jsonl"),
}
"""The kind of folder that rows of a shape lie in, and its files of both sides."""


@dataclass(frozen=True)
class Rows:
    """Rows of both sides, the questions they came from by id, and the folder's manifest and hash."""

    train: tuple[Any, ...]
    test: tuple[Any, ...]
    manifest: Mapping[str, Any]
    hash: str
    questions: Mapping[str, Question] = field(default_factory=dict)


def read_rows(
    recipe: Recipe, method: Method, folder: Path | None = None, index: Path | None = None, ours: str | None = None,
    report: Report | None = None,
) -> Rows:
    """Return the rows a method takes from ``folder``, by default the recipe's.

    ``ours`` is the hash of the prompt that serves; None takes rows of any prompt. ``index``, where given, must be the one
    they were built from. Raises RunError where rows are missing, of another shape, prompt or index, naming the command that
    makes the right ones.
    """
    shape = method.shape
    kind, name, test_name = _FILES[shape]
    source = folder or (dataset_folder(recipe) if kind == "dataset" else pairs_folder(recipe))
    manifest = _check_folder(source, kind, name, shape, ours, index)
    _check_preset(source, manifest, method)
    files = [path for path in (source / name, source / test_name) if path.is_file()]
    texts: Sequence[Any] = ()
    if shape == "documents":
        opened = open_dataset(source)  # it says which documents are kept for testing
        texts = read_texts(opened, recipe, index, None, report).rows
    sides = [_read_side(path, shape) for path in files]
    train = tuple(texts) if shape == "documents" else sides[0]
    if not train:
        raise RunError(f"{source / name} holds no rows. Give it more questions. Do: {SHAPES[shape][1]}")
    return Rows(train, sides[1] if len(sides) > 1 and shape != "documents" else (), manifest,
                hash_text("".join(hash_file(path) for path in files)), _read_questions(source))


def hold_out(rows: Rows, training: Training) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the training rows that are learned from, and those that answer accuracy is measured on while tuning.

    None is held out where ``training.stop_patience`` is 0. Held out are all rows of whole groups (those the dataset was
    split by, else documents, else questions) until they hold ``training.stop_questions`` questions, yet no more than half
    of the rows: choosing by test questions would flatter the final measure. Deterministic under ``training.seed``. Raises
    RunError where all rows are of one group.
    """
    if not training.stop_patience:
        return rows.train, ()
    traces = [row.get("provenance", {}) if isinstance(row, dict) else row.provenance for row in rows.train]
    groups = [_group(trace, rows.questions) for trace in traces]
    names = sorted(set(groups))
    if len(names) < 2:
        raise RunError("training.stop_patience measures answers to held-out training questions, and all rows are of one "
                       "group. Give questions on more documents, or set training.stop_patience to 0.")
    random.Random(f"{training.seed}:hold out").shuffle(names)
    held: set[str] = set()
    asked: set[str] = set()
    for name in names:
        members = [n for n, group in enumerate(groups) if group in held or group == name]
        if held and (len(asked) >= training.stop_questions or len(members) > len(groups) / 2):
            break
        held.add(name)
        asked.update(str(traces[n].get("question_id")) for n in members)
    parts = [tuple(row for row, group in zip(rows.train, groups) if (group in held) == is_held) for is_held in (False, True)]
    return parts[0], parts[1]


def _group(trace: Mapping[str, Any], questions: Mapping[str, Question]) -> str:
    """Return what a row is held out by."""
    question = questions.get(str(trace.get("question_id")))
    if trace.get("groups"):
        return repr(sorted(trace["groups"]))
    return repr(sorted({evidence.document for evidence in question.evidence})) if question else str(trace.get("question_id"))


def _read_side(path: Path, shape: Shape) -> tuple[Any, ...]:
    if shape == "pairs":
        return tuple(read_pairs(path))
    if shape == "labels":
        return tuple(row for _, row in read_jsonl(path))
    return tuple(read_examples(path))


def _read_questions(source: Path) -> dict[str, Question]:
    files = [path for side in ("train", "test") if (path := source / f"questions_{side}.jsonl").is_file()]
    return {question.id: question for path in files if path.stat().st_size for question in read_questions(path)}


def _check_folder(source: Path, kind: str, name: str, shape: Shape, ours: str | None, index: Path | None) -> dict[str, Any]:
    """Return the folder's manifest. Raises RunError where it is of another kind, or its prompt or index is not ours."""
    what, make = SHAPES[shape]
    if (source / "manifest.json").is_file():
        found = read_manifest_kind(source)
        if found in ("dataset", "pairs") and found != kind:
            raise RunError(f"{source} is a {found} folder, but this method takes {what}. Do: {make}, then name that folder")
    manifest = read_manifest(source, kind)
    if not (source / name).is_file():
        raise RunError(f"{source} has no {name}: this method takes {what}. Do: {make}")
    made = manifest.get("prompt_hash")
    if ours is not None and made != ours:
        raise RunError(
            f"the {kind} folder {source} was made with prompt {made}, this ragtune asks with prompt {ours}: a model tuned "
            f"on one answers worse to the other. Do: {make}, then ragtune train --recipe FILE"
        )
    if index is not None:
        wanted = read_manifest(index, "index", check_files=False).get("id")
        if manifest.get("index_id") and manifest["index_id"] != wanted:
            raise RunError(f"the {kind} folder {source} was built from index {manifest['index_id']}, {index} is index "
                           f"{wanted}. Do: {make}")
    return manifest


def _check_preset(source: Path, manifest: Mapping[str, Any], method: Method) -> None:
    found = (manifest.get("recipe") or {}).get("dataset", {}).get("preset")
    if method.preset and found != method.preset:
        raise RunError(f"{source} was built with dataset.preset '{found or 'none'}', but training.method "
                       f"'{method.preset}' takes rows of the preset '{method.preset}'. Do: ragtune dataset "
                       f"--recipe FILE --set dataset.preset={method.preset}, then ragtune train with the same --set")


def read_manifest_kind(source: Path) -> str:
    """Return what kind of folder this says it is; '' where that cannot be read."""
    try:
        return str(json.loads((source / "manifest.json").read_text(encoding="utf-8")).get("kind", ""))
    except (OSError, ValueError, AttributeError):
        return ""
