"""Whether a proposed question stands on its page: the quote is there, the answer is in it, the question does not tell it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ragtune.answering.quote import find_span, fold_letters
from ragtune.datasets.near import split_words
from ragtune.datasets.questions import is_restated
from ragtune.documents.statements import parse_row, restate_rows

_NUMBER = re.compile(
    r"(?<![\w.,])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:\s*(?P<scale>thousand|million|billion|trillion|mn|bn|[kmb])(?:s\b|\b))?(?![\d]|[A-Za-z]{3})", re.IGNORECASE)
_SCALES = {"thousand": 1e3, "k": 1e3, "million": 1e6, "mn": 1e6, "m": 1e6, "billion": 1e9, "bn": 1e9, "b": 1e9,
           "trillion": 1e12}
_FACTORS = (1e-9, 1e-6, 1e-3, 1e3, 1e6, 1e9)
_SPELT = {word: float(number) for number, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve".split())}
_STOP = frozenset(
    "a an and any are as at be been by did do does for from had has have how in into is it its many much of on or that the "
    "their there these this those to was were what when where which who whom whose why will with would company s "
    "no not yes than fiscal year fy".split())
_FIGURES = re.compile(r"(?:fy)?[\d.,]+")
_LEAST_LETTERS = 8  # a quote shorter than this stands everywhere
_LONG_RUN = 6  # words of an answer in a row that a question must not hold


@dataclass(frozen=True)
class Amount:
    """A number of a text: its value as printed, what a scale word beside it multiplies by, and its decimals shown."""

    value: float
    scale: float
    decimals: int
    text: str

    @property
    def is_year(self) -> bool:
        """Whether it looks like a year."""
        return bool(re.fullmatch(r"(?:19|20)\d\d", self.text)) and self.scale == 1


def parse_amounts(text: str) -> list[Amount]:
    """Return the numbers of a text without their signs; words from zero to twelve count."""
    found = []
    for match in _NUMBER.finditer(text):
        digits = match["digits"]
        scale = _SCALES[match["scale"].lower()] if match["scale"] else 1.0
        found.append(Amount(float(digits.replace(",", "")), scale, len(digits.partition(".")[2]), digits))
    return found + [Amount(_SPELT[word], 1.0, 0, word) for word in re.findall(r"[a-z]+", text.lower()) if word in _SPELT]


def is_same_amount(said: Amount, printed: Amount) -> bool:
    """Tell whether a number is another one, as printed or in another scale and rounded: $4.2 billion of 4,210 (millions)."""
    if said.value == printed.value and (said.scale == printed.scale or 1.0 in (said.scale, printed.scale)):
        return True
    if said.value * said.scale == printed.value * printed.scale:
        return True
    if said.scale == printed.scale == 1 or len(said.text.replace(".", "").strip("0,")) < 2:
        return False
    return any(abs(printed.value * factor - said.value) <= 0.5 * 10.0**-said.decimals for factor in _FACTORS)


def find_quote(page: str, quote: str) -> str:
    """Return the quote as the page prints it, '' where it is not there.

    White space, the case of letters and the form of dashes and quotation marks do not count. A quote within a table's row
    comes back as the whole row.
    """
    wanted = _bare(quote)
    if sum(letter.isalnum() for letter in wanted) < _LEAST_LETTERS:
        return ""
    span = find_span(page, wanted, is_whole=False)
    if span is None:
        return ""
    first, last = span
    line_start, line_end = page.rfind("\n", 0, first) + 1, page.find("\n", last)
    line = page[line_start : line_end if line_end >= 0 else len(page)]
    return line.strip() if "\n" not in line and parse_row(line) else page[first:last]


def _bare(text: str) -> str:
    text = text.strip().strip("\"'“”").removesuffix("...").removeprefix("...").strip("…")
    return fold_letters(text)[0]


def telling_words(text: str) -> set[str]:
    """Return the first six letters of each word that says something; numbers and years are left out."""
    return {word[:6] for word in split_words(text) if word not in _STOP and not _FIGURES.fullmatch(word)}


def holds_answer(evidence: str, answer: str, question: str) -> bool:
    """Tell whether a piece of text holds an answer: all its numbers by value, else most of its telling words.

    Years and words that the question has already need not stand in it; an answer that adds nothing is held by none.
    """
    printed = parse_amounts(evidence)
    asked_years = {amount.text for amount in parse_amounts(question) if amount.is_year}
    said = [amount for amount in parse_amounts(answer) if not (amount.is_year and amount.text in asked_years)]
    said = [amount for amount in said if amount.text not in _SPELT]  # three may be a word like any other
    if said:
        return all(any(is_same_amount(amount, other) for other in printed) for amount in said)
    if _bare(answer).strip(".") in _bare(evidence) and telling_words(answer):
        return True
    words = telling_words(answer)
    held = words & telling_words(evidence)
    own = words - telling_words(question)
    return bool(held) and len(own - held) <= 0.2 * len(words) and bool(own & held or is_verdict(answer))


def is_verdict(answer: str) -> bool:
    """Tell whether an answer begins with yes or no."""
    return bool(re.match(r"(?:yes|no)\b", answer.strip(), re.IGNORECASE))


def gives_away(question: str, answer: str) -> bool:
    """Tell whether a question holds its answer: a number that is no year of a longer answer, or its words."""
    asked = parse_amounts(question)
    said = parse_amounts(answer)
    numbers = [amount for amount in said if not amount.is_year] or ([] if len(telling_words(answer)) > 1 else said)
    if any(is_same_amount(amount, other) for amount in numbers for other in asked if other.is_year == amount.is_year):
        return True
    if numbers or is_verdict(answer):
        return False
    words, others = split_words(answer), split_words(question)
    runs = {tuple(words[start : start + _LONG_RUN]) for start in range(len(words) - _LONG_RUN + 1)}
    if any(tuple(others[start : start + _LONG_RUN]) in runs for start in range(len(others) - _LONG_RUN + 1)):
        return len(telling_words(answer) - telling_words(question)) <= 0.5 * len(telling_words(answer))
    telling = telling_words(answer)
    return bool(telling) and telling <= telling_words(question)


def restate_evidence(page: str, evidence: str, answer: str, years: Iterable[str]) -> str:
    """Return the line ``label year: amount`` that an answer reads from a table's row, '' where it is not just one.

    Of several years with the same amount the one the question names counts.
    """
    row, said = parse_row(evidence), [amount for amount in parse_amounts(answer) if not amount.is_year]
    if row is None or len(said) != 1:
        return ""
    lines = [line for line in dict.fromkeys(restate_rows(page).split("\n"))
             if line.startswith(f"{row.label} ") and is_restated(line)]
    fit = [line for line in lines
           if any(is_same_amount(said[0], amount) for amount in parse_amounts(line.rpartition(": ")[2]))]
    named = [line for line in fit if line.rpartition(": ")[0][-4:] in set(years)]
    return (named or fit)[0] if len(named or fit) == 1 else ""
