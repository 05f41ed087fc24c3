"""ragtune adapt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ragtune.cli.terminal import folder_option, out_option, print_facts, print_json, progress, read_recipe, recipe_options

if TYPE_CHECKING:
    from ragtune.stages.adapt import AdaptSummary


USE = {
    "adapter": "Use it with retrieval.adapter={place}; nothing is embedded anew.",
    "likelihoods": "Use it with retrieval.adapter={place}; nothing is embedded anew.",
    "embedder": "Use it with index.embedder={folder}, then ragtune index, which embeds anew.",
}


@click.command()
@recipe_options()
@out_option("versions")
@click.option("--questions", type=click.Path(), metavar="FILE",
              help="Question file, ours or FinanceBench's. [the recipe's, else asked from statement rows]")
@click.option("--what", metavar="PART", default="adapter",
              help="adapter, weights, ranker, embedder, all of these, or likelihoods (RA-DIT's adapter). [adapter]")
@folder_option("index")
@click.pass_context
def adapt(
    context: click.Context, recipe_name: str, settings: tuple[str, ...], as_json: bool, out: str | None,
    questions: str | None, what: str, index_path: str | None,
) -> None:
    """Fit retrieval to questions; what does not raise recall on held-out ones is refused.

    Exits with 1 where the gate refused everything.
    """
    recipe = read_recipe(recipe_name, settings)
    from ragtune.stages.adapt import run_adapt

    with progress() as report:
        summary = run_adapt(recipe, what, Path(questions) if questions else None, Path(out) if out else None,
                            Path(index_path) if index_path else None, report)
    finish_adapting(context, summary, as_json)


def finish_adapting(context: click.Context, summary: AdaptSummary, as_json: bool) -> None:
    """Print what was fitted, and exit with 1 where the gate refused all of it."""
    if as_json:
        print_json({**summary.to_dict(), "is_accepted": summary.is_accepted})
    else:
        print_adapted(summary)
    if not summary.is_accepted:
        click.echo("Error: the gate refused what was fitted, and nothing was written. Give more questions or questions of "
                   "more groups (adapting.ask_count, --questions), or try adapting.kinds=[linear,residual].", err=True)
        context.exit(1)


def print_adapted(summary: AdaptSummary) -> None:
    """Print the table of recall before and after, and the verdicts."""
    from ragtune.retrieval.gate import SCOPE_NAMES, render_table

    print_facts({"questions": f"{summary.questions:,} of {summary.groups} groups, {summary.source}",
                 "left out": ", ".join(f"{count:,} {reason}" for reason, count in summary.left_out.items()),
                 "seconds": summary.seconds})
    beside = Path(summary.index).parent
    for part in summary.parts:
        click.secho(f"\n{part.what}: recall of pages on questions of groups it was not fitted on", bold=True)
        cells = render_table(part.recall)
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        for row in cells:
            click.echo("  " + "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                                        for column, (cell, width) in enumerate(zip(row, widths))))
        click.echo(part.verdict[0].upper() + part.verdict[1:])
        groups = part.facts.get("by_group", {}).values()
        if groups:
            rises = sum(group["after"] > group["before"] for group in groups)
            click.echo(f"In the right document it rises in {rises} of {len(groups)} groups.")
        weights = part.facts.get("lexical_weights", {})
        if weights:
            best = max(weights, key=lambda weight: sum(weights[weight].values()))
            told = ", ".join(f"{SCOPE_NAMES[scope]} {share:.3f}" for scope, share in weights[best].items())
            click.echo(f"Of the weights tried with it, retrieval.lexical_weight={best} finds most: {told}.")
        if part.is_accepted and "settings" in part.facts:
            told = " ".join(f"{name}={value:g}" for name, value in part.facts["settings"].items())
            click.echo(f"Use it in a search without the ranker (retrieval.rerank=none): {told}")
        if part.folder:
            place = Path(part.folder).parent
            use = USE.get(part.what, "").format(folder=part.folder, place="auto" if place.parent == beside else place)
            click.echo(f"Written: {part.folder}\n{use}")
