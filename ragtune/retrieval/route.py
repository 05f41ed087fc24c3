"""The router: which documents a question is about, told from the companies, years, quarters and forms it names.

A prior, not a wall: every candidate has a weight and every decision a reason. Where the year asked for is not there, the
company's nearest documents are taken, and said; where no company is named, nothing is restricted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ragtune.documents.names import (
    Alias,
    aliases_of,
    fold_name,
    fold_word,
    is_symbol,
    read_common_words,
    split_name,
)
from ragtune.documents.pack import Pack, open_pack
from ragtune.documents.packparts import Names
from ragtune.records import Document, Record, Value
from ragtune.retrieval.conditions import MAX_CHARACTERS, Comparison, Node, join, render_filter
from ragtune.retrieval.mentions import Mention, NameTable, split_words
from ragtune.retrieval.periods import parse_period
from ragtune.retrieval.reports import MANY, Filed, Weighing, weigh_reports

MAX_SOFT = 10
MAX_CHARACTERS_READ = 4000
"""How much of a question is read: what follows would not name its document first."""
_NAME_END = re.compile(r"[\W_]+(?:fy)?(?:19|20)\d\d.*$", re.IGNORECASE)
_SPLIT = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Route(Record):
    """Candidate ``documents``, best first, with ``weights`` in (0, 1] (1: certain); none means no restriction.

    ``where`` is the filter that keeps just these documents ('' where there is none), ``reasons`` are sentences for people.
    ``is_fallback`` says that what was asked for is not there, ``is_certain`` that one document fits better than all others.
    """

    documents: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    where: str = ""
    reasons: tuple[str, ...] = ()
    is_fallback: bool = False
    is_certain: bool = False


class Router:
    """Routes questions to documents. Built once from documents (their pages are not needed); a question takes about 0.1 ms.

    ``pack`` says how names are written, which metadata columns tell who and when, and which kinds of report there are.
    Further names of an entity stand in the column ``aliases``, joined by '|'. Documents without an entity are matched by the
    distinctive words of their names and titles, with low weights and no filter.
    """

    def __init__(self, documents: Sequence[Document], pack: Pack | None = None) -> None:
        self.pack = pack or open_pack()
        self.entity, self.year = self.pack.metadata.owner.column, _year_column(documents, self.pack)
        names_of = self.pack.names
        self.groups: dict[str, list[Filed]] = {}
        names: dict[str, list[str]] = {}
        aliases: dict[str, dict[str, Alias]] = {}
        unnamed: list[Document] = []
        for document in documents:
            value = document.metadata.get(self.entity)
            if value is None or not fold_name(str(value)):
                unnamed.append(document)
                continue
            key = fold_name(" ".join(split_name(str(value), names_of)))
            names.setdefault(key, []).append(str(value))
            self.groups.setdefault(key, []).append(self._read(document, value))
            for alias in (*aliases_of(str(value), names_of), *_own_aliases(document, names_of)):
                aliases.setdefault(key, {}).setdefault(alias.key, alias)
        self.names = {key: max(dict.fromkeys(spellings), key=spellings.count) for key, spellings in names.items()}
        self.table = NameTable({key: found.values() for key, found in aliases.items()}, names_of.terms)
        left = []
        for document in unnamed:  # a file named after a known entity is one of its documents
            mentions = self.table.find(_spaced(document.name)) if self.groups else []
            if mentions and mentions[0].strength > 0.7 and not mentions[0].is_misspelt:
                self.groups[mentions[0].name].append(self._read(document, None))
            else:
                left.append(document)
        self.soft = _soft_words(left)

    def _read(self, document: Document, entity: Value) -> Filed:
        """Return what is known of a document."""
        metadata, rules = document.metadata, self.pack.metadata
        raw, quarter = metadata.get(self.year), metadata.get(rules.quarter)
        digits = re.search(r"(?:19|20)\d\d", str(raw))
        dates = parse_period(_spaced(document.name, "-")).dates
        form = fold_word(str(metadata.get(rules.kind) or ""))
        kinds = (report for report in self.pack.reports.values() if form in map(fold_word, report.entry.forms))
        return Filed(document.name, entity, int(digits[0]) if digits and raw is not None else None, raw,
                     int(quarter) if isinstance(quarter, (int, float)) and 1 <= quarter <= 4 else None,
                     next(kinds, None), dates[-1] if dates else "")

    def route(self, question: str) -> Route:
        """Return the documents a question is about, with weights and reasons; none where nothing can be told."""
        question = " ".join(question[:MAX_CHARACTERS_READ].split())
        mentions = self.table.find(question)
        strengths = _strengths(mentions)
        reasons = [self._explain(mention, question) for mention in _first_of_each(mentions)]
        if not strengths and len(self.groups) == 1 and not self.soft:
            strengths = dict.fromkeys(self.groups, 1.0)
            reasons = [f"all documents are of one {self.entity}, {next(iter(self.names.values()))}"]
        if not strengths:
            return self._route_softly(question)
        period = parse_period(question, self.pack.reports)
        weights: dict[str, float] = {}
        nodes: list[Node] = []
        is_fallback = False
        for key, strength in strengths.items():
            found = weigh_reports(self.groups[key], period, self.names[key], self.year)
            weights.update({name: max(0.01, round(weight * strength, 4)) for name, weight in found.weights.items()})
            reasons += found.reasons
            is_fallback |= found.is_fallback
            nodes += self._nodes(self.groups[key], found)
        ranked = sorted(weights, key=lambda name: -weights[name])
        tops = [name for name in ranked if weights[name] >= 0.9 * weights[ranked[0]]]
        if len(tops) > 1:
            reasons.append(f"{len(tops)} documents fit about equally: {', '.join(tops[:MANY])}{', …' * (len(tops) > MANY)}")
        where = render_filter(join(nodes, is_any=True))
        return Route(tuple(ranked), tuple(weights[name] for name in ranked), where if len(where) <= MAX_CHARACTERS else "",
                     tuple(reasons), is_fallback, not is_fallback and len(tops) == 1 and weights[ranked[0]] >= 0.9)

    def _explain(self, mention: Mention, question: str) -> str:
        """Say how a name was found."""
        written = question[mention.start : mention.end]
        if mention.is_misspelt:
            return f"'{written}' was read as {self.entity} {self.names[mention.name]}"
        is_plain = fold_name(written).startswith(mention.name)
        return f"{self.entity} {self.names[mention.name]} named in the question" + ("" if is_plain else f" as '{written}'")

    def _nodes(self, reports: Sequence[Filed], found: Weighing) -> list[Node]:
        """Return the conditions that keep just the candidates of one entity."""
        kept = [report for report in reports if report.name in found.weights]
        spellings = {str(report.entity).casefold(): report.entity for report in kept if report.entity is not None}
        nodes: list[Node] = []
        if spellings:
            parts: list[Node] = [Comparison(self.entity, "=", tuple(spellings.values()))]
            if len(kept) < len(reports):
                years = tuple(dict.fromkeys(report.raw_year for report in kept if report.entity is not None))
                parts.append(Comparison(self.year, "=", years))
            nodes.append(join(parts, is_any=False))
        others = tuple(report.name for report in kept if report.entity is None)
        return [*nodes, Comparison("document", "=", others)] if others else nodes

    def _route_softly(self, question: str) -> Route:
        """Prefer documents whose own names the question uses; without any, restrict nothing."""
        scores: dict[str, list[str]] = {}
        for word in dict.fromkeys(word.bare for word in split_words(question)):
            for name in self.soft.get(word, ()):
                scores.setdefault(name, []).append(word)
        unnamed = f"no {self.entity} of this index is named" if self.groups else f"no document has a {self.entity}"
        if not scores:
            return Route(reasons=(f"{unnamed}: all documents are searched",))
        ranked = sorted(scores, key=lambda name: -len(scores[name]))[:MAX_SOFT]
        words = sorted({word for name in ranked for word in scores[name]})
        return Route(tuple(ranked), tuple(min(0.6, 0.2 + 0.1 * len(scores[name])) for name in ranked), "", (
            f"{unnamed}; preferred are documents with {', '.join(words[:6])} in their names",))


def _strengths(mentions: Sequence[Mention]) -> dict[str, float]:
    """Return how sure each name is: 1 for a usual way to write it, less where the same words may mean another name too."""
    strengths: dict[str, float] = {}
    for mention in mentions:
        rivals = [other for other in mentions if other.start == mention.start and other.strength > mention.strength]
        strength = mention.strength if rivals or mention.strength < 0.8 else 1.0
        strengths[mention.name] = max(strength, strengths.get(mention.name, 0.0))
    return strengths


def _first_of_each(mentions: Sequence[Mention]) -> list[Mention]:
    return list({mention.name: mention for mention in reversed(mentions)}.values())[::-1]


def _spaced(name: str, keep: str = "") -> str:
    """Return a file name's words apart: ``ACME_2022_8K_dated-2022-08-30``."""
    return name.rpartition("/")[2].replace("_", " ") if keep else _SPLIT.sub(" ", name.rpartition("/")[2])


def _own_aliases(document: Document, names: Names) -> list[Alias]:
    """Return the aliases of a document's column ``aliases`` and of its file name up to the year."""
    found: list[Alias] = []
    for text in str(document.metadata.get("aliases") or "").split("|"):
        if is_symbol(text.strip(), names):
            found.append(Alias(fold_word(text), 0.9, "upper"))
        elif text.strip():
            found += [alias for alias in aliases_of(text.strip(), names) if alias.strength > 0.7]
    start = document.name.rpartition("/")[2]
    head = _NAME_END.sub("", start)
    if head != start and re.search(r"[^\W\d_]", head):
        found += [alias for alias in aliases_of(head.replace("_", " "), names) if alias.strength > 0.95]
    return found


def _year_column(documents: Sequence[Document], pack: Pack) -> str:
    """Return the column of the year: the pack's, else where no document has it the first that is called so."""
    names = dict.fromkeys(name for document in documents for name, value in document.metadata.items() if value is not None)
    year = pack.metadata.year
    return year if year in names else next((name for name in names if name.endswith("year")), year)


def _soft_words(documents: Sequence[Document]) -> dict[str, list[str]]:
    """Return the distinctive words of documents' names and titles -> the documents; frequent words are none."""
    words: dict[str, list[str]] = {}
    common = read_common_words()
    for document in documents:
        text = f"{_spaced(document.name)} {document.metadata.get('title') or ''}"
        for word in dict.fromkeys(word.bare for word in split_words(text)):
            if len(word) > 2 and not word.isdigit() and word not in common:
                words.setdefault(word, []).append(document.name)
    return {word: names for word, names in words.items() if len(names) <= max(MANY, len(documents) // 20)}
