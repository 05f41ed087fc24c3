"""PDF reading: rows on one line, broken files refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from document_files import STATEMENT, write_pdf, write_scan, write_table_pdf

from ragtune.documents.pdf import read_pdf
from ragtune.errors import DocumentError

ROWS = [("Net sales", "4,210", "3,900"), ("Cost of sales", "(2,000)", "(1,800)"), ("Net income", "310", "—")]


def test_pages_and_their_lines(tmp_path: Path) -> None:
    texts, without_text = read_pdf(write_pdf(tmp_path / "a.pdf", [["one"], STATEMENT]))
    assert [text.strip() for text in texts] == ["one", "\n".join(STATEMENT)]
    assert without_text == []


@pytest.mark.parametrize("amounts_lower", [0.0, 1.2, 5.0])
def test_amounts_stay_on_the_line_of_their_label(tmp_path: Path, amounts_lower: float) -> None:
    texts, _ = read_pdf(write_table_pdf(tmp_path / "a.pdf", ROWS, amounts_lower))
    assert [" ".join(line.split()) for line in texts[0].strip().split("\n")] == [" ".join(row) for row in ROWS]


def test_words_drawn_row_after_row_without_a_break_are_parted(tmp_path: Path) -> None:
    """All in one text object with small jumps: PDFium alone reads rows that are close together as one line."""
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(tmp_path / "a.pdf"))
    text = canvas.beginText(60, 700)
    for label, *amounts in ROWS:
        text.textOut(label + " " + " ".join(amounts) + " ")
        text.moveCursor(0, 3.0)
    canvas.drawText(text)
    canvas.save()
    texts, _ = read_pdf(tmp_path / "a.pdf")
    assert [line.strip() for line in texts[0].strip().split("\n")] == [" ".join(row) for row in ROWS]


def test_image_pages_need_ocr_and_blank_ones_do_not(tmp_path: Path) -> None:
    texts, without_text = read_pdf(write_scan(tmp_path / "a.pdf", text_pages=2, image_pages=3))
    assert len(texts) == 6
    assert without_text == [3, 4, 5]


def test_encrypted(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"encrypted.*qpdf"):
        read_pdf(write_pdf(tmp_path / "a.pdf", [["secret"]], password="hidden"))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated(tmp_path: Path, share: float) -> None:
    whole = write_pdf(tmp_path / "a.pdf", [STATEMENT] * 5).read_bytes()
    (tmp_path / "b.pdf").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DocumentError, match="truncated"):
        read_pdf(tmp_path / "b.pdf")


def test_garbage_between_head_and_end(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4\n" + b"garbage " * 100 + b"\n%%EOF\n")
    with pytest.raises(DocumentError, match="broken"):
        read_pdf(tmp_path / "a.pdf")
