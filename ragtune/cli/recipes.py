"""ragtune recipe list, show, copy, check."""

from __future__ import annotations

from pathlib import Path

import click

from ragtune.cli.terminal import print_json, read_recipe


@click.group()
def recipe() -> None:
    """List, show, copy and check recipes."""


@recipe.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def list_recipes(as_json: bool) -> None:
    """List the shipped recipes."""
    from ragtune.recipe.load import load_recipe, shelf

    rows = [{"name": name, "description": load_recipe(str(path)).description} for name, path in shelf().items()]
    if as_json:
        return print_json(rows)
    for row in rows:
        click.echo(f"{row['name']:<12} {row['description']}")


@recipe.command()
@click.argument("name", metavar="RECIPE")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Set one recipe field; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def show(name: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Show a recipe with every field written out."""
    from ragtune.files import hide_passwords
    from ragtune.recipe.load import render_recipe

    shown = read_recipe(name, settings)
    if as_json:
        return print_json(hide_passwords(shown.model_dump(mode="json")))
    click.echo(render_recipe(shown), nl=False)


@recipe.command()
@click.argument("name", metavar="RECIPE")
@click.argument("file", type=click.Path(path_type=Path))
def copy(name: str, file: Path) -> None:
    """Copy a recipe to FILE, to be changed there; paths to the bundled documents stay valid."""
    from ragtune.errors import RecipeError
    from ragtune.recipe.load import find_recipe

    source = find_recipe(name)
    if file.exists():
        raise RecipeError(f"{file} exists and is not overwritten. Choose another name or delete it.")
    if not file.parent.is_dir():
        raise RecipeError(f"no folder {file.parent}. Make it first: mkdir -p {file.parent}")
    file.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    click.echo(f"Wrote {file}. Change it, then: ragtune recipe check {file}")


@recipe.command()
@click.argument("name", metavar="RECIPE")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Set one recipe field; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(name: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Check a recipe: keys, values, names in tables, and that its files exist."""
    from ragtune.stages.check import check_references

    checked = read_recipe(name, settings)
    notes = check_references(checked)
    if as_json:
        return print_json({"recipe": name, "name": checked.name, "notes": notes})
    for note in notes:
        click.echo(f"note: {note}")
    click.echo(f"{name}: fine")
