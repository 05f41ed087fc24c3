"""What an answer quotes, set right from the page: misread amounts of the rows it names, words, and citations of wrong
passages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ragtune.records import Passage

_CITED_LINE = re.compile(r"^(?P<line>[^\n\[\]]+?\s*)\[(?P<number>\d{1,3})\]", re.MULTILINE)
CITED_ROW = re.compile(
    r"^(?P<label>\S[^\n]*?) (?P<year>(?:19|20)\d\d): (?P<amount>[^\s\[\]]+)[ \t]*(?:\[(?P<number>\d{1,3})\])?", re.MULTILINE
)
"""A row as ``restate_rows`` writes it, with the citation that an answer puts behind it."""

_ALIKE = 0.7
"""How alike (difflib's ratio) the label of a cited row must be to one that is printed with the same year and amount."""


@dataclass(frozen=True)
class Misquote:
    """A row an answer names with another amount than its passage prints."""

    row: str
    said: str
    printed: str
    passage: int


def mend_rows(text: str, passages: Sequence[Passage]) -> tuple[str, tuple[Misquote, ...]]:
    """Return the text with misquoted amounts as printed, there and later on, and what was misquoted.

    A line ``label year: amount`` names a row where the passage it cites holds that label and year; failing that, where all
    passages that hold it agree on the amount. What names no row is left to the guard.
    """
    printed: dict[tuple[str, str], dict[int, str]] = {}
    for passage in passages:
        for line in CITED_ROW.finditer(passage.text):
            printed.setdefault((line["label"], line["year"]), {}).setdefault(passage.number, line["amount"])
    found: list[Misquote] = []
    position = 0
    while row := CITED_ROW.search(text, position):
        position = row.end()
        held = printed.get((row["label"], row["year"]), {})
        cited = int(row["number"] or 0)
        if cited not in held and len(set(held.values())) != 1:
            continue
        number = cited if cited in held else next(iter(held))
        said, right = (re.sub(r"[^\d.,]", "", amount).strip(".,") for amount in (row["amount"], held[number]))
        is_year = re.fullmatch(r"(?:19|20)\d\d", said)  # not to be told from the years beside it
        if not said or not right or is_year or _size(said) == _size(right) or row["amount"] in held.values():
            continue
        found.append(Misquote(f"{row['label']} {row['year']}", said, right, number))
        start = row.start("amount")
        text = text[:start] + re.sub(rf"(?<![\d,.\[]){re.escape(said)}(?![\d]|[,.]\d)", right, text[start:])
        position = text.find("\n", start) if "\n" in text[start:] else len(text)
    return text, tuple(found)


def find_unprinted_rows(text: str, passages: Sequence[Passage]) -> list[str]:
    """Return the cited lines ``label year: amount [n]`` that no passage prints, not even with a label much like theirs."""
    printed = [
        (row["year"], _digits(row["amount"]), row["label"].lower()) for p in passages for row in CITED_ROW.finditer(p.text)
    ]
    missing = []
    for row in CITED_ROW.finditer(text):
        if not row["number"] or text[row.end() : row.end() + 1] not in ("", "\n"):
            continue
        label, wanted = row["label"].lower(), (row["year"], _digits(row["amount"]))
        known = [name for year, amount, name in printed if (year, amount) == wanted]
        if label not in known and not any(SequenceMatcher(None, label, name).ratio() >= _ALIKE for name in known):
            missing.append(f"{row['label']} {row['year']}: {row['amount']}")
    return missing


def _digits(amount: str) -> str:
    return _size(re.sub(r"[^\d.,]", "", amount).strip(".,"))


def _size(number: str) -> str:
    bare = number.replace(",", "")
    return bare.rstrip("0").rstrip(".") if "." in bare else bare


def verify_citations(text: str, passages: Sequence[Passage]) -> tuple[str, list[tuple[int, int]]]:
    """Return the text with mended citations, and (cited, mended) numbers of those that were.

    A cited line that does not stand in the passage it names, but does stand, word for word, in another that is shown,
    is cited to that one: the page a reader opens must hold the figure. Lines found nowhere are left to the guard.
    """
    lines_of = {passage.number: set(passage.text.split("\n")) for passage in passages}
    moved: list[tuple[int, int]] = []

    def mend(match: re.Match[str]) -> str:
        line, cited = match["line"].strip(), int(match["number"])
        if line in lines_of.get(cited, ()):
            return match[0]
        holder = next((number for number, lines in lines_of.items() if line in lines), None)
        if holder is None:
            return match[0]
        moved.append((cited, holder))
        return f"{match['line']}[{holder}]"

    return _CITED_LINE.sub(mend, text), moved


QUOTE = re.compile(r'^"(?P<text>(?:(?!"\s*\[\d|\n\n).){1,2000})" \[(?P<number>\d{1,3})\][ \t]*$', re.MULTILINE | re.DOTALL)
"""Words of a passage as an answer quotes them: in quotation marks, on lines of their own, the citation behind them."""
_SAME = str.maketrans("’‘‛`´“”„–—−‑‒", "'''''\"\"\"-----")
_WORD, _NUMBER = re.compile(r"[^\W_]{2}"), re.compile(r"\d[.,]\d")


@dataclass(frozen=True)
class Requoted:
    """A quote that was set right: what was said and cited, what the passage says and its number."""

    said: str
    cited: int
    text: str
    number: int


def fold_letters(text: str) -> tuple[str, list[int]]:
    """Return the text without white space, in one case, with one kind of dash and quotation mark; and the place of each
    character in the text."""
    places = [place for place, letter in enumerate(text) if not letter.isspace()]
    return "".join(_fold(text[place]) for place in places), places


def _fold(letter: str) -> str:
    folded = letter.translate(_SAME).casefold()
    return folded if len(folded) == 1 else letter


def find_span(text: str, folded: str, is_whole: bool = True) -> tuple[int, int] | None:
    """Return where a text holds what ``fold_letters`` made of a quote; None where it does not.

    With ``is_whole`` not from or to the middle of a word or number.
    """
    letters, places = fold_letters(text)
    start = letters.find(folded) if folded else -1
    while start >= 0:
        first, last = places[start], places[start + len(folded) - 1] + 1
        if not is_whole or not (_is_within(text, first) or _is_within(text, last)):
            return first, last
        start = letters.find(folded, start + 1)
    return None


def _is_within(text: str, place: int) -> bool:
    """Tell whether a place lies in the middle of a word or number: between letters, or beside a mark between digits."""
    if not 0 < place < len(text):
        return False
    return bool(_WORD.match(text, place - 1) or _NUMBER.match(text, place - 1) or (
        place > 1 and _NUMBER.match(text, place - 2)))


def place_quote(text: str, number: int, passages: Sequence[Passage]) -> tuple[str, int] | None:
    """Return a quote as a passage prints it and the number of that passage: the one cited, else the first that holds it.

    White space, case and kinds of dashes and quotation marks do not count. None where no passage holds it.
    """
    folded = fold_letters(text)[0]
    for passage in sorted(passages, key=lambda passage: passage.number != number):
        if span := find_span(passage.text, folded):
            return passage.text[span[0] : span[1]], passage.number
    return None


def verify_quotes(text: str, passages: Sequence[Passage]) -> tuple[str, tuple[Requoted, ...]]:
    """Return the text with its quotes as the passages print them and cited to those that hold them, and what was set right.

    Quotes that stand nowhere are left to ``find_unprinted_quotes``.
    """
    found: list[Requoted] = []

    def mend(match: re.Match[str]) -> str:
        said, cited = match["text"], int(match["number"])
        placed = place_quote(said, cited, passages)
        if placed is None or placed == (said, cited):
            return match[0]
        found.append(Requoted(said, cited, *placed))
        return render_quote(*placed)

    return QUOTE.sub(mend, text), tuple(found)


def find_unprinted_quotes(text: str, passages: Sequence[Passage]) -> list[str]:
    """Return the quotes that no passage holds."""
    return [match["text"] for match in QUOTE.finditer(text)
            if place_quote(match["text"], int(match["number"]), passages) is None]


def render_quote(text: str, number: int) -> str:
    """Return a quote as an answer holds it, with the passage it is cited to."""
    return f'"{text}" [{number}]'
