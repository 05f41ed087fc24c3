"""The calculator: shown calculations such as ``4,210 / 3,900 - 1 = 7.9%`` are evaluated here, never by the model.

A small recursive-descent parser over decimals; nothing is ever passed to ``eval``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext

MAX_FORMULA_CHARACTERS = 240
MAX_TOKENS = 80
MAX_CALCULATIONS = 50
"""A completion that shows more has run away; the rest of it is left as it is."""

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_TOKEN = re.compile(
    rf"\s*(?:(?P<negative>\$?\(\s*\$?\s*{_NUMBER}\s*%?\s*\)%?)|(?P<number>\$?\s*{_NUMBER}\s*%?)|(?P<sign>[-+*/()]))"
)
_FORMULA = "-+*/()$,.% 0123456789"
_BEFORE = re.compile(r"(?:[*/),%]+ *|[-+.]+ +|\d{1,2}[.)] +| +)*")  # bullets, list numbers, the end of a sentence
_RESULT = re.compile(
    rf"[ *]*(?P<result>[-+]?\$?[-+]?{_NUMBER}(?: ?%)?|\$?\(\$?{_NUMBER} ?%?\)%?)(?![\d%]|[,.]\d| *[-+*/] *[\d$(.])"
)
_SCALE = re.compile(r" (?:thousand|million|billion|trillion)")
_TO_PERCENT = re.compile(r"\* *100(?![\d,.%])")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "\u00a0": " ", "\u202f": " "})


class CalculationError(ValueError):
    """A formula that is not plain arithmetic, or has no finite result."""


def evaluate_formula(formula: str) -> Decimal:
    """Return the value of ``+ - * /`` over amounts. A lone amount in parentheses is negative, as in statements.

    Raises CalculationError for anything else, for division by zero, for more than MAX_FORMULA_CHARACTERS and more than
    MAX_TOKENS numbers and signs.
    """
    if len(formula) > MAX_FORMULA_CHARACTERS:
        raise CalculationError(f"a formula of {len(formula)} characters; at most {MAX_FORMULA_CHARACTERS} are evaluated")
    tokens = _tokens(formula.translate(_SIGNS).rstrip())
    if not tokens or len(tokens) > MAX_TOKENS:
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
    while position < len(formula):
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
    """A shown calculation: formula and result as printed, the result as the calculator prints it, and whether they agree.

    The shown result is right where it is the value rounded to its own decimals; a half may go either way. ``start`` is
    where it begins in the text.
    """

    formula: str
    shown: str
    computed: str
    is_right: bool
    start: int


def _compare(formula: str, shown: str, has_scale: bool, start: int) -> Calculation:
    """Return the calculation, its computed result in the form of the shown one: percent, decimals, commas, dollar."""
    plain = formula.translate(_SIGNS)
    value, size = evaluate_formula(plain), parse_amount(shown.replace("%", ""))
    decimals = len(re.sub(r"[^\d.]", "", shown).partition(".")[2])
    with localcontext() as context:
        context.prec = 2 * MAX_FORMULA_CHARACTERS
        step = Decimal(1).scaleb(-decimals)
        scaled = value * _form_of(plain, value, shown, size, has_scale)
        is_right = abs((-size if re.search(r"[-(]", shown) else size) - scaled) <= step / 2
        rounded = scaled.quantize(step, ROUND_HALF_UP)
        size_shown = f"{abs(rounded):,f}"
    sign, dollar = "-" if rounded < 0 else "", "$" if "$" in shown else ""
    return Calculation(formula, shown, f"{sign}{dollar}{size_shown}{'%' if '%' in shown else ''}", is_right, start)


def _form_of(formula: str, value: Decimal, shown: str, size: Decimal, has_scale: bool) -> Decimal:
    """Return what the value is multiplied by to be printed as the shown result is.

    That is 100 for a percentage, unless the formula says ``* 100``. A quotient may be meant as a percentage without its
    sign, and a result before 'billion' come from millions: so they are taken where the sizes say so.
    """
    if "%" in shown:
        return Decimal(1 if _TO_PERCENT.search(formula) else 100)
    others = [Decimal(100)] if "/" in formula else []
    others += [Decimal(10) ** power for power in (-9, -6, -3, 3, 6, 9)] if has_scale else []
    return next((factor for factor in others if size / 3 < abs(value * factor) < size * 3), Decimal(1))


def _each_calculation(text: str, start: int = 0) -> Iterator[Calculation]:
    """Yield the calculations whose result begins after ``start``; what cannot be evaluated is left out.

    A result that goes on as another formula (``= 204 / 1,373 = 14.9%``) is none.
    """
    plain = text.translate(_SIGNS)
    for equals in re.finditer("[=≈]", plain[start:]):
        end = start + equals.start()
        result = _RESULT.match(plain, end + 1)
        if result is None or len(result["result"]) > MAX_FORMULA_CHARACTERS:
            continue
        window = max(0, end - MAX_FORMULA_CHARACTERS)
        begin = window + len(plain[window:end].rstrip(_FORMULA))
        if begin == window > 0:  # a formula longer than can be evaluated
            continue
        before = _BEFORE.match(plain, begin, end)
        formula = text[before.end() if before else begin : end].strip()
        if not re.search(r"[-+*/×÷−–]", formula[1:]):
            continue
        try:
            has_scale = bool(_SCALE.match(plain, result.end()))
            calculation = _compare(formula, result["result"], has_scale, result.start("result"))
        except (CalculationError, InvalidOperation):
            continue
        yield calculation


def find_calculations(text: str) -> tuple[Calculation, ...]:
    """Return the calculations a text shows, MAX_CALCULATIONS at most; those that cannot be evaluated are left out."""
    return tuple(itertools.islice(_each_calculation(text), MAX_CALCULATIONS))


def recompute(text: str) -> tuple[str, tuple[Calculation, ...]]:
    """Return the text with every wrong result replaced by the computed one, there and later on, and the calculations.

    Later formulas are evaluated with the replaced results. MAX_CALCULATIONS at most are looked at.
    """
    found: list[Calculation] = []
    start = 0
    while len(found) < MAX_CALCULATIONS and (calculation := next(_each_calculation(text, start), None)):
        found.append(calculation)
        start = calculation.start
        if not calculation.is_right:
            text = text[:start] + _replace_result(text[start:], calculation)
    return text, tuple(found)


def _replace_result(text: str, calculation: Calculation) -> str:
    """Return the text with the shown result as computed, wherever it is said; its sign changes where the result's did."""
    shown, computed = (re.sub(r"[^\d,.]", "", result) for result in (calculation.shown, calculation.computed))
    is_negative = calculation.computed.startswith("-")
    is_flipped = is_negative != bool(re.search(r"[-(]", calculation.shown))
    mention = re.compile(
        rf"(?<![\d,.])(?P<open>\(?)(?P<sign>(?:\$?[-−])?)(?P<dollar>\$?){re.escape(shown)}(?!\d|[,.]\d)"
        rf"(?P<percent>{' ?%' if '%' in calculation.shown else ''})(?P<close>\)?)"
    )

    def rewrite(match: re.Match[str]) -> str:
        opened, closed = match["open"], match["close"]
        dollar = "$" if "$" in match["sign"] + match["dollar"] else ""
        minus = "-" if match["sign"] else ""
        if is_flipped:
            minus = "-" if is_negative else ""
            if opened and closed and not is_negative:  # an amount in parentheses was a negative one
                opened = closed = ""
        return f"{opened}{minus}{dollar}{computed}{match['percent']}{closed}"

    return mention.sub(rewrite, text)
