"""ragtune methods."""

from __future__ import annotations

from typing import Any

import click

from ragtune.cli.terminal import print_json, read_recipe, recipe_options


@click.command()
@recipe_options(is_required=False)
@click.option("--rows", type=click.IntRange(1), default=1000, show_default=True, help="Rows that the time is estimated for.")
def methods(recipe_name: str | None, settings: tuple[str, ...], as_json: bool, rows: int) -> None:
    """List the tuning methods: what each tunes, the rows it takes and the command that makes them.

    With --recipe also what each would tune of the recipe's model and take in memory and time on this machine; nothing is
    loaded for it.
    """
    if settings and not recipe_name:
        raise click.UsageError("--set changes a recipe: name it with --recipe FILE.")
    listed = list_methods()
    if recipe_name:
        recipe = read_recipe(recipe_name, settings)
        from ragtune.training.estimate import estimate_run
        from ragtune.training.sizes import read_sizes

        sizes = read_sizes(recipe.generator.model)
        for line in listed:
            if line["weights"] == "query adapter":  # of the embedder, not of the recipe's model
                continue
            training = recipe.training.model_copy(update={"method": line["method"]})
            found = estimate_run(recipe.model_copy(update={"training": training}), rows, 0, sizes)
            line.update(trainable=found.trainable, share=found.share, memory_bytes=found.total, seconds=found.seconds,
                        rows=rows, device=found.device, free_bytes=found.free)
    print_json(listed) if as_json else print_methods(listed)


def list_methods() -> list[dict[str, Any]]:
    """Return a line a method, without loading any library."""
    from ragtune.training.methods import METHODS, SHAPES

    return [
        {"method": name, "family": each.family, "description": each.description, "weights": each.weights,
         "shape": each.shape, "data": SHAPES[each.shape][0], "command": SHAPES[each.shape][1],
         "precision": "base 4 bits (NF4), tuned 32" if each.is_4bit else "base 16 or 32 bits, tuned 32",
         "device": "cpu, cuda"}
        for name, each in METHODS.items()
    ]


def print_methods(listed: list[dict[str, Any]]) -> None:
    """Print the methods by family; with figures where they were estimated."""
    family = ""
    width = max(len(line["method"]) for line in listed)
    for line in listed:
        if line["family"] != family:
            family = line["family"]
            click.secho(f"\n{family}" if line is not listed[0] else family, bold=True)
        click.echo(f"  {line['method']:<{width}}  {line['description']}")
        if "trainable" in line:
            click.echo(f"  {'':<{width}}  {line['trainable']:,} parameters ({100 * line['share']:.3g}%), about "
                       f"{line['memory_bytes'] / (1 << 20):,.0f} MiB, {line['seconds']:,.0f} s for {line['rows']:,} rows")
    click.echo("\nrows")
    for shape, (data, command) in {line["shape"]: (line["data"], line["command"]) for line in listed}.items():
        names = ", ".join(line["method"] for line in listed if line["shape"] == shape)
        click.echo(f"  {data}\n    {command}\n    for {names}")
    click.echo("\nAll run on a CPU and on CUDA; what is tuned has 32 bits, the base 16 or 32 (qlora: 4, NF4).")
    if not any("trainable" in line for line in listed):
        click.echo("With --recipe FILE: what each tunes of the recipe's model, and the memory and time it would take.")
