"""PDF pages to text with PDFium: statement rows on one line, odd characters cleaned, pages without text reported."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

from ragtune.errors import DocumentError

_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
_TAIL_BYTES = 8192  # where the end mark of a whole PDF stands, web servers' trailing bytes allowed for
_DRAWN_PATHS = 200  # a page without text but with so many drawn paths holds letters drawn as outlines
_AMOUNT_STARTS = "$€£(—–-0123456789"
_WORD = re.compile(r"(\s*)(\S+)")


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
            text = reline(text_page, text_page.get_text_range())
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


def reline(text_page: Any, text: str) -> str:
    """Return the text with its lines as the eye sees them, judged by where each word begins.

    PDFium misses a line break where the pen went back left and down, so that several statement rows become one line, and
    makes one where a word on the same line was drawn apart, so that amounts stand below their label.
    """
    if text_page.count_chars() != len(text):
        return text.replace("\r\n", "\n")  # PDFium left out letters, so that places in the text are not places on the page
    pieces: list[str] = []
    last_x = last_y = 0.0
    for match in _WORD.finditer(text):
        x, y = _origin(text_page, match.start(2))
        gap = match[1]
        if pieces and "\n" in gap:
            is_amount = match[2][0] in _AMOUNT_STARTS  # stands half a line lower where its label takes two lines
            if x > last_x and abs(y - last_y) < (0.75 * _height(text_page, match.start(2)) if is_amount else 1.5):
                is_apart = match[2][0] != "," and _space_between(text_page, match.start() - 1, match.start(2))
                gap = " " if is_apart else ""
        elif pieces and x < last_x - 1.0 and y < last_y - 2.0:
            gap = "\n"
        is_raised = "\n" not in gap and last_y < y < last_y + 6.0  # a footnote mark does not move the base line
        last_x, last_y = x, last_y if is_raised else y
        pieces += [gap.replace("\r\n", "\n"), match[2]]
    return "".join(pieces)


def _origin(text_page: Any, position: int) -> tuple[float, float]:
    """Return where a letter stands on its base line, in points from the lower left."""
    from pypdfium2 import raw

    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(text_page, position, x, y)
    return x.value, y.value


def _height(text_page: Any, position: int) -> float:
    """Return the height of a letter's line in points."""
    _, bottom, _, top = text_page.get_charbox(position, loose=True)
    return float(top - bottom)


def _space_between(text_page: Any, left: int, right: int) -> bool:
    """Tell whether two letters on one line stand so far apart that a space belongs between them."""
    _, bottom, end, top = text_page.get_charbox(left, loose=True)
    start = text_page.get_charbox(right, loose=True)[0]
    return bool(start - end > 0.12 * (top - bottom))
