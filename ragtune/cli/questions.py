"""ragtune questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ragtune.cli.terminal import folder_option, print_facts, print_json, progress, read_recipe, recipe_options

if TYPE_CHECKING:
    from ragtune.stages.questions import Estimate


@click.command()
@recipe_options()
@click.option("--count", type=click.IntRange(min=1), required=True, help="How many questions are wanted.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.jsonl",
              help="Question file to write; what was rejected stands beside it, with the reasons.")
@click.option("--model", metavar="NAME",
              help="Chat model that asks, as generator.model names it. [none: offline, from tables]")
@click.option("--not-in", type=click.Path(path_type=Path), metavar="FILE",
              help="Question file whose questions are not asked again: those kept for evaluation.")
@click.option("--per-page", type=click.IntRange(min=1), help="Most questions a page. [4 with a model]")
@click.option("--price-in", type=click.FloatRange(min=0), metavar="X", help="Price of a million tokens read.")
@click.option("--price-out", type=click.FloatRange(min=0), metavar="X", help="Price of a million tokens written.")
@folder_option("index")
def questions(
    recipe_name: str, settings: tuple[str, ...], as_json: bool, count: int, out: Path, model: str | None,
    not_in: Path | None, per_page: int | None, price_in: float | None, price_out: float | None, index_path: str | None,
) -> None:
    """Ask questions about the index's documents, with answers and where these stand; goes on after a stop."""
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.questions import Prices, run_questions

    with progress() as report:
        summary = run_questions(
            recipe, count, out, model, not_in, per_page or 0, Path(index_path) if index_path else None,
            Prices(price_in, price_out), report, tell_estimate)
    (print_json if as_json else print_facts)(summary.to_dict())
    if summary.questions < count:
        click.echo(f"Only {summary.questions:,} of {count:,}: the documents that dataset.where keeps hold no more that is "
                   "let in. Index more, or raise --per-page.", err=True)


def tell_estimate(estimate: Estimate) -> None:
    """Say on stderr what is to be done, how long it takes and what it costs."""
    if not estimate.pages:
        return
    told = f"about {estimate.pages:,} pages to ask about: {estimate.tokens_in:,} tokens in, {estimate.tokens_out:,} out"
    if estimate.cost is not None:
        told += f", costing {estimate.cost:,.2f}"
    if estimate.seconds is not None:
        told += f"; {show_time(estimate.seconds)} at the rate so far"
    click.echo(told, err=True)


def show_time(seconds: float) -> str:
    """Return a time as people say it: ``4 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
