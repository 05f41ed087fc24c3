"""ragtune report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ragtune.cli.terminal import out_option, print_json

if TYPE_CHECKING:
    from ragtune.evaluation.reporting.versus import Versus


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDER FOLDER ...")
@click.option("--model", "models", multiple=True, metavar="NAME",
              help="Which model of each evaluation: base, tuned or extractive; repeatable. [tuned, else base]")
@out_option("report")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def report(folders: tuple[Path, ...], models: tuple[str, ...], out: str | None, as_json: bool) -> None:
    """Compare two or more evaluation folders on the questions they have in common.

    Prints the ladder side by side and the paired test of every pair, corrected for their number by Holm's method. With --out
    a page with every question, its Markdown and its JSON are written.
    """
    from ragtune.stages.report import run_report

    versus = run_report(folders, Path(out) if out else None, models)
    if as_json:
        return print_json(versus.to_dict())
    print_versus(versus)
    if out:
        click.echo(f"\nReport: {Path(out) / 'report.html'}")


def print_versus(versus: Versus) -> None:
    """Print the ladder side by side, the paired tests and the notes."""
    from rich.console import Console
    from rich.table import Table

    from ragtune.evaluation.reporting.versus import ladder_rows

    table = Table(title=f"{versus.common} common questions")
    for column, name in enumerate(("rung", *versus.labels)):
        table.add_column(name, justify="right" if column else "left")
    for row in ladder_rows(versus):
        table.add_row(*row)
    Console().print(table)
    for line in (*(test.sentence() for test in versus.tests), versus.how(), *versus.notes):
        click.echo(line)
