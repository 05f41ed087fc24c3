"""What a model gets wrong about a grounded row, by reason: candidates for the worse half of a preference pair.

Each is made of what the row's prompt shows, or of what the index says of another company. Whether it is truly wrong is for
the scorer to say (datasets/prefer.py).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ragtune.answering.guard import find_amounts
from ragtune.datasets.elsewhere import Elsewhere, is_alike
from ragtune.datasets.forms import Operands, Stated, restate, show_unlike
from ragtune.models.asked import parse_question
from ragtune.models.extractive import MIN_SCORE
from ragtune.models.rows import Matcher, Prompt, Row, passages_of, stems
from ragtune.records import REFUSAL, Passage

_ALIKE = 3  # of the rows of a passage, so many of the most alike labels are drawn from first
_LOOKUP = Stated("lookup", (), "", "")


@dataclass(frozen=True)
class Grounded:
    """A row with its answer taken apart. ``own`` are the shown rows it restates, empty where the completion refuses.

    ``stated`` is what the question's reference answer states, None where that has another form. ``elsewhere`` are rows of
    the index that the row need not show.
    """

    completion: str
    prompt: Prompt
    passages: tuple[Passage, ...]
    stated: Stated | None
    own: Operands
    elsewhere: Elsewhere = field(default_factory=Elsewhere)

    @property
    def companies(self) -> tuple[str, ...]:
        """The company of each passage, as its title says it; '' where it does not."""
        return tuple(passage.company for passage in self.prompt.passages)

    @cached_property
    def matcher(self) -> Matcher:
        """Tells how alike labels are."""
        return Matcher(self.prompt.rows)


def neighbouring_year(row: Grounded, draw: random.Random) -> Iterator[str]:
    """The same rows, in the nearest other years that the passage shows; both years of a change are moved alike."""
    if row.stated is None or not row.own or not _asks_year(row.prompt.question, row.stated.years[0]):
        return
    years = [int(year) for _, year in row.own]
    shown = sorted({int(year) for own, _ in row.own for year in own.cells})
    steps = [year - years[0] for year in shown if year != years[0]]
    draw.shuffle(steps)
    for step in sorted(steps, key=abs):
        moved = [(own, str(int(year) + step)) for own, year in row.own]
        if all(year in own.cells for own, year in moved):
            yield from _said(row.stated, moved)


def wrong_row(row: Grounded, draw: random.Random) -> Iterator[str]:
    """Another row of a gold passage, one of the most alike by its words; of two rows one is mistaken."""
    if row.stated is None or not row.own:
        return
    mistaken = draw.choice(sorted({own.label for own, _ in row.own}))
    right = next(own for own, _ in row.own if own.label == mistaken)
    years = [year for own, year in row.own if own is right]
    meant = {own.label for own, _ in row.own} | {label for _, label in row.prompt.names}
    others = [other for other in row.prompt.rows
              if other.passage is right.passage and other.label not in meant and is_alike(other, right, years)]
    for other in _draw_alike(row.matcher, right.label, others, draw):
        yield from _said(row.stated, [(other if own is right else own, year) for own, year in row.own])


def other_company(row: Grounded, draw: random.Random) -> Iterator[str]:
    """The figures of another company, where the question names the one it asks about.

    First the same line items in a shown passage, then elsewhere in the index, cited as if they stood where the right ones
    do; last what in a shown passage is most alike.
    """
    if row.stated is None or not row.own:
        return
    mine = row.companies[row.own[0][0].passage.number - 1]
    others = [n for n, company in enumerate(row.companies, start=1) if company and company != mine]
    if not mine or list(passages_of([mine, *row.companies], row.prompt.question)) != [mine]:
        return
    draw.shuffle(others)
    matcher = row.matcher
    shown = [_take_alike(matcher, row.own, [other for other in row.prompt.rows if other.passage.number == number])
             for number in sorted(others, key=lambda n: -_likeness(row, matcher, n))]
    same = [taken for taken in shown if all(stems(other.label) == stems(own.label)
                                            for (other, _), (own, _) in zip(taken, row.own))]
    for taken in (*filter(None, same), *row.elsewhere.find(row.own, draw), *filter(None, shown)):
        yield from _said(row.stated, taken)


def swapped_operand(row: Grounded, draw: random.Random) -> Iterator[str]:
    """The right rows, calculated in the wrong order; the arithmetic itself is right."""
    if row.stated is not None and row.own and row.stated.calculation:
        swapped = restate(row.stated, row.own, is_swapped=True)
        if swapped:
            yield swapped


def wrong_citation(row: Grounded, draw: random.Random) -> Iterator[str]:
    """The right answer with the lines of one passage cited to another that holds none of their amounts, even in prose."""
    if row.stated is None or not row.own:
        return
    moved = draw.choice(sorted({own.passage.number for own, _ in row.own}))
    amounts = {n for own, year in row.own if own.passage.number == moved for n in find_amounts(own.cells[year])}
    others = [p.number for p in row.passages if p.number != moved and not amounts.intersection(find_amounts(p.text))]
    draw.shuffle(others)
    for number in others:
        shown = next(p for p in row.prompt.passages if p.number == number)
        cited = "\n".join(show_unlike(own, shown if own.passage.number == moved else own.passage).cite(year)
                          for own, year in row.own)
        right = "\n".join(own.cite(year) for own, year in row.own)
        yield row.completion.replace(right, cited, 1)


def needless_refusal(row: Grounded, draw: random.Random) -> Iterator[str]:
    """The refusal, though the passages hold the answer."""
    if row.completion != REFUSAL:
        yield REFUSAL


def unsupported_answer(row: Grounded, draw: random.Random) -> Iterator[str]:
    """The shown row nearest to what was asked, though no passage holds the answer.

    Where the question has an answer elsewhere (``stated``), the mistake has the form of that. A row that may well be what
    was asked for is left alone: the same company and year, under a label that means the same.
    """
    if row.completion != REFUSAL or not row.prompt.rows:
        return
    matcher = row.matcher
    if row.stated is not None:
        wanted = [(label, year) for label, year, _, _ in row.stated.rows]
    else:
        asked = parse_question(row.prompt.question, tuple(passages_of(row.companies, row.prompt.question).values()))
        years = asked.years or (max(year for shown in row.prompt.rows for year in shown.cells),)
        name = asked.names[0] if asked.names and asked.names[0] else row.prompt.question
        wanted = [(name, years[0])]
    name, year = wanted[0]
    named = passages_of(row.companies, row.prompt.question)
    called = [label for _, label in row.prompt.names]

    def is_named(shown: Row) -> bool:
        return row.companies[shown.passage.number - 1] in named

    scores = {shown.label: max(matcher.score(other, shown.label) for other in (name, *called)) for shown in row.prompt.rows}
    ranked = sorted(row.prompt.rows, key=lambda shown: -(
        scores[shown.label] + 0.1 * (year in shown.cells) + 0.2 * is_named(shown)))
    for first in ranked[: 2 * _ALIKE]:
        taken = _complete(first, wanted, row.prompt.rows, matcher)
        is_asked = scores[first.label] >= MIN_SCORE and is_named(first) and year in {year for _, year in taken}
        if taken and not is_asked:
            yield from _said(row.stated or _LOOKUP, taken)


def _complete(first: Row, wanted: Sequence[tuple[str, str]], rows: Sequence[Row], matcher: Matcher) -> list[tuple[Row, str]]:
    """Return operands that begin with the row ``first``; [] where its passage has too few years or rows."""
    years = sorted(first.cells, key=lambda year: (abs(int(year) - int(wanted[0][1])), year))
    if len({label for label, _ in wanted}) == 1:
        chosen = sorted(years[: len(wanted)], reverse=True)
        return [(first, year) for year in chosen] if len(chosen) == len(wanted) else []
    beside = [row for row in rows if row.passage is first.passage and row.label != first.label and years[0] in row.cells]
    if not beside:
        return []
    second = max(beside, key=lambda row: matcher.score(wanted[1][0], row.label))
    return [(first, years[0]), (second, years[0])]


MISTAKES: dict[str, Callable[[Grounded, random.Random], Iterator[str]]] = {
    "neighbouring_year": neighbouring_year, "wrong_row": wrong_row, "other_company": other_company,
    "swapped_operand": swapped_operand, "wrong_citation": wrong_citation, "needless_refusal": needless_refusal,
    "unsupported_answer": unsupported_answer,
}  # fmt: skip
"""Each yields worse completions of a row, the likeliest mistake first; none where the row gives no occasion."""


def _said(stated: Stated, operands: Operands) -> Iterator[str]:
    completion = restate(stated, operands)
    if completion is not None:
        yield completion


def _asks_year(question: str, year: str) -> bool:
    """Tell whether the question names the year, so that another one is wrong: 2021, FY21, '21."""
    return bool(re.search(rf"(?<!\d)(?:{year}|(?:FY\s?['’]?|['’]){year[2:]})(?!\d)", question, re.IGNORECASE))


def _draw_alike(matcher: Matcher, label: str, rows: Sequence[Row], draw: random.Random) -> list[Row]:
    """Return the rows, the most alike to a label first; the first few in random order, so that the mistakes vary."""
    ranked = sorted(rows, key=lambda row: -matcher.score(label, row.label))
    first = ranked[:_ALIKE]
    draw.shuffle(first)
    return [*first, *ranked[_ALIKE:]]


def _take_alike(matcher: Matcher, own: Operands, rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Return for each operand the most alike of the rows that has its year; [] where there is none or one serves twice."""
    taken: dict[str, Row] = {}
    for right, _ in own:
        if right.label in taken:
            continue
        years = [year for row, year in own if row is right]
        like = [row for row in rows if is_alike(row, right, years) and row not in taken.values()]
        if not like:
            return []
        taken[right.label] = max(like, key=lambda row: matcher.score(right.label, row.label))
    return [(taken[right.label], year) for right, year in own]


def _likeness(row: Grounded, matcher: Matcher, number: int) -> float:
    """Return how alike the best row of a passage is to the first row the answer restates."""
    return max((matcher.score(row.own[0][0].label, other.label) for other in row.prompt.rows
                if other.passage.number == number), default=0.0)
