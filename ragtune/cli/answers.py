"""ragtune ask, ragtune evaluate."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ragtune.cli.terminal import (
    folder_option,
    mismatch_option,
    out_option,
    print_json,
    progress,
    read_recipe,
    recipe_options,
)

if TYPE_CHECKING:
    from ragtune.records import Answer

WORSE = 3
"""The exit code of ``ragtune evaluate --fail-if-worse`` where it is worse."""


@click.command()
@click.argument("question", required=False)
@recipe_options()
@click.option("--model", type=click.Choice(["base", "tuned"]), help="Which model. [tuned, where there is a run]")
@click.option("--where", metavar="FILTER", help="Filter, for example: company = '3M' and fiscal_year = 2018")
@click.option("--k", type=click.IntRange(1, 100), help="How many passages. [the recipe's]")
@folder_option("index")
@folder_option("run")
@mismatch_option
def ask(
    question: str | None, recipe_name: str, settings: tuple[str, ...], as_json: bool, model: Any, where: str | None,
    k: int | None, index_path: str | None, run_path: str | None, allow_mismatch: bool,
) -> None:
    """Answer QUESTION with citations; without one, answer line after line of standard input."""
    recipe = read_recipe(recipe_name, settings)
    from ragtune.answering.answerer import check_question

    if question is not None:
        question = check_question(question)
    from ragtune.stages.ask import open_assistant

    with progress():
        assistant = open_assistant(recipe, Path(index_path) if index_path else None,
                                   Path(run_path) if run_path else None, model, allow_mismatch)
    questions = [question] if question is not None else _lines()
    for text in questions:
        answer = assistant.answer(text, k, where)
        if as_json:
            print_json(answer.to_dict())
        else:
            print_answer(answer)


def _lines() -> Any:
    """Yield the questions typed or piped in, until the end of input or an empty line."""
    while True:
        if sys.stdin.isatty():
            click.echo("Question (empty line to end): ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line.strip():
            return
        yield line


def print_answer(answer: Answer) -> None:
    """Print the answer, how it was found, and the cited pages."""
    click.secho(answer.text, bold=True)
    if answer.reasoning and not answer.is_refusal:
        click.echo(answer.reasoning)
    for citation in answer.citations:
        mark = " (inferred)" if citation.is_inferred else ""
        click.echo(f"  [{citation.passage}] {citation.document}, page {citation.page}{mark}: {citation.quote}")
    for problem in answer.problems:
        click.echo(f"  note: {problem}", err=True)


@click.command()
@recipe_options()
@out_option("evaluation")
@folder_option("index")
@folder_option("dataset")
@folder_option("run")
@mismatch_option
@click.option("--against", type=click.Path(path_type=Path), metavar="RUN_OR_EVALUATION_FOLDER",
              help="Compare with an earlier evaluation, or with a run, on the questions that both were asked.")
@click.option("--fail-if-worse", is_flag=True,
              help=f"Exit with {WORSE} where the paired test shows that it is worse than --against.")
@click.pass_context
def evaluate(
    context: click.Context, recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None,
    index_path: str | None, dataset_path: str | None, run_path: str | None, allow_mismatch: bool, against: Path | None,
    fail_if_worse: bool,
) -> None:
    """Measure base, tuned and the extractive reader, closed book, with retrieval and with the oracle page.

    Exit codes: 0 done, 1 an error, 2 wrong usage, 3 worse than --against (with --fail-if-worse), 130 interrupted.
    """
    if fail_if_worse and against is None:
        raise click.UsageError("--fail-if-worse needs --against FOLDER: an earlier evaluation, or a run.")
    recipe = read_recipe(recipe_name, settings)
    out_folder, index, dataset, run = (Path(path) if path else None for path in (out, index_path, dataset_path, run_path))
    regression = None
    with progress() as report:
        if against is None:
            from ragtune.stages.evaluate import run_evaluate

            found = run_evaluate(recipe, out_folder, index, dataset, run, allow_mismatch=allow_mismatch, report=report)
        else:
            from ragtune.stages.regression import run_gate

            found, regression = run_gate(recipe, against, out_folder, index, dataset, run, allow_mismatch, report)
    summary = found.to_dict()
    if as_json:
        print_json({**summary, "against": regression.to_dict()} if regression else summary)
    else:
        print_evaluation(summary)
        click.echo(f"\nReport: {Path(summary['folder']) / 'report.html'}")
    if regression is not None:
        for line in (*regression.notes, regression.sentence()):
            click.echo(line, err=as_json)
        if fail_if_worse and regression.is_worse:
            context.exit(WORSE)


def print_evaluation(summary: Mapping[str, Any]) -> None:
    """Print the ladder as a table, the paired tests and the page recall."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{summary['ladder'][0]['n'] if summary['ladder'] else 0} questions"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)  # eighty columns hold it
    for column in ("model", "setting"):
        table.add_column(column, no_wrap=True)
    for column in ("n", "correct", "wrong", "refused", "correct %", "interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for rung in summary["ladder"]:
        n, (low, high) = rung["n"], rung.get("interval") or (0.0, 0.0)
        table.add_row(rung["model"], rung["setting"].replace("_", " "), *(str(rung[c]) for c in
                      ("n", "correct", "wrong", "refused")), f"{100 * rung['correct'] / max(n, 1):.0f}",
                      f"{100 * low:.0f}–{100 * high:.0f}")
    Console().print(table)
    for comparison in (*summary.get("comparisons", ()), *summary.get("against_baselines", ())):
        a, b = comparison.get("a", "base"), comparison.get("b", "tuned")
        test = f"McNemar p = {comparison.get('mcnemar_p', comparison['p']):.2g}"
        if comparison.get("test") == "sign_flips":
            test += f", by {comparison['clusters']} documents p = {comparison['p']:.2g}"
        click.echo(
            f"{comparison['setting'].replace('_', ' ')}: {b} − {a} = {100 * comparison['difference']:+.0f} points, "
            f"{test} (only {b} right {comparison['only_b']}, only {a} {comparison['only_a']})"
        )
    if summary.get("recall"):
        click.echo("page recall: " + ", ".join(f"@{k} {value:.2f}" for k, value in summary["recall"].items()))
    for row in summary.get("references", ()):
        click.echo(f"perplexity of the references, {row['model']} {row['setting'].replace('_', ' ')}: "
                   f"{row['perplexity']:,.2f}, {row['bits_per_character']:.3f} bits a character")
    if summary.get("set_right"):
        click.echo(summary["set_right"])
    for waterfall in summary.get("waterfalls", ()):
        click.echo(waterfall["sentence"])
