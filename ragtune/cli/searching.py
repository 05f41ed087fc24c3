"""ragtune tune, ragtune compare-methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ragtune.cli.terminal import folder_option, out_option, print_json, progress, read_recipe, recipe_options

if TYPE_CHECKING:
    from ragtune.stages.compare_methods import ComparisonSummary
    from ragtune.stages.tune import TuneSummary

BEST_SHOWN = 10


@click.command()
@recipe_options()
@out_option("search")
@click.option("--trials", type=click.IntRange(1), help="Settings to try in all, those of earlier starts counted. "
              "[the recipe's]")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Begin no further trial after so many seconds.")
@folder_option("index")
@folder_option("dataset")
def tune(
    recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None, trials: int | None,
    timeout_s: float | None, index_path: str | None, dataset_path: str | None,
) -> None:
    """Search for settings: train and evaluate, again and again, on questions held out from the training side.

    The fields and their values stand in the recipe's section 'tune'. At the end the best setting and the recipe's own are
    trained on the whole training side and asked the test questions, for the first time. A search that was stopped goes on;
    best.yaml in its folder is the recipe with the best setting.
    """
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.tune import run_tune

    with progress() as report:
        summary = run_tune(recipe, Path(out) if out else None, trials, timeout_s, Path(index_path) if index_path else None,
                           Path(dataset_path) if dataset_path else None, report)
    if as_json:
        return print_json(summary.to_dict())
    print_search(summary)


def print_search(summary: TuneSummary) -> None:
    """Print the best trials, what mattered, and both settings on the test questions."""
    from ragtune.training.search_report import NAMES, tell_value

    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    click.echo(f"Trials: {counts or 'none'}; {NAMES[summary.objective]} on {summary.validation_questions} held-out "
               "questions")
    ranked = sorted([summary.default, *summary.trials], key=lambda row: (row.value is None, -(row.value or 0.0), row.number))
    for row in ranked[:BEST_SHOWN]:
        reached = f"{row.value:.3f}" if row.value is not None else f"{row.state}: {row.reason}"
        setting = ", ".join(f"{key} {tell_value(value)}" for key, value in row.setting.items())
        click.echo(f"  {'own' if row.is_default else row.number:>4}  {reached}  {setting}")
    if summary.importances:
        click.echo("Mattered: " + ", ".join(f"{key} {100 * value:.0f}%" for key, value in summary.importances.items()))
    for final in summary.finals:
        click.echo(f"Test questions, {final.name}: {final.rung.correct} of {final.rung.n} correct, "
                   f"{final.rung.wrong} wrong, {final.rung.refused} refused")
    for line in (summary.sentence, *summary.notes):
        click.echo(line)
    click.echo(f"Report: {Path(summary.folder) / 'report.md'}\nTrain:  ragtune train --recipe "
               f"{Path(summary.folder) / 'best.yaml'}")


@click.command("compare-methods")
@recipe_options()
@out_option("comparison")
@click.option("--methods", required=True, metavar="A,B,...", help="Names of methods, or all: `ragtune methods` lists them.")
@click.option("--steps", type=click.IntRange(1), help="Budget of each method: optimizer steps. [the recipe's]")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Budget of each method: passes over its rows.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Budget of each method: minutes of tuning at most.")
@click.option("--limit", type=click.IntRange(0), default=0, show_default=True,
              help="Ask so many of the test questions, evenly chosen; 0 asks all.")
@folder_option("index")
@folder_option("dataset")
def compare_methods(
    recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None, methods: str, steps: int | None,
    epochs: float | None, minutes: float | None, limit: int, index_path: str | None, dataset_path: str | None,
) -> None:
    """Tune by several methods on the same rows, budget and questions, and print one table.

    Each runs in a process of its own. A method that fails is a row that says why; one that is finished is not run again by
    the same command, also with further methods.
    """
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.compare_methods import Budget, run_compare_methods

    names = [name.strip() for name in methods.split(",") if name.strip()]
    with progress() as report:
        summary = run_compare_methods(recipe, names, Budget(steps, epochs, 60 * minutes if minutes else None), limit,
                                      Path(out) if out else None, Path(index_path) if index_path else None,
                                      Path(dataset_path) if dataset_path else None, report)
    if as_json:
        return print_json(summary.to_dict())
    print_comparison(summary)


def print_comparison(summary: ComparisonSummary) -> None:
    """Print the table of methods, what failed, and best and cheapest."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ragtune.stages.comparison_report import HEADINGS, sum_up, tell_row

    table = Table(title=f"{summary.questions} questions, {summary.budget}", box=box.SIMPLE_HEAD, pad_edge=False,
                  collapse_padding=True)
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    rows = summary.standing.rows
    for row in rows:
        if row.state == "finished":
            table.add_row(*tell_row(row, summary.standing))
    console = Console()
    console.print(table)
    for row in rows:
        if row.state != "finished":
            click.echo(f"{row.method}: failed: {row.reason}")
    for line in (sum_up(summary.standing), *summary.notes):
        click.echo(line)
    click.echo(f"Report: {Path(summary.folder) / 'report.md'}")
