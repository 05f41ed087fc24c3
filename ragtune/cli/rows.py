"""Rows of a dataset on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragtune.datasets.folded import FoldedRow


def print_row(row: FoldedRow) -> None:
    """Print a row: question, a line for each passage with gold marked, completion, provenance."""
    from rich.console import Console
    from rich.rule import Rule
    from rich.text import Text

    console = Console(highlight=False)  # texts are printed as Text: a citation [1] is no markup
    about = " · ".join(filter(None, (row.question_id, row.kind, row.mode)))
    console.print(Rule(Text(about or "row", style="bold"), align="left", characters="─"))
    question, *notes = row.question.split("\n")
    console.print(Text(question, style="bold"))
    for note in notes:
        console.print(Text(note, style="dim"))
    for passage in row.passages:
        mark = "gold " if passage.is_gold else ""
        rank = "not found" if passage.rank is None else f"rank {passage.rank}"
        console.print(Text.assemble(f"  [{passage.number}] ", (mark, "bold green"), passage.title,
                                    (f"  ({rank}, {passage.lines} lines)", "dim")), soft_wrap=True)
        console.print(Text(f"      {passage.first_line}", style="dim"), no_wrap=True, overflow="ellipsis")
    if not row.passages:
        console.print(Text("  no passages", style="dim"))
    for line in row.completion.split("\n"):
        console.print(Text.assemble(("  → ", "green"), line), soft_wrap=True)
    for name, value in row.provenance.items():
        if value not in (None, "", [], {}):
            console.print(Text(f"  {name}: {_plain(value)}", style="dim"), soft_wrap=True)
    console.print()


def _plain(value: Any) -> str:
    """Return a value of the provenance in words: lists by commas, places as 'document, page n'."""
    if isinstance(value, list):
        return "; ".join(map(_plain, value))
    if isinstance(value, dict):
        if set(value) == {"document", "page"}:
            return f"{value['document']}, page {value['page']}"
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    return str(value)
