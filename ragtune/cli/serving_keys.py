"""ragtune keys add, list, revoke."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ragtune.cli.terminal import print_facts, print_json, read_recipe, recipe_options

if TYPE_CHECKING:
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

    opened = _open(recipe_name, settings)
    made = opened.add(name, tenant, admin, parse_expiry(expires, time.time()) if expires else None)
    entry = opened.find(made)
    assert entry is not None, "it was made a moment ago"
    if as_json:
        return print_json({"key": made, **_show(entry)})
    click.echo(made)
    click.echo("Keep it now: it is not shown again. Ask with the header  Authorization: Bearer KEY", err=True)


@keys.command("list")
@recipe_options()
def list_keys(recipe_name: str, settings: tuple[str, ...], as_json: bool) -> None:
    """List the keys that were made, without the keys themselves."""
    rows = [_show(key) for key in _open(recipe_name, settings).entries()]
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
    row = _show(_open(recipe_name, settings).revoke(name))
    if as_json:
        return print_json(row)
    print_facts({"revoked": row["name"], "at": row["revoked"]})


def _open(recipe_name: str, settings: tuple[str, ...]) -> Keys:
    from ragtune.server.keys import open_keys
    from ragtune.server.state import server_folder

    recipe = read_recipe(recipe_name, settings)
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
