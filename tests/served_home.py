"""A served assistant in little: five reports of a page, the hash embedder, the extractive reader; opened in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragtune.recipe.load import check_recipe
from ragtune.recipe.schema import Recipe
from ragtune.server.service import Service, open_service
from ragtune.stages.index import run_index

COMPANIES = ("Acme", "Bolt", "Coil", "Dune", "Etna")
QUESTION = "What were net sales of Coil in fiscal 2021?"
GENERAL = "What were net sales in fiscal 2021?"
"""Names no company, so that every report is found."""
ANSWER = "$4,484 million"


def served_recipe(home: Path, **sections: Any) -> Recipe:
    """Return the recipe of such a folder."""
    return check_recipe({
        "name": "home", "work": str(home / "work"), "documents": {"folder": str(home / "documents"), "workers": 1},
        "index": {"embedder": "hash"}, "generator": {"model": "extractive"}, **sections}, "test")


def make_served(home: Path) -> Recipe:
    """Write the documents and build their index; return the recipe."""
    (home / "documents").mkdir(parents=True)
    for number, company in enumerate(COMPANIES):
        rows = [f"{item} $ {amount + 137 * number:,} $ {amount - 310 + 137 * number:,}" for item, amount in
                (("Net sales", 4210), ("Cost of sales", 2000), ("Total assets", 9123))]
        page = "\n".join([f"# {company} Corp annual report", "", "Consolidated Statements of Income", "(in millions)",
                          "2021 2020", *rows, ""])
        (home / "documents" / f"{company.upper()}_2021_10K.md").write_text(page)
    recipe = served_recipe(home)
    run_index(recipe)
    return recipe


def open_served(home: Path) -> Service:
    """Return the service of such a folder, made anew."""
    return open_service(make_served(home))
