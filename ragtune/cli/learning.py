"""ragtune demo, ragtune dataset, ragtune train."""

from __future__ import annotations

from pathlib import Path

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

DEMO_QUESTIONS = 4


@click.command()
@recipe_options()
@out_option("dataset")
@folder_option("index")
def dataset(recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None, index_path: str | None) -> None:
    """Turn questions into tuning rows whose passages come from the index."""
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.dataset import run_dataset

    with progress() as report:
        summary = run_dataset(
            recipe, Path(out) if out else None, index=Path(index_path) if index_path else None, report=report
        )
    (print_json if as_json else print_facts)(summary.to_dict())


@click.command()
@recipe_options()
@out_option("run")
@folder_option("dataset")
@mismatch_option
def train(
    recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None, dataset_path: str | None,
    allow_mismatch: bool,
) -> None:
    """Tune the generator on the dataset; goes on from the last checkpoint after a stop."""
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.train import run_train

    with progress() as report:
        summary = run_train(
            recipe, Path(out) if out else None, dataset=Path(dataset_path) if dataset_path else None, report=report,
            allow_other_prompt=allow_mismatch,
        )
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
    from ragtune.stages.tune import run_tune

    with progress() as report:
        summary = run_tune(recipe, report=report)
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
    click.echo(f"\nReport:  {evaluation_folder(recipe) / 'report.html'}\nAsk:     ragtune ask {source} \"{asked[0].text}\"")
