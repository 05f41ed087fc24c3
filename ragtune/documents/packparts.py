"""The entries of a domain pack as code uses them: their patterns compiled, each when first needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ragtune.documents.packfile import (
    AnswerRules,
    FactRules,
    MeasureEntry,
    NameRules,
    ReportEntry,
    SectionEntry,
    TableRules,
    TopicEntry,
)


@dataclass(frozen=True)
class Term:
    """A line item: its names in questions ('*' marks a plural) and a pattern of its labels in statements."""

    names: tuple[str, ...]
    labels: str
    sections: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @cached_property
    def asked(self) -> re.Pattern[str]:
        """Pattern of the names within a question."""
        return _named(self.names)

    @cached_property
    def labelled(self) -> re.Pattern[str]:
        """Pattern of a whole label."""
        return re.compile(self.labels, re.IGNORECASE)

    def names_row(self, label: str) -> bool:
        """Whether a statement's label is this line item; remarks in parentheses and footnote marks aside."""
        return bool(self.labelled.fullmatch(plain_label(label)))


@dataclass(frozen=True)
class Measure:
    """What is worked out from several line items."""

    entry: MeasureEntry
    terms: tuple[Term, ...]

    @cached_property
    def asked(self) -> re.Pattern[str]:
        """Pattern of the names within a question."""
        return _named(self.entry.names)

    @cached_property
    def asked_loosely(self) -> re.Pattern[str]:
        """Pattern of the names within a question, in the plural too."""
        return _named(self.entry.names, "s?")


def _named(names: Iterable[str], ending: str = "") -> re.Pattern[str]:
    """Return the pattern of names within a question, the longest first."""
    ordered = sorted((name.rstrip("*") for name in names), key=len, reverse=True)
    words = "|".join(re.escape(name).replace(r"\ ", r"\s+").replace("'", "['’]") for name in ordered)
    return re.compile(rf"(?<![\w&-])(?:{words}){ending}(?![\w&-])", re.IGNORECASE)


def plain_label(label: str) -> str:
    """Return a row's label without remarks in parentheses, footnote marks and punctuation around it."""
    bare = re.sub(r"\s*\([^()]*\)|\s*\*+$", "", label.replace("’", "'")).strip(" ,:-—")
    return re.sub(r"\s+", " ", bare)


def any_of(patterns: Iterable[str], is_squeezed: bool = False) -> re.Pattern[str] | None:
    """Return one pattern for several, None for none; a squeezed one meets text without spaces."""
    joined = "|".join(f"(?:{pattern.replace(' ', '') if is_squeezed else pattern})" for pattern in patterns)
    return re.compile(joined, re.IGNORECASE) if joined else None


class Screen:
    """Many patterns that meet one question: those of which none matches are looked at together, in groups."""

    def __init__(self, patterns: Iterable[re.Pattern[str] | None], most: int = 8) -> None:
        """All ignore case; None matches nothing. ``most`` stand in a group."""
        given = [(place, pattern) for place, pattern in enumerate(patterns) if pattern]
        self._groups = [(_join(group), group) for group in (given[n : n + most] for n in range(0, len(given), most))]

    def find(self, text: str) -> list[int]:
        """Return the places of the patterns that match, in order."""
        return [place for joined, group in self._groups if joined is None or joined.search(text)
                for place, pattern in group if pattern.search(text)]


def _join(group: Sequence[tuple[int, re.Pattern[str]]]) -> re.Pattern[str] | None:
    """Return one pattern that matches where one of the group does; None where they cannot stand in one."""
    if any(pattern.groups or pattern.flags != group[0][1].flags for _, pattern in group):
        return None  # groups are counted and named over the whole pattern
    return re.compile("|".join(f"(?:{pattern.pattern})" for _, pattern in group), group[0][1].flags)


def squeeze(line: str) -> str:
    """Return a line without spaces and upper case: PDFs part words anywhere (``STATEMENTS OF CASH FLOW S``)."""
    return re.sub(r"\s+", "", line).lower().replace("’", "'")


@dataclass(frozen=True, eq=False)
class Topic:
    """A topic of questions, its patterns compiled."""

    entry: TopicEntry

    @cached_property
    def asked(self) -> re.Pattern[str]:
        """Pattern of its words within a question."""
        return any_of(self.entry.asked) or re.compile(r"(?!)")


@dataclass(frozen=True, eq=False)
class Section:
    """A section, its patterns compiled; ``None`` where the pack gives none. All but ``asked`` meet squeezed lines."""

    entry: SectionEntry

    @property
    def name(self) -> str:
        """What the pack calls it."""
        return self.entry.name

    @cached_property
    def headings(self) -> re.Pattern[str] | None:
        """Pattern of a whole title."""
        return any_of(self.entry.headings, is_squeezed=True)

    @cached_property
    def asked(self) -> re.Pattern[str] | None:
        """Pattern of its names in questions."""
        return any_of(self.entry.asked)

    @cached_property
    def item(self) -> re.Pattern[str] | None:
        """Pattern of the numbered headings it stands under, within a question."""
        return any_of(rf"\b{re.escape(item)}\b(?!\.\d)" for item in self.entry.items)

    @cached_property
    def rows(self) -> tuple[re.Pattern[str], ...]:
        """Patterns of how lines begin there."""
        return tuple(re.compile(row.replace(" ", "")) for row in self.entry.rows)

    @cached_property
    def unless(self) -> re.Pattern[str] | None:
        """Pattern of the beginning of a line that denies it."""
        return any_of(self.entry.unless, is_squeezed=True)


@dataclass(frozen=True, eq=False)
class Tables:
    """The words of tables, their patterns compiled; one that the pack leaves empty matches nothing."""

    rules: TableRules

    @cached_property
    def header_words(self) -> re.Pattern[str]:
        """Pattern of what may stand in a table's head beside years, marks included."""
        words = "|".join(self.rules.header_words)
        return re.compile((rf"\b(?:{words})\b|" if words else "") + r"[^A-Za-z0-9\s]", re.IGNORECASE)

    @property
    def units(self) -> str:
        """Pattern of a unit, singular or plural; its group 1 is the unit."""
        names = "|".join(re.escape(unit.rstrip("s")) for unit in self.rules.units)
        return rf"({names})s?\b" if names else r"(?!)()"

    @cached_property
    def unit_aside(self) -> re.Pattern[str]:
        """Pattern of a unit in brackets: ``(Dollars in thousands, except per share data)``."""
        return re.compile(rf"\([^()\d]{{0,60}}?\b{self.units}[^()\d]{{0,80}}\)?", re.IGNORECASE)

    @cached_property
    def unit_bare(self) -> re.Pattern[str]:
        """Pattern of a unit in a short line: ``In millions of dollars``."""
        listed = "|".join(map(re.escape, self.rules.units)) or "(?!)"
        before = r"(?:\bin\s+(?:(?!tens\b|hundreds\b)\S+\s+){0,2}|\bdollars?\s+|[$€£]\s?|(?-i:^(?=[A-Z])))(?<!\d )"
        return re.compile(rf"{before}({listed})\b", re.IGNORECASE)

    @cached_property
    def paid_out(self) -> re.Pattern[str]:
        """Pattern of labels of outflows."""
        return re.compile("|".join(self.rules.paid_out) or r"(?!)", re.IGNORECASE)

    @cached_property
    def signed(self) -> re.Pattern[str]:
        """Pattern of labels whose amounts keep their sign."""
        return re.compile("|".join(self.rules.signed) or r"(?!)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Facts:
    """Which rows questions can be asked from, the patterns compiled."""

    rules: FactRules

    @cached_property
    def telling(self) -> re.Pattern[str]:
        """Pattern that a label must hold."""
        return re.compile(self.rules.telling, re.IGNORECASE)

    @cached_property
    def vague(self) -> re.Pattern[str]:
        """Pattern of labels that say nothing by themselves."""
        return re.compile(self.rules.vague, re.IGNORECASE)

    @cached_property
    def counted(self) -> re.Pattern[str]:
        """Pattern of labels whose amounts have no unit."""
        return re.compile(self.rules.counted, re.IGNORECASE)

    @cached_property
    def anchors(self) -> re.Pattern[str]:
        """Pattern of rows that make a page a primary statement."""
        return re.compile(self.rules.anchors, re.IGNORECASE)

    @cached_property
    def balances(self) -> re.Pattern[str]:
        """Pattern of rows of amounts at a date."""
        return re.compile(self.rules.balances, re.IGNORECASE)

    @cached_property
    def flows(self) -> re.Pattern[str]:
        """Pattern of rows of a period."""
        return re.compile(self.rules.flows, re.IGNORECASE)

    @cached_property
    def elsewhere(self) -> re.Pattern[str]:
        """Pattern of words over tables about somebody else."""
        return re.compile(self.rules.elsewhere, re.IGNORECASE)

    @cached_property
    def inner(self) -> re.Pattern[str]:
        """Pattern of words over tables whose rows mean nothing outside."""
        return re.compile(self.rules.inner, re.IGNORECASE)

    @cached_property
    def whole(self) -> re.Pattern[str]:
        """Pattern of labels that do all the same."""
        return re.compile(self.rules.whole, re.IGNORECASE)

    @cached_property
    def changes(self) -> re.Pattern[str]:
        """Pattern of headings below which amounts are changes."""
        return re.compile(self.rules.changes, re.IGNORECASE)

    @cached_property
    def changes_end(self) -> re.Pattern[str]:
        """Pattern of what ends that."""
        return re.compile(self.rules.changes_end, re.IGNORECASE)

    @cached_property
    def movements(self) -> re.Pattern[str]:
        """Pattern of labels whose amounts are changes."""
        return re.compile(self.rules.movements, re.IGNORECASE)

    @cached_property
    def opening(self) -> re.Pattern[str]:
        """Pattern of labels of amounts at the beginning of a period."""
        return re.compile(self.rules.opening, re.IGNORECASE)

    @cached_property
    def deducted(self) -> re.Pattern[str]:
        """Pattern of labels of what is taken off."""
        return re.compile(self.rules.deducted, re.IGNORECASE)

    @cached_property
    def either(self) -> re.Pattern[str]:
        """Pattern of labels whose parentheses say a negative amount."""
        return re.compile(self.rules.either, re.IGNORECASE)

    @cached_property
    def own_name(self) -> re.Pattern[str]:
        """Pattern of labels that other names do not say wholly."""
        return re.compile(self.rules.own_name, re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Names:
    """How owners of documents are named, the patterns compiled; one that the pack leaves out matches nothing."""

    rules: NameRules

    @cached_property
    def legal(self) -> frozenset[str]:
        """Legal forms behind a name, in lower case."""
        return frozenset(self.rules.legal)

    @cached_property
    def terms(self) -> frozenset[str]:
        """Terms in capitals that are no name."""
        return frozenset(self.rules.terms)

    @cached_property
    def tickers(self) -> tuple[re.Pattern[str], ...]:
        """Patterns of symbols."""
        return tuple(map(re.compile, self.rules.tickers))

    @cached_property
    def former(self) -> re.Pattern[str]:
        """Pattern of a former name."""
        return re.compile(self.rules.former or "(?!)")

    @cached_property
    def row(self) -> re.Pattern[str]:
        """Pattern of the row of a table of owners."""
        return re.compile(self.rules.row or "(?!)")

    @cached_property
    def headline(self) -> re.Pattern[str]:
        """Pattern of a title that begins with its owner."""
        return re.compile(self.rules.headline or "(?!)")

    @cached_property
    def unless(self) -> re.Pattern[str]:
        """Pattern of lines that are no name."""
        return re.compile(self.rules.unless or "(?!)")


@dataclass(frozen=True, eq=False)
class Report:
    """A kind of document that questions name, its phrases compiled."""

    kind: str
    entry: ReportEntry

    @cached_property
    def asked(self) -> re.Pattern[str]:
        """Pattern of its phrases within a question: '10-K' also finds 10K and 10 K, words may stand in the plural."""
        parts = [r"[\s-]?".join(map(re.escape, re.split(r"[\s-]+", phrase))) for phrase in self.entry.phrases]
        return re.compile(rf"(?<![^\W_])(?:{'|'.join(parts)})s?(?![^\W_])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Answers:
    """How answers are read, the patterns compiled; one that the pack leaves empty matches nothing."""

    rules: AnswerRules

    @cached_property
    def common(self) -> frozenset[str]:
        """Words that carry no content."""
        return frozenset(self.rules.common)

    @cached_property
    def losses(self) -> re.Pattern[str]:
        """Pattern of words that say an amount is negative, by their beginnings."""
        return any_of(rf"\b(?:{word})" for word in self.rules.losses) or re.compile(r"(?!)")

    @cached_property
    def elsewhere(self) -> re.Pattern[str]:
        """Pattern of where an answer that refuses sends its reader."""
        return any_of(self.rules.elsewhere) or re.compile(r"(?!)")
