"""The calculator: shown calculations such as ``4,210 / 3,900 - 1 = 7.9%`` are evaluated here, never by the model.

A small recursive-descent parser over decimals; nothing is ever passed to ``eval``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(rf"\s*(?:(?P<negative>\(\s*\$?\s*(?:{_NUMBER})\s*\))|(?P<number>\$?(?:{_NUMBER})%?)|(?P<sign>[-+*/()]))")
_LINE = re.compile(
    rf"(?P<formula>[-+(\d$.][-+*/()\d$,.% ×÷−–]*[-+*/×÷−–][-+*/()\d$,.% ×÷−–]*?) *= *"
    rf"(?P<result>[-−]?\$?(?:{_NUMBER})%?|\(\$?(?:{_NUMBER})\)%?)"
)
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-"})


class CalculationError(ValueError):
    """A formula that is not plain arithmetic, or has no finite result."""


def evaluate_formula(formula: str) -> Decimal:
    """Return the value of ``+ - * /`` over amounts. A lone amount in parentheses is negative, as in statements.

    Raises CalculationError for anything else, for division by zero and for more than 40 terms.
    """
    tokens = _tokens(formula.translate(_SIGNS))
    if not tokens or len(tokens) > 80:
        raise CalculationError(f"'{formula}' is not a short arithmetic formula")
    with localcontext() as context:
        context.prec = 28
        try:
            value, rest = _sum(tokens)
        except (DivisionByZero, InvalidOperation, Overflow) as error:
            raise CalculationError(f"'{formula}' has no finite result") from error
    if rest:
        raise CalculationError(f"'{formula}': '{rest[0]}' is out of place")
    return value


def _tokens(formula: str) -> list[str | Decimal]:
    tokens: list[str | Decimal] = []
    position = 0
    while position < len(formula.rstrip()):
        match = _TOKEN.match(formula, position)
        if not match:
            raise CalculationError(f"'{formula}' holds something that is neither a number nor + - * / ( )")
        if match["negative"]:
            tokens.append(-parse_amount(match["negative"]))
        else:
            tokens.append(parse_amount(match["number"]) if match["number"] else match["sign"])
        position = match.end()
    return tokens


def parse_amount(text: str) -> Decimal:
    """Return the size of an amount as printed, without its sign; a percentage as its hundredth."""
    value = Decimal(re.sub(r"[^\d.]", "", text))
    return value / 100 if "%" in text else value


Tokens = list["str | Decimal"]


def _sum(tokens: Tokens) -> tuple[Decimal, Tokens]:
    value, tokens = _product(tokens)
    while tokens and tokens[0] in ("+", "-"):
        sign, (right, rest) = tokens[0], _product(tokens[1:])
        value, tokens = (value + right if sign == "+" else value - right), rest
    return value, tokens


def _product(tokens: Tokens) -> tuple[Decimal, Tokens]:
    value, tokens = _factor(tokens)
    while tokens and tokens[0] in ("*", "/"):
        sign, (right, rest) = tokens[0], _factor(tokens[1:])
        value, tokens = (value * right if sign == "*" else value / right), rest
    return value, tokens


def _factor(tokens: Tokens) -> tuple[Decimal, Tokens]:
    if not tokens:
        raise CalculationError("the formula ends too early")
    first, rest = tokens[0], tokens[1:]
    if isinstance(first, Decimal):
        return first, rest
    if first == "-":
        value, rest = _factor(rest)
        return -value, rest
    if first == "(":
        value, rest = _sum(rest)
        if not rest or rest[0] != ")":
            raise CalculationError("a parenthesis is not closed")
        return value, rest[1:]
    raise CalculationError(f"'{first}' is out of place")


@dataclass(frozen=True)
class Calculation:
    """A shown calculation: formula and result as printed, and the result as the calculator prints it."""

    formula: str
    shown: str
    computed: str

    @property
    def is_right(self) -> bool:
        """Whether the shown result is the computed one at its printed precision."""
        return _plain(self.shown) == _plain(self.computed)


def _plain(text: str) -> str:
    return re.sub(r"[\s$,]", "", text.translate(_SIGNS))


def _in_form_of(value: Decimal, shown: str) -> str:
    """Print a value in the form of another: as a percentage or not, with the same decimals and thousands commas."""
    scaled = value * 100 if "%" in shown else value
    decimals = len(re.sub(r"[^\d.]", "", shown).partition(".")[2])
    number = f"{abs(scaled):,.{decimals}f}"
    is_negative = scaled < 0 and any(digit in number for digit in "123456789")
    dollar = "$" if "$" in shown else ""
    return f"{'-' if is_negative else ''}{dollar}{number}{'%' if '%' in shown else ''}"


def find_calculations(text: str) -> tuple[Calculation, ...]:
    """Return the calculations a completion shows; those that cannot be evaluated are left out."""
    found = []
    for match in _LINE.finditer(text):
        try:
            value = evaluate_formula(match["formula"])
            found.append(Calculation(match["formula"].strip(), match["result"], _in_form_of(value, match["result"])))
        except (CalculationError, InvalidOperation):
            continue
    return tuple(found)


def recompute(text: str) -> tuple[str, int]:
    """Return the text with every wrong result replaced by the computed one, there and later on, and how many were."""
    wrong = [calculation for calculation in find_calculations(text) if not calculation.is_right]
    for calculation in wrong:
        start = text.find(calculation.formula) + len(calculation.formula)
        result = re.compile(rf"(?<![\d,.])[-−]?(\$?){re.escape(calculation.shown.lstrip('-−$'))}(?!\d|[,.]\d)")
        sign, size = ("-", calculation.computed[1:]) if calculation.computed[0] == "-" else ("", calculation.computed)
        text = text[:start] + result.sub(rf"{sign}\g<1>{size.lstrip('$')}", text[start:])
    return text, len(wrong)
