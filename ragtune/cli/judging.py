"""ragtune judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ragtune.cli.terminal import out_option, print_facts, print_json, progress, read_recipe, recipe_options

if TYPE_CHECKING:
    from ragtune.evaluation.judging.tally import JudgingSummary


@click.command()
@click.argument("answers", required=False, type=click.Path(path_type=Path), metavar="[ANSWERS]")
@recipe_options(is_required=False)
@out_option("verdicts")
@click.option("--judge", "judge_name", default="scorer", show_default=True, metavar="MODEL",
              help="A chat model: folder, Hugging Face name or provider:model; 'scorer' needs none.")
@click.option("--rubric", metavar="FILE", help="Rubric file, or a shipped one: correctness, quality, grounded, better.")
@click.option("--against", metavar="OTHER", help="Judge pairs: other answers, or another model of the evaluation.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE", help="What people said: rows with id and label.")
@click.option("--model", metavar="NAME", help="Only this model of an evaluation folder.")
@click.option("--setting", metavar="NAME", help="Only this setting: closed_book, retrieval or oracle.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many.")
@click.option("--timeout", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds for one request.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=512, show_default=True, help="Longest reply of the judge.")
def judge(
    answers: Path | None, recipe_name: str | None, settings: tuple[str, ...], as_json: bool, out: str | None,
    judge_name: str, rubric: str | None, against: str | None, labels: Path | None, model: str | None, setting: str | None,
    limit: int | None, timeout: float, max_new_tokens: int,
) -> None:
    """Judge ANSWERS by a rubric: an evaluation folder, or a JSONL file as `ragtune score` takes it.

    Says how far the judge agrees with the scorer and with people. Without ANSWERS: the recipe's evaluation. What was judged
    is kept, and the same command goes on from there.
    """
    if recipe_name is None and (settings or answers is None):
        raise click.UsageError("name the answers to judge, or a recipe whose evaluation is judged (--recipe FILE).")
    recipe = read_recipe(recipe_name, settings) if recipe_name else None
    from ragtune.recipe.places import evaluation_folder
    from ragtune.stages.judge import run_judge

    if answers is None:
        assert recipe is not None
        answers = evaluation_folder(recipe)
    with progress() as report:
        summary = run_judge(
            answers, judge_name, rubric, against, labels, model, setting, limit or 0, Path(out) if out else None,
            recipe.generator if recipe else None, timeout, max_new_tokens, report)
    if as_json:
        return print_json(summary.to_dict())
    print_judged(summary, model or "tuned" if against and not Path(against).exists() else "a", against or "b")


def print_judged(summary: JudgingSummary, a: str = "a", b: str = "b") -> None:
    """Print what was judged, the verdicts of each model and setting or the wins, and the agreements."""
    print_facts({"judge": summary.judge, "rubric": summary.rubric, "answers" if summary.wins is None else "pairs": summary.n,
                 "verdicts": summary.read, "without a verdict": summary.unparsed, "no reply": summary.failed,
                 "labelled by people": summary.labelled, "seconds": summary.seconds})
    for tally in summary.tallies:
        told = ", ".join(f"{name} {count}" + (f" ({tally.shares[name][0]:.0%}, {tally.shares[name][1]:.0%} to "
                                              f"{tally.shares[name][2]:.0%})" if name in tally.shares else "")
                         for name, count in tally.counts.items())
        if tally.mean is not None:
            told = f"mean {tally.mean[0]:.2f} ({tally.mean[1]:.2f} to {tally.mean[2]:.2f}); {told}"
        click.echo(f"{' '.join(filter(None, (tally.model, tally.setting.replace('_', ' '))))or 'all'}: {told}")
    if summary.wins is not None:
        click.echo(summary.wins.sentence(a, b))
    for sentence in summary.sentences():
        click.echo(sentence)
    for note in summary.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"Written: {summary.folder}")
