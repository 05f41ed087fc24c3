"""A glossary learned from documents: abbreviations, definitions, and rows of two names that share their amounts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from ragtune.documents.packparts import plain_label
from ragtune.documents.statements import parse_row
from ragtune.records import Document

_REST = r"[\w'’&-]*"
_WORD = rf"[A-Za-z]{_REST}"
_SHORT = re.compile(rf"((?:{_WORD}[ -]){{1,6}}{_WORD})\s+\(([A-Z][A-Za-z&]{{1,7}})\)")
_DEFINED = re.compile(
    rf"[\"“]?\b([A-Z]{_REST}(?: {_WORD}){{0,4}})[\"”]?,? (?:means|is defined as|refers to|denotes) (?:an? |the )?"
    rf"([a-z]{_REST}(?: {_WORD}){{1,6}})")


def learn_glossary(documents: Sequence[Document]) -> list[tuple[tuple[str, ...], str]]:
    """Return (names of one thing, where that was learned): abbreviations, definitions, rows that share their amounts.

    Rows count where their amounts are equal in number and value, two or more of three digits or more, and no third label
    shares them.
    """
    found: dict[tuple[str, ...], str] = {}
    for document in documents:
        text = " ".join(document.text.split())
        for match in _SHORT.finditer(text):
            long = _long_form(match[1], match[2])
            if long:
                found.setdefault((match[2], long), f"'{long} ({match[2]})' in {document.name}")
        for match in _DEFINED.finditer(text):
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
