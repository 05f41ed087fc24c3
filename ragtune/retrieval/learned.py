"""A glossary learned from the documents: labels whose rows hold the same amounts in one filing, and ``X (Y)`` abbreviations.

The summary of a filing says ``Capital expenditures 1,577 1,373`` where its cash flow statement says ``Purchases of property,
plant and equipment 1,577 1,373``: two rows that share their amounts name one thing. Abbreviations are found as by Schwartz
and Hearst, "A simple algorithm for identifying abbreviation definitions in biomedical text", PSB 2003.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path

from ragtune.documents.statements import parse_row
from ragtune.errors import IndexFolderError
from ragtune.files import write_json
from ragtune.records import Document
from ragtune.retrieval.index import Index
from ragtune.retrieval.lexical import tokenise
from ragtune.seams import Progress

log = logging.getLogger(__name__)
MIN_DOCUMENTS = 2  # filings that must show a pair: one filing's coincidence is no wording
MAX_PHRASES = 4  # other wordings kept for one
_MIN_DIGITS = 7  # of the two amounts together; smaller ones agree by chance
_SHORT = re.compile(r"\(([A-Z][A-Za-z&-]{1,7})\)")
_SMALL = frozenset(("and", "of", "the", "for", "in", "on", "to", "or", "&"))
_LABEL = re.compile(r"[a-z][a-z&/' -]*[a-z]")


class Glossary:
    """Wordings by wording; finds those that a question uses, endings aside."""

    def __init__(self, entries: Mapping[str, Sequence[str]]) -> None:
        self.entries = {name: tuple(others) for name, others in entries.items()}

    @cached_property
    def by_stems(self) -> dict[tuple[str, ...], list[str]]:
        """Stems of a wording -> its entries' other wordings."""
        found: dict[tuple[str, ...], list[str]] = {}
        for name, others in self.entries.items():
            stems = tuple(tokenise(name))
            if stems:
                found.setdefault(stems, []).extend(others)
        return found

    def expand(self, question: str, most: int = 6) -> tuple[str, ...]:
        """Return the other wordings of what a question names, longest names first, at most ``most``."""
        stems, taken, phrases = tokenise(question), set[int](), dict[str, None]()
        longest = max(map(len, self.by_stems), default=0)
        for length in range(min(longest, len(stems)), 0, -1):
            for start in range(len(stems) - length + 1):
                span = set(range(start, start + length))
                others = self.by_stems.get(tuple(stems[start : start + length]))
                if others and not span & taken:
                    taken |= span
                    phrases.update(dict.fromkeys(others))
        return tuple(phrases)[:most]


def build_learned(
    index: Index, documents: Collection[str] | None = None, progress: Progress | None = None
) -> dict[str, tuple[str, ...]]:
    """Return wording -> other wordings, the most frequent first, learned from all documents of an index or those named.

    A pair counts once a document and must stand in MIN_DOCUMENTS of them.
    """
    names = [d.name for d in index.documents() if documents is None or d.name in documents]
    counts: Counter[tuple[str, str]] = Counter()
    for number, name in enumerate(names, start=1):
        document = index.document(name)
        counts.update(set(same_rows(document)) | set(abbreviations(document)))
        if progress:
            progress(number, len(names))
    learned: dict[str, list[str]] = {}
    for (one, other), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if count >= MIN_DOCUMENTS:
            for name, wording in ((one, other), (other, one)):
                if len(learned.setdefault(name, [])) < MAX_PHRASES:
                    learned[name].append(wording)
    return {name: tuple(others) for name, others in sorted(learned.items())}


def same_rows(document: Document) -> Iterator[tuple[str, str]]:
    """Yield pairs of labels, in alphabetical order, whose rows begin with the same two amounts on different pages.

    On one page such rows are a total and its only part, or two sides of a balance, and not two wordings.
    """
    labels: dict[tuple[str, str], dict[tuple[str, ...], tuple[str, set[int]]]] = {}
    for page in document.pages:
        for line in page.text.split("\n"):
            row = parse_row(line)
            amounts = [re.sub(r"[(),%]", "", amount) for amount in row.amounts[:2]] if row else []
            if row is None or len(set(amounts)) < 2 or sum(map(len, amounts)) < _MIN_DIGITS or "%" in line:
                continue
            label = plain_label(row.label)
            if label:
                rows = labels.setdefault((amounts[0], amounts[1]), {})
                rows.setdefault(tuple(sorted(set(tokenise(label)))), (label, set()))[1].add(page.number)
    for found in labels.values():
        # More than a few labels for two amounts is a table of its own kind (a schedule of subsidiaries), not a wording.
        for (stems, (one, on)), (others, (other, at)) in combinations(sorted(found.items()) if len(found) <= 4 else [], 2):
            if stems and others and not on & at and not (set(stems) <= set(others) or set(others) <= set(stems)):
                yield min(one, other), max(one, other)


def plain_label(label: str) -> str:
    """Return a label in small letters without remarks and footnote marks, '' where no plain words are left."""
    bare = re.sub(r"\s*\([^()]*\)|[*†:]|\s*\(.*$", "", label.replace("’", "'").lower().replace(",", ""))
    bare = re.sub(r"\s+", " ", bare).strip(" -—–.")
    return bare if 3 <= len(bare) <= 70 and _LABEL.fullmatch(bare) else ""


def abbreviations(document: Document) -> Iterator[tuple[str, str]]:
    """Yield (short form, long form) in small letters, in alphabetical order, of each ``long form (SF)``."""
    for page in document.pages:
        text = re.sub(r"\s+", " ", page.text)
        for match in _SHORT.finditer(text):
            words = re.findall(r"[A-Za-z&,'’/-]+", text[max(0, match.start() - 120) : match.start()])
            long = long_form(match[1], words[-min(len(match[1]) + 5, 2 * len(match[1])):])
            if long:
                yield min(match[1].lower(), long), max(match[1].lower(), long)


def long_form(short: str, words: Sequence[str]) -> str:
    """Return the last words that spell a short form: by their first letters, else by letters within; '' where none do."""
    letters = [letter for letter in short.lower() if letter.isalnum()]
    found = _by_initials(letters, words) or _by_letters(letters, " ".join(words).lower())
    found = re.sub(r"[,\s]+", " ", found).strip().lower()
    return found if " " in found and len(found) <= 70 and short.lower() not in found.split() else ""


def _by_initials(letters: Sequence[str], words: Sequence[str]) -> str:
    """Return the last words whose initials are the letters; small words need not count."""
    left, first = list(letters), len(words)
    while left and first:
        word = words[first - 1].lower()
        if word.startswith(left[-1]):
            left.pop()
        elif word not in _SMALL:
            return ""
        first -= 1
    return " ".join(words[first:]) if not left else ""


def _by_letters(letters: Sequence[str], text: str) -> str:
    """Return the end of a text that holds the letters, matched from the right, the first one at the start of a word."""
    place = len(text)
    for position in range(len(letters) - 1, -1, -1):
        place -= 1
        while place >= 0 and not (text[place] == letters[position]
                                  and (position or place == 0 or not text[place - 1].isalnum())):
            place -= 1
        if place < 0:
            return ""
    return text[place:]


def learned_file(folder: Path) -> Path:
    """Return where the learned glossary of an index folder lies: beside it."""
    return folder.with_name(folder.name + ".learned.json")


def save_learned(index: Index, entries: Mapping[str, Iterable[str]]) -> Path:
    """Write the glossary beside the index, to be read and edited; return the file."""
    path = learned_file(index.folder)
    write_json(path, {"index": index.id, "entries": {name: list(others) for name, others in entries.items()}})
    return path


def open_learned(index: Index) -> Glossary:
    """Return the glossary beside an index, which may have been edited; where there is none, learn it first.

    Raises IndexFolderError for a damaged file.
    """
    path = learned_file(index.folder)
    if not path.is_file():
        log.warning("learning a glossary from %d documents, once; it is kept in %s", len(index.documents()), path)
        save_learned(index, build_learned(index))
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        entries = {str(name): tuple(map(str, others)) for name, others in kept["entries"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFolderError(f'{path} is no learned glossary ({error}). Wanted {{"entries": {{"name": ["other"]}}}}; '
                               "delete it to have it learned again.") from error
    if kept.get("index") != index.id:
        log.warning("%s was learned from another state of the documents; delete it to have it learned again", path)
    return Glossary(entries)
