"""Rules that judge an answer by its reference: correct, wrong or refused, with a reason a person can read.

The rules were chosen by their agreement with people on published answers to questions about filings
(scripts/bench_scorer.py measures it): the figure in the last sentence that holds one decides, it must round to the
reference's shown digits, a scale that is said beats the scale the question asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from ragtune.evaluation.scoring.claims import balance, read_claims
from ragtune.evaluation.scoring.figures import (
    contradicted_move,
    is_derived,
    last_numbers,
    match_number,
    signs_agree,
    sort_of,
    wants_percent_of,
)
from ragtune.evaluation.scoring.numbers import Number, parse_numbers, parse_scale
from ragtune.evaluation.scoring.wording import (
    DENIAL,
    MIN_REFUSAL_SIGNS,
    YES_NO,
    content_words,
    final_part,
    find_choice,
    is_refusal_text,
    polarity_of,
    refusal_signs,
)
from ragtune.records import Outcome, Question

MIN_RECALL = 0.5
SHORT_WORDS = 12
TITLE_LETTERS, TITLE_WORDS = 60, 60
CLEAR_SIDE = 0.2
_FIGURES_ASKED = re.compile(r"\bhow (much|many)\b|\bamount\b|\bhow did\b|\bratio\b", re.IGNORECASE)
GoldKind = Literal["none", "number", "yes_no", "text"]


Judged = tuple[Outcome, str]


def judge_by_rules(question: Question, answer_text: str) -> Judged:
    """Return the outcome of a non-empty answer to an answerable question and the reason, by rules alone."""
    if is_copied(answer_text):
        return "wrong", "begins as a document's title page, not as an answer"
    if is_refusal_text(answer_text):
        return "refused", "says that it cannot answer"
    kind = kind_of_gold(question)
    judge = _judge_number if kind == "number" else _judge_yes_no if kind == "yes_no" else _judge_text
    return judge(question, answer_text)


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


def said_polarity(text: str, question: str) -> bool | None:
    """Return True for yes, False for no, None where the text does not say: by its claims on the whole, else by its best
    sentence."""
    side = balance(read_claims(text, question))
    return side > 0 if abs(side) >= CLEAR_SIDE else polarity_of(text, question)


def is_copied(text: str) -> bool:
    """Whether a long text begins in capitals, as title pages do: a document that was copied in place of an answer."""
    letters = [character for character in text.strip()[:150] if character.isalpha()][:TITLE_LETTERS]
    return len(text.split()) > TITLE_WORDS and sum(map(str.isupper, letters)) > 0.7 * len(letters)


def is_short(text: str) -> bool:
    """Whether the answer is no more than a few words, which hold the answer itself and nothing around it."""
    return len(final_part(text).split()) <= SHORT_WORDS


def _judge_short(question: Question, text: str) -> Judged | None:
    """Judge a few words by what they say, not by how much of the reference they hold; None where that is not clear."""
    part = final_part(text)
    gold_figures, figures = parse_numbers(question.answer), parse_numbers(part)
    others = [n for n in figures if all(match_number(g, n, 1.0, False) is None for g in gold_figures)]
    if gold_figures and len(others) == len(figures) > 0:
        return "wrong", f"{others[0].text} instead of {gold_figures[0].text}"
    said = {word for word in content_words(part) - content_words(question.text) if not DENIAL.fullmatch(word)}
    denies, is_denied = bool(DENIAL.search(part)), bool(DENIAL.search(question.answer))
    if said and not others and said <= content_words(question.answer):
        if denies != is_denied:
            return ("wrong", "denies what the reference says") if denies else None
        return "correct", f"names {', '.join(sorted(said)[:4])}, as the reference does, and nothing else"
    return None


def asks_figures(question: Question) -> bool:
    """Whether each figure of the reference is asked for."""
    return question.kind == "multi_span" or bool(_FIGURES_ASKED.search(question.text))


def _judge_number(question: Question, text: str) -> Judged:
    gold = (parse_numbers(question.answer) or parse_numbers(question.answer, keep_years=True))[0]
    is_year = not parse_numbers(question.answer)
    numbers, sentence = last_numbers(text, keep_years=is_year)
    if not numbers:
        if refusal_signs(text):
            return "refused", "gives no number and says that something is missing"
        return "wrong", f"no number; the reference is {question.answer.strip()}"
    scale, percent = parse_scale(question.text), wants_percent_of(question)
    for number in numbers:
        remark = match_number(gold, number, scale, percent)
        if remark is not None and signs_agree(gold, number, question, sentence):
            return "correct", f"{number.text} agrees with {gold.text}" + (f" ({remark})" if remark else "")
    shown = ", ".join(number.text for number in numbers[-3:])
    return "wrong", f"{shown} instead of {gold.text}"


def _judge_yes_no(question: Question, text: str) -> Judged:
    wanted, said = polarity_of(question.answer), said_polarity(text, question.text)
    is_plain = bool(YES_NO.match(final_part(text)))
    if not is_plain and refusal_signs(text) >= MIN_REFUSAL_SIGNS - 1:
        return "refused", "says neither yes nor no, and that something is missing"
    if said is None:
        return _judge_text(question, text)
    if said != wanted:
        return "wrong", f"says {'yes' if said else 'no'}, the reference says {'yes' if wanted else 'no'}"
    if move := contradicted_move(text):
        return "wrong", f"says {'yes' if said else 'no'} as the reference does, but its figures contradict '{move}'"
    missing = _missing_figures(question, text)
    if missing:
        return "wrong", f"says {'yes' if said else 'no'} as the reference does, but not {', '.join(missing)}"
    return "correct", f"says {'yes' if said else 'no'}, as the reference does"


def _missing_figures(question: Question, text: str) -> list[str]:
    """Return the reference's figures where none of them is met although the text gives figures of their sort."""
    gold, said = parse_numbers(question.answer), parse_numbers(text)
    same_sort = [n for n in said if any(sort_of(n) == sort_of(g) for g in gold)]
    if not same_sort or any(match_number(g, n, 1.0, False) is not None for g in gold for n in said) or any(
        is_derived(g, said) for g in gold
    ):
        return []
    return [g.text for g in gold]


def _judge_text(question: Question, text: str) -> Judged:
    if choice := find_choice(question.text, question.answer, text):
        wanted_option, named = choice
        return ("correct" if wanted_option == named else "wrong"), f"names '{named}', the reference '{wanted_option}'"
    figures, said = parse_numbers(question.answer), parse_numbers(text)
    percent = wants_percent_of(question)
    scale = parse_scale(question.text)
    met = [f for f in figures if any(match_number(f, n, scale, percent) is not None for n in said)]
    if figures and asks_figures(question):  # each of them is asked for, none may lack
        missing = [f.text for f in figures if f not in met]
        return ("wrong", f"without {', '.join(missing)}") if missing else ("correct", "holds the reference's figures")
    if is_short(text) and (found := _judge_short(question, text)):
        return found
    asked, gold = content_words(question.text), content_words(question.answer)
    wanted = (gold - asked) or gold
    shared = wanted & content_words(text)
    recall = len(shared) / len(wanted) if wanted else float(bool(met))
    missing = sorted(wanted - shared)[:4]
    reason = f"holds {recall:.0%} of the reference's words" + (f"; not {', '.join(missing)}" if missing else "")
    if recall >= MIN_RECALL:
        return "correct", reason
    return ("refused" if refusal_signs(text) >= MIN_REFUSAL_SIGNS - 1 else "wrong"), reason
