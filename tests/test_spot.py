"""Where a quote stands: in a text, as a printed row, and on the drawn page."""

from __future__ import annotations

import io

import pytest
from document_files import STATEMENT, write_pdf, write_table_pdf
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.spot import find_quote
from ragtune.documents.view import draw_page, find_places
from ragtune.errors import DocumentError

TEXT = "Statements of Income\n2021 2020\n" + (
    "Net  sales $ 4,210 $ 3,900\nNet sales of others 14,210 12\nCost of sales 2,000 1,800\n")


def shown(text, quote):
    spot = find_quote(text, quote)
    return spot and (text[spot.start : spot.end], spot.amount and text[slice(*spot.amount)])


@pytest.mark.parametrize(("quote", "found"), [
    ("net sales $ 4,210", ("Net  sales $ 4,210", None)),
    ("Income 2021 2020 Net", ("Income\n2021 2020\nNet", None)),
    ("Net sales 2021: 4,210", ("Net  sales $ 4,210 $ 3,900", "4,210")),
    ("Net sales 2020: 3,900", ("Net  sales $ 4,210 $ 3,900", "3,900")),
    ("Net sales of others 2021: 14,210", ("Net sales of others 14,210 12", "14,210")),
    ("Cost of sales 2021: 2,000", ("Cost of sales 2,000 1,800", "2,000")),
    ("Cost of sales 2021: 9,999", ("Cost of sales 2,000 1,800", None)),
    ("Gross profit 2021: 2,000", None), ("Goodwill", None), ("", None), (": 4", None),
])
def test_a_quote_is_found_as_printed_or_as_the_row_it_was_read_from(quote, found):
    assert shown(TEXT, quote) == found


@given(st.text(max_size=60), st.integers(0, 60), st.integers(1, 60))
def test_any_part_of_a_text_is_found_in_it(text, start, length):
    part = text[start : start + length]
    spot = find_quote(text, part)
    if part.strip():
        assert spot is not None
        assert "".join(text[spot.start : spot.end].split()).casefold() == "".join(part.split()).casefold()
    else:
        assert spot is None


@given(st.text(max_size=80), st.text(max_size=40))
def test_spans_lie_in_the_text(text, quote):
    spot = find_quote(text, quote)
    if spot is not None:
        assert 0 <= spot.start < spot.end <= len(text)


def test_a_row_is_found_on_the_page_where_it_is_drawn(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", [["cover"], STATEMENT])
    places = find_places(path, 2, "Cost of sales 2020: 1,800")
    (line,), (amount,) = places.lines, places.amount
    baseline = 1 - (780 - 14 * 5) / places.height
    assert line.top < baseline < line.top + line.height + 0.01
    assert line.left == pytest.approx(60 / places.width, abs=0.01)
    assert line.left < amount.left < amount.left + amount.width < line.left + line.width + 0.001
    assert find_places(path, 1, "Cost of sales 2020: 1,800").lines == ()


def test_amounts_drawn_apart_from_their_labels_are_one_line(tmp_path):
    path = write_table_pdf(tmp_path / "t.pdf", [("Net sales", "4,210", "3,900"), ("Cost of sales", "2,000", "1,800")])
    places = find_places(path, 1, "Net sales 2021: 4,210")
    assert places.lines[0].left == pytest.approx(60 / places.width, abs=0.01)
    assert places.lines[0].left + places.lines[0].width == pytest.approx(430 / places.width, abs=0.01)
    assert places.amount[0].left + places.amount[0].width == pytest.approx(350 / places.width, abs=0.01)


def test_a_turned_page_has_its_boxes_where_it_is_drawn(tmp_path):
    import pypdfium2

    path = write_pdf(tmp_path / "a.pdf", [STATEMENT])
    straight = find_places(path, 1, "Net income")
    with pypdfium2.PdfDocument(path) as document:
        document[0].set_rotation(90)
        document.save(tmp_path / "turned.pdf")
    turned = find_places(tmp_path / "turned.pdf", 1, "Net income")
    assert (turned.width, turned.height) == (straight.height, straight.width)
    assert turned.lines[0].top == pytest.approx(straight.lines[0].left, abs=0.01)
    assert turned.lines[0].left == pytest.approx(1 - straight.lines[0].top - straight.lines[0].height, abs=0.01)


def test_a_page_is_drawn_as_wide_as_asked_and_never_too_large(tmp_path):
    from PIL import Image
    from reportlab.pdfgen.canvas import Canvas

    path = write_pdf(tmp_path / "a.pdf", [STATEMENT])
    assert Image.open(io.BytesIO(draw_page(path, 1, 300))).width in (300, 301)
    canvas = Canvas(str(tmp_path / "long.pdf"), pagesize=(20, 14_000))
    canvas.showPage()
    canvas.save()
    width, height = Image.open(io.BytesIO(draw_page(tmp_path / "long.pdf", 1, 1000))).size
    assert width * height < 6_100_000


def test_what_cannot_be_drawn_is_said(tmp_path):
    path = write_pdf(tmp_path / "a.pdf", [STATEMENT])
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 no")
    with pytest.raises(DocumentError, match="has 1 pages, asked for was page 2"):
        draw_page(path, 2, 300)
    with pytest.raises(DocumentError, match="cannot be opened"):
        draw_page(tmp_path / "b.pdf", 1, 300)
    with pytest.raises(DocumentError, match="cannot be opened"):
        draw_page(tmp_path / "none.pdf", 1, 300)
