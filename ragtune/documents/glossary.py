"""A glossary learned from documents: abbreviations, definitions, and rows of two names that share their amounts."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from ragtune.documents.packparts import plain_label
from ragtune.documents.statements import parse_row
from ragtune.records import Document

_REST = r"[\w'’&-]*"
_WORD = rf"[A-Za-z]{_REST}"
_FEW_DOCUMENTS = 5
_SHORT = re.compile(rf"((?:{_WORD}[ -]){{1,6}}{_WORD})\s+\(([A-Z][A-Za-z&]{{1,7}})\)")
_DEFINED = re.compile(
    rf"[\"“]?\b([A-Z]{_REST}(?: {_WORD}){{0,4}})[\"”]?,? (?:means|is defined as|refers to|denotes) (?:an? |the )?"
    rf"([a-z]{_REST}(?: {_WORD}){{1,6}})")


def learn_glossary(documents: Sequence[Document]) -> list[tuple[tuple[str, ...], str]]:
    """Return (names of one thing, where that was learned): abbreviations, definitions, rows that share their amounts.

    Rows count where their amounts are equal in number and value, two or more of three digits or more, and no third label
    shares them. A definition that is not quoted and begins, or whose meaning begins, with a function word ("This means
    that ...") is none.
    """
    function_words = find_function_words(documents)
    found: dict[tuple[str, ...], str] = {}
    for document in documents:
        text = " ".join(document.text.split())
        for match in _SHORT.finditer(text):
            long = _long_form(match[1], match[2])
            if long:
                found.setdefault((match[2], long), f"'{long} ({match[2]})' in {document.name}")
        for match in _DEFINED.finditer(text):
            begins = {match[1].split()[0].lower(), match[2].split()[0].lower()}
            if match[0][0] in "\"“" or not begins & function_words:
                found.setdefault((match[1], match[2]), f"defined in {document.name}")
        rows: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
        for line in document.text.splitlines():
            row = parse_row(line)
            if row and len(row.amounts) > 1 and all(len(re.sub(r"\D", "", amount)) > 2 for amount in row.amounts):
                rows[row.amounts].setdefault(plain_label(row.label).lower(), row.label)
        for labels in rows.values():
            if len(labels) == 2 and all(3 < len(label) < 60 for label in labels):
                found.setdefault(tuple(labels.values()), f"rows of the same amounts in {document.name}")
    once: dict[str, tuple[tuple[str, ...], str]] = {}
    for names, source in found.items():
        once.setdefault(names[0].lower(), (names, source))
    return list(once.values())


def find_function_words(documents: Sequence[Document]) -> frozenset[str]:
    """Return the short words, up to four letters, that stand in nine of ten documents; none where documents are too few.

    Told from the documents, so that it holds in any language: what is short and everywhere names nothing.
    """
    if len(documents) < _FEW_DOCUMENTS:
        return frozenset()
    counts = Counter(word for document in documents for word in set(re.findall(r"\b[^\W\d_]{1,4}\b", document.text.lower())))
    return frozenset(word for word, count in counts.items() if count >= 0.9 * len(documents))


def _long_form(words: str, short: str) -> str:
    """Return the last of the words whose initials are the abbreviation, '' where they are not."""
    letters = [letter.lower() for letter in short if letter.isalpha()]
    parts = re.split(r"[ -]", words)
    for size in range(len(letters), len(letters) + 3):
        last = parts[-size:]
        initials = [part[0].lower() for part in last if part.lower() not in ("and", "of", "the", "for", "&")]
        if initials == letters and len(last) == min(size, len(parts)):
            return words[-len(" ".join(last)):].strip()
    return ""
