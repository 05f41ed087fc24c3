"""What a question asks for in the words of a domain pack: line items, sections, and the wordings to search by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ragtune.documents.pack import Pack
from ragtune.documents.terms import find_terms

_LATER = 0.5
"""Weight of the sections of a term or topic after its first."""


@dataclass(frozen=True)
class Asked:
    """What a question asks for; numbers are positions in the pack's tables."""

    terms: tuple[int, ...] = ()
    """Line items it names, itself or by what is worked out from them."""
    named: Mapping[int, float] = field(default_factory=dict)
    """Sections it names itself, with weights in (0, 1]."""
    of_terms: Mapping[int, float] = field(default_factory=dict)
    """Sections where its line items stand."""
    of_topics: Mapping[int, float] = field(default_factory=dict)
    """Sections that treat its topics."""
    tables: tuple[bool, ...] = ()
    """Which of the pack's sections are statements: tables with a title of their own."""
    added: tuple[str, ...] = ()
    """Phrases that documents use for what it asks."""


def read_asked(question: str, pack: Pack) -> Asked:
    """Return what a question asks for."""
    sections = {section.name: position for position, section in enumerate(pack.sections)}
    positions = {id(term): position for position, term in enumerate(pack.terms)}
    terms = [term for _, term in find_terms(question, pack)]
    screens = pack.screens
    needed = [term for place in screens["measures"].find(question) for term in pack.measures[place].terms]
    terms = list(dict.fromkeys([*terms, *needed]))
    topics = [pack.topics[place] for place in screens["topics"].find(question)]
    named = [pack.sections[place].name
             for place in sorted({*screens["sections"].find(question), *screens["items"].find(question)})]
    added = [phrase for term in terms for phrase in term.also]
    added += [phrase for topic in topics for phrase in topic.entry.also]
    return Asked(
        tuple(sorted({positions[id(term)] for term in terms})),
        _weigh(((name,) for name in named), sections),
        _weigh((term.sections for term in terms), sections),
        _weigh((topic.entry.sections for topic in topics), sections),
        tuple(section.entry.is_table for section in pack.sections),
        tuple(dict.fromkeys(added)),
    )


def _weigh(names: Iterable[tuple[str, ...]], positions: Mapping[str, int]) -> dict[int, float]:
    """Return section -> weight: the first of each entry counts whole, later ones half."""
    weights: dict[int, float] = {}
    for entry in names:
        for rank, name in enumerate(entry):
            weights[positions[name]] = max(weights.get(positions[name], 0.0), _LATER if rank else 1.0)
    return weights
