"""ragtune export, ragtune merge-adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ragtune.cli.terminal import folder_option, print_facts, print_json, progress, read_recipe, recipe_options

if TYPE_CHECKING:
    from ragtune.training.exporting.parity import Parity


@click.command()
@click.option("--format", "format_name", required=True, metavar="NAME", help="safetensors, ctranslate2, gguf or adapter.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="New folder to write.")
@recipe_options()
@folder_option("run")
@folder_option("dataset")
@click.option("--numbers", metavar="NAME",
              help="Number type: float32, bfloat16, float16; ctranslate2: int8 (its default) ...; gguf: q8_0 ...")
@click.option("--questions", type=click.IntRange(1), default=48, show_default=True,
              help="Held-out questions that adapter, merged and exported model are compared on.")
@click.option("--allow-difference", is_flag=True,
              help="Write a model that answers otherwise than its adapter; its card says so.")
@click.option("--llama-cpp", type=click.Path(path_type=Path), metavar="FOLDER",
              help="llama.cpp's folder, whose convert_hf_to_gguf.py writes GGUF. [$LLAMA_CPP, or the PATH]")
@click.option("--max-seconds", type=click.FloatRange(1), default=3600, show_default=True,
              help="Longest time of that converter.")
def export(
    format_name: str, out: Path, recipe_name: str, settings: tuple[str, ...], as_json: bool, run_path: str | None,
    dataset_path: str | None, numbers: str | None, questions: int, allow_difference: bool, llama_cpp: Path | None,
    max_seconds: float,
) -> None:
    """Write the tuned model to be served elsewhere: base and adapter in one, in another tool's format.

    Held-out questions go through the adapter, the merged model and the exported one. What differs beyond noise is shown and
    not written.
    """
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.export_model import run_export_model

    with progress() as report:
        summary = run_export_model(
            recipe, format_name, out, numbers, Path(run_path) if run_path else None,
            Path(dataset_path) if dataset_path else None, questions, allow_difference, llama_cpp, max_seconds, report)
    if as_json:
        return print_json(summary.to_dict())
    print_facts({name: value for name, value in summary.to_dict().items() if name != "parity"})
    if summary.parity is not None:
        print_parity(summary.parity)


def print_parity(parity: Parity) -> None:
    """Print the comparison as a table, with what is at fault under it."""
    from rich.console import Console
    from rich.table import Table

    from ragtune.training.exporting.parity import parity_rows

    head, *rows = parity_rows(parity)
    table = Table(title=f"{parity.n} held-out questions")
    for column, name in enumerate(head):
        table.add_column(name, justify="right" if column else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    for fault in parity.faults:
        click.echo(f"Differs: {fault}")


@click.command("merge-adapters")
@recipe_options()
@click.option("--run", "runs", multiple=True, required=True, type=click.Path(path_type=Path), metavar="FOLDER",
              help="A run folder; name two or more.")
@click.option("--weight", "weights", multiple=True, type=float, metavar="W",
              help="Weight of each run, in their order. [1 each]")
@click.option("--how", default="cat", show_default=True, metavar="NAME",
              help="cat (exact sum, ranks add up), svd (a smaller rank), linear, ties, dare_linear, dare_ties, "
                   "magnitude_prune; all but cat and linear also with _svd.")
@click.option("--rank", type=int, help="Rank that the ways with svd leave. [the largest of the runs]")
@click.option("--density", type=float, help="Share of values that ties, dare and magnitude_prune keep.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of what dare drops.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Run folder to write.")
def merge_adapters(
    recipe_name: str, settings: tuple[str, ...], as_json: bool, runs: tuple[Path, ...], weights: tuple[float, ...], how: str,
    rank: int | None, density: float | None, seed: int, out: Path,
) -> None:
    """Make one run of several runs' adapters on the same base, each with its weight.

    The new folder is used like any run: ragtune ask --run FOLDER, ragtune evaluate --run FOLDER, ragtune export.
    """
    recipe = read_recipe(recipe_name, settings)
    from ragtune.training.exporting.combine import check_ways, combine_adapters
    from ragtune.training.run import open_run

    given = weights or (1.0,) * len(runs)
    check_ways(len(runs), given, how, rank, density)
    combined = combine_adapters(
        recipe.generator, [open_run(run) for run in runs], given, out, how, rank, density, seed)
    (print_json if as_json else print_facts)(combined.to_dict())
