"""The rows of an index by line item, so that a figure of another company can be mistaken for the one asked for.

A search that serves goes to the company the question names: its passages hardly ever show another's row. The mistake is made
all the same, from memory or from a passage that was shown before, so its figure is taken from wherever the index has it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ragtune.answering.prompt import number_passages
from ragtune.documents.pack import current_pack
from ragtune.documents.statements import parse_columns
from ragtune.models.rows import Row, Shown, parse_prompt, stems
from ragtune.records import Chunk, Hit
from ragtune.seams import Progress

Item = frozenset[str]
"""What tells a line item: the telling words of its label, endings cut, or a term of the pack that the label means."""


class Chunks(Protocol):
    """What rows are found in: an opened index, or a stand-in."""

    def chunks(self, document: str) -> list[Chunk]:
        """Return the chunks of a document in reading order."""
        ...


@dataclass(frozen=True)
class Elsewhere:
    """Rows by document and line item, in reading order, as a passage would show them."""

    rows: Mapping[str, Mapping[Item, Sequence[Row]]] = field(default_factory=dict)

    def find(self, wanted: Sequence[tuple[Row, str]], draw: random.Random) -> Iterator[list[tuple[Row, str]]]:
        """Yield, for each document of another company in random order, its rows of the same line items and years.

        They are named and cited as the rows they are taken for: only the amounts, and their unit, are another's. Documents
        that have not all of them are left out, as are amounts of another sort.
        """
        documents = sorted(self.rows)
        draw.shuffle(documents)
        for document in documents:
            taken = [_take(self.rows[document], row, [year for own, year in wanted if own is row]) for row, _ in wanted]
            units = {other.passage.unit for other in taken if other is not None and not other.is_whole}
            if None not in taken and len(units) <= 1:
                yield [(_as_if(right, other), year) for (right, year), other in zip(wanted, taken) if other is not None]


def find_rows(
    index: Chunks, documents: Sequence[str], labels: Iterable[str], progress: Progress | None = None
) -> Elsewhere:
    """Return the rows of these documents whose labels mean one of ``labels``, by the pack in force."""
    wanted = {item for label in labels for item in _items(label)}
    found: dict[str, dict[Item, list[Row]]] = {}
    for number, document in enumerate(documents, start=1):
        rows = defaultdict[Item, list[Row]](list)
        for chunk in index.chunks(document):
            # A piece of a statement, or its beginning: in prose no line is a row.
            if chunk.metadata.get("columns") or any(map(parse_columns, chunk.text.split("\n"))):
                shown = number_passages([Hit(chunk, 0.0, 0, "")])[0]
                for row in parse_prompt(f"[1] {shown.title}\n{shown.text}\n\nQuestion: ").rows:
                    for item in wanted.intersection(_items(row.label)):
                        rows[item].append(row)
        if rows:
            found[document] = dict(rows)
        if progress:
            progress(number, len(documents))
    return Elsewhere(found)


def is_alike(other: Row, right: Row, years: Sequence[str]) -> bool:
    """Tell whether a row has amounts of the same sort in these years: percentages, amounts a share, or money."""
    if not all(year in other.cells for year in years) or other.is_whole != right.is_whole:
        return False
    return all(("%" in other.cells[year]) == ("%" in right.cells[year]) for year in years)


def _items(label: str) -> list[Item]:
    """Return what a label's line item is told by, the telling words first: Net sales may be another's Total revenues."""
    terms = current_pack().terms
    named = [frozenset((f"term {number}",)) for number, term in enumerate(terms) if term.names_row(label)]
    return [item for item in (frozenset(stems(label)), *named) if item]


def _take(rows: Mapping[Item, Sequence[Row]], right: Row, years: Sequence[str]) -> Row | None:
    """Return the first row of the same line item, of another company and with these years; None where there is none."""
    own = right.passage
    return next((row for item in _items(right.label) for row in rows.get(item, ())
                 if row.passage.company.lower() not in ("", own.company.lower())
                 and row.passage.is_quarterly == own.is_quarterly and is_alike(row, right, years)), None)


def _as_if(right: Row, other: Row) -> Row:
    """Return the other row, named and cited as the right one."""
    shown = other.passage
    passage = Shown(right.passage.number, shown.company, shown.year, shown.is_quarterly, shown.unit)
    return Row(right.label, other.cells, passage)
