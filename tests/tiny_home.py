"""A folder with everything a stage needs, in little: six reports of a page, questions, an index, rows, a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_model import make_tiny_model

from ragtune.datasets.questions import save_questions
from ragtune.recipe.load import check_recipe
from ragtune.recipe.schema import Recipe
from ragtune.records import Evidence, Question
from ragtune.stages.dataset import run_dataset
from ragtune.stages.index import run_index

COMPANIES = ("Acme", "Bolt", "Coil", "Dune", "Etna", "Fern")
ITEMS = (("Net sales", 4210), ("Cost of sales", 2000), ("Total assets", 9123))


def make_home(home: Path) -> Path:
    """Write documents, questions and a tiny model, build index and dataset; return the folder."""
    (home / "documents").mkdir()
    questions = []
    for number, company in enumerate(COMPANIES):
        name = f"{company.upper()}_2021_10K"
        rows = [(item, amount + 137 * number) for item, amount in ITEMS]
        lines = [f"{item} $ {amount:,} $ {amount - 310:,}" for item, amount in rows]
        page = "\n".join([f"# {company} Corp annual report", "", "Consolidated Statements of Income", "(in millions)",
                          "2021 2020", *lines, ""])
        (home / "documents" / f"{name}.md").write_text(page)
        questions += [Question(f"{name}-{place}", f"What were {item.lower()} of {company} in fiscal 2021?",
                               f"${amount:,} million", (Evidence(name, 1),), justification=f"{item} 2021: {amount:,}")
                      for place, (item, amount) in enumerate(rows)]
    save_questions(home / "questions.jsonl", questions)
    make_tiny_model(home / "tiny")
    run_index(home_recipe(home))
    run_dataset(home_recipe(home))
    return home


def home_recipe(home: Path, **sections: Any) -> Recipe:
    """Return a recipe of such a folder that tunes in a moment."""
    return check_recipe({
        "name": "t", "work": str(home / "work"),
        "documents": {"folder": str(home / "documents"), "workers": 1}, "index": {"embedder": "hash"},
        "generator": {"model": str(home / "tiny"), "max_new_tokens": 4, "device": "cpu"},
        "dataset": {"questions": str(home / "questions.jsonl"), "test_share": 0.34},
        "training": {"method": "lora", "max_steps": 2, "batch_size": 2, "eval_rows": 2, "r": 4},
        "evaluation": {"settings": ["retrieval", "oracle"]}, **sections,
    }, "test")
