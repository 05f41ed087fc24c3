"""ragtune index, ragtune search."""

from __future__ import annotations

from pathlib import Path

import click

from ragtune.cli.terminal import folder_option, out_option, print_facts, print_json, progress, read_recipe, recipe_options


@click.command()
@recipe_options()
@out_option("index")
def index(recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None) -> None:
    """Read the documents and build the index; unchanged files are skipped."""
    recipe = read_recipe(recipe_name, settings)
    from ragtune.recipe.places import index_folder
    from ragtune.stages.index import run_index

    with progress() as report:
        summary = run_index(recipe, Path(out) if out else None, report=report)
    if as_json:
        return print_json(summary.to_dict())
    facts = summary.to_dict()
    unreadable = facts.pop("unreadable", [])
    print_facts({"index": str(out or index_folder(recipe)), **facts, "unreadable": len(unreadable)})
    for entry in unreadable:
        path, reason = entry.values() if isinstance(entry, dict) else entry
        click.echo(f"not read: {path}: {reason}")


@click.command()
@click.argument("question")
@recipe_options()
@click.option("--k", type=click.IntRange(1, 1000), help="How many hits. [the recipe's]")
@click.option("--where", metavar="FILTER", help="Filter, for example: company = '3M' and fiscal_year in (2017, 2018)")
@folder_option("index")
def search(
    question: str, recipe_name: str, settings: tuple[str, ...], as_json: bool, k: int | None, where: str | None,
    index_path: str | None,
) -> None:
    """Find the chunks for QUESTION, as the prompt would get them."""
    recipe = read_recipe(recipe_name, settings)
    from ragtune.answering.answerer import check_question
    from ragtune.recipe.places import index_folder
    from ragtune.retrieval.search import open_searcher

    text = check_question(question)
    with progress():
        searcher = open_searcher(Path(index_path) if index_path else index_folder(recipe), recipe.retrieval)
        hits = searcher.search(text, k or recipe.retrieval.k, where)
    if as_json:
        return print_json([
            {"document": hit.chunk.document, "page": hit.chunk.page, "score": round(hit.score, 6), "text": hit.chunk.text,
             "rank": hit.rank, "searcher": hit.searcher, "chunk": hit.chunk.id, "metadata": dict(hit.chunk.metadata)}
            for hit in hits
        ])
    if not hits:
        click.echo("Nothing found" + (f" where {where}." if where else "."), err=True)
    for hit in hits:
        click.secho(f"{hit.rank}. {hit.chunk.document}, page {hit.chunk.page}  (score {hit.score:.4f})", bold=True)
        click.echo("   " + hit.chunk.text.replace("\n", "\n   ") + "\n")
