"""PDF pages as a reader sees them: drawn as a picture, with the places of a quote on it."""

from __future__ import annotations

import contextlib
import ctypes
import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.documents.spot import Spot, find_row, find_words
from ragtune.errors import DocumentError
from ragtune.records import Record

MAX_PIXELS = 6_000_000
"""A page is drawn no larger, whatever size it says it has."""
_STEPS = 100_000  # PDFium gives places on the drawn page in whole steps
_LOCK = threading.Lock()  # PDFium serves one thread at a time


@dataclass(frozen=True)
class Box(Record):
    """A rectangle on a page, as shares of its width and height from the upper left."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Places(Record):
    """A page's size in points, the lines of a quote on it and the figure within them."""

    width: float
    height: float
    lines: tuple[Box, ...] = ()
    amount: tuple[Box, ...] = ()


def draw_page(path: Path, number: int, width: int) -> bytes:
    """Return page ``number`` (from 1) as PNG, ``width`` pixels wide or less where that would be more than MAX_PIXELS.

    Raises DocumentError where the file or the page cannot be read.
    """
    with _open_page(path, number) as page:
        across, down = page.get_size()
        scale = min(width / max(across, 1.0), (MAX_PIXELS / max(across * down, 1.0)) ** 0.5)
        picture = page.render(scale=scale).to_pil()
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=3)
    return written.getvalue()


def find_places(path: Path, number: int, quote: str) -> Places:
    """Return where a quote stands on a page; no lines where it was not found. Raises DocumentError as ``draw_page``."""
    with _open_page(path, number) as page:
        across, down = page.get_size()
        text_page = page.get_textpage()
        try:
            letters = _read_letters(text_page, page)
        finally:
            text_page.close()
    spot, order = _find(letters, quote)
    if spot is None:
        return Places(across, down)
    amount = _join([letters[place].box for place in order[slice(*spot.amount)] if place >= 0]) if spot.amount else ()
    return Places(across, down, _join([letters[place].box for place in order[spot.start : spot.end] if place >= 0]), amount)


@dataclass(frozen=True)
class _Letter:
    text: str
    box: Box


def _find(letters: Sequence[_Letter], quote: str) -> tuple[Spot | None, list[int]]:
    """Return the spot of a quote and which letter stands at each character of the text it counts in (-1: none)."""
    order = list(range(len(letters)))
    spot = find_words("".join(letter.text for letter in letters), quote)
    if spot is not None:
        return spot, [place if letters[place].text.strip() else -1 for place in order]
    text, order = _as_lines(letters)
    return find_words(text, quote) or find_row(text, quote), order


def _as_lines(letters: Sequence[_Letter]) -> tuple[str, list[int]]:
    """Return the letters line by line as the eye reads them, a space at each gap, and the letter of each character."""
    seen = sorted((place for place, letter in enumerate(letters) if letter.text.strip()),
                  key=lambda place: letters[place].box.top + letters[place].box.height / 2)
    lines: list[list[int]] = []
    for place in seen:
        box = letters[place].box
        last = letters[lines[-1][0]].box if lines else None
        is_same = last is not None and abs((box.top + box.height / 2) - (last.top + last.height / 2)) < 0.4 * last.height
        if is_same:
            lines[-1].append(place)
        else:
            lines.append([place])
    text: list[str] = []
    order: list[int] = []
    for line in lines:
        end = None
        for place in sorted(line, key=lambda place: letters[place].box.left):
            box = letters[place].box
            if end is not None and box.left - end > 0.12 * box.height:
                text.append(" ")
                order.append(-1)
            text.append(letters[place].text)
            order.append(place)
            end = box.left + box.width
        text.append("\n")
        order.append(-1)
    return "".join(text), order


def _read_letters(text_page: Any, page: Any) -> list[_Letter]:
    """Return each character of a page with its box as drawn, rotation and crop minded."""
    from pypdfium2 import raw

    letters = []
    x, y = ctypes.c_int(), ctypes.c_int()

    def place(at_x: float, at_y: float) -> tuple[float, float]:
        raw.FPDF_PageToDevice(page.raw, 0, 0, _STEPS, _STEPS, 0, at_x, at_y, x, y)
        return x.value / _STEPS, y.value / _STEPS

    for position in range(text_page.count_chars()):
        code = raw.FPDFText_GetUnicode(text_page.raw, position)
        left, bottom, right, top = text_page.get_charbox(position, loose=True)
        (x1, y1), (x2, y2) = place(left, bottom), place(right, top)
        box = Box(min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1))
        is_text = 0 < code < 0x110000 and not 0xD800 <= code < 0xE000
        letters.append(_Letter(chr(code) if is_text else " ", box))
    return letters


def _join(boxes: Sequence[Box]) -> tuple[Box, ...]:
    """Return one box a line: neighbours whose middles lie within one another's height."""
    joined: list[Box] = []
    for box in boxes:
        last = joined[-1] if joined else None
        middle = box.top + box.height / 2
        if last is not None and last.top <= middle <= last.top + last.height:
            left, top = min(last.left, box.left), min(last.top, box.top)
            right = max(last.left + last.width, box.left + box.width)
            bottom = max(last.top + last.height, box.top + box.height)
            joined[-1] = Box(left, top, right - left, bottom - top)
        elif box.width and box.height:
            joined.append(box)
    return tuple(Box(*(round(value, 5) for value in (box.left, box.top, box.width, box.height))) for box in joined)


@contextlib.contextmanager
def _open_page(path: Path, number: int) -> Iterator[Any]:
    """Yield a page of a PDF, alone in PDFium."""
    import pypdfium2

    with _LOCK:
        try:
            document = pypdfium2.PdfDocument(path)
        except (pypdfium2.PdfiumError, OSError) as error:
            raise DocumentError(f"{path.name} cannot be opened ({error}). Fetch or export the file again.") from None
        try:
            if not 1 <= number <= len(document):
                raise DocumentError(f"{path.name} has {len(document)} pages, asked for was page {number}.")
            try:
                page = document[number - 1]
            except pypdfium2.PdfiumError as error:
                raise DocumentError(f"{path.name}: page {number} cannot be loaded ({error}). Export it again.") from None
            try:
                yield page
            finally:
                page.close()
        finally:
            document.close()
