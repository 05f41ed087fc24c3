"""Lines of a justification: statement rows as passages show them, and calculations, also as other data sets write them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ragtune.answering.calculate import find_calculations

RESTATED = re.compile(r"^\S.*\b(?:19|20)\d\d: [-(—–]*[\d,.]*[)%]*$")
CALCULATION = re.compile(r"^[-(\d][-\d,.%/*+() ]* = -?[\d,.]+%?$")
_SIGNS = {"add": ("+", 1), "subtract": ("-", 1), "multiply": ("*", 2), "divide": ("/", 2)}
_ATOM = 3  # how tightly a number binds; sums 1, products 2
_STEP = re.compile(r"\s*(\w+)\(([^(),]*),([^(),]*)\)\s*(?:,|$)")
_CONSTANT = re.compile(r"const_(m?)(\d+)")
_PLAIN = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)%?")
_STATED = re.compile(r"-?\d+(?:,\d+)*(?:\.\d+)?")
_PRINTED = re.compile(r"\d+(?:,\d+)*(?:\.\d+)?")
_MINUS = str.maketrans({"−": "-", "–": "-", "×": "*", "÷": "/", "[": "(", "]": ")"})


def render_program(program: str, stated: str, texts: Iterable[str] = ()) -> str:
    """Return a FinQA program as a calculation line with the stated result, or '' where it is no plain arithmetic.

    ``subtract(5829, 5735), divide(#0, 5735)`` and ``1.6%`` give ``(5,829 - 5,735) / 5,735 = 1.6%``: ``#0`` is the first
    step's result, ``const_100`` the number 100, and numbers are written as ``texts`` print them. A line whose result is
    not what the calculation gives is left out too.
    """
    printed = {number.replace(",", ""): number for text in texts for number in _PRINTED.findall(text)}
    steps: list[tuple[str, int]] = []
    position = 0
    while match := _STEP.match(program, position):
        position = match.end()
        sign, level = _SIGNS.get(match[1], ("", 0))
        left, right = (_operand(text.strip(), steps, printed) for text in match.groups()[1:])
        if not sign or left is None or right is None:
            return ""
        needs = level + (sign in "-/")  # a - (b - c), a / (b / c)
        steps.append((f"{_wrap(left, level)} {sign} {_wrap(right, needs)}", level))
        if len(steps[-1][0]) > 500:  # steps that double each other
            return ""
    return render_formula(steps[-1][0], stated) if steps and not program[position:].strip() else ""


def _operand(text: str, steps: list[tuple[str, int]], printed: dict[str, str]) -> tuple[str, int] | None:
    """Return an operand as text and how tightly it binds; None for one that is no number."""
    if re.fullmatch(r"#\d{1,3}", text):
        return steps[int(text[1:])] if int(text[1:]) < len(steps) else None
    if constant := _CONSTANT.fullmatch(text):
        return ("-" if constant[1] else "") + constant[2], _ATOM
    if not _PLAIN.fullmatch(text):
        return None
    number = _PRINTED.search(text)
    return (text.replace(number[0], printed.get(number[0], number[0])) if number else text), _ATOM


def _wrap(operand: tuple[str, int], level: int) -> str:
    text, own = operand
    return f"({text})" if own < level else text


def render_formula(formula: str, stated: str) -> str:
    """Return ``formula = stated`` as a calculation line, or '' where it is none or the result is another.

    Of ``stated`` the number counts and whether it is a percentage; words such as 'million' and the currency do not.
    """
    formula = re.sub(r"\s*([-+*/])\s*", r" \1 ", formula.translate(_MINUS).replace("$", "").strip())
    formula = re.sub(r"^ - |(?<=[(*/+-]) - |(?<=[-+*/] ) - ", "-", formula).replace("( ", "(").replace(" )", ")").strip()
    numbers = _STATED.findall(stated.translate(_MINUS).replace("$", "").replace("- ", "-"))
    if len(numbers) != 1:
        return ""
    line = f"{formula} = {numbers[0]}{'%' if re.search('%|percent', stated, re.IGNORECASE) else ''}"
    found = find_calculations(line) if CALCULATION.match(line) else ()
    return line if len(found) == 1 and found[0].is_right and found[0].formula == formula else ""
