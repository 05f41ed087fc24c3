"""ragtune demo, ragtune dataset with its commands, ragtune train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ragtune.cli.terminal import (
    folder_option,
    mismatch_option,
    out_option,
    print_facts,
    print_json,
    progress,
    read_recipe,
    recipe_options,
)

if TYPE_CHECKING:
    from ragtune.recipe.schema import Recipe

DEMO_QUESTIONS = 4


@click.group(invoke_without_command=True)
@recipe_options(is_required=False)
@out_option("dataset")
@folder_option("index")
@click.pass_context
def dataset(
    context: click.Context, recipe_name: str | None, settings: tuple[str, ...], as_json: bool, out: str | None,
    index_path: str | None,
) -> None:
    """Turn questions into tuning rows whose passages come from the index.

    Without a command the dataset folder is built. The commands look at a dataset that is there, or write it in the shape
    that another tool reads.
    """
    if context.invoked_subcommand is not None:
        if recipe_name or settings or as_json or out or index_path:
            raise click.UsageError("Options stand after the command: ragtune dataset "
                                   f"{context.invoked_subcommand} --recipe FILE")
        return
    if recipe_name is None:
        raise click.MissingParameter(ctx=context, param=next(p for p in context.command.params if p.name == "recipe_name"))
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.dataset import run_dataset

    with progress() as report:
        summary = run_dataset(
            recipe, Path(out) if out else None, index=Path(index_path) if index_path else None, report=report
        )
    (print_json if as_json else print_facts)(summary.to_dict())


@dataset.command()
@click.option("--format", "format_name", required=True, metavar="NAME",
              help="messages, prompt_completion, parquet, sharegpt, alpaca; or another shape: pretraining, instructions, "
                   "answerable, kinds, rl.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="New folder to write.")
@recipe_options(is_required=False)
@folder_option("dataset")
@folder_option("index")
@click.option("--max-tokens", type=click.IntRange(16), help="Most tokens of a row of 'pretraining'. [prompt and answer]")
def export(
    format_name: str, out: Path, recipe_name: str | None, settings: tuple[str, ...], as_json: bool,
    dataset_path: str | None, index_path: str | None, max_tokens: int | None,
) -> None:
    """Write the dataset in another shape: for TRL, LLaMA-Factory, Axolotl, Unsloth, or another way of tuning.

    The new folder has a file for each side, a card that says how the tools read it, and LLaMA-Factory's dataset_info.json.
    """
    recipe = _read_named(recipe_name, settings, dataset_path)
    from ragtune.stages.export import check_export, run_export

    check_export(format_name, out)
    with progress() as report:
        summary = run_export(format_name, out, recipe, Path(dataset_path) if dataset_path else None,
                             Path(index_path) if index_path else None, max_tokens, report)
    (print_json if as_json else print_facts)(summary.to_dict())


@dataset.command()
@recipe_options(is_required=False)
@folder_option("dataset")
@click.option("--side", type=click.Choice(["train", "test"]), default="train", show_default=True, help="Which rows.")
@click.option("--count", type=click.IntRange(1), default=3, show_default=True, help="How many, spread over the file.")
@click.option("--kind", help="Only rows of this kind of question, such as lookup.")
@click.option("--mode", help="Only rows of this mode: gold, distractors, closed_book, unanswerable; test rows: served.")
def show(
    recipe_name: str | None, settings: tuple[str, ...], as_json: bool, dataset_path: str | None, side: str, count: int,
    kind: str | None, mode: str | None,
) -> None:
    """Print rows as a person reads them: question, passages folded to a line, completion, where it came from."""
    recipe = _read_named(recipe_name, settings, dataset_path)
    from ragtune.cli.rows import print_row
    from ragtune.datasets.folded import choose_rows, fold_row
    from ragtune.datasets.folder import open_dataset
    from ragtune.stages.export import find_dataset

    opened = open_dataset(find_dataset(recipe, Path(dataset_path) if dataset_path else None))
    rows = [fold_row(example) for example in choose_rows(opened.side(side), count, kind, mode)]
    if as_json:
        return print_json([row.to_dict() for row in rows])
    if not rows:
        click.echo(f"{opened.folder} has no {side} rows.", err=True)
    for row in rows:
        print_row(row)


@dataset.command()
@recipe_options()
@out_option("pairs")
@folder_option("dataset")
@folder_option("index")
@folder_option("run")
def pairs(
    recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None, dataset_path: str | None,
    index_path: str | None, run_path: str | None,
) -> None:
    """Make preference pairs of the dataset's rows: the grounded answer against what a model gets wrong.

    With pairs.from_run they are of the tuned run's own answers to the training questions, scored, or judged by pairs.judge.
    The folder has pairs.jsonl (DPO, reward models), kto.jsonl (labels for KTO), those of the test side, and a card.
    """
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.prefer import run_pairs

    with progress() as report:
        summary = run_pairs(recipe, Path(dataset_path) if dataset_path else None, Path(index_path) if index_path else None,
                            Path(out) if out else None, report, Path(run_path) if run_path else None)
    (print_json if as_json else print_facts)(summary.to_dict())


@dataset.command()
@recipe_options()
@out_option("pairs")
@click.option("--feedback", "source", type=click.Path(path_type=Path), metavar="FILE",
              help="The judgements. [those of the recipe's server]")
def feedback(recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None, source: Path | None) -> None:
    """Make preference pairs and labels of what people thought of the answers of `ragtune serve`.

    The folder is one that `ragtune train --method dpo --pairs FOLDER` takes, and kto where thumbs have no counterpart.
    """
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.feedback import run_feedback

    summary = run_feedback(recipe, source, Path(out) if out else None)
    (print_json if as_json else print_facts)(summary.to_dict())


@dataset.command()
@recipe_options()
@folder_option("dataset")
@folder_option("index")
@click.pass_context
def stale(
    context: click.Context, recipe_name: str, settings: tuple[str, ...], as_json: bool, dataset_path: str | None,
    index_path: str | None,
) -> None:
    """Say which rows the index of today has made outdated, and why. Exits with 1 where there are any."""
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.stale import run_stale

    with progress() as report:
        summary = run_stale(recipe, Path(dataset_path) if dataset_path else None, Path(index_path) if index_path else None,
                            report)
    if as_json:
        print_json(summary.to_dict())
    else:
        from ragtune.cli.rows import print_stale

        print_stale(summary)
    if summary.outdated:
        context.exit(1)


def _read_named(recipe_name: str | None, settings: tuple[str, ...], dataset_path: str | None) -> Recipe | None:
    """Return the recipe, None where only a dataset folder is named."""
    if not recipe_name and not dataset_path:
        raise click.UsageError("Name a dataset: --dataset FOLDER, or --recipe FILE.")
    if settings and not recipe_name:
        raise click.UsageError("--set changes a recipe: name it with --recipe FILE.")
    return read_recipe(recipe_name, settings) if recipe_name else None


@click.command()
@recipe_options()
@out_option("run")
@click.option("--method", metavar="NAME", help="How to tune: `ragtune methods` lists them. [the recipe's]")
@click.option("--start", type=click.Path(), metavar="FOLDER", help="Run folder whose adapter is tuned further.")
@click.option("--dataset", "--pairs", "dataset_path", type=click.Path(), metavar="FOLDER",
              help="The dataset folder, or pairs folder, where it is not the recipe's.")
@mismatch_option
@click.pass_context
def train(
    context: click.Context, recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None,
    method: str | None, start: str | None, dataset_path: str | None, allow_mismatch: bool,
) -> None:
    """Tune the generator on the dataset; goes on from the last checkpoint after a stop.

    The method ra_dit_retriever tunes retrieval instead, as `ragtune adapt --what likelihoods` does.

    On several GPUs: accelerate launch --config_file SETTINGS -m ragtune.cli.main train --recipe FILE, with settings of your
    own or those that `ragtune launch-settings` writes.
    """
    named = {"method": method, "start": start}
    settings = (*settings, *(f"training.{key}={value}" for key, value in named.items() if value))
    recipe = read_recipe(recipe_name, settings)
    from ragtune.training.methods import RETRIEVER, find_method

    if find_method(recipe.training.method).loop == RETRIEVER:
        from ragtune.cli.adapting import finish_adapting
        from ragtune.stages.adapt import run_adapt

        with progress() as report:
            adapted = run_adapt(recipe, "likelihoods", out=Path(out) if out else None, report=report)
        return finish_adapting(context, adapted, as_json)
    from ragtune.stages.train import run_train

    with progress() as report:
        summary = run_train(
            recipe, Path(out) if out else None, dataset=Path(dataset_path) if dataset_path else None, report=report,
            allow_other_prompt=allow_mismatch, announce=lambda text: click.echo(text, err=True),
        )
    from ragtune.models.processes import is_main

    if is_main():
        (print_json if as_json else print_facts)(summary.to_dict())


@click.command()
@recipe_options(default="demo")
@out_option("results")
def demo(recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None) -> None:
    """Run the whole job on the bundled documents: index, dataset, train, evaluate, ask."""
    recipe = read_recipe(recipe_name, settings)
    if out:
        recipe = recipe.model_copy(update={"work": out})
    from ragtune.cli.answers import print_answer, print_evaluation
    from ragtune.recipe.places import dataset_folder, evaluation_folder
    from ragtune.stages.ask import open_assistant
    from ragtune.stages.loop import run_loop

    with progress() as report:
        summary = run_loop(recipe, report=report)
        if as_json:
            return print_json(summary.to_dict())
        assistant = open_assistant(recipe)
    print_evaluation(summary.evaluation)
    from ragtune.datasets.questions import read_questions

    questions = [q for q in read_questions(dataset_folder(recipe) / "questions_test.jsonl") if q.is_answerable]
    asked = questions[:: max(1, len(questions) // DEMO_QUESTIONS)][:DEMO_QUESTIONS]
    click.echo("\nQuestions on documents it was not tuned on, right or wrong as they come:")
    for question in asked:
        click.echo(f"\n{question.text}  (reference: {question.answer})")
        print_answer(assistant.answer(question.text))
    source = f"--recipe {recipe_name}" + (f" --set work={out}" if out else "")
    click.echo(f"\nReport:  {evaluation_folder(recipe) / 'report.html'}\nAsk:     ragtune ask {source} \"{asked[0].text}\"\n"
               f"Serve:   ragtune serve {source}")
