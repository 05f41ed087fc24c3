"""Questions asked offline from bundled filings become a dataset on which the bundled model trains."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from ragtune.datasets.folder import open_dataset
from ragtune.datasets.questions import read_questions
from ragtune.recipe.schema import Recipe
from ragtune.stages.dataset import run_dataset
from ragtune.stages.index import run_index
from ragtune.stages.questions import run_questions
from ragtune.stages.train import run_train

DATA = Path(__file__).resolve().parent.parent / "data"
NAMES = ("NORVANE_2021_10K", "VELTRASSA_2021_10K", "KESTROVIA_2019_10K")
STEPS = 3


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe whose question file is what ``ragtune questions`` writes."""
    (tmp_path / "documents").mkdir()
    for name in NAMES:
        shutil.copy(DATA / "filings" / f"{name}.pdf", tmp_path / "documents")
    return Recipe.model_validate({
        "name": "asked", "work": str(tmp_path / "work"),
        "documents": {"folder": str(tmp_path / "documents"), "workers": 1}, "index": {"embedder": "hash"},
        "generator": {"model": "bundled", "max_prompt_tokens": 700, "device": "cpu"},
        "dataset": {"questions": str(tmp_path / "asked.jsonl"), "split_by": "document", "distractors": 1},
        "training": {"method": "lora", "max_steps": STEPS, "batch_size": 2, "eval_rows": 2},
    })


def test_a_dataset_of_asked_questions_trains(recipe: Recipe) -> None:
    run_index(recipe)
    file = Path(str(recipe.dataset.questions))
    asked = run_questions(recipe, 60, file)
    assert asked.questions == len(read_questions(file)) == 60
    built = run_dataset(recipe)
    dataset = open_dataset(Path(recipe.work) / "asked" / "dataset")
    assert built.questions == 60
    assert (len(dataset.train), len(dataset.test)) == (built.train["rows"], built.test["rows"])
    ids = {question.id for question in read_questions(file)}
    rows = [json.loads(line) for line in (dataset.folder / "train.jsonl").read_text().splitlines()]
    assert {row["provenance"]["question_id"] for row in rows} <= ids
    trained = run_train(recipe)
    assert trained.steps == STEPS
    assert trained.rows == built.train["rows"]
    losses = [trained.loss_first, trained.loss_last, *(loss for _, loss in trained.eval_losses)]
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
