"""Names of who a document is about, and the other ways people write them: J&J, JnJ, Coca Cola, COCACOLA, MGM, a ticker.

Legal forms, nicknames and patterns of first pages are the pack's: ``names`` is its part.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ragtune.documents.packparts import Names

FOLDER = Path(__file__).parent
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|&")
"""A word of a name or question; an ampersand is one too."""
CONNECTIVES = ("&", "and")
Case = Literal["any", "capital", "upper"]
"""How an alias must be written to count: anyhow, each word with a capital, or all in capitals."""

@dataclass(frozen=True)
class Alias:
    """One way to write a name: its folded letters, how sure it is (1 the name itself) and how it must be written."""

    key: str
    strength: float
    case: Case


@lru_cache(maxsize=1)
def read_common_words() -> frozenset[str]:
    """Return the shipped words that are no evidence of a name unless written with a capital."""
    return frozenset((FOLDER / "common_words.txt").read_text(encoding="utf-8").split())


def fold_word(word: str) -> str:
    """Return a word's letters and digits, lower case and without accents."""
    if not word.isascii():
        word = "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))
    return "".join(letter for letter in word.casefold() if letter.isalnum())


def fold_name(name: str) -> str:
    """Return what all spellings of a name share: Coca-Cola and COCACOLA are 'cocacola'; 'and' and '&' count not."""
    return "".join(fold_word(word) for word in WORD.findall(name) if word.lower() not in CONNECTIVES)


def split_name(name: str, names: Names) -> list[str]:
    """Return a name's words without a leading 'The' and the legal form behind it ('Inc.', '& Co.', '/DE/')."""
    name = re.sub(r"\s*/\s*\w{2,4}\s*/?\s*$", "", name)
    name = re.sub(r"\b(?:[^\W\d_]\.){2,}", lambda match: match[0].replace(".", ""), name.replace("_", " "))
    words = WORD.findall(name)
    while len(words) > 1 and words[0].lower() == "the":
        words = words[1:]
    while len(words) > 1 and (words[-1].lower() in names.legal or words[-1].lower() in CONNECTIVES):
        words = words[:-1]
    return words


def case_of(words: Sequence[str]) -> Case:
    """Return how a name must be written in a question: with capitals where its words are common ones."""
    common = read_common_words()
    folded = [fold_word(word) for word in words if word.lower() not in CONNECTIVES]
    if len("".join(folded)) <= 2:
        return "upper"
    return "capital" if all(word in common or len(word) == 1 for word in folded) else "any"


@lru_cache(maxsize=4096)
def aliases_of(name: str, names: Names) -> tuple[Alias, ...]:
    """Return the ways to write a name, surest first: the name with and without its legal form, its first words, distinctive
    later words, initials, blends (AMEX) and known nicknames.
    """
    words = split_name(name, names)
    found: dict[str, Alias] = {}

    def add(key: str, strength: float, case: Case) -> None:
        if len(key) > 1 and not key.isdigit() and (strength > 0.9 or key.upper() not in names.terms):
            found.setdefault(key, Alias(key, strength, case))

    add(fold_name(" ".join(words)), 1.0, case_of(words))
    add(fold_name(name), 1.0, case_of(WORD.findall(name)))
    add(fold_name(" ".join(words)) + "s", 0.9, case_of(words))  # McDonalds' and Kohls' apostrophe is often left out
    for nickname, meant in names.rules.nicknames.items():
        if fold_name(" ".join(words)) in meant:
            add(nickname, 0.9, "upper" if len(nickname) < 3 else case_of([nickname]))
    for key, strength, case in [*_shortened(words), *_initials(words)]:
        add(key, strength, case)
    return tuple(found.values())


def _shortened(words: Sequence[str]) -> list[tuple[str, float, Case]]:
    """Return the first words of a name and its distinctive later ones; a single common word is none."""
    common = read_common_words()
    found: list[tuple[str, float, Case]] = []
    for count in range(len(words) - 1, 0, -1):
        part = words[:count]
        if part[-1].lower() in (*CONNECTIVES, "of", "the", "de") or (count == 1 and fold_word(part[0]) in common):
            continue
        if count > 1 or len(fold_word(part[0])) > 2:
            found.append((fold_name(" ".join(part)), 0.8, case_of(part)))
    if len(words) == 1 and (match := re.fullmatch(r"(\w*[a-z]{3,})(?:Co|Corp|Tech)", words[0])):
        found.append((fold_word(match[1]), 0.8, "capital"))
    for word in words[1:]:
        if len(word) > 3 and fold_word(word) not in common:
            found.append((fold_word(word), 0.6, "capital"))
    return found


def _initials(words: Sequence[str]) -> list[tuple[str, float, Case]]:
    """Return initials (AMD, P&G, JnJ) and, of two words, blends of their beginnings (AMEX, FedEx)."""
    names = [fold_word(word) for word in words if word.lower() not in CONNECTIVES]
    if len(names) < 2:
        return []
    has_connective = len(names) < len(words)
    letters = [name[0] for name in names if name]
    found: list[tuple[str, float, Case]] = [("".join(letters), 0.8 if len(letters) > 2 or has_connective else 0.5, "upper")]
    if has_connective and len(letters) == 2:
        found.append(("n".join(letters), 0.8, "capital"))
    if len(names) == 2:
        blends = {names[0][:first] + names[1][:second] for first in (2, 3, 4) for second in (2, 3, 4)}
        found += [(blend, 0.5, "capital") for blend in sorted(blends - read_common_words()) if len(blend) > 3]
    return found


def read_aliases(cover: str, registrants: Sequence[str], company: str, names: Names) -> str | None:
    """Return the names of a cover that do not follow from the company's, joined by '|': registered, former, ticker.

    None where there are none.
    """
    known = {alias.key for alias in aliases_of(company, names) if alias.strength > 0.8} if company else set()
    former = [match[1].strip(" .") for match in names.former.finditer(cover[:6000])]
    matches = sorted((match.start(), match[1]) for ticker in names.tickers for match in ticker.finditer(cover[:12000]))
    tickers = [symbol for _, symbol in matches if symbol and is_symbol(symbol, names)]
    found: dict[str, str] = {}
    for name in [*registrants[:1], *former[:2], *tickers[:2]]:
        key = fold_name(" ".join(split_name(name, names)))
        if len(key) > 1 and key not in known:
            found.setdefault(key, name.replace("|", " "))
    return "|".join(found.values()) or None


def find_company(cover: str, is_filing: bool, names: Names) -> str | None:
    """Return who a cover is of where no line says 'Exact name of registrant' below the name; None where it is not told.

    Looks for a row of a table of registrants and a line that ends with a legal form, both in filings only, and for the
    headline of a release: 'Acme Reports Second-Quarter Results'.
    """
    top = cover[:6000]
    if is_filing and (match := names.row.search(top)):
        return _cut_row(match[1], names)
    lines = [line.strip() for line in top.split("\n")[:60]] if is_filing else []
    named = (name for line in lines if 3 < len(line) <= 60 and not names.unless.search(line)
             if (name := strip_legal(line, names)) != line.rstrip(" .,"))
    match = names.headline.search(top[:2000])
    return next(named, strip_legal(match[1], names) if match else None)


def _cut_row(row: str, names: Names) -> str:
    """Return the name of a row such as 'ACME ENERGY CORPORATION Delaware': up to its legal form, else without the state."""
    words = row.split("(")[0].split()
    legal = (place for place, word in enumerate(words) if place and fold_word(word) in names.legal)
    end = next(legal, len(words) - (len(words) > 1 and words[-1].istitle()))
    return strip_legal(" ".join(words[:end]), names)


def strip_legal(name: str, names: Names) -> str:
    """Return a name as it is written, without the legal form behind it."""
    name = name.strip(" .,")
    while (match := re.search(r"[\s,]+([\w.]+|&)$", name)) and (match[1] == "&" or fold_word(match[1]) in names.legal):
        name = name[: match.start()].strip(" .,")
    return name


def is_symbol(text: str, names: Names) -> bool:
    """Tell whether a text may be a ticker: two to five capitals that are no term or stock exchange."""
    return bool(re.fullmatch(r"[A-Z]{2,5}", text)) and text not in names.terms
