"""Questions asked from the statement rows of an index, offline: for tuning where nobody wrote questions."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ragtune.datasets.facts import Fact, Pages, find_facts
from ragtune.datasets.wording import (
    ask_amount,
    call_as_printed,
    call_line,
    is_money,
    lower_first,
    possessive,
    read_value,
    show_answer,
    show_number,
)
from ragtune.documents.pack import current_pack
from ragtune.errors import QuestionError
from ragtune.files import hash_text
from ragtune.records import Document, Evidence, Metadata, Question
from ragtune.retrieval.filters import kind_of, parse_filter
from ragtune.seams import Progress

KINDS = {
    "lookup": 0.43, "difference": 0.1, "growth": 0.12, "ratio": 0.06, "yes_no": 0.08, "versus": 0.05, "multi_span": 0.04,
    "unanswerable": 0.12,
}
_PATIENCE = 60  # tries without a new question before a document is left alone
_FILLERS = frozenset(("the", "and", "from", "net", "total", "other", "for", "used", "provided", "per", "with", "before"))
_ELSEWHERE = ("Pellandor Chemicals", "Vintrosa Apparel", "Kaldrum Steel", "Ombrevale Hotels", "Tarnwick Semiconductor",
              "Galvanter Motors", "Brevessa Cosmetics", "Ottermoor Insurance")


@dataclass
class Source:
    """A document with its facts; those of primary statements are drawn more often."""

    document: Document
    company: str
    facts: list[Fact]
    labels: tuple[frozenset[str], ...]
    years: set[str]

    def pick(self, draw: random.Random) -> Fact:
        """Draw a fact, one of a primary statement three times out of four where there are some."""
        primary = [fact for fact in self.facts if fact.is_primary]
        return draw.choice(primary if primary and draw.random() < 0.75 else self.facts)

    def years_of(self, fact: Fact) -> list[str]:
        """Return the years to ask about, the document's own three times as likely."""
        own = str(self.document.metadata.get(current_pack().metadata.year))
        return [year for year in fact.years for _ in range(3 if year == own else 1)]


def documents_kept(pages: Pages, where: str | None) -> list[Document]:
    """Return the documents a filter keeps. Raises QuestionError for a filter that cannot be used or keeps none."""
    documents = pages.documents()
    if where is None:
        return documents
    kinds: dict[str, set[str]] = {"document": {"string"}}
    for document in documents:
        for column, value in document.metadata.items():
            if value is not None:
                kinds.setdefault(column, set()).add(kind_of(value))
    wanted = parse_filter(where).check(kinds, current_pack().metadata.sidecar)
    kept = [d for d in documents if wanted.matches({**d.metadata, "document": d.name})]
    if not kept:
        raise QuestionError(f"the filter {where} keeps none of {len(documents)} documents. Mend it in the recipe.")
    return kept


def ask_questions(
    pages: Pages, count: int, seed: int, where: str | None = None, progress: Progress | None = None
) -> list[Question]:
    """Return up to ``count`` distinct questions on the documents a filter keeps, in turn over the documents.

    Kinds follow KINDS; no page gives more than its share, no row is asked twice for one year and kind. Deterministic
    under the seed. Raises QuestionError where no statement row can be asked about.
    """
    documents = documents_kept(pages, where)
    sources = []
    for number, bare in enumerate(documents, start=1):
        source = _open_source(pages.document(bare.name))
        if source.facts:
            sources.append(source)
        if progress:
            progress(number, len(documents))
    if not sources:
        raise QuestionError(
            f"no statement row to ask about in {len(documents)} document(s): rows with amounts under a line of years are "
            "needed. Give a question file (dataset.questions), or index filings with statements."
        )
    return _Asker(sources, count, seed).ask_all()


def _open_source(document: Document) -> Source:
    facts = find_facts(document)
    company = document.metadata.get(current_pack().metadata.owner.column)
    name = str(company) if company else document.name.replace("_", " ")
    lines = {_words(line) for line in document.text.splitlines() if len(line) < 160}
    return Source(document, name, [fact for fact in facts if name.lower() not in fact.label.lower()], tuple(lines),
                  {year for fact in facts for year, _ in fact.cells})


def _words(label: str) -> frozenset[str]:
    """Return the telling words of a label, endings cut, so that other wordings of a line are noticed."""
    return frozenset(word[:6] for word in re.findall(r"[a-z&]{3,}", label.lower()) if word not in _FILLERS)


class _Asker:
    """Draws questions until there are enough or nothing new comes."""

    def __init__(self, sources: Sequence[Source], count: int, seed: int) -> None:
        self.sources, self.count, self.draw = sources, count, random.Random(f"{seed}:ask")
        self.asked: dict[str, Question] = {}
        self.used: set[tuple[str, ...]] = set()
        self.per_page: Counter[tuple[str, int]] = Counter()
        pages = len({(fact.document, fact.page) for source in sources for fact in source.facts})
        self.page_cap = max(6, 4 * count // max(1, pages))
        self.years = {company: set[str]() for company in {source.company for source in sources}}
        for source in sources:
            self.years[source.company] |= source.years

    def ask_all(self) -> list[Question]:
        """Ask each kind its share; what some kinds could not give, look-ups make up for."""
        self._go_round(Counter({kind: math.ceil(share * self.count) for kind, share in KINDS.items()}))
        self._go_round(Counter(lookup=self.count - len(self.asked)))
        return list(self.asked.values())

    def _go_round(self, left: Counter[str]) -> None:
        """Take the documents in turn; one that gave nothing new many times in a row is left out."""
        failures: Counter[str] = Counter()
        going = list(self.sources)
        while going:
            for source in list(going):
                kinds = [kind for kind in KINDS if left[kind] > 0]
                if not kinds or len(self.asked) >= self.count:
                    return
                kind = self.draw.choices(kinds, [KINDS[kind] for kind in kinds])[0]
                question: Question | None = getattr(self, f"_ask_{kind}")(source)
                name = source.document.name
                if question is not None and question.text not in self.asked:
                    self.asked[question.text] = question
                    left[kind] -= 1
                    failures[name] = 0
                else:
                    failures[name] += 1
                    if failures[name] > _PATIENCE:
                        going.remove(source)

    def _take(self, kind: str, fact: Fact, year: str, phrase: str = "") -> bool:
        """Tell whether this row, year, kind and name of the row is new and its page still has room; take it if so."""
        key = (kind, fact.document, fact.label.lower(), year, phrase)
        if key in self.used or self.per_page[fact.document, fact.page] >= self.page_cap:
            return False
        self.used.add(key)
        self.per_page[fact.document, fact.page] += 1
        return True

    def _question(self, source: Source, kind: str, text: str, answer: str = "", facts: Sequence[Fact] = (),
                  lines: Sequence[str] = ()) -> Question:
        evidence = dict.fromkeys((fact.page, fact.line) for fact in facts)
        rules = current_pack().metadata
        metadata: Metadata = {rules.owner.column: source.company, "document": source.document.name}
        if source.document.metadata.get(rules.year) is not None:
            metadata = {**metadata, rules.year: source.document.metadata[rules.year]}
        name = source.document.name
        return Question(f"{name}-{hash_text(text)[:10]}", text, answer,
                        tuple(Evidence(name, page, line) for page, line in evidence), kind, "\n".join(lines), metadata)

    def _two_years(self, source: Source, is_compared: bool = True) -> tuple[Fact, str, str] | None:
        """Draw a row with two years, the later first; where they are compared none whose amounts are changes already."""
        fact = source.pick(self.draw)
        if fact.is_movement and is_compared:
            return None
        years = sorted(fact.years, reverse=True)
        if len(years) < 2:
            return None
        start = self.draw.randrange(len(years) - 1) if self.draw.random() < 0.3 else 0
        return fact, years[start], years[start + 1]

    def _ask_lookup(self, source: Source) -> Question | None:
        fact = source.pick(self.draw)
        years = source.years_of(fact)
        if not years:
            return None
        year = self.draw.choice(years)
        asked = call_line(fact, self.draw)
        if not self._take("lookup", fact, year, asked.phrase):  # by another name it is another question
            return None
        text = ask_amount(asked, source.company, year, fact.is_balance, self.draw,
                          fact.unit if is_money(fact) else "")
        answer = show_answer(fact, read_value(fact, year))
        return self._question(source, "lookup", text, answer, [fact], [fact.restated(year)])

    def _ask_difference(self, source: Source) -> Question | None:
        drawn = self._two_years(source)
        if drawn is None or not self._take("difference", drawn[0], drawn[1]):
            return None
        fact, now, before = drawn
        new, old = read_value(fact, now), read_value(fact, before)
        asked, owner = call_line(fact, self.draw), possessive(source.company)
        text = self.draw.choice((
            f"By how much did {owner} {asked.phrase} change from fiscal {before} to fiscal {now}?",
            f"What was the change in {owner} {asked.phrase} between FY{before} and FY{now}?",
            f"How much higher or lower {asked.be} {owner} {asked.phrase} in fiscal {now} than in fiscal {before}?"))
        calculation = f"{show_number(fact, new)} - {show_number(fact, old)} = {show_number(fact, new - old)}"
        return self._question(source, "difference", text, show_answer(fact, new - old), [fact],
                              [fact.restated(now), fact.restated(before), calculation])

    def _ask_growth(self, source: Source) -> Question | None:
        drawn = self._two_years(source)
        if drawn is None:
            return None
        fact, now, before = drawn
        new, old = read_value(fact, now), read_value(fact, before)
        if old <= 0 or new <= 0 or "%" in fact.amount(now) or new / old > 20 or not self._take("growth", fact, now):
            return None
        asked, owner = call_line(fact, self.draw), possessive(source.company)
        text = self.draw.choice((
            f"By what percentage did {owner} {asked.phrase} change from fiscal {before} to fiscal {now}?",
            f"What was the growth rate of {owner} {asked.phrase} from FY{before} to FY{now}?",
            f"What is the FY{before} to FY{now} percentage change in {asked.phrase} for {source.company}?"))
        growth = f"{100 * (new / old - 1):.1f}%"
        calculation = f"{show_number(fact, new)} / {show_number(fact, old)} - 1 = {growth}"
        return self._question(source, "growth", text, growth, [fact],
                              [fact.restated(now), fact.restated(before), calculation])

    def _ask_yes_no(self, source: Source) -> Question | None:
        drawn = self._two_years(source)
        if drawn is None:
            return None
        fact, now, before = drawn
        new, old = read_value(fact, now), read_value(fact, before)
        if new == old or min(new, old) <= 0 or not self._take("yes_no", fact, now):
            return None
        asked, owner = call_line(fact, self.draw), possessive(source.company)
        word = self.draw.choice(("increase", "decrease"))
        text = self.draw.choice((
            f"Did {owner} {asked.phrase} {word} in fiscal {now}?",
            f"Did {owner} {asked.phrase} {word} from FY{before} to FY{now}?",
            f"{asked.be.capitalize()} {owner} {asked.phrase} {'higher' if word == 'increase' else 'lower'} in fiscal {now} "
            f"than in fiscal {before}?"))
        yes = "Yes" if (new > old) == (word == "increase") else "No"
        answer = f"{yes}, {asked.phrase} {'rose' if new > old else 'fell'} from {show_answer(fact, old)} to " \
                 f"{show_answer(fact, new)}."
        return self._question(source, "yes_no", text, answer, [fact], [fact.restated(now), fact.restated(before)])

    def _ask_versus(self, source: Source) -> Question | None:
        """Ask which of two rows of a page was larger in a year."""
        one = source.pick(self.draw)
        kind = (one.page, one.unit, one.is_balance, is_money(one))
        beside = [fact for fact in source.facts if fact.label != one.label
                  and (fact.page, fact.unit, fact.is_balance, is_money(fact)) == kind]
        years = source.years_of(one)
        if not beside or not years:
            return None
        other, year = self.draw.choice(beside), self.draw.choice(years)
        if year not in other.years:
            return None
        left, right = read_value(one, year), read_value(other, year)
        if left == right or min(left, right) <= 0 or not self._take("versus", one, year):
            return None
        asked, beneath, owner = call_line(one, self.draw), call_line(other, self.draw), possessive(source.company)
        if asked.phrase == beneath.phrase:
            return None
        word = self.draw.choice(("higher", "lower"))
        text = self.draw.choice((
            f"{asked.be.capitalize()} {owner} {asked.phrase} {word} than its {beneath.phrase} in fiscal {year}?",
            f"In FY{year}, {asked.be} {owner} {asked.phrase} {word} than its {beneath.phrase}?"))
        yes = "Yes" if (left > right) == (word == "higher") else "No"
        place = "above" if left > right else "below"
        answer = f"{yes}, {lower_first(one.label)} of {show_answer(one, left)} was {place} {lower_first(other.label)} of " \
                 f"{show_answer(other, right)}."
        return self._question(source, "versus", text, answer, [one, other], [one.restated(year), other.restated(year)])

    def _ask_multi_span(self, source: Source) -> Question | None:
        """Ask for the amounts of two years at once."""
        drawn = self._two_years(source, is_compared=False)
        if drawn is None or not self._take("multi_span", drawn[0], drawn[1]):
            return None
        fact, now, before = drawn
        asked, owner = call_line(fact, self.draw), possessive(source.company)
        text = self.draw.choice((
            f"What {asked.be} {owner} {asked.phrase} in fiscal {now} and in fiscal {before}?",
            f"What {asked.phrase} did {source.company} report for FY{before} and FY{now}?",
            f"How much {asked.be} {owner} {asked.phrase} in each of the fiscal years {before} and {now}?"))
        said = [f"{show_answer(fact, read_value(fact, year))} in {year}" for year in (now, before)]
        return self._question(source, "multi_span", text, " and ".join(said), [fact],
                              [fact.restated(now), fact.restated(before)])

    def _ask_ratio(self, source: Source) -> Question | None:
        ratios = current_pack().facts.rules.ratios
        if not ratios:
            return None
        ratio = self.draw.choice(ratios)
        phrase = ratio.phrase
        primary = {fact.label.lower(): fact for fact in reversed(source.facts) if fact.is_primary}
        top = next((primary[label] for label in ratio.over if label in primary), None)
        bottom = next((primary[label] for label in ratio.under if label in primary), None)
        if top is None or bottom is None or (top.page, top.unit) != (bottom.page, bottom.unit):
            return None
        years = [year for year in source.years_of(top) if year in bottom.years]
        if not years:
            return None
        year = self.draw.choice(years)
        above, below = read_value(top, year), read_value(bottom, year)
        if above <= 0 or below <= 0 or not self._take(phrase, top, year):
            return None
        text = self.draw.choice((f"What was {possessive(source.company)} {phrase} in fiscal {year}?",
                                 f"What is the FY{year} {phrase} of {source.company}?",
                                 f"Calculate {possessive(source.company)} {phrase} for FY{year}."))
        result = f"{100 * above / below:.1f}%" if ratio.is_percent else f"{above / below:.2f}"
        calculation = f"{show_number(top, above)} / {show_number(bottom, below)} = {result}"
        return self._question(source, "ratio", text, result, [top, bottom],
                              [top.restated(year), bottom.restated(year), calculation])

    def _ask_unanswerable(self, source: Source) -> Question | None:
        """Ask for another document's line, a year no document of the company covers, or a company that is not there."""
        fact, way = source.pick(self.draw), self.draw.randrange(3)
        company, asked = source.company, call_line(fact, self.draw)
        year = str(source.document.metadata.get(current_pack().metadata.year) or max(source.years))
        if way == 0:
            other = self.draw.choice(self.sources).pick(self.draw)
            if self._is_reported(other.label, company):
                return None
            fact, asked = other, call_as_printed(other)
        elif way == 1:
            known = {int(year) for year in self.years[company]}
            year = str(self.draw.choice((min(known) - self.draw.randint(3, 7), max(known) + self.draw.randint(2, 4))))
        else:
            company = self.draw.choice(_ELSEWHERE)
        unit = fact.unit if self.draw.random() < 0.8 else ""
        return self._question(source, "unanswerable", ask_amount(asked, company, year, fact.is_balance, self.draw, unit))

    def _is_reported(self, label: str, company: str) -> bool:
        """Tell whether a line of the company's documents holds most words of this label."""
        wanted = _words(label)
        sources = [source for source in self.sources if source.company == company]
        return any(len(wanted & line) > 0.6 * len(wanted) for source in sources for line in source.labels)
