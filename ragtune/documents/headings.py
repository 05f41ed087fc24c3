"""Headings of a document that is only text: which lines are headings, what they stand under, what is a contents page.

No layout is left in the text of a page, so a heading is known by its form (``Item 7``, ``3.2 Configuring``, capitals, a
short line in title case) together with its place: it stands alone between sentences, not in a table, a contents page or a
running head. Works line by line for any domain; only SECTION names the parts of one kind of document.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ragtune.documents.pack import PackPattern
from ragtune.documents.statements import Head, parse_columns, parse_row, parse_unit

SECTION = re.compile(r"^(?P<word>PART|ITEM|Part|Item)\s+(?P<number>[IVX\d]+[A-C]?)\b(?P<rest>.*)$")
_MARKDOWN = re.compile(r"^(?P<marks>#{1,6})\s+(?P<title>\S.*?)\s*#*$")
_NAMED = re.compile(r"^(?P<word>Note|Chapter|Section|Article|Appendix|Annex|Schedule|Exhibit)\s+"
                    r"(?P<number>\d{1,3}(?:\.\d{1,3})*|[IVX]{1,5}|[A-Z])(?![\w-])(?P<rest>.*)$", re.IGNORECASE)
_OF_PACK = PackPattern(lambda pack: pack.heading)
_NUMBERED = re.compile(r"^(?P<number>\d{1,2}(?:\.\d{1,3}){0,4})\.?\s+(?P<title>[^\W\d_].*)$")
_CONTINUED = re.compile(r"\W*\b(?:continued|cont[’'.]d)\b\W*$", re.IGNORECASE)
_HANGING = re.compile(r"(?:\b(?:of|and|or|the|a|an|for|in|to|on|with|by|from|at|as|its|our|their)|[,&])$", re.IGNORECASE)
SMALL_WORDS = frozenset(
    "of and or the a an for in to on with by from at as its our their vs per over under into than".split())
_ENTRY = re.compile(r"^(?=.*[^\W\d_]{2})(?P<title>.*?[^\s.…·_])[\s.…·_]*(?:\s|[.…·_]|(?<=[a-z)]))"
                    r"(?:[Pp]ages? )?(?P<page>(?:[A-Z]{1,2}-?)?\d{1,4})(?:\s?[-–]\s?\d{1,4})?$")
_LEVELS = {"part": 0, "exhibit": 0, "item": 1, "chapter": 1, "appendix": 1, "annex": 1, "note": 2, "article": 2}
_CAPITALS, _NAMED_LEVEL, _TITLE, _SENTENCE = 2, 3, 8, 9  # a numbered heading stands at 2 + the numbers it has
_MOST_PARTS, _MOST_LETTERS, _MOST_LINE = 3, 90, 160
SEPARATOR = " > "
"""What stands between the parts of a heading path."""


@dataclass(frozen=True)
class Heading:
    """A heading: where its line begins in the document's text, its words, and its level (a smaller one holds a larger)."""

    start: int
    text: str
    level: int
    path: str = ""


def is_contents(text: str) -> bool:
    """Tell whether a page is a table of contents or an index: mostly lines that end in page numbers which rise."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    sections = sum(bool(SECTION.match(line) or _NAMED.match(line)) and len(line) < 130 for line in lines)
    if sections >= 8 and sections >= 0.4 * len(lines):
        return True
    entries = [match for match in map(parse_entry, lines) if match]
    if len(entries) < 5 or len(entries) < 0.4 * len(lines):
        return False
    pages = [int(re.sub(r"\D", "", match["page"])) for match in entries]
    rising = sum(later >= earlier for earlier, later in itertools.pairwise(pages))
    return rising >= 0.8 * (len(pages) - 1) and len(set(pages)) >= min(4, len(pages) // 2)


def parse_entry(line: str) -> re.Match[str] | None:
    """Return the match of a line of a table of contents (``title``, ``page``), None for any other line."""
    match = _ENTRY.match(line) if line[-1:].isdigit() and len(line) < 250 else None
    if match is None or re.search(r"[$€£%]|\d[\d,.)]*$", match["title"]):
        return None
    return match


def find_headings(pages: Sequence[str]) -> list[Heading]:
    """Return the headings of a document's pages, in reading order; ``start`` counts in the pages joined by a form feed.

    ``path`` names the heading and those above it, at most three: the topmost and the last two.
    """
    running, seen = _running_heads(pages), set[str]()
    marks = _count_marks(pages)
    is_fenced = False
    is_itemised = sum(bool(SECTION.match(line)) for page in pages for line in page.split("\n")) >= 8
    stack: list[Heading] = []
    found: list[Heading] = []
    start = 0
    for number, page in enumerate(pages):
        lines = page.split("\n")
        view = _View(lines, number == 0 and len(pages) > 3, marks, is_itemised)
        is_listing = is_contents(page)
        added: int | None = None
        for place, line in enumerate(lines):
            view.in_note = any(above.level == _CAPITALS and _NAMED.match(above.text) for above in stack)
            is_fence = line.lstrip().startswith(("```", "~~~"))
            is_fenced = is_fenced != is_fence
            heading = None if is_listing or is_fenced or is_fence else view.heading_at(place)
            if heading:
                text, level = heading
                key = text.lower()
                is_name = key in running and not running[key] and not is_prose(view.near(place, 1))  # of a company
                is_repeated = key in running and (key in seen or is_name)
                if not is_repeated and text and key not in (above.text.lower() for above in stack):
                    seen.add(key)
                    if added is not None and added == view.last and view.follows(place) and found[-1].level == level > 1:
                        level += 1  # a heading directly under another of its kind
                    added = place
                    stack = [above for above in stack if above.level < level]
                    stack.append(Heading(start, text[:_MOST_LETTERS].strip(), level))
                    found.append(Heading(start, text, level, _path(stack)))
                view.last = place
            start += len(line) + 1
    return found


def _count_marks(pages: Sequence[str]) -> int:
    """Return how many headings Markdown's ``#`` marks, 0 where it begins the comments of a program.

    Where there are two or more, no other line of the document is a heading.
    """
    titles: list[str] = []
    is_fenced = False
    for line in itertools.chain.from_iterable(page.split("\n") for page in pages):
        is_fenced = is_fenced != line.lstrip().startswith(("```", "~~~"))
        if line[:1] == "#" and not is_fenced and (match := _MARKDOWN.match(line[:_MOST_LINE])):
            titles.append(match["title"])
    likely = [title for title in titles if not title[0].islower() and title[-1] not in ".,;"]
    return len(set(likely)) if len(likely) >= 0.8 * len(titles) else 0


def _running_heads(pages: Sequence[str]) -> dict[str, bool]:
    """Return the lines at the ends of four pages or more, with different lines below -> whether one says ``continued``.

    Those that do are headings where they first stand; of the others only those above a sentence are, no company's name.
    The title of a statement can stand on four pages, too, but the same line stands below it.
    """
    counts: Counter[str] = Counter()
    below: dict[str, set[str]] = {}
    continued: set[str] = set()
    for page in pages:
        lines = [] if is_contents(page) else [line.strip() for line in page.split("\n") if line.strip()]
        places = {0, 1, 2, len(lines) - 2, len(lines) - 1} if len(lines) > 3 else {0} if lines else set()
        for place in places:
            line = lines[place]
            key = _bare(line).lower()
            counts[key] += 1
            following = lines[place + 1].lower() if place + 1 < len(lines) else str(len(below))
            below.setdefault(key, set()).add(following if _CONTINUED.search(following[-20:]) else following[:12])
            if key != line.lower():
                continued.add(key)
    return {key: key in continued for key, count in counts.items()
            if count >= 4 and (len(below[key]) > 2 or key in continued or any(map(_CONTINUED.search, below[key])))}


def _bare(line: str) -> str:
    """Return a line without white space at its ends and without a last ``(continued)``."""
    line = line.strip()
    return _CONTINUED.sub("", line) if len(line) < _MOST_LINE and "cont" in line[-15:].lower() else line


def _path(stack: Sequence[Heading]) -> str:
    """Return the words of a heading and those above it; a ``Part II`` is left out where more is known."""
    parts = [heading.text for heading in stack if len(stack) == 1 or not re.match(r"part\b", heading.text, re.IGNORECASE)]
    return SEPARATOR.join(parts if len(parts) <= _MOST_PARTS else [parts[0], *parts[1 - _MOST_PARTS :]])


class _View:
    """A page as lines, and what a line's neighbours say about it."""

    def __init__(self, lines: list[str], is_cover: bool, marks: int, is_itemised: bool) -> None:
        self.lines = [_bare(line) for line in lines]
        self.filled = [place for place, line in enumerate(self.lines) if line]
        self.rank = {place: rank for rank, place in enumerate(self.filled)}
        lengths = sorted(len(self.lines[place]) for place in self.filled)
        self.width = lengths[len(lengths) * 4 // 5] if lengths else 0
        self.is_cover = is_cover
        self.marks = marks
        self.is_itemised = is_itemised
        self.last: int | None = None  # the place of the last heading
        self.in_note = False  # whether that stands below a named heading such as Note 5

    def near(self, place: int, steps: int) -> str:
        """Return the line so many filled lines away, empty where there is none."""
        rank = self.rank[place] + steps
        return self.lines[self.filled[rank]] if 0 <= rank < len(self.filled) else ""

    def follows(self, place: int) -> bool:
        """Tell whether only white space parts a line from the last heading."""
        return self.last is not None and self.rank[place] == self.rank[self.last] + 1

    def heading_at(self, place: int) -> tuple[str, int] | None:
        """Return a line's words and level if it is a heading, its second line joined to it."""
        line = self.lines[place]
        if not 3 <= len(line) <= _MOST_LINE or (self.last == place - 1 and self._is_joined(place - 1)):
            return None
        read = self._read(place, line)
        if read and self._is_joined(place):
            return f"{line} {self.near(place, 1)}", read[1]
        return read

    def _is_joined(self, place: int) -> bool:
        """Tell whether a heading goes on in the next line, because it ends in a word such as ``of`` or is a bare number."""
        line, following = self.lines[place], self.lines[place + 1] if place + 1 < len(self.lines) else ""
        match = SECTION.match(line) or _NAMED.match(line)
        is_bare = match is not None and match["word"].lower() != "exhibit" and not re.search(r"\w", match["rest"])
        if SECTION.match(following) or _NAMED.match(following):
            return False
        return bool(_HANGING.search(line) or is_bare) and 0 < len(following) < 100 and (
            has_title_case(following) and following.isupper() >= line.isupper() and not following.endswith((".", ",")))

    def _read(self, place: int, line: str) -> tuple[str, int] | None:
        """Return (words, level) of a heading by its form and place, else None."""
        if self.marks and (match := _MARKDOWN.match(line)):
            return match["title"], len(match["marks"])
        if self.marks > 1 or is_prose(line) or parse_entry(line) or line.count(")") > line.count("("):
            return None
        if not (SECTION.match(line) or _NAMED.match(line)) and (own := _OF_PACK.match(line)):
            return (own["item"], _LEVELS["item"]) if own["item"] else None
        named = SECTION.match(line) or _NAMED.match(line)
        if (named or line[0].isdigit()) and self._cuts_sentence(place):
            return None
        if named and line[0].isupper():
            read = self._read_named(place, line, named)
            if read or named["rest"].lstrip(" .:–—-)")[:1].islower():
                return read
        if line.endswith((",", ";", ":", ".")) or re.search(r"/s/|@|https?:|[•■●$€£%☐☒_=*{}<>|\\#]", line):
            return None
        if match := _NUMBERED.match(line):
            return self._read_numbered(place, line, match)
        if self.is_cover or not line[0].isalpha() or self._is_in_table(place, line):
            return None
        return self._read_plain(place, line)

    def _cuts_sentence(self, place: int) -> bool:
        """Tell whether the line above is an unfinished sentence, so that this one goes on with it."""
        before = self.near(place, -1) if self.lines[place - 1] else ""
        return is_prose(before) and not re.search(r"[.:;!?)”\"]$", before)

    def _read_named(self, place: int, line: str, match: re.Match[str]) -> tuple[str, int] | None:
        """Read ``Item 7. Discussion``, ``Note 12 - Debt``, ``Chapter 3``; ``Note 12 of this report`` is a sentence."""
        mark, title = re.match(r"\s*([.:)—–-]*)\s*(.*)$", match["rest"]).groups()  # type: ignore[union-attr]
        word = match["word"].lower()
        if title[:1].islower() or re.search(r"\b(?:item|note|part)\s+[\dIVX]", title, re.IGNORECASE):
            return None
        if title and not mark and self.is_itemised and word in ("chapter", "section", "appendix", "annex"):
            return None  # Chapter 11 proceedings
        if (title and not (has_title_case(title) or (mark and title[0].isupper() and len(title) < 90))) or len(line) > 130:
            return None
        if word in ("part", "exhibit", "schedule") and ((title and not mark) or (self.rank[place] > 2 and word != "part")):
            return None
        if not title and not mark and word not in ("part", "item", "chapter", "appendix", "annex") and self.rank[place] > 2:
            return None
        return line, _LEVELS.get(word, _NAMED_LEVEL)

    def _read_numbered(self, place: int, line: str, match: re.Match[str]) -> tuple[str, int] | None:
        """Read ``3.2 Configuring`` and ``5. PROPERTY``; neighbours with the next number are a list's items."""
        depth, title = match["number"].count(".") + 1, match["title"]
        following = self.near(place, 1)
        if not title[0].isupper() or len(title.split()) > 9 or parse_row(line) or following[:1].islower():
            return None
        if depth > 1 and (".0" in match["number"] or re.search(r"\d{3}|\d/\d", title)):
            return None  # an entry of a list of documents
        if depth == 1 and (int(match["number"]) > 40 or re.match(r"[\d($]", self.near(place, -1))):
            return None
        if depth == 1 and not title.isupper():
            is_listed = bool(_NUMBERED.match(following))
            if is_listed or len(title) > 70 or not (has_title_case(title) or is_prose(following)):
                return None
        return line, 2 + depth

    def _is_in_table(self, place: int, line: str) -> bool:
        """Tell whether a line is the label or head of a table: rows around it, or a table's head above it."""
        before, after = self.near(place, -1), self.near(place, 1)
        above = Head().after(before)
        if parse_row(line) or Head().after(line).dates or parse_columns(line) or parse_unit(line):
            return True
        if bool(above.dates) or above.columns or (above.unit and not is_prose(before)):
            return True
        return bool(parse_row(after) and (parse_row(before) or not parse_columns(after))) or (
            parse_row(before) is not None and not (is_prose(after) and len(after) > 75))

    def _read_plain(self, place: int, line: str) -> tuple[str, int] | None:
        """Read capitals, title case and a short line between sentences."""
        before, after, rank = self.near(place, -1), self.near(place, 1), self.rank[place]
        is_after_end = bool(re.search(r"[.!?:;)”\"]$", before)) or parse_row(before) is not None
        is_free = rank < 3 or not self.lines[place - 1] or self.follows(place) or is_after_end
        words = line.split()
        if not is_free or len(words) > 14 or (before.endswith(":") and is_prose(before)):
            return None
        before_text = is_prose(after) and not after[0].islower()
        later = self.near(place, 2)
        before_heading = has_title_case(after) and len(after) < 80 and (is_prose(later) or bool(parse_unit(later)))
        heads = [self.near(place, step) for step in (1, 2, 3)]
        before_table = any(parse_columns(text) or parse_unit(text) or (rank < 3 and Head().after(text).dates)
                           for text in heads if text)
        if line.isupper() and len(re.findall(r"[^\W\d_]", line)) >= 4:
            is_title = before_text or before_heading or (before_table and (rank < 4 or is_prose(before)))
            level = _CAPITALS + (rank > 2 and self.in_note)  # within a note, below its title
            return (line, level) if is_title else None
        if has_title_case(line) and len(line) <= 100:
            is_title = before_text or before_heading or (before_table and (rank < 3 or is_prose(before)) and len(words) > 1)
            return (line, _CAPITALS if before_table and not before_text and rank < 3 else _TITLE) if is_title else None
        is_short = len(line) < 0.6 * self.width and 2 <= len(words) <= 9 and line[0].isupper() and not _HANGING.search(line)
        is_between = rank > 0 and (not self.lines[place - 1] or self.follows(place) or is_prose(before))
        return (line, _SENTENCE) if is_short and before_text and is_between and re.search(r"[.:]$|^$", before) else None


def has_title_case(text: str) -> bool:
    """Tell whether all words but small ones begin with a capital and one of them has three letters."""
    words = [word for word in re.findall(r"[^\W\d_][\w’'&/.-]*", text) if word.lower() not in SMALL_WORDS]
    return bool(words) and all(word[0].isupper() for word in words) and any(len(word) > 2 for word in words)


def is_prose(line: str) -> bool:
    """Tell whether a line reads as a piece of a sentence: long, several words of small letters, no row of a table."""
    if len(line) < 45:
        return False
    words = line.split()
    small = sum(map(str.islower, words))
    if small < 4 or small < 0.4 * len(words):
        return False
    return line[-1:] in ".,;" or (parse_row(line) is None and not parse_columns(line))
