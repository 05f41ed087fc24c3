"""Scoring an answer against its reference: correct, wrong or refused, with a reason a person can read. No model needed.

The rules were chosen by their agreement with people on published answers to questions about filings
(scripts/bench_scorer.py measures it): the figure in the last sentence that holds one decides, it must round to the
reference's shown digits, a scale that is said beats the scale the question asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from ragtune.answering.prompt import ANSWER, REFUSAL
from ragtune.evaluation.numbers import Number, parse_numbers, parse_scale
from ragtune.records import Outcome, Question, Score

METRIC = "answer"
MIN_REFUSAL_SIGNS = 3
MIN_RECALL = 0.5
GoldKind = Literal["none", "number", "yes_no", "text"]

_REFUSAL_SIGNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(sorry|apologi[sz]e|unfortunately|regret)\b|\bI do(n['’]t| not) know\b",
        r"\b(can(not|'t|’t| not)|unable to|not able to|(im|not )possible to|could not|couldn['’]t|wouldn['’]t be able)\b",
        r"\b(do(es)?|did)(n['’]t| not) have (real-time |direct |any |the |enough |sufficient |access|specific|necessary|immediate)",
        r"\bas an? (AI|artificial|language model|large)|\bAI (developer|language|model|assistant)\b",
        r"\b(last|knowledge|training) (update|cut-?off|data)|\bmy (knowledge|training)\b|real-time",
        r"\b(not|n['’]t) (explicitly |directly |specifically |clearly )?(provide|contain|include|specify|mention|disclose|give|"
        r"state|available|found|present|report|list)\w*",
        r"\bno (specific |explicit |direct )?(information|mention|data|details?|figures?|evidence)\b",
        r"\b(would|you['’]d|I['’]d|you|we|would typically) (need|have) (to|the|access|more|additional)\b|\bneed (to know|more)\b",
        r"\bplease (provide|refer|consult|check|share|note|visit)|\bif you (can |could |have |provide|need|share|give)",
        r"\bwithout (the |access|this |that |these |specific|additional|more|further|any|having|knowing)",
        r"\b(EDGAR|investor relations|official website|SEC['’]s website)\b|\b(refer|look|check|review|consult)\w* (to |at |up )?"
        r"(the |their |its |\w+['’]s )?(company|annual|10-K|financial|income|balance|cash|most recent)",
        r"\b(insufficient|not enough|more information|additional information|more details|necessary (information|data))\b",
        r"\b(difficult|hard|challenging|impossible) to (determine|say|assess|provide|answer|calculate|conclude)",
    )
)
_SENTENCE = re.compile(r"(?<=[.!?])[\"')*]*\s+(?=[\"'(*]*[A-Z$\d-])|\n+")
_YES_NO = re.compile(r"^\W*(yes|no)\b", re.IGNORECASE)
_DENIAL = re.compile(
    r"\b(not|no|never|neither|cannot|nor|none|without|negative|lacks?|unlikely|n['’]t)\b|n['’]t\b|\bfails?\b", re.IGNORECASE
)
_UP = re.compile(r"\b(increas|improv|grow|grew|rose|rise|rising|higher|accelerat|expand|up\b)", re.IGNORECASE)
_DOWN = re.compile(r"\b(decreas|declin|drop|fell|fall|reduc|lower|decelerat|shr[iu]nk|worsen|down\b)", re.IGNORECASE)
_WORD = re.compile(r"[a-z][a-z&'’-]*[a-z]|[a-z]", re.IGNORECASE)
_STOP = frozenset(
    """a an and are as at be been both but by can did do does each for from had has have he her his how i if in into is it its
    me more most of on or other our over she so some such than that the their them then there these they this those through to
    under up very was we were what when where which while who will with would you your company companies year years fiscal fy
    primarily due mainly based following given information data during per us also among between because since answer question
    quarter compared approximately about around respectively total amount""".split()
)


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
    return Score(METRIC, 1.0 if outcome == "correct" else 0.0, reason, question.id, outcome)


def kind_of_gold(question: Question) -> GoldKind:
    """Return what the reference answer is: none, a number with few words around it, yes/no, or text."""
    gold = question.answer.strip()
    if not gold:
        return "none"
    if _YES_NO.match(gold):
        return "yes_no"
    numbers = parse_numbers(gold, keep_years=True)
    words = [word for word in _WORD.findall(_without(gold, numbers)) if word.lower() not in _STOP]
    return "number" if len(numbers) == 1 and len(words) <= 2 else "text"


def is_refusal_text(text: str) -> bool:
    """Whether the text refuses: our own refusal, or three of a dozen signs of an apology for not answering."""
    if not text.strip() or REFUSAL.rstrip(".").lower() in text.lower():
        return True
    return refusal_signs(text) >= MIN_REFUSAL_SIGNS


def refusal_signs(text: str) -> int:
    """Return how many of the signs of a refusal the text shows."""
    return sum(bool(sign.search(text)) for sign in _REFUSAL_SIGNS)


def _without(text: str, numbers: Iterable[Number]) -> str:
    for number in numbers:
        text = text[: number.start] + " " * (number.end - number.start) + text[number.end :]
    return text


def final_part(text: str) -> str:
    """Return what follows the last 'Answer:', else the whole text."""
    _, found, after = text.rpartition(ANSWER)
    return after if found and after.strip() else text


def last_numbers(text: str, keep_years: bool = False) -> tuple[Number, ...]:
    """Return the numbers of the last sentence that holds one."""
    for sentence in reversed(_SENTENCE.split(final_part(text))):
        if numbers := parse_numbers(sentence, keep_years):
            return numbers
    return ()


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


def _agree(gold: float, gold_step: float, value: float, step: float) -> bool:
    """Whether a value rounds to the reference's shown digits; signs are compared by the caller."""
    slack = 1e-9 * max(1.0, abs(gold))
    return abs(abs(gold) - abs(value)) <= gold_step / 2 + slack


def match_number(gold: Number, answer: Number, scale: float, wants_percent: bool) -> str | None:
    """Return the remark on how the answer's number meets the reference ('' for plainly), or None where it does not.

    ``scale`` is what the question asks for (1e6 for 'in USD millions'), used where no scale is said.
    """
    for gold_value, gold_step, _ in _values(gold, scale, wants_percent):
        for value, step, remark in _values(answer, scale, wants_percent or gold.is_percent):
            if _agree(gold_value, gold_step, value, step):
                return remark
    if gold.has_scale and not (answer.has_scale or answer.is_percent) and _agree(gold.value, gold.step, answer.value, 0):
        return "the scale is not said"
    return None


def _wants_percent(question: Question) -> bool:
    return bool(re.search(r"%|\bpercent|\bmargin\b|\brate\b", question.text, re.IGNORECASE)) or "%" in question.answer


def _score_number(question: Question, text: str) -> tuple[Outcome, str]:
    gold = (parse_numbers(question.answer) or parse_numbers(question.answer, keep_years=True))[0]
    is_year = not parse_numbers(question.answer)
    numbers = last_numbers(text, keep_years=is_year)
    if not numbers:
        if refusal_signs(text):
            return "refused", "gives no number and says that something is missing"
        return "wrong", f"no number; the reference is {question.answer.strip()}"
    scale = parse_scale(question.text)
    for number in numbers:
        remark = match_number(gold, number, scale, _wants_percent(question))
        if remark is not None:
            return "correct", f"{number.text} agrees with {gold.text}" + (f" ({remark})" if remark else "")
    shown = ", ".join(number.text for number in numbers[-3:])
    return "wrong", f"{shown} instead of {gold.text}"


def polarity_of(text: str, question: str = "") -> bool | None:
    """Return True for yes, False for no, None where the text does not say.

    A text without a plain yes or no is read by the sentence that restates the question most fully: denied, or with the
    opposite direction (increase, decrease) of the question, it says no.
    """
    part = final_part(text)
    if match := _YES_NO.match(part):
        return match[1].lower() == "yes"
    asked = content_words(question)
    best, best_overlap = "", 0.0
    for sentence in _SENTENCE.split(part):
        said = content_words(sentence)
        overlap = len(asked & said) + (0.5 if re.match(r"\W*(therefore|thus|so|overall|in conclusion|hence)\b", sentence, re.I) else 0)
        if match := re.search(r"\b(yes|no)[,.]", sentence, re.IGNORECASE):
            overlap += 1
        if said and overlap >= best_overlap:  # of equals the later one: conclusions stand at the end
            best, best_overlap = sentence, overlap
    if best_overlap < max(1.5, 0.3 * len(asked)):
        return None
    is_denied = bool(_DENIAL.search(best))
    directions = [_direction_of(question), _direction_of(best)]
    is_opposite = all(directions) and directions[0] != directions[1]
    return not (is_denied or is_opposite)


def _direction_of(text: str) -> int:
    """Return 1 where the text speaks of a rise, -1 of a fall, 0 of neither or both."""
    return bool(_UP.search(text)) - bool(_DOWN.search(text))


def _score_yes_no(question: Question, text: str) -> tuple[Outcome, str]:
    wanted, said = polarity_of(question.answer), polarity_of(text, question.text)
    is_plain = bool(_YES_NO.match(final_part(text)))
    if not is_plain and refusal_signs(text) >= MIN_REFUSAL_SIGNS - 1:
        return "refused", "says neither yes nor no, and that something is missing"
    if said is None:
        return _score_text(question, text)
    if said != wanted:
        return "wrong", f"says {'yes' if said else 'no'}, the reference says {'yes' if wanted else 'no'}"
    missing = _missing_figures(question, text)
    if missing:
        return "wrong", f"says {'yes' if said else 'no'} as the reference does, but not {', '.join(missing)}"
    return "correct", f"says {'yes' if said else 'no'}, as the reference does"


def _missing_figures(question: Question, text: str) -> list[str]:
    """Return the reference's figures where none of them is met although the text gives figures of their sort."""
    gold, said = parse_numbers(question.answer), parse_numbers(text)
    same_sort = [n for n in said if any(_sort_of(n) == _sort_of(g) for g in gold)]
    if not same_sort or any(match_number(g, n, 1.0, False) is not None for g in gold for n in said):
        return []
    return [g.text for g in gold]


def _sort_of(number: Number) -> str:
    return "percent" if number.is_percent else "money" if number.has_currency or number.has_scale else "count"


def content_words(text: str) -> set[str]:
    """Return the words that carry content, lower case, cut to their stem's first letters."""
    words = (word.lower().replace("’", "'").removesuffix("'s").strip("'-") for word in _WORD.findall(text))
    return {_stem(word) for word in words if word not in _STOP}


def _stem(word: str) -> str:
    """Cut the commonest English endings, enough for 'operations' to meet 'operating'."""
    for ending in ("ations", "ation", "ating", "ings", "ing", "ions", "ion", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def _choice(question: str, gold: str, text: str) -> tuple[str, str] | None:
    """For 'Among A, B and C, which ... the most': return (the wanted option, the one the text names), else None."""
    match = re.search(r"\b(?:among|between|of)\s+([^?]*?),?\s+(?:and|or)\s+([\w -]+?),?\s+which", question, re.IGNORECASE)
    if not match:
        return None
    options = [_stem(words[-1]) for part in [*match[1].split(","), match[2].removesuffix(" activities")]
               if (words := re.findall(r"[a-z]+", part.lower()))]
    wanted = [option for option in options if option in content_words(gold)]
    if len(wanted) != 1:
        return None
    for sentence in reversed(_SENTENCE.split(final_part(text))):
        if re.search(r"\b(most|highest|largest|least|lowest|biggest|greatest|best|worst)\b", sentence, re.IGNORECASE):
            rest = re.sub(r"\bamong\b[^.]*?\b(and|or)\s+\w+( activities)?,", "", sentence, flags=re.IGNORECASE)
            places = {option: position for option in options if (position := rest.lower().find(option)) >= 0}
            if places:
                return wanted[0], min(places, key=lambda option: places[option])
    return None


def _score_text(question: Question, text: str) -> tuple[Outcome, str]:
    if choice := _choice(question.text, question.answer, text):
        wanted_option, named = choice
        return ("correct" if wanted_option == named else "wrong"), f"names '{named}', the reference '{wanted_option}'"
    figures, said = parse_numbers(question.answer), parse_numbers(text)
    percent = _wants_percent(question)
    met = [f for f in figures if any(match_number(f, n, parse_scale(question.text), percent) is not None for n in said)]
    if figures and re.search(r"\bhow (much|many)\b|\bamount\b|\bhow did\b|\bratio\b", question.text, re.IGNORECASE):
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
