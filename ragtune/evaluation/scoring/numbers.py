"""Numbers as reports write them: scale words, currency, parentheses, percent; dates and labels left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ragtune.documents.pack import Pack, PackPattern

_SCALES = {
    "thousand": 1e3, "thousands": 1e3, "k": 1e3,
    "million": 1e6, "millions": 1e6, "mm": 1e6, "mn": 1e6, "mln": 1e6, "m": 1e6,
    "billion": 1e9, "billions": 1e9, "bn": 1e9, "bln": 1e9, "b": 1e9,
    "trillion": 1e12, "trillions": 1e12, "tn": 1e12,
}  # fmt: skip
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_LABELS = (
    rf"\b{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?\b(?:\s*,?\s*(?:19|20)\d\d\b)?",  # December 31, 2018
    rf"\b\d{{1,2}}(?:st|nd|rd|th)?\s+{_MONTH}\b\.?(?:\s*,?\s*(?:19|20)\d\d\b)?",  # 31 December 2018
    rf"\b{_MONTH}\.?\s*'\d\d\b",  # Jun'23
    r"\b\d{1,2}/\d{1,2}/(?:\d\d){1,2}\b|\b\d{4}-\d\d-\d\d\b",  # 12/31/2018
    r"\b[qh][1-4]\s*(?:of\s+)?(?:fy)?\s*'?(?:\d{4}|\d\d)?\b|\b[1-4][qh](?:\s*'?\d{2,4})?\b",  # Q2 2023, 2Q23
    r"\bcovid-?19\b",
    r"\b(?:note|item|page|pages|pg\.?|step|section|exhibit|part|topic|level|rule|form|figure|table|passage)"
    r"s?\s+#?\d+(?:[-.]\d+)*[a-z]?\b",
    r"\[\d+(?:\s*[,–-]\s*\d+)*\]",  # citations
    r"(?m:^[ \t]{0,20}(?:\d{1,2}[.)]|\(\d{1,2}\))(?=\s))",  # list ordinals
    r"\b\d{1,3}(?:st|nd|rd|th)\b",
    r"\b\d{1,3}[- ](?:year|month|week|quarter|day|point-in-time)s?\b",
    r"(?<![\w.])\d*[A-Za-z_]+\d[\w-]*",  # names such as MMM26 or A320
)


@lru_cache(maxsize=8)
def _left_out(pack: Pack) -> re.Pattern[str]:
    """Return the pattern of numbers that are no amounts: the pack's names, then what holds everywhere."""
    return re.compile("|".join((*pack.files.answers.names, *_LABELS)), re.IGNORECASE)


_LEFT_OUT = PackPattern(_left_out)
_NUMBER = re.compile(
    r"(?P<open>\(\s{0,9})?(?P<sign>(?<![\w%)\]])[-−–](?=[$€£¥\d.U]))?(?P<currency>(?:US|C|A)?[$€£¥]|\b(?:USD|EUR|GBP)\b)?\s{0,9}"
    r"(?P<inner>\(\s{0,9}|(?<=[$€£¥])[-−–](?=[\d.]))?"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)"
    r"(?P<close>\s{0,9}\))?"
    r"(?:\s{0,9}(?P<percent>%|percent(?:age)?\b(?:\s+points?\b)?|pct\b|pp\b|bps\b|basis\s+points?\b))?"
    r"(?:[\s-]{0,9}(?P<scale>thousands?|millions?|billions?|trillions?|mm|mn|mln|bn|bln|tn|(?<=\d)[kmb])\b)?"
    r"(?P<late>\s{0,9}\)|\$)?",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(?:19|20)\d\d")
_TEX = re.compile(r"\\(?:text|mathrm|mathbf|boxed|left|right)\b|[{}\\*]|~(?=\s*[\d$])")


@dataclass(frozen=True)
class Number:
    """A number in a text.

    ``value`` is as written, sign included, before the scale; ``scale`` is 1 unless a word such as 'million' stands
    beside it. ``is_percent`` covers percent and basis points (for these ``value`` is already in percent).
    ``decimals`` counts the digits after the point that are shown, trailing zeros not counted.
    """

    value: float
    scale: float
    is_percent: bool
    has_currency: bool
    decimals: int
    digits: int
    text: str
    start: int
    end: int

    @property
    def has_scale(self) -> bool:
        """Whether a scale word stands beside the number."""
        return self.scale != 1

    @property
    def step(self) -> float:
        """The last shown digit's worth, in the unit of ``value``."""
        return 10.0**-self.decimals


def parse_scale(text: str) -> float:
    """Return the scale a question or table head asks for ('in USD millions' -> 1e6), else 1."""
    match = re.search(r"\b(thousand|million|billion|trillion)s\b|\bin\s+(?:USD\s+|US\$\s*|\$\s*)?(mm|mn|bn)\b", text, re.I)
    return _SCALES[(match[1] or match[2]).lower()] if match else 1.0


def parse_numbers(text: str, keep_years: bool = False) -> tuple[Number, ...]:
    """Return the numbers of a text in order; dates, periods, form names, list ordinals and citations are left out.

    ``keep_years`` keeps bare years (2018), which otherwise are left out too.
    """
    text = _TEX.sub(lambda match: " " * len(match[0]), text)  # same length: the spans stay true
    text = _LEFT_OUT.sub(lambda match: " " * len(match[0]), text)
    found = []
    for match in _NUMBER.finditer(text):
        place = match.start("digits")
        before, after = text[max(place - 1, 0) : place], text[match.end() : match.end() + 1]
        if (before.isalnum() and not match["currency"]) or (after.isalpha() and not match["scale"] and after not in "xX"):
            continue
        number = _number_of(match)
        is_bare = not (number.has_currency or number.is_percent or number.has_scale)
        if is_bare and _YEAR.fullmatch(match["digits"]) and not keep_years:
            continue
        found.append(number)
    return tuple(found)


def _number_of(match: re.Match[str]) -> Number:
    digits = match["digits"].replace(",", "")
    value = float(digits)
    fraction = digits.partition(".")[2].rstrip("0")
    decimals = len(fraction)
    closed = match["close"] or (match["late"] or "").strip() == ")"
    is_parenthesised = closed and (match["open"] or (match["inner"] or "").startswith("("))
    if match["sign"] or (match["inner"] or "").strip() in ("-", "−", "–") or is_parenthesised:
        value = -value
    percent = (match["percent"] or "").lower()
    if percent.startswith(("bps", "basis")):
        value, decimals = value / 100, decimals + 2
    return Number(
        value=value,
        scale=_SCALES[match["scale"].lower()] if match["scale"] else 1.0,
        is_percent=bool(percent),
        has_currency=bool(match["currency"]) or (match["late"] or "") == "$",
        decimals=decimals,
        digits=len(digits.replace(".", "").strip("0")),
        text=match[0].strip(),
        start=match.start(),
        end=match.end(),
    )
