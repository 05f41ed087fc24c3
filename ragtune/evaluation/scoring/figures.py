"""Do an answer's figures meet the reference's? Scale, percent against ratio, sign, and the digits the reference shows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from ragtune.evaluation.scoring.numbers import Number, parse_numbers
from ragtune.evaluation.scoring.wording import direction_of, final_part, speaks_of_less, split_sentences
from ragtune.records import Question

MIN_DIGITS = 3
"""Significant digits that a figure in a larger scale than the reference's must show: 4.11 billion for 4,114 million."""
_CHANGE = re.compile(r"\bchang|\bdiffer|\bgr[oe]w|\byear[- ]over[- ]year|\bhigher or lower", re.IGNORECASE)
_SCALED = r"[^\s,;]\S*(?: (?:thousand|million|billion|trillion))?"
_MOVE = re.compile(
    rf"\b(?P<verb>rose|grew|increased|improved|fell|declined|decreased|dropped) from (?P<before>{_SCALED})"
    rf" to (?P<after>{_SCALED})",
    re.IGNORECASE,
)


def last_numbers(text: str, keep_years: bool = False) -> tuple[tuple[Number, ...], str]:
    """Return the numbers of the last sentence that holds one, and that sentence."""
    for sentence in reversed(split_sentences(final_part(text))):
        if numbers := parse_numbers(sentence, keep_years):
            return numbers, sentence
    return (), ""


def signs_agree(gold: Number, answer: Number, question: Question, sentence: str) -> bool:
    """Whether the signs agree as people take them.

    A positive amount may be printed as an outflow, in parentheses, unless the question is about a change: there, and for
    percentages, the sign is half of the answer. A sign may be said in words instead, by the answer ('fell by 5%') or by the
    question ('by how much did it fall?').
    """
    if (gold.value < 0) == (answer.value < 0) or 0 in (gold.value, answer.value):
        return True
    is_change = bool(_CHANGE.search(question.text))
    if answer.value < 0 and not gold.is_percent and not is_change:
        return True
    said = sentence if gold.value < 0 else question.answer
    return speaks_of_less(said) or speaks_of_less(question.text)


def _values(number: Number, scale: float, wants_percent: bool) -> list[tuple[float, float, str]]:
    """Return what a number may mean, as (value, step of its last digit, remark), the plain meaning first."""
    if number.is_percent:
        return [(number.value / 100, number.step / 100, "")]
    if number.has_scale:
        return [(number.value * number.scale, number.step * number.scale, "")]
    meanings = [(number.value * scale, number.step * scale, "")]
    if scale != 1:
        meanings.append((number.value, number.step, "as a full amount"))
    if wants_percent:
        meanings.append((number.value / 100, number.step / 100, "as a percentage"))
    return meanings


def _agree(gold: float, gold_step: float, value: float) -> bool:
    """Whether a value rounds to the reference's shown digits, signs aside."""
    slack = 1e-6 * gold_step + 4e-16 * abs(gold)  # only what floats lose
    return abs(abs(gold) - abs(value)) <= gold_step / 2 + slack


def match_number(gold: Number, answer: Number, scale: float, wants_percent: bool) -> str | None:
    """Return the remark on how the answer's number meets the reference ('' for plainly), or None where it does not.

    ``scale`` is what the question asks for (1e6 for 'in USD millions'), used where no scale is said.
    """
    for gold_value, gold_step, _ in _values(gold, scale, wants_percent):
        for value, _, remark in _values(answer, scale, wants_percent or gold.is_percent):
            if _agree(gold_value, gold_step, value):
                return remark
    if answer.has_scale and answer.digits >= MIN_DIGITS and not gold.is_percent:
        gold_value, gold_step, _ = _values(gold, scale, wants_percent)[0]
        value, step, _ = _values(answer, scale, False)[0]
        if step > gold_step and answer.scale > (gold.scale if gold.has_scale else scale) and _agree(value, step, gold_value):
            return "rounded in a larger scale"
    if gold.has_scale and not (answer.has_scale or answer.is_percent) and _agree(gold.value, gold.step, answer.value):
        return "the scale is not said"
    return None


def wants_percent_of(question: Question) -> bool:
    return bool(re.search(r"%|\bpercent|\bmargin\b|\brate\b", question.text, re.IGNORECASE)) or "%" in question.answer


def contradicted_move(text: str) -> str:
    """Return the first 'fell from 1,341 to 1,510' of the text: a move its own figures go against; '' where there is none."""
    for match in _MOVE.finditer(text):
        before, after = (parse_numbers(match[part]) for part in ("before", "after"))
        if len(before) == len(after) == 1 and before[0].scale == after[0].scale:
            rise = after[0].value - before[0].value
            if rise * direction_of(match["verb"]) < 0:
                return match[0]
    return ""


def sort_of(number: Number) -> str:
    return "percent" if number.is_percent else "money" if number.has_currency or number.has_scale else "count"


def is_derived(gold: Number, said: Sequence[Number]) -> bool:
    """Whether the reference's figure is the difference or the relative change of two neighbouring figures of the answer.

    The slack is what rounding of the shown digits allows: 49.8 to 47.2 may be a fall of 2.5.
    """
    for before, after in itertools.pairwise(said):
        if sort_of(before) != sort_of(after) or (before.is_percent and not gold.is_percent):
            continue
        first, second = before.value * before.scale, after.value * after.scale
        slack = (before.step * before.scale + after.step * after.scale) / 2
        wanted, step = abs(gold.value) * gold.scale, gold.step * gold.scale
        if first != second and abs(abs(first - second) - wanted) <= slack + step / 2 and slack < wanted / 5:
            return True
        if gold.is_percent and not before.is_percent and first and abs(100 * abs(second / first - 1) - wanted) <= step / 2:
            return True
    return False
