"""Questions that stand alone: who and when are named, added where they are missing, and the page is not spoken of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ragtune.datasets.wording import possessive
from ragtune.documents.names import aliases_of, fold_name
from ragtune.documents.pack import current_pack
from ragtune.documents.packparts import Names
from ragtune.records import Document
from ragtune.retrieval.mentions import NameTable
from ragtune.retrieval.periods import parse_period

_PLACE = r"(?:passage|page|text|excerpt|extract|table|document|context|quote|paragraph|statement above|section above)s?"
_LEAD = re.compile(
    rf"(?:,\s*)?\b(?:according to|based (?:solely |only )?on|as (?:shown|stated|described|mentioned|given|reported) in|"
    rf"from|per|in|on)\s+(?:the|this)\s+(?:(?:given|provided|above|following)\s+)?{_PLACE}(?:\s+above)?\b,?", re.IGNORECASE)
_SPEAKS = re.compile(
    rf"\b(?:this|the (?:given|provided|above|following)|said) {_PLACE}\b|\bthe (?:passage|excerpt|extract|quote)\b|"
    rf"\b(?:shown|listed|mentioned|described|given) (?:above|below)\b", re.IGNORECASE)
_OWNER = re.compile(r"\bthe (?:company|corporation|registrant|firm|organi[sz]ation)(?P<of>['’]s)?(?!\w)", re.IGNORECASE)
_KEEPS_CAPITAL = re.compile(r"(?:I|[A-Z]\w*[A-Z&\d]\w*)\b")
_FIRST = frozenset(
    "what how why which who when where did does do is are was were has have had can will would by as in of for at on to "
    "list name state describe explain give calculate from the".split())


@dataclass(frozen=True)
class Owner:
    """Whom a document is about and which period it covers, as its columns say by the pack in force; '' where they do not."""

    name: str
    period: str
    aliases: str = ""


def owner_of(document: Document) -> Owner:
    """Return whom and when questions on a document must name: the owner's column, else the first column of its title that
    is no number, else the document's name; and its year's column, with the quarter where there is one.
    """
    pack, values = current_pack(), document.metadata
    rules = pack.metadata
    titled = [column for template in rules.title for column in re.findall(r"\{(\w+)\}", template)]
    named = (str(values[column]) for column in (rules.owner.column, *titled)
             if isinstance(values.get(column), str) and values[column] and column != rules.kind)
    year = values.get(rules.year)
    period = pack.wording.periods[0].format(year=year) if year is not None else ""
    if period and values.get(rules.quarter) is not None:
        period = f"Q{values[rules.quarter]} of {period}"
    name = next(named, document.name.replace("_", " "))
    return Owner(name, period, str(values.get("aliases") or ""))


@lru_cache(maxsize=64)
def _names(name: str, aliases: str, names: Names) -> NameTable:
    every = [alias for each in (name, *filter(None, aliases.split("|"))) for alias in aliases_of(each, names)]
    return NameTable({name: every}, names.terms)


def is_owner_named(text: str, owner: Owner) -> bool:
    """Tell whether a question names the owner, by one of its names."""
    if fold_name(owner.name) and fold_name(owner.name) in fold_name(text):
        return True
    mentions = _names(owner.name, owner.aliases, current_pack().names).find(text)
    return any(mention.strength > 0.5 and not mention.is_misspelt for mention in mentions)


def is_period_named(text: str) -> bool:
    """Tell whether a question names a year, a quarter or a date."""
    period = parse_period(text)
    return bool(period.years or period.dates)


def stand_alone(text: str, owner: Owner) -> str:
    """Return the question with owner and period named, the page not spoken of; '' where it speaks of the page all the same.

    ``What drove the company's sales?`` becomes ``In fiscal 2021, what drove Acme's sales?``.
    """
    asked = " ".join(_LEAD.sub(" ", text).split()).strip(" ,")
    asked = re.sub(r"\s+([?.,])", r"\1", asked)
    if len(asked.split()) < 3 or _SPEAKS.search(asked):
        return ""
    if not is_owner_named(asked, owner):
        asked = _OWNER.sub(lambda match: possessive(owner.name) if match["of"] else owner.name, asked, count=1)
    lead = [] if is_owner_named(asked, owner) else [f"for {owner.name}"]
    if owner.period and not is_period_named(asked):
        lead.append(f"in {owner.period}")
    if lead:
        first = asked.split()[0]
        is_plain = first.lower() in _FIRST and not _KEEPS_CAPITAL.match(first)
        said = " ".join(lead)
        asked = f"{said[0].upper()}{said[1:]}, {asked[0].lower() + asked[1:] if is_plain else asked}"
    asked = asked[0].upper() + asked[1:]
    return asked if asked[-1] in "?." else f"{asked}?"
