"""The number guard: numbers stand in a cited passage or follow from a calculation; cited rows and quotes are printed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ragtune.answering.calculate import find_calculations, parse_amount
from ragtune.answering.quote import QUOTE, find_unprinted_quotes, find_unprinted_rows
from ragtune.records import Answer

_AMOUNT = re.compile(r"(?<![\w.,])\(?[-−]?\$?\s?(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?![\w]*[A-Za-z])")


def find_amounts(text: str) -> list[str]:
    """Return the sizes of the numbers in a text, without sign, currency, thousands commas and trailing zeros."""
    without_citations = re.sub(r"\[\d[\d,\s]*\]", " ", text)
    return [_normal(match[1]) for match in _AMOUNT.finditer(without_citations)]


def _normal(number: str) -> str:
    value = f"{parse_amount(number):f}"
    return value.rstrip("0").rstrip(".") if "." in value else value


def unsupported_numbers(answer: str, reasoning: str, question: str, texts: Iterable[str]) -> list[str]:
    """Return the answer's numbers that stand neither in the texts nor in the question nor as a right shown result.

    The operands of a calculation must themselves stand in the texts or the question (constants of one digit and 100,
    365 and 360 excepted), or the result counts for nothing.
    """
    known = {amount for text in (*texts, question) for amount in find_amounts(text)}
    free = {str(digit) for digit in range(10)} | {"100", "360", "365"}
    for calculation in find_calculations(f"{reasoning}\n{answer}"):
        if calculation.is_right and all(n in known or n in free for n in find_amounts(calculation.formula)):
            known.add(_normal(re.sub(r"[^\d.]", "", calculation.computed)))
    return list(dict.fromkeys(amount for amount in find_amounts(answer) if amount not in known))


class NumberGuard:
    """Checks an answer against the passages it cites; against all shown where it names none."""

    name = "numbers"

    def check(self, answer: Answer) -> tuple[str, ...]:
        """Return one problem for each number without a source and each cited row or quote that no passage prints.

        Refusals and answers without passages pass.
        """
        if answer.is_refusal or not answer.passages:
            return ()
        cited = {citation.passage for citation in answer.citations}
        shown = [p for p in answer.passages if p.number in cited or not cited]
        texts = [f"{passage.title}\n{passage.text}" for passage in shown]
        reasoning = QUOTE.sub("", answer.reasoning)  # what it says itself
        missing = unsupported_numbers(answer.text, reasoning, answer.question, texts)
        rows = find_unprinted_rows(reasoning, answer.passages)
        quotes = find_unprinted_quotes(answer.reasoning, answer.passages)
        return (
            *(f"the number {number} stands in no cited passage and follows from no calculation" for number in missing),
            *(f"the cited row '{row}' stands in no passage" for row in rows),
            *(f"the quote '{quote[:80]}' stands in no passage" for quote in quotes),
        )
