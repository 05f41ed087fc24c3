"""ragtune pack list, show, new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ragtune.cli.terminal import print_facts, print_json, progress


@click.group()
def pack() -> None:
    """List, show and draft domain packs: what is known of a field's documents."""


@pack.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def list_packs(as_json: bool) -> None:
    """List the shipped packs."""
    from ragtune.documents.pack import open_pack, shipped_packs

    rows = [{"name": name, "description": open_pack(name).description} for name in shipped_packs()]
    if as_json:
        return print_json(rows)
    for row in rows:
        click.echo(f"{row['name']:<12} {row['description']}")


@pack.command()
@click.argument("name", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Print all that the pack says as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show a pack, by the name of a shipped one or its folder; this checks it, too."""
    from ragtune.documents.pack import open_pack

    shown = open_pack(name)
    if as_json:
        return print_json({"folder": str(shown.folder), "hash": shown.hash, **shown.files.model_dump(mode="json")})
    facts: dict[str, Any] = {
        "pack": shown.name, "description": shown.description, "folder": str(shown.folder), "hash": shown.hash,
        "terms": len(shown.terms), "topics": len(shown.topics), "sections": len(shown.sections),
        "file name patterns": len(shown.metadata.file_names), "cover patterns": len(shown.metadata.cover),
        "units": ", ".join(shown.files.tables.units)}
    print_facts(facts)
    for title, names in (
        ("terms", [term.names[0].rstrip("*") for term in shown.terms]),
        ("topics", [topic.entry.name for topic in shown.topics]),
        ("sections", [section.name for section in shown.sections]),
    ):
        click.echo(f"\n{title}: {'; '.join(names) or 'none'}")


@pack.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder; its name becomes the pack's.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def new(folder: Path, out: Path, as_json: bool) -> None:
    """Draft a pack from the documents in FOLDER, to be edited."""
    from ragtune.documents.draft import draft_pack

    with progress() as report:
        drafted = draft_pack(folder, out, report)
    facts = {"pack": drafted.name, "folder": str(out), "terms": len(drafted.terms), "sections": len(drafted.sections),
             "file_name_patterns": len(drafted.metadata.file_names)}
    if as_json:
        return print_json(facts)
    print_facts(facts)
    click.echo(f"Edit its files, then: ragtune pack show {out}, and set pack: {out} in the recipe.")
