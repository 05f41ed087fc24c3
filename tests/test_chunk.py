"""Chunks: exact spans, within the limit, whole rows, the right pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ragtune.documents.chunk import CHUNKERS, chunk_document
from ragtune.documents.statements import parse_row
from ragtune.errors import RecipeError
from ragtune.models.fake import HashEmbedder
from ragtune.records import Chunk, Document, Page

if TYPE_CHECKING:
    import numpy as np

EMBEDDER = HashEmbedder()
count_tokens = EMBEDDER.count_tokens
LINES = st.sampled_from(
    [
        "Net sales $ 4,210 $ 3,900",
        "Prose that goes on and on.",
        "word",
        "",
        "In millions 2021 2020",
        "…—é 文字",
        "A longer line of prose; it has two parts, and a third. It has a second sentence. And a third!",
    ]
)
PAGES = st.lists(
    st.lists(LINES | st.text(alphabet="ab .\n é", max_size=60), max_size=8).map("\n".join), min_size=1, max_size=4
)


def make(*pages: str, **metadata: object) -> Document:
    return Document("d" * 16, "ACME", "ACME.pdf", tuple(Page(n, text) for n, text in enumerate(pages, start=1)), metadata)


def chunk(document: Document, chunker: str = "rows", max_tokens: int = 30, overlap_tokens: int = 0) -> list[Chunk]:
    return chunk_document(document, chunker, max_tokens, overlap_tokens, count_tokens, EMBEDDER.embed_passages)


@pytest.mark.parametrize("chunker", list(CHUNKERS))
@given(pages=PAGES, max_tokens=st.integers(3, 60), overlap_share=st.floats(0, 0.9))
@example(pages=["aaa " * 40, "", "x"], max_tokens=3, overlap_share=0.0)
@settings(deadline=None, max_examples=60)
def test_chunks_are_exact_spans_that_cover_the_text(
    chunker: str, pages: list[str], max_tokens: int, overlap_share: float
) -> None:
    document = make(*pages)
    text, overlap = document.text, int(max_tokens * overlap_share)
    chunks = chunk(document, chunker, max_tokens, overlap)
    covered = [False] * len(text)
    starts = [0, *(match.end() for match in re.finditer("\f", text)), len(text) + 1]
    for item in chunks:
        assert item.text == text[item.start : item.end]
        assert item.text.strip() == item.text != ""
        assert starts[item.page - 1] <= item.start < starts[item.page]
        assert starts[item.last_page - 1] < item.end < starts[item.last_page]
        if chunker != "page":
            assert count_tokens(item.text) <= max_tokens
        if chunker != "tokens":
            assert item.page == item.last_page
        covered[item.start : item.end] = [True] * (item.end - item.start)
    assert all(done or letter.isspace() for done, letter in zip(covered, text))
    assert [item.start for item in chunks] == sorted(item.start for item in chunks)
    assert len({item.id for item in chunks}) == len(chunks)
    assert chunk(document, chunker, max_tokens, overlap) == chunks


@given(pages=PAGES)
@settings(deadline=None, max_examples=60)
def test_rows_are_never_cut(pages: list[str]) -> None:
    document = make(*pages)
    text = document.text
    for item in chunk(document):
        before = text[: item.start].rpartition("\n")[2].rpartition("\f")[2]
        line = (before + text[item.start :]).split("\n")[0].split("\f")[0]
        if count_tokens(line) <= 30:
            assert before.strip() == ""


def test_columns_and_unit_in_force_before_the_first_line() -> None:
    rows = "\n".join(f"Item {letter} of the list $ 1,00{n} $ 2,00{n}" for n, letter in enumerate("ABCDEFGH"))
    chunks = chunk(
        make(f"Statement (in millions)\nYears ended 2021 2020\n{rows}", "A sentence.\nNet sales 5 4", company="Acme")
    )
    assert "columns" not in chunks[0].metadata
    assert chunks[0].metadata == {"company": "Acme", "unit": "millions"}
    over = {"company": "Acme", "unit": "millions", "columns": "2021|2020", "table_head": "Statement"}
    assert all(item.metadata == over for item in chunks[1:-1])
    assert len(chunks) > 3
    assert chunks[-1].metadata == {"company": "Acme"}


def test_prose_breaks_at_sentence_ends_and_rows_between_rows() -> None:
    prose = "\n".join(
        [
            "The first sentence starts here and",
            "ends here.",
            "The second one is also of two lines",
            "and ends.",
            "A third one that will not fit",
            "goes on.",
        ]
    )
    assert chunk(make(prose), max_tokens=24)[0].text.endswith("and ends.")


def test_overlap_repeats_prose_but_no_rows() -> None:
    prose = [f"Line {n} of plain prose text." for n in range(8)]
    chunks = chunk(make("\n".join(prose)), max_tokens=21, overlap_tokens=7)
    assert [item.text.split("\n")[0] for item in chunks] == [prose[0], prose[2], prose[4], prose[6]][: len(chunks)]
    rows = [f"Row number {n} $ 1,000 $ 2,000" for n in range(8)]
    assert parse_row(rows[0])
    chunks = chunk(make("\n".join(rows)), max_tokens=24, overlap_tokens=12)
    assert "".join(item.text.replace("\n", "") for item in chunks) == "".join(rows)


def test_headings_are_followed() -> None:
    page = (
        "Item 7. Discussion ..... 31\nIntro.\n# Results\n" + "Sales rose in all parts. " * 12 + "\nItem 8. Statements\nEnd."
    )
    headings = [item.heading for item in chunk(make(page))]
    assert headings[0] == ""
    assert headings[2] == "Results"
    assert headings[-1] in ("Results", "Item 8. Statements")


def test_a_table_that_goes_on_over_the_page_keeps_its_head() -> None:
    rows = "\n".join(f"Line {letter} of the list $ 1,00{n} $ 2,00{n}" for n, letter in enumerate("ABCDEFGH"))
    chunks = chunk(make(f"STATEMENT OF CASH\n(in millions)\n2021 2020\n{rows}", "Other\nInterest paid 5 4"))
    assert chunks[-1].metadata == {"unit": "millions", "columns": "2021|2020", "table_head": "STATEMENT OF CASH"}
    assert chunks[-1].heading == "STATEMENT OF CASH"


@pytest.mark.parametrize(("line", "title"), [
    ("Prose ends. The fair values of all of our debt were as follows (in millions):", "The fair values of all of our debt"),
    ("Prose that ends here.", None), ("DEBT", "DEBT"), ("Sales 7 6", None),
])
def test_the_line_over_a_table_is_its_title(line: str, title: str | None) -> None:
    rows = "\n".join(f"Line {letter} of the list $ 1,00{n} $ 2,00{n}" for n, letter in enumerate("ABCDEFGH"))
    chunks = chunk(make(f"SOMETHING ELSE\n{line}\nDecember 31,\n(in millions)\n2021 2020\n{rows}"))
    assert chunks[-1].metadata["columns"] == "2021|2020"
    assert chunks[-1].metadata.get("table_head") == title


def test_contents_are_said() -> None:
    page = "\n".join(f"Part {letter} of the report {n}" for n, letter in enumerate("ABCDEFGHIJ", start=3))
    text = "Prose that goes on. " * 10
    kinds = {item.page: item.metadata.get("kind") for item in chunk(make("Title", page, text))}
    assert kinds == {1: None, 2: "contents", 3: None}


PROSE = "Sales rose in all parts of the world and in all of the segments. " * 3
TABLE = "SALES BY SEGMENT\n(in millions) 2021 2020\n" + "\n".join(f"Segment {n} 1,00{n} 2,00{n}" for n in range(4))


def test_tables_stand_apart_from_prose_with_their_titles() -> None:
    chunks = chunk(make(f"{PROSE}\n{TABLE}\n{PROSE}"), "tables", max_tokens=60)
    assert [item.text.split(" ")[0] for item in chunks] == ["Sales", "SALES", "Sales"]
    assert chunks[1].text == TABLE
    assert [item.metadata.get("columns") for item in chunk(make(TABLE), "tables", max_tokens=20)][1:] == ["2021|2020"] * 2


def test_sections_have_one_heading() -> None:
    page = f"1.1 Installing\n{PROSE}\n1.2 Configuring\n1.2.1 Ports\n{PROSE}"
    chunks = chunk(make(page), "sections", max_tokens=200)
    assert [item.text.split("\n")[0] for item in chunks] == ["1.1 Installing", "1.2 Configuring"]
    assert [item.heading for item in chunks] == ["1.1 Installing", "1.2 Configuring"]


def test_sentences_are_whole() -> None:
    text = "One sentence that goes\nover two lines. Another one. A third\none. Net sales follow.\nNet sales 5 4"
    chunks = chunk(make(text), "sentences", max_tokens=14)
    assert [item.text for item in chunks] == [
        "One sentence that goes\nover two lines. Another one.", "A third\none. Net sales follow.\nNet sales 5 4"]


def test_semantic_cuts_where_the_meaning_changes() -> None:
    cats, cars = "The cat is a small animal. ", "An engine burns fuel in cylinders. "

    def embed(texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        return np.array([[1.0, 0.0] if text.count("cat") > text.count("engine") else [0.0, 1.0] for text in texts])

    document = make(cats * 5 + cars * 5)
    chunks = chunk_document(document, "semantic", 100, 0, count_tokens, embed)
    assert [item.text for item in chunks] == [(cats * 5).strip(), (cars * 5).strip()]
    with pytest.raises(RecipeError, match="compares sentences"):
        chunk_document(document, "semantic", 100, 0, count_tokens)


def test_page_chunker_keeps_pages_whole() -> None:
    assert [item.text for item in chunk(make("a " * 500, "", "b"), "page")] == [("a " * 500).strip(), "b"]


def test_unknown_chunker() -> None:
    with pytest.raises(RecipeError, match=r"found .row., allowed are rows, tables, .*page. Did you mean 'rows'"):
        chunk(make("x"), "row")
