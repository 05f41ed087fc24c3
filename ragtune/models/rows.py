"""What a rendered prompt shows to a reader without a language model: its passages, their rows by year, and which row a
name means, by the words they share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from ragtune.documents.labels import Labels
from ragtune.documents.names import strip_legal
from ragtune.documents.pack import Pack, PackPattern, current_pack
from ragtune.documents.statements import is_paid_out

_HEAD = re.compile(r"^\[(\d{1,3})\] (?P<name>.*), page \d+(?: \(in (?P<unit>\w+)\))?$")
_CELL = re.compile(
    r"^(?P<label>.*[A-Za-z)].*?) (?P<year>(?:19|20)\d\d): (?P<amount>\(?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?\)?%?\)?)$"
)
_QUESTION = "Question: "
_HINT = re.compile(r"^In the passages, (?P<pairs>.+)\.$")
_YEAR_OR_VERSION = r"_?(?:19|20)\d\d.*|\s(?:v\d|[vr]?\d+\.\d).*"


@lru_cache(maxsize=8)
def _after_name(pack: Pack) -> re.Pattern[str]:
    """Return the pattern of what stands behind the name in a title: a form, a year or a version, and the rest."""
    forms = (r"[\s-]?".join(map(re.escape, re.split(r"[\s-]+", form)))
             for report in pack.reports.values() for form in report.entry.forms)
    return re.compile("|".join((*(rf"\b{form}\b.*" for form in forms), _YEAR_OR_VERSION)), re.IGNORECASE)


@lru_cache(maxsize=8)
def _quarterly(pack: Pack) -> re.Pattern[str]:
    """Return the pattern of titles of reports on a quarter."""
    forms = [form for report in pack.reports.values() if report.entry.covers == "quarter" for form in report.entry.forms]
    return re.compile("|".join(rf"\b{re.escape(form).replace('-', '-?')}\b" for form in forms) or "(?!)", re.IGNORECASE)


_AFTER_NAME, _QUARTERLY = PackPattern(_after_name), PackPattern(_quarterly)


@dataclass(frozen=True)
class Row:
    """A row of a passage: its label and its amounts as printed, by year."""

    label: str
    cells: dict[str, str]
    passage: Shown

    @property
    def is_count(self) -> bool:
        """Whether the amounts count something and are no money."""
        return bool(current_pack().labels.counts.search(self.label)) and not self.is_whole

    @property
    def is_whole(self) -> bool:
        """Whether the amounts are for one of something, such as a share: the table's unit does not count them."""
        whole = current_pack().wording.whole_amounts
        return bool(whole and re.search(whole, self.label, re.IGNORECASE))

    @property
    def decimals(self) -> int:
        """With how many decimals the amounts are printed."""
        return max(len(re.sub(r"[^\d.]", "", amount).partition(".")[2]) for amount in self.cells.values())

    def value(self, year: str) -> Decimal:
        """Return the value of a year; what is paid out counts as positive, as people ask for it."""
        printed = self.cells[year]
        size = Decimal(re.sub(r"[^\d.]", "", printed))
        return -size if printed.startswith("(") and not is_paid_out(self.label) else size

    def cite(self, year: str) -> str:
        """Return the row's line of a year, cited."""
        return f"{self.label} {year}: {self.cells[year]} [{self.passage.number}]"

    def show_number(self, value: Decimal) -> str:
        """Return a value as a calculation writes it."""
        return f"{value:,.{self.decimals}f}"

    def show_answer(self, value: Decimal) -> str:
        """Return a value as an answer says it: ``$4,210 million``, ``-$310 million``, ``$3.05``, ``41.2%``."""
        number, sign = self.show_number(abs(value)), "-" if value < 0 else ""
        if any("%" in amount for amount in self.cells.values()):
            return f"{sign}{number}%"
        unit = "" if self.is_whole or not self.passage.unit else f" {self.passage.unit.removesuffix('s')}"
        return f"{sign}{'' if self.is_count else current_pack().wording.currency}{number}{unit}"


@dataclass(frozen=True, eq=False)
class Shown:
    """A passage as the prompt shows it: its number and what its title says."""

    number: int
    company: str
    year: str
    is_quarterly: bool
    unit: str


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt taken apart. ``names`` are the pairs of the hint: what the question says, what the rows say."""

    question: str
    passages: tuple[Shown, ...]
    rows: tuple[Row, ...]
    names: tuple[tuple[str, str], ...] = ()


def parse_prompt(text: str) -> Prompt:
    """Return passages, rows and question of a rendered user message; any text gives some prompt."""
    shown, found, asked = text.rpartition("\n" + _QUESTION) if not text.startswith(_QUESTION) else ("", "x", text)
    question, _, hint = asked.removeprefix(_QUESTION).partition("\n") if found else (text, "", "")
    match = _HINT.match(hint.strip())
    pairs = [pair.partition(" is called ") for pair in match["pairs"].split("; ")] if match else []
    names = tuple((name, label) for name, is_pair, labels in pairs if is_pair for label in labels.split(" or "))
    passages: list[Shown] = []
    rows: list[Row] = []
    for line in shown.split("\n") if found else ():
        head = _HEAD.match(line)
        if head and int(head[1]) == len(passages) + 1:
            passages.append(_read_title(int(head[1]), head["name"], head["unit"] or ""))
        elif passages and len(line) < 300 and (cell := _CELL.match(line)):
            last = rows[-1] if rows else None
            if last is None or last.label != cell["label"] or last.passage is not passages[-1] or cell["year"] in last.cells:
                last = Row(cell["label"], {}, passages[-1])
                rows.append(last)
            last.cells[cell["year"]] = cell["amount"]
    return Prompt(question.strip(), tuple(passages), tuple(rows), names)


def _read_title(number: int, name: str, unit: str) -> Shown:
    years = re.findall(r"(?:19|20)\d\d", name)
    company = strip_legal(_AFTER_NAME.sub("", name).replace("_", " ").strip(" ,_-"), current_pack().names)
    return Shown(number, company, years[-1] if years else "", bool(_QUARTERLY.search(name)), unit)


def stems(name: str) -> tuple[str, ...]:
    """Return the telling words of a label as the pack in force reads them, endings cut."""
    return _stems(name, current_pack().labels)


@lru_cache(maxsize=20_000)
def _stems(name: str, labels: Labels) -> tuple[str, ...]:
    return labels.stems(name)


class Matcher:
    """Scores how well a row's label meets a name: shared words, the rare ones of these rows counting more."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.words = current_pack().labels
        labels = {row.label for row in rows}
        counts = Counter(stem for label in labels for stem in set(stems(label)))
        self.weights = {stem: self._weigh(stem, len(labels), count) for stem, count in counts.items()}
        self.unseen = self._weigh("", len(labels), 0)
        self.readings = {label: self._read(label) for label in labels}

    def _weigh(self, stem: str, labels: int, count: int) -> float:
        """Return what a word counts: its rarity among the labels, a third of it for words such as total and net."""
        return (1 + math.log((labels + 1) / (count + 0.5)) / 3) * (0.3 if stem in self.words.light else 1.0)

    def _total(self, words: Iterable[str]) -> float:
        return sum(self.weights.get(word) or self.unseen * (0.3 if word in self.words.light else 1.0) for word in words)

    def _read(self, label: str) -> tuple[tuple[frozenset[str], float, float], ...]:
        """Return the ways to read a label, each with its weight and worth: whole, without brackets, without its tail."""
        bare = re.sub(r"\s*\([^()]*\)", "", label)
        head = self.words.tail.split(bare)[0]
        sets = [(frozenset(stems(text)), worth) for text, worth in ((label, 1.0), (bare, 0.99), (head, 0.97))]
        return tuple((words, self._total(words), worth) for words, worth in sets if words)

    def score(self, name: str, label: str) -> float:
        """Return 0 to 1: the harmonic mean of the shares of name and label that the other has; 1 for the same words."""
        asked = frozenset(stems(name))
        wanted = self._total(asked)
        best = 0.0
        for words, total, worth in self.readings[label]:
            if both := asked & words:
                worth *= 1.0 if bool(asked & self.words.actions) == bool(words & self.words.actions) else 0.7
                worth *= 0.75 ** len((asked ^ words) & self.words.qualifiers)
                best = max(best, worth * 2 * self._total(both) / (wanted + total))
        return best


def company_pattern(company: str) -> re.Pattern[str]:
    """Return what finds a company's name in a question, however it is spaced: COCACOLA finds Coca-Cola's."""
    letters = re.findall(r"\w", company)
    return re.compile(r"\b" + r"\W{0,3}".join(map(re.escape, letters)) + r"(?=\W|s\b|$)", re.IGNORECASE)


def passages_of(company_names: Sequence[str], question: str) -> dict[str, tuple[int, int]]:
    """Return the companies the question names, with the span of the name; whole names go before shortened ones."""
    whole = {}
    short = {}
    for company in dict.fromkeys(company_names):
        if not re.search(r"\w", company):
            continue
        if match := company_pattern(company).search(question):
            whole[company] = match.span()
            continue
        first = company.split()[0]
        # The first word alone will do where no other name follows it: Norvane for Norvane Industries.
        shortened = re.search(rf"\b{re.escape(first)}\b(?!(?:['’]s)? [A-Z][a-z])", question) if len(first) > 3 else None
        if shortened and " " in company and first[0].isupper():
            short[company] = shortened.span()
    return whole or short
