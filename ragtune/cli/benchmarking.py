"""ragtune benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ragtune.cli.terminal import folder_option, out_option, print_json, progress, read_recipe, recipe_options

if TYPE_CHECKING:
    from ragtune.evaluation.benchmarks.general import BenchmarkSummary


@click.command()
@recipe_options()
@out_option("results")
@click.option("--tasks", default="ragtune_everyday,ragtune_sums", show_default=True, metavar="A,B",
              help="Tasks or groups of lm-evaluation-harness: mmlu, gsm8k, hellaswag, truthfulqa, glue, ...")
@click.option("--models", default="base,tuned", show_default=True, metavar="A,B", help="base, tuned or both.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many items of each task.")
@click.option("--shots", type=click.IntRange(0), help="Worked examples in the prompt. [the task's own]")
@click.option("--chat-template", is_flag=True, help="Ask in the model's chat template.")
@click.option("--task-folder", type=click.Path(path_type=Path), metavar="FOLDER", help="More tasks, as the harness's YAML.")
@folder_option("run")
def benchmark(
    recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None, tasks: str, models: str,
    limit: int | None, shots: int | None, chat_template: bool, task_folder: Path | None, run_path: str | None,
) -> None:
    """Show what tuning cost in general ability: general tasks on base and tuned, compared item by item.

    The tasks are those of lm-evaluation-harness (pip install 'ragtune[benchmarks]'); two small ones are shipped and need no
    network. What was finished is kept: the same command goes on from there.
    """
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    wanted = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise click.UsageError("--tasks names no task.")
    if not wanted or not set(wanted) <= {"base", "tuned"}:
        raise click.UsageError(f"--models is '{models}'. Allowed: base, tuned or base,tuned.")
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.benchmark import run_benchmark

    with progress() as report:
        summary = run_benchmark(recipe, names, wanted, limit or 0, shots, chat_template, task_folder,
                                Path(run_path) if run_path else None, Path(out) if out else None, report)
    if as_json:
        return print_json(summary.to_dict())
    print_benchmark(summary)


def print_benchmark(summary: BenchmarkSummary) -> None:
    """Print the figures of each task and metric, then what the paired tests say."""
    width = max([len(f"{line.task} {line.metric}") for line in summary.lines] + [4])
    click.echo(f"{'task':<{width}}{'n':>8}" + "".join(f"{model:>9}" for model in summary.models))
    for line in summary.lines:
        figures = "".join(f"{line.figures[m]:>9.3f}" if m in line.figures else f"{'-':>9}" for m in summary.models)
        click.echo(f"{f'{line.task} {line.metric}':<{width}}{line.n:>8,}{figures}")
    for sentence in summary.sentences():
        click.echo(sentence)
    for note in summary.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"Written: {summary.folder}")
