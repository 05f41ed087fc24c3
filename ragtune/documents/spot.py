"""Where a quote stands in a page's text: word by word, or as the printed row that a restated one was read from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ALIKE = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-"})
_TOKEN = re.compile(r"\d[\d.,]*\d|\w+")
_YEAR = re.compile(r"(?:19|20)\d\d")
_RESTATED = re.compile(r"(?P<label>\S[^\n]*?)\s*:\s*(?P<amount>[^\n:]*\d[^\n:]*)")
_ENOUGH, _SURE = 0.6, 0.85  # shares of a label's words a row must hold: with the amount, and without


@dataclass(frozen=True)
class Spot:
    """The characters of a quote in a text; ``amount`` are those of the figure within it, where it is a row's."""

    start: int
    end: int
    amount: tuple[int, int] | None = None


def find_quote(text: str, quote: str) -> Spot | None:
    """Return where the quote stands: its words in their order, whatever the spaces between them; failing that, the line that
    a row ``label year: amount`` was read from. None where neither is there."""
    return find_words(text, quote) or find_row(text, quote)


def find_words(text: str, quote: str) -> Spot | None:
    """Return the first place where the words of the quote follow one another."""
    wanted, _ = _fold(quote)
    folded, places = _fold(text)
    at = folded.find(wanted) if wanted else -1
    return Spot(places[at], places[at + len(wanted) - 1] + 1) if at >= 0 else None


def find_row(text: str, quote: str) -> Spot | None:
    """Return the line that holds most of a restated row's label, and its amount where it prints it."""
    row = _RESTATED.fullmatch(quote.strip())
    if row is None:
        return None
    label = {word for word in _words(row["label"]) if not _YEAR.fullmatch(word)}
    amount = next(iter(re.findall(r"\d[\d.,]*\d|\d", row["amount"])), "")
    found: list[tuple[float, int, Spot]] = []
    for start, line in _lines(text):
        words = _words(line)
        share = len(label & set(words)) / max(1, len(label))
        printed = re.search(rf"(?<![\d.,]){re.escape(amount)}(?![\d]|[.,]\d)", line)
        if share < (_ENOUGH if printed else _SURE):
            continue
        inside = (start + printed.start(), start + printed.end()) if printed else None
        found.append((share + bool(printed), -len(words), Spot(start, start + len(line), inside)))
    return max(found, key=lambda each: each[:2])[2] if found else None


def _words(text: str) -> list[str]:
    return _TOKEN.findall(text.translate(_ALIKE).casefold())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line's first character's place and the line without outer spaces."""
    start = 0
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped:
            yield start + line.index(stripped[0]), stripped
        start += len(line) + 1


def _fold(text: str) -> tuple[str, list[int]]:
    """Return the text in small letters with single spaces, and each of its characters' place in the text given."""
    letters: list[str] = []
    places: list[int] = []
    for place, letter in enumerate(text.translate(_ALIKE)):
        if letter.isspace():
            if letters and letters[-1] != " ":
                letters.append(" ")
                places.append(place)
            continue
        for part in letter.casefold():
            letters.append(part)
            places.append(place)
    while letters and letters[-1] == " ":
        letters.pop()
        places.pop()
    return "".join(letters), places
