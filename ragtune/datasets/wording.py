"""How generated questions are worded, by the pack in force: names of lines, periods, amounts with their unit."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from ragtune.datasets.facts import Fact, is_deducted
from ragtune.documents.pack import PackPattern, current_pack
from ragtune.documents.statements import is_paid_out

_OWN_NAME = PackPattern(lambda pack: pack.facts.own_name)


@dataclass(frozen=True)
class Asked:
    """A line as a question calls it: ``net sales`` with the verb ``were``."""

    phrase: str
    be: str

    @property
    def present(self) -> str:
        """The verb in the present."""
        return "is" if self.be == "was" else "are"


def call_line(fact: Fact, draw: random.Random) -> Asked:
    """Return one of the names of a line: its own, or with even chances another where the table of terms has one.

    A label that says more than the other names do (``used in``, ``non-current``) keeps its own.
    """
    own = _own_name(fact.label)
    others = next((term.names for term in current_pack().terms if term.names_row(fact.label)), ())
    others = () if _OWN_NAME.search(fact.label) else others
    return _asked(draw.choice(others) if others and draw.random() < 0.5 else own)


def call_as_printed(fact: Fact) -> Asked:
    """Return the name that a line has in its document."""
    return _asked(_own_name(fact.label))


def _asked(name: str) -> Asked:
    return Asked(name.removesuffix("*"), "were" if name.endswith("*") else "was")


def _own_name(label: str) -> str:
    own = lower_first(label)
    head = re.split(r" (?:of|to|on|from|for|before|at|by|in|under|with|within|per|as) |, | ?\(", own)[0].strip()
    return own + ("*" if head.endswith("s") and not head.endswith("ss") else "")


def lower_first(label: str) -> str:
    """Return the label with a small first letter, unless the word is an abbreviation or a name in capitals.

    A title, all of whose longer words have a capital, gets small letters throughout.
    """
    if label.isupper():
        return label.lower()
    long = re.findall(r"[A-Za-z]{4,}", label)
    is_title = len(long) > 1 and all(word[0].isupper() for word in long)
    first, space, rest = label.partition(" ")
    return _lower_words(label) if is_title else _lower_words(first) + space + rest


def _lower_words(text: str) -> str:
    return re.sub(r"(?<![\w&'’.-])[A-Z][a-z]+(?![\w&])|^[A-Z](?= )", lambda match: match[0].lower(), text)


def possessive(name: str) -> str:
    """Return the name with an apostrophe, and an s where the name ends without one."""
    return name + ("'" if name.endswith("s") else "'s")


def ask_amount(asked: Asked, company: str, year: str, is_balance: bool, draw: random.Random, unit: str = "") -> str:
    """Return one of the ways to ask for an amount; what has no answer is asked in the same ways."""
    rules = current_pack().wording
    period = draw.choice(rules.periods).format(year=year)
    hint = rules.hint.format(unit=unit) if unit and draw.random() < 0.2 else ""
    return draw.choice(rules.balances if is_balance else rules.flows).format(
        be=asked.be, present=asked.present, owner=possessive(company), name=company, phrase=asked.phrase, period=period,
        year=year, hint=hint)


def read_value(fact: Fact, year: str) -> float:
    """Return the value of a printed amount; what is paid out or taken off counts as positive, as people ask for it."""
    printed = fact.amount(year)
    value = float(re.sub(r"[^\d.]", "", printed))
    is_negative = printed.startswith("(") and not is_paid_out(fact.label) and not is_deducted(fact.label)
    return -value if is_negative else value


def decimals(fact: Fact) -> int:
    """Return with how many decimals a row's amounts are printed."""
    return max((len(re.sub(r"[^\d.]", "", a).partition(".")[2]) for _, a in fact.cells if re.search(r"\d", a)), default=0)


def is_money(fact: Fact) -> bool:
    """Tell whether a row's amounts are counted in its table's unit: no percentages, no amounts a share."""
    return bool(fact.unit) and show_answer(fact, 1.0).endswith(fact.unit.removesuffix("s"))


def show_number(fact: Fact, value: float) -> str:
    """Return a value as a calculation writes it: with the row's decimals, a minus for a negative one."""
    return f"{value:,.{decimals(fact)}f}"


def show_answer(fact: Fact, value: float) -> str:
    """Return an answer with its unit: ``$4,210 million``, ``-$310 million``, ``$3.05``, ``41.2%``."""
    number, sign = show_number(fact, abs(value)), "-" if value < 0 else ""
    if "%" in fact.cells[0][1] or any("%" in amount for _, amount in fact.cells):
        return f"{sign}{number}%"
    rules = current_pack().wording
    if rules.whole_amounts and re.search(rules.whole_amounts, fact.label, re.IGNORECASE):
        return f"{sign}{rules.currency}{number}"
    return f"{sign}{rules.currency}{number} {fact.unit.removesuffix('s')}".rstrip()
