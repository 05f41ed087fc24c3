"""Where things stand: the sections of a page."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from ragtune.documents.pack import Pack, current_pack
from ragtune.documents.packparts import Section, squeeze

CONTENTS = "table of contents"
"""The section that a page of contents is, where the pack has one of this name."""
_AMOUNT = re.compile(r"(?<![\w.])[$€£]?\(?\d{1,3}(?:,\d{3})*(?:\.\d+)?%?\)?$|[—–-]$")
_BEGINS = re.compile(r"[#(\[“\"\s]*[A-Z\d]")
_NUMBERED = 2
_TOP = 4  # a title in so many first lines is the page's own
_HANGS = re.compile(r"\b(?:of|and|the|for|in)$", re.IGNORECASE)  # a title that goes on in the next line
_PAGE_NUMBER = re.compile(r"[\s.…](\d{1,3})$")


def sections_of_page(text: str, pack: Pack | None = None) -> tuple[str, ...]:
    """Return the pack's sections that begin on a page or fill it, in the order of their titles.

    A title is a line of its own; prose that mentions it and lines of contents do not count, and a statement must show some
    of its rows below its title. A page of contents is only that.
    """
    pack = pack or current_pack()
    return tuple(dict.fromkeys(section.name for _, section, _ in _find_on_page(text.split("\n"), pack)))


def sections_of_pages(pages: Sequence[str], pack: Pack | None = None) -> list[tuple[str, ...]]:
    """Return for each page of a document the sections that begin on it, fill it or have lasted since an earlier page.

    Those it carries itself stand first. A section of level 1 or 2 lasts until the next of its level or above.
    """
    return [tuple(dict.fromkeys([*own, *lasting])) for own, lasting in follow_sections(pages, pack)]


def follow_sections(
    pages: Sequence[str], pack: Pack | None = None
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return for each page of a document the sections of its own, and those that have lasted since an earlier page."""
    pack = pack or current_pack()
    on_pages = [_find_on_page(text.split("\n"), pack) for text in pages]
    parts = [item for here in on_pages for item in here if item[1].entry.level == 1 and item[1].entry.items]
    is_numbered = sum(mark == _NUMBERED for _, _, mark in parts) >= 4  # then a bare 'Properties' is no Item 2
    lasting: dict[int, str] = {}
    found: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for here in on_pages:
        carried = list(lasting.values())
        for position, section, mark in here:
            before, level = lasting, section.entry.level
            begins = mark == _NUMBERED if is_numbered and level == 1 and section.entry.items else (
                mark > 0 or (level == 2 and 1 in lasting))
            if section.entry.is_table and position >= 0:
                lasting = {}
            elif level < 3 and begins and lasting.get(level) != section.name:
                lasting = {**{other: name for other, name in lasting.items() if other < level}, level: section.name}
            if lasting is not before and 0 <= position < _TOP:  # what ends with the first lines is not on this page
                carried = [name for name in carried if name in lasting.values()]
        own = tuple(dict.fromkeys(section.name for _, section, _ in here))
        found.append((own, tuple(name for name in dict.fromkeys(carried) if name not in own)))
    return found


def _find_on_page(lines: Sequence[str], pack: Pack) -> list[tuple[int, Section, int]]:
    """Return (line of its title or -1, section, how the title is marked: _NUMBERED, 1 by capitals or place, 0 not)."""
    squeezed = [squeeze(line) for line in lines]
    is_row = [bool(_AMOUNT.search(line.rstrip())) for line in lines]
    titles = _find_titles(lines, squeezed, is_row, pack)
    is_contents = _is_contents(lines, titles, pack)
    titles = {} if is_contents else titles
    found: list[tuple[int, Section, int]] = []
    first = [line for line in squeezed if line][:8]
    has_little_prose = sum(len(line) > 100 and not row for line, row in zip(lines, is_row)) < 2
    for section in pack.sections:
        entry = section.entry
        if entry.name == CONTENTS:
            found += [(-1, section, 0)] if is_contents else []
            continue
        if section.unless and any(section.unless.match(line) for line in first):
            continue
        places = [place for place, sections in titles.items() if section in sections
                  and (not entry.rows_needed
                       or _count_rows(section, squeezed[place + 1:], is_row[place + 1:]) >= entry.rows_needed)]
        if places:
            found.append((places[0], section, _mark(lines[places[0]].strip(), places[0], pack)))
        elif entry.rows_alone and not (is_contents and entry.is_table):
            is_dense = not entry.is_table or (has_little_prose and sum(is_row) >= 0.5 * sum(map(bool, squeezed)))
            if is_dense and _count_rows(section, squeezed, is_row) >= entry.rows_alone:
                found.append((-1, section, 0))
    if any(section.entry.is_table for _, section, _ in found):  # captions in a statement are no titles of notes
        found = [item for item in found if item[1].entry.is_table or item[1].entry.level == 1 or item[0] < 0]
    return sorted(found, key=lambda item: item[0])


def _count_rows(section: Section, squeezed: Sequence[str], is_row: Sequence[bool]) -> int:
    """Return how many different rows of a section begin the lines; those of a table must end with an amount."""
    lines = [line for line, row in zip(squeezed, is_row) if row] if section.entry.is_table else squeezed
    return sum(any(pattern.match(line) for line in lines) for pattern in section.rows)


def _find_titles(
    lines: Sequence[str], squeezed: Sequence[str], is_row: Sequence[bool], pack: Pack
) -> dict[int, tuple[Section, ...]]:
    """Return the lines that are titles -> the sections they may begin."""
    titles: dict[int, tuple[Section, ...]] = {}
    for place, line in enumerate(lines):
        bare = line.strip()
        if bare and not is_row[place] and _may_be_title(bare):
            hangs = len(bare) <= 60 and _HANGS.search(bare) and place + 1 < len(lines) and not is_row[place + 1]
            sections = _sections_titled(squeezed[place] + (squeezed[place + 1][:100] if hangs else ""), pack)
            if sections:
                titles[place] = sections
    return titles


def _may_be_title(line: str) -> bool:
    """Tell cheaply whether a line can be a title: short, or longer and numbered or mostly of words with capitals."""
    if len(line) > 150 or not _BEGINS.match(line) or line.endswith((",", ";")):
        return False
    if len(line) <= 60:
        return True
    words = [word for word in line.split() if len(word) > 3]
    return sum(not word[0].islower() for word in words) >= 0.75 * len(words)


@lru_cache(maxsize=20_000)
def _sections_titled(title: str, pack: Pack) -> tuple[Section, ...]:
    """Return the sections that a squeezed line may be the title of, whatever stands before and behind it."""
    title = title.lstrip("#")
    shorter = [title]
    while pack.suffix and (match := pack.suffix.search(title)) and match.start():
        title = title[: match.start()]
        shorter.append(title)
    cores = list(shorter)
    for core in shorter:
        while pack.prefix and (match := pack.prefix.match(core)) and 0 < match.end() < len(core):
            core = core[match.end():]
            cores.append(core)
    return tuple(section for section in pack.sections
                 if section.headings and any(section.headings.fullmatch(core) for core in cores))


def _mark(line: str, place: int, pack: Pack) -> int:
    """Return whether a title is marked as one: _NUMBERED by its number or as Markdown, 1 by capitals or place, else 0."""
    if line.startswith("#") or (pack.numbered and pack.numbered.fullmatch(line)):
        return _NUMBERED
    letters = [letter for letter in line if letter.isalpha()]
    is_upper = sum(map(str.isupper, letters)) > 0.8 * len(letters)
    return int(place < _TOP or is_upper or bool(re.match(r"\W*[A-Za-z]*\s*\d", line)))


def _is_contents(lines: Sequence[str], titles: Mapping[int, tuple[Section, ...]], pack: Pack) -> bool:
    """Tell a page of contents: its lines end with growing page numbers, or are titles and numbered headings for the most."""
    filled = [line.strip() for line in lines if line.strip()]
    numbers = [int(match[1]) for line in filled if len(line) < 200 and (match := _PAGE_NUMBER.search(line[-12:]))]
    growing = sum(a <= b for a, b in itertools.pairwise(numbers))
    if len(numbers) >= 6 and len(numbers) >= 0.5 * len(filled) and growing >= 0.85 * (len(numbers) - 1):
        return True
    is_item = [bool(pack.numbered and pack.numbered.fullmatch(line.strip())) for line in lines]
    known = sum(is_item[place] or place in titles for place in range(len(lines)))
    return known >= 6 and known >= 0.4 * len(filled)
