"""Files of every kind for the tests of reading and indexing, whole and broken."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

STATEMENT = [
    "Acme Corporation", "Consolidated Statement of Income", "Years ended December 31", "(Millions) 2021 2020 2019",
    "Net sales $ 4,210 $ 3,900 $ 3,500", "Cost of sales 2,000 1,800 1,700", "Net income $ 310 $ 280 $ 250",
]
COVER = ["FORM 10-K", "For the fiscal year ended December 31, 2021", "ACME CORPORATION",
         "(Exact name of registrant as specified in its charter)"]


def write_pdf(path: Path, pages: Sequence[Sequence[str]], password: str | None = None) -> Path:
    """Write a PDF of one text line per line; the amounts of a statement row are drawn in columns of their own."""
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), encrypt=StandardEncryption(password, ownerPassword="owner") if password else None)
    for lines in pages:
        for row, line in enumerate(lines):
            canvas.drawString(60, 780 - 14 * row, line)
        canvas.showPage()
    canvas.save()
    return path


def write_table_pdf(path: Path, rows: Sequence[Sequence[str]], amounts_lower: float = 0.0) -> Path:
    """Write a PDF whose labels are all drawn first and whose amounts, right-aligned in columns, follow row by row."""
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path))
    for number, (label, *amounts) in enumerate(rows):
        y = 780 - 24 * number
        canvas.drawString(60, y, label)
        for column, amount in enumerate(amounts):
            canvas.drawRightString(350 + 80 * column, y - amounts_lower, amount)
    canvas.save()
    return path


def write_scan(path: Path, text_pages: int = 1, image_pages: int = 1) -> Path:
    """Write a PDF with pages of text, then pages that hold only an image, then a blank page."""
    from PIL import Image
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    canvas, image = Canvas(str(path)), ImageReader(Image.new("RGB", (20, 20), "grey"))
    for number in range(text_pages):
        canvas.drawString(60, 700, f"Text on page {number + 1}")
        canvas.showPage()
    for _ in range(image_pages):
        canvas.drawImage(image, 0, 0, 500, 700)
        canvas.showPage()
    canvas.showPage()
    canvas.save()
    return path


def write_docx(path: Path) -> Path:
    """Write a DOCX with a heading, a paragraph, a table, a page break and another paragraph."""
    import docx
    from docx.enum.text import WD_BREAK

    document = docx.Document()
    document.add_heading("Results", level=1)
    document.add_paragraph("Sales rose.")
    table = document.add_table(rows=2, cols=3)
    for row, cells in zip(table.rows, (("(Millions)", "2021", "2020"), ("Net sales", "4,210", "3,900"))):
        for cell, text in zip(row.cells, cells):
            cell.text = text
    document.add_paragraph().add_run().add_break(WD_BREAK.PAGE)
    document.add_paragraph("Second page.")
    buffer = io.BytesIO()
    document.save(buffer)
    path.write_bytes(buffer.getvalue())
    return path


def write_folder(folder: Path) -> Path:
    """Write a small folder of two companies' reports, PDFs and text."""
    folder.mkdir(parents=True, exist_ok=True)
    write_pdf(folder / "ACME_2021_10K.pdf", [COVER, ["Our business is anvils.", "We sell them to coyotes."], STATEMENT])
    (folder / "BOLT_2020_10K.txt").write_text(
        "Bolt Inc\nFORM 10-K\nBolt makes screws and bolts.\f(Thousands) 2020 2019\nNet sales 900 800\nNet income 90 80\n")
    (folder / "BOLT_2021Q2_10Q.md").write_text("# Outlook\n\nBolt expects more sales of screws.\n")
    return folder
