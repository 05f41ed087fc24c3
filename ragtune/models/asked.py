"""What a question about figures asks: its kind, the rows it names and the years, read by rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ragtune.documents.pack import current_pack
from ragtune.documents.packfile import MeasureEntry

_YEAR = re.compile(r"\b(?:FY\s?['’]?|fiscal\s+)?((?:19|20)\d\d)\b|\b(?:FY\s?['’]?|fiscal ['’])(\d\d)\b", re.IGNORECASE)
_DATE = re.compile(
    r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December) \d{1,2}\b,?", re.I)
_TEMPLATE = re.compile(
    r"\byear-over-year\b|"
    r"\b(?:what|was|were|is|are|did|does|do|how much|according to the \w+|state|calculate|compute|give|amount of|as of|over"
    r"|to|report(?:ed)?|(?:in |usd |us |\$ ?)*(?:thousands|millions|billions|dollars)|years?"
    r"|during|(?:at the )?(?:year.)?end(?:ed)?|based on.*|round.*|answer.*|please|compared (?:with|to)|versus|between|from"
    r"|than|by how|many|percent|much|in terms|relative)\b|[?$%:]",
    re.IGNORECASE,
)
_EDGES = re.compile(  # what is left of a sentence around a name
    r"^(?:\W+|(?:the|in|of|for|at|on|an?|its)\b)+|(?:\s(?:the|in|of|for|at|on|an?|its)\b|[\s,.;'’-])+$", re.IGNORECASE)
_OUT_OF_REACH = re.compile(
    r"^\W*(?:why|which|who|when|where|describe|explain|list|how (?:did|does|is|are|was|has|have)|name|has|have|does)\b|"
    r"\b(?:(?<!weighted[ -])average|cumulative|drove|drivers?)\b", re.IGNORECASE)
_QUARTER = re.compile(r"\bQ[1-4]\b|\bquarter", re.IGNORECASE)
_MORE = re.compile(r"\b(?:increas\w*|r[io]se|gr[oe]w\w*|higher|greater|larger|more|above|exceed\w*|improv\w*)\b", re.I)
_LESS = re.compile(r"\b(?:decreas\w*|declin\w*|f[ae]ll\w*|lower|smaller|(?<!, )less|below|drop\w*|shr[aiu]nk)\b", re.I)
_GROWTH = re.compile(
    r"(?:percent\w*|%|\bgrowth|year-over-year) (?:\w+ )?(?:change|growth|rate|increase|decrease)|growth rate|"
    r"\b(?:what|how many) percent\w*.*\b(?:change|grow|increase|decrease|rise|fall|decline)|growth (?:of|in)\b|"
    r"\b(?:change|grow|increase|decrease|rise|fall|decline)\b.*\bin (?:percent|%)", re.I)
_GROWTH_WORDS = re.compile(
    r"\b(?:percent(?:age)?|growth|rate|change[ds]?|grow|increased?|decreased?|rise|fall|declined?|of|in)\b", re.IGNORECASE
)
_DIFFERENCE = re.compile(
    r"\bby how much\b|what (?:was|is) the (?:absolute )?(?:change|difference) (?:in|between)\b|"
    r"how much (?:higher|lower|more|less)", re.IGNORECASE)
_DIFFERENCE_WORDS = re.compile(
    r"how much (?:higher or lower|more or less|higher|lower|more|less)|\b(?:absolute|change|difference)\b|"
    r"\b(?:increase|decrease)\b *$", re.IGNORECASE)
_BALANCE = re.compile(r"\bas of\b|\bend of\b|\byear.end\b", re.IGNORECASE)
_AFTER_NAME = re.compile(r"^(?:,? (?:(?:& )?[A-Z][a-z]+|plc)\b\.?)*['’]?s?\b")
_PAIRS: tuple[tuple[str, re.Pattern[str], tuple[int, int]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE), order) for kind, pattern, order in (
        ("ratio", r"\(([^()]+?) divided by ([^()]+?)\)", (1, 2)),
        ("margin", r"\(([^()]+?) as an? percent\w* of ([^()]+?)\)", (1, 2)),
        ("ratio", r"ratio of (.+?) to (.+)$", (1, 2)),
        ("ratio", r"(?:what (?:is|was)|,|^) ?([^,]+?) divided by (.+)$", (1, 2)),
        ("margin", r"(?:calculate|what (?:is|was|were))(.+?) as an? (?:percent\w*|share|%) of (.+)$", (1, 2)),
        ("margin", r"what (?:percent\w*|share) of (.+?) (?:was|were|is|are|did)\b(.+)$", (2, 1)),
        ("versus", r"(?:was|were|is|are)\b(.+?)\b(?:greater|larger|smaller|higher|lower|less|more|above|below)\b(?: than)?"
                   r" (?:its|their|the)\b(.+)$", (1, 2)),
    )
)


@lru_cache(maxsize=16)
def _any_word(words: tuple[str, ...]) -> re.Pattern[str]:
    """Return the pattern of some whole words; of none it matches nothing."""
    return re.compile(rf"\b(?:{'|'.join(words) or '(?!)'})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A question taken apart. ``kind``: lookup, growth, difference, ratio, margin, compare, versus; '' is out of reach.

    ``names`` are the rows it names (two for ratio, margin and versus); ``whole`` are the words of a ratio that a row may
    print itself, such as gross margin. ``years`` go from the latest on; ``is_balance`` says that an end of year is asked.
    """

    kind: str
    names: tuple[str, ...]
    whole: str
    years: tuple[str, ...]
    is_more: bool = True
    is_quarterly: bool = False
    is_balance: bool = False


def parse_question(question: str, companies: Sequence[tuple[int, int]] = ()) -> Asked:
    """Return what a question asks. ``companies`` are the spans of company names, which name no row."""
    text = question
    for start, end in sorted(companies, reverse=True):
        text = f"{text[:start].removesuffix(' of ').removesuffix(' for ')} {_AFTER_NAME.sub('', text[end:])}"
    years = [match[1] or f"20{match[2]}" for match in _YEAR.finditer(text)]
    text = _DATE.sub(" ", _YEAR.sub(" ", text)).rstrip(" ?.")
    bare = " ".join(text.split())
    kind, names, is_known = _find_kind(bare, len(set(years)))
    return Asked(
        kind=kind,
        names=tuple(_name(name) for name in names),
        whole=_name(bare) if is_known else "",
        years=tuple(sorted(set(years), reverse=True)),
        is_more=_last(_MORE, bare) >= _last(_LESS, bare),
        is_balance=bool(_BALANCE.search(question)),
        is_quarterly=bool(_QUARTER.search(question)),
    )


def _last(pattern: re.Pattern[str], text: str) -> tuple[int, int]:
    """Return the span of the last match, (-1, -1) without one."""
    return max((match.span() for match in pattern.finditer(text)), default=(-1, -1))


def _find_kind(text: str, years: int) -> tuple[str, tuple[str, ...], bool]:
    """Return the kind of a question without companies and years, the names of rows, and whether a measure gave them."""
    is_percent = bool(re.search(rf"percent|%|{current_pack().wording.percent}", text, re.IGNORECASE))
    for kind, pattern, (first, second) in _PAIRS:
        match = pattern.search(text)
        if match and _name(match[first]) and _name(match[second]):
            is_margin = kind == "ratio" and is_percent and "ratio" not in text
            return "margin" if is_margin else kind, (match[first], match[second]), False
    if _OUT_OF_REACH.search(text) or _any_word(current_pack().wording.beyond).search(text):
        return "", (text,), False
    if _GROWTH.search(text):
        return "growth", (_GROWTH_WORDS.sub(" ", text),), False
    if _DIFFERENCE.search(text) and not (years == 1 and "by how" not in text.lower()):
        return "difference", (_DIFFERENCE_WORDS.sub(" ", text),), False
    start, end = max(_last(_MORE, text), _last(_LESS, text))
    if start >= 0 and re.match(r"(?:in |for |at |as of )?[ ,]*(?:did|was|were|is|are)\b", text, re.IGNORECASE):
        return "compare", (f"{text[:start]} {text[end:]}",), False
    if measure := _find_quotient(text):
        return "margin" if measure.quotient == "percent" else "ratio", measure.needs[:2], True
    return "lookup", (text,), False


def _find_quotient(text: str) -> MeasureEntry | None:
    """Return the pack's measure with the longest name in a text, of those that are one row divided by another."""
    found = [(len(match[0]), -position, measure.entry) for position, measure in enumerate(current_pack().measures)
             if measure.entry.quotient and (match := measure.asked_loosely.search(text))]
    return max(found)[2] if found else None


def _name(text: str) -> str:
    """Return the words of a question that may name a row."""
    words = re.sub(r"\([^()]*\)", " ", text)
    words = _any_word(current_pack().wording.around).sub(" ", _TEMPLATE.sub(" ", words))
    return _EDGES.sub("", " ".join(words.split()))
