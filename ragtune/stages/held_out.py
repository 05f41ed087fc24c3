"""The questions a search chooses by: held out from the training side, group by group, the test side never looked at."""

from __future__ import annotations

import json
from pathlib import Path

from ragtune.datasets.leaks import find_leaks, leave_out
from ragtune.datasets.questions import read_questions, save_questions
from ragtune.datasets.split import group_by, split_questions
from ragtune.errors import QuestionError
from ragtune.files import read_manifest
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.index import open_index

QUESTIONS = "questions.jsonl"
FEWEST = 4
"""Held-out questions without which nothing can be chosen."""


def hold_out(recipe: Recipe, dataset: Path, index: Path, folder: Path) -> Recipe:
    """Return the recipe of the search: its dataset is the training side of ``dataset``, split once more.

    Training questions of ``dataset`` are written to ``folder``; of their groups (dataset.split_by) tune.validation_share is
    the new test side. Documents kept from training there are kept from the rows here too, as distractors even. Nothing of
    the recipe names the questions or documents it is tested by in the end. Raises QuestionError where too few are left.
    """
    tune, section = recipe.tune, recipe.dataset
    manifest = read_manifest(dataset, "dataset")
    questions = read_questions(dataset / "questions_train.jsonl")
    groups = group_by(section.split_by, {d.name: d.metadata for d in open_index(index).documents()})
    while True:  # a question asked again on the held-out side would show what was learned by heart
        train, held = split_questions(questions, section.split_by, tune.validation_share, tune.seed, groups)
        if not (leaks := find_leaks(train, held)):
            break
        questions = leave_out(questions, leaks)
    if len(held) < FEWEST or not train:
        raise QuestionError(
            f"holding out {tune.validation_share:.0%} of the groups by '{section.split_by}' leaves {len(train)} questions "
            f"to learn from and {len(held)} to choose by; at least {FEWEST} are needed. Ask more questions, or raise "
            "tune.validation_share")
    folder.mkdir(parents=True, exist_ok=True)
    save_questions(folder / QUESTIONS, questions)
    where, excluded = section.where, sorted(manifest.get("excluded", ()))
    if excluded:
        names = ", ".join(json.dumps(name, ensure_ascii=False) for name in excluded)
        where = (f"({where}) and " if where else "") + f"document not in ({names})"
    inner = section.model_copy(update={
        "questions": str(folder / QUESTIONS), "where": where, "test_where": None, "folder": None,
        "test_share": tune.validation_share, "seed": tune.seed, "near_duplicates": "keep"})
    measured = recipe.evaluation.model_copy(update={
        "questions": None, "where": None, "folder": None, "settings": (tune.setting,), "baselines": (),
        "limit": tune.limit})
    return recipe.model_copy(update={"dataset": inner, "evaluation": measured})
