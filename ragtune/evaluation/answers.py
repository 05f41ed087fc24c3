"""Scoring an answer against its reference: correct, wrong or refused, with a reason a person can read. No model needed.

The rules were chosen by their agreement with people on published answers to questions about filings
(scripts/bench_scorer.py measures it): the figure in the last sentence that holds one decides, it must round to the
reference's shown digits, a scale that is said beats the scale the question asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from ragtune.evaluation.numbers import Number, parse_numbers, parse_scale
from ragtune.evaluation.wording import (
    MIN_REFUSAL_SIGNS,
    YES_NO,
    content_words,
    direction_of,
    final_part,
    find_choice,
    is_refusal_text,
    polarity_of,
    refusal_signs,
    speaks_of_less,
    split_sentences,
)
from ragtune.records import Outcome, Question, Score

METRIC = "answer"
MIN_RECALL = 0.5
CONFIDENCE = {"none": 0.95, "number": 0.95, "yes_no": 0.85, "text": 0.85}
_FIGURES_ASKED = re.compile(r"\bhow (much|many)\b|\bamount\b|\bhow did\b|\bratio\b", re.IGNORECASE)
_CHANGE = re.compile(r"\bchang|\bdiffer|\bgr[oe]w|\byear[- ]over[- ]year|\bhigher or lower", re.IGNORECASE)
_SCALED = r"[^\s,;]\S*(?: (?:thousand|million|billion|trillion))?"
_MOVE = re.compile(
    rf"\b(?P<verb>rose|grew|increased|improved|fell|declined|decreased|dropped) from (?P<before>{_SCALED})"
    rf" to (?P<after>{_SCALED})",
    re.IGNORECASE,
)
GoldKind = Literal["none", "number", "yes_no", "text"]


def score_answer(question: Question, answer_text: str, is_refusal: bool | None = None) -> Score:
    """Return the outcome of an answer as a Score (metric 'answer', value 1 where correct) with the reason.

    ``is_refusal`` True says that the answerer declared a refusal; otherwise the text is searched for one. An unanswerable
    question (empty reference) is answered correctly by a refusal and by nothing else.
    """
    refuses = bool(is_refusal) or is_refusal_text(answer_text)
    kind = kind_of_gold(question)
    if kind == "none":
        found: tuple[Outcome, str] = (
            ("correct", "refused, and the documents hold no answer")
            if refuses
            else ("wrong", "answered, though the documents hold no answer")
        )
    elif not answer_text.strip():
        found = ("refused", "empty answer")
    elif refuses:
        found = ("refused", "says that it cannot answer")
    elif kind == "number":
        found = _score_number(question, answer_text)
    elif kind == "yes_no":
        found = _score_yes_no(question, answer_text)
    else:
        found = _score_text(question, answer_text)
    outcome, reason = found
    return Score(METRIC, 1.0 if outcome == "correct" else 0.0, reason, question.id, outcome, CONFIDENCE[kind])


def kind_of_gold(question: Question) -> GoldKind:
    """Return what the reference answer is: none, a number with few words around it, yes/no, or text."""
    gold = question.answer.strip()
    if not gold:
        return "none"
    if YES_NO.match(gold):
        return "yes_no"
    numbers = parse_numbers(gold, keep_years=True)
    return "number" if len(numbers) == 1 and len(content_words(_without(gold, numbers))) <= 2 else "text"


def _without(text: str, numbers: Iterable[Number]) -> str:
    for number in numbers:
        text = text[: number.start] + " " * (number.end - number.start) + text[number.end :]
    return text


def last_numbers(text: str, keep_years: bool = False) -> tuple[tuple[Number, ...], str]:
    """Return the numbers of the last sentence that holds one, and that sentence."""
    for sentence in reversed(split_sentences(final_part(text))):
        if numbers := parse_numbers(sentence, keep_years):
            return numbers, sentence
    return (), ""


def _signs_agree(gold: Number, answer: Number, question: Question, sentence: str) -> bool:
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
    if gold.has_scale and not (answer.has_scale or answer.is_percent) and _agree(gold.value, gold.step, answer.value):
        return "the scale is not said"
    return None


def _wants_percent(question: Question) -> bool:
    return bool(re.search(r"%|\bpercent|\bmargin\b|\brate\b", question.text, re.IGNORECASE)) or "%" in question.answer


def _score_number(question: Question, text: str) -> tuple[Outcome, str]:
    gold = (parse_numbers(question.answer) or parse_numbers(question.answer, keep_years=True))[0]
    is_year = not parse_numbers(question.answer)
    numbers, sentence = last_numbers(text, keep_years=is_year)
    if not numbers:
        if refusal_signs(text):
            return "refused", "gives no number and says that something is missing"
        return "wrong", f"no number; the reference is {question.answer.strip()}"
    scale, percent = parse_scale(question.text), _wants_percent(question)
    for number in numbers:
        remark = match_number(gold, number, scale, percent)
        if remark is not None and _signs_agree(gold, number, question, sentence):
            return "correct", f"{number.text} agrees with {gold.text}" + (f" ({remark})" if remark else "")
    shown = ", ".join(number.text for number in numbers[-3:])
    return "wrong", f"{shown} instead of {gold.text}"


def _score_yes_no(question: Question, text: str) -> tuple[Outcome, str]:
    wanted, said = polarity_of(question.answer), polarity_of(text, question.text)
    is_plain = bool(YES_NO.match(final_part(text)))
    if not is_plain and refusal_signs(text) >= MIN_REFUSAL_SIGNS - 1:
        return "refused", "says neither yes nor no, and that something is missing"
    if said is None:
        return _score_text(question, text)
    if said != wanted:
        return "wrong", f"says {'yes' if said else 'no'}, the reference says {'yes' if wanted else 'no'}"
    if move := _contradicted_move(text):
        return "wrong", f"says {'yes' if said else 'no'} as the reference does, but its figures contradict '{move}'"
    missing = _missing_figures(question, text)
    if missing:
        return "wrong", f"says {'yes' if said else 'no'} as the reference does, but not {', '.join(missing)}"
    return "correct", f"says {'yes' if said else 'no'}, as the reference does"


def _contradicted_move(text: str) -> str:
    """Return the first 'fell from 1,341 to 1,510' of the text: a move its own figures go against; '' where there is none."""
    for match in _MOVE.finditer(text):
        before, after = (parse_numbers(match[part]) for part in ("before", "after"))
        if len(before) == len(after) == 1 and before[0].scale == after[0].scale:
            rise = after[0].value - before[0].value
            if rise * direction_of(match["verb"]) < 0:
                return match[0]
    return ""


def _missing_figures(question: Question, text: str) -> list[str]:
    """Return the reference's figures where none of them is met although the text gives figures of their sort."""
    gold, said = parse_numbers(question.answer), parse_numbers(text)
    same_sort = [n for n in said if any(_sort_of(n) == _sort_of(g) for g in gold)]
    if not same_sort or any(match_number(g, n, 1.0, False) is not None for g in gold for n in said):
        return []
    return [g.text for g in gold]


def _sort_of(number: Number) -> str:
    return "percent" if number.is_percent else "money" if number.has_currency or number.has_scale else "count"


def _score_text(question: Question, text: str) -> tuple[Outcome, str]:
    if choice := find_choice(question.text, question.answer, text):
        wanted_option, named = choice
        return ("correct" if wanted_option == named else "wrong"), f"names '{named}', the reference '{wanted_option}'"
    figures, said = parse_numbers(question.answer), parse_numbers(text)
    percent = _wants_percent(question)
    scale = parse_scale(question.text)
    met = [f for f in figures if any(match_number(f, n, scale, percent) is not None for n in said)]
    is_list = question.kind == "multi_span" or _FIGURES_ASKED.search(question.text)
    if figures and is_list:  # each of them is asked for, none may lack
        missing = [f.text for f in figures if f not in met]
        return ("wrong", f"without {', '.join(missing)}") if missing else ("correct", "holds the reference's figures")
    asked, gold = content_words(question.text), content_words(question.answer)
    wanted = (gold - asked) or gold
    shared = wanted & content_words(text)
    recall = len(shared) / len(wanted) if wanted else float(bool(met))
    missing = sorted(wanted - shared)[:4]
    reason = f"holds {recall:.0%} of the reference's words" + (f"; not {', '.join(missing)}" if missing else "")
    if recall >= MIN_RECALL:
        return "correct", reason
    return ("refused" if refusal_signs(text) >= MIN_REFUSAL_SIGNS - 1 else "wrong"), reason
