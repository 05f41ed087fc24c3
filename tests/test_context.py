"""The context line: where a chunk stands, kept short."""

from __future__ import annotations

from ragtune.documents.context import context_line
from ragtune.records import Chunk

ROWS = "Cash 5 4\nDebt 3 2"


def make(text: str = ROWS, heading: str = "", **metadata: str | int) -> Chunk:
    return Chunk("c", "d", "ACME_2021", text, 61, 61, 0, len(text), metadata, heading)


def test_what_is_known_is_said() -> None:
    assert context_line(make()) == "ACME_2021, page 61"
    chunk = make(heading="Item 8. Statements > BALANCE SHEETS", company="Acme", form="10-K", fiscal_year=2021,
                 columns="2021|2020", unit="millions", table_head="BALANCE SHEETS")
    assert context_line(chunk) == (
        "Acme 10-K 2021, page 61: Item 8. Statements > BALANCE SHEETS; in millions; 2021 2020")
    assert context_line(make(company="Acme", fiscal_year=2021, quarter=2)) == "Acme 2021 Q2, page 61"


def test_the_unit_is_said_of_rows_only() -> None:
    assert context_line(make("Prose that has no rows.", unit="millions")) == "ACME_2021, page 61"


def test_long_titles_are_shortened() -> None:
    path = "Item 7. Discussion and Analysis of Financial Condition and Results > " + "Long Title of Many Words " * 6
    line = context_line(make(heading=path, table_head="word " * 30, columns="2021|2020|2019", unit="millions"))
    assert line.startswith("ACME_2021, page 61: Item 7. Discussion and Analysis > Long Title")
    assert len(line.split()) <= 32
