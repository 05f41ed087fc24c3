"""ragtune keys add, list, revoke."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ragtune.cli.terminal import print_facts, print_json, read_recipe, recipe_options
from ragtune.errors import IndexFolderError, QuestionError, RagtuneError

if TYPE_CHECKING:
    from ragtune.recipe.schema import Recipe
    from ragtune.server.keys import Key, Keys


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of a server."""


@keys.command()
@click.argument("name")
@click.option("--tenant", metavar="FILTER", help="Only documents that pass, for example: client = 'Acme'")
@click.option("--admin", is_flag=True, help="May upload, delete, run jobs and manage keys.")
@click.option("--expires", metavar="TIME", help="When it ends: 12h, 30d, 8w, 1y or a date as 2027-01-31.")
@recipe_options()
def add(
    name: str, tenant: str | None, admin: bool, expires: str | None, recipe_name: str, settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a key called NAME and show it, once: only its hash is kept."""
    from ragtune.server.keys import parse_expiry

    recipe = read_recipe(recipe_name, settings)
    opened = _open(recipe)
    made = opened.add(name, tenant, admin, parse_expiry(expires, time.time()) if expires else None)
    entry = opened.find(made)
    assert entry is not None, "it was made a moment ago"
    if as_json:
        return print_json({"key": made, **_show(entry)})
    click.echo(made)
    click.echo("Keep it now: it is not shown again. Ask with the header  Authorization: Bearer KEY", err=True)
    if entry.tenant and (note := describe_tenancy(recipe, entry.tenant)):
        click.echo(f"note: {note}", err=True)


def describe_tenancy(recipe: Recipe, tenant: str) -> str:
    """Return how many documents of the recipe's index are this tenant's, or why none is; empty where there is no index yet.

    A wrong name is no error, for documents may come later; but a tenant who sees nothing should not go unseen.
    """
    from ragtune.files import read_manifest
    from ragtune.recipe.places import index_folder
    from ragtune.retrieval.index import Index
    from ragtune.retrieval.tenancy import check_tenant, find_owned

    folder = index_folder(recipe)
    if not (folder / "manifest.json").is_file():
        return ""
    try:
        index = Index(folder, read_manifest(folder, "index", IndexFolderError, check_files=False))
        owned = check_tenant(tenant).check(index.columns(), index.pack.metadata.sidecar)
        own = find_owned(index, owned)
    except QuestionError as error:
        return f"this tenant sees nothing: {error}"
    except RagtuneError:
        return ""  # a damaged index is told by what opens it
    return f"{sum(own)} of the index's {len(own)} documents are this tenant's now"


@keys.command("list")
@recipe_options()
def list_keys(recipe_name: str, settings: tuple[str, ...], as_json: bool) -> None:
    """List the keys that were made, without the keys themselves."""
    rows = [_show(key) for key in _open(read_recipe(recipe_name, settings)).entries()]
    if as_json:
        return print_json(rows)
    for row in rows:
        end = f"until {row['expires']}" if row["expires"] else ""
        words = (f"{row['name']:<20} …{row['hint']}", f"{row['state']:<8}", f"{row['scope']:<6}", row["tenant"], end)
        click.echo("  ".join(word for word in words if word).rstrip())
    if not rows:
        click.echo("no keys: the server is open to this machine alone. Do: ragtune keys add NAME --recipe FILE", err=True)


@keys.command()
@click.argument("name")
@recipe_options()
def revoke(name: str, recipe_name: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Let the key called NAME no longer hold, also in a server that runs."""
    row = _show(_open(read_recipe(recipe_name, settings)).revoke(name))
    if as_json:
        return print_json(row)
    print_facts({"revoked": row["name"], "at": row["revoked"]})


def _open(recipe: Recipe) -> Keys:
    from ragtune.server.keys import open_keys
    from ragtune.server.state import server_folder

    return open_keys(recipe, server_folder(recipe))


def _show(key: Key) -> dict[str, Any]:
    return {"name": key.name, "hint": key.hint, "state": key.state(time.time()),
            "scope": "admin" if key.is_admin else "ask", "tenant": key.tenant, "created": _time(key.created),
            "expires": _time(key.expires), "revoked": _time(key.revoked)}


def _time(seconds: float | None) -> str | None:
    import datetime

    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="seconds")
