"""PDF pages to text with PDFium: statement rows on one line, odd characters cleaned, pages without text reported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ragtune.errors import DocumentError

_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
_TAIL_BYTES = 8192  # where the end mark of a whole PDF stands, web servers' trailing bytes allowed for
_DRAWN_PATHS = 200  # a page without text but with so many drawn paths holds letters drawn as outlines
# Two rows read into one line: amounts, then a label, then amounts again.
_NUMBER = r"[$(]{0,2} ?\d[\d,.]*[)%]?"
_MERGED = re.compile(rf"\d[)%]? +(?!and |or |of |to |in )[A-Za-z][^\n]{{2,80}}? {_NUMBER} +{_NUMBER}(?: |$)", re.MULTILINE)


def read_pdf(path: Path) -> tuple[list[str], list[int]]:
    """Return the raw text of each page and the numbers (from 1) of pages that show something but hold no text.

    Raises DocumentError for an encrypted, truncated or otherwise broken file.
    """
    import pypdfium2

    _check_end(path)
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD_ERROR or "assword" in str(error):
            raise DocumentError("the PDF is encrypted with a password. Remove it, e.g. qpdf --decrypt --password=... "
                                "in.pdf out.pdf") from None
        raise DocumentError(f"the PDF is broken ({error}). Fetch or export the file again.") from None
    try:
        texts, without_text = [], []
        for position in range(len(document)):
            text, is_drawn = _read_page(document, position)
            texts.append(text)
            if is_drawn and not text.strip():
                without_text.append(position + 1)
        if not texts:
            raise DocumentError("the PDF has no pages. Fetch or export the file again.")
        return texts, without_text
    finally:
        document.close()


def _check_end(path: Path) -> None:
    """Raise DocumentError where the end mark is missing: PDFium would silently read the pages that are left."""
    with path.open("rb") as file:
        head = file.read(1024)
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read()
    length = re.search(rb"/Linearized[^>]{0,200}?/L (\d+)", head)
    if b"%%EOF" not in tail or (length and int(length[1]) > path.stat().st_size):
        raise DocumentError("the PDF is truncated: its end is missing. Fetch or export the file again.")


def _read_page(document: Any, position: int) -> tuple[str, bool]:
    """Return a page's text and whether anything is drawn on it."""
    import pypdfium2

    try:
        page = document[position]
    except pypdfium2.PdfiumError as error:
        raise DocumentError(f"the PDF is broken: page {position + 1} cannot be loaded ({error}). "
                            "Fetch or export the file again.") from None
    try:
        text_page = page.get_textpage()
        try:
            text = text_page.get_text_range().replace("\r\n", "\n")
            if _MERGED.search(text):
                text = _break_rows(text_page, text)
            return text, not text.strip() and _is_drawn(page)
        finally:
            text_page.close()
    finally:
        page.close()


def _is_drawn(page: Any) -> bool:
    """Tell a page of images or outlined letters from a blank one with at most some rules."""
    from pypdfium2 import raw

    kinds = [item.type for item in page.get_objects(max_depth=3)]
    return raw.FPDF_PAGEOBJ_IMAGE in kinds or kinds.count(raw.FPDF_PAGEOBJ_PATH) > _DRAWN_PATHS


def _break_rows(text_page: Any, text: str) -> str:
    """Return the text with a line break wherever the pen went back left and down: some files lack them in tables."""
    from pypdfium2 import raw

    count = text_page.count_chars()
    letters: list[str] = []
    last: tuple[float, float, float] | None = None  # left edge, middle and height of the last visible letter
    for position in range(count):
        letter = chr(raw.FPDFText_GetUnicode(text_page, position))
        if letter.strip() and letter not in "\ufffe\x02":
            left, bottom, _, top = text_page.get_charbox(position)
            middle, height = (bottom + top) / 2, top - bottom
            if last and left < last[0] and middle < last[1] - 0.6 * max(height, last[2], 4) and "\n" not in letters[-2:]:
                letters.append("\n")
            last = left, middle, height
        letters.append(letter)
    return "".join(letters).replace("\r\n", "\n") if count else text
