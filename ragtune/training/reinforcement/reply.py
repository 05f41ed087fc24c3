"""A drawn completion as rewards see it: read strictly, because a model that is rewarded finds each gap of what rewards it.

The project's scorer says whether the answer is right. Three things that it forgives people are not forgiven here: several
answers in one, one of which is right; a refusal that answers all the same; saying nothing where nothing is to be found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ragtune.answering.calculate import find_calculations
from ragtune.answering.guard import find_amounts, unsupported_numbers
from ragtune.answering.prompt import parse_completion
from ragtune.answering.quote import QUOTE, place_quote, verify_citations
from ragtune.datasets.lineage import shown_passages
from ragtune.datasets.prefer import as_shown
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.evaluation.scoring.figures import last_numbers, match_number, signs_agree, wants_percent_of
from ragtune.evaluation.scoring.numbers import Number, parse_numbers, parse_scale
from ragtune.evaluation.scoring.rules import kind_of_gold
from ragtune.evaluation.scoring.wording import content_words
from ragtune.records import ANSWER, REFUSAL, Example, Outcome, Passage, Question

NEAR = 0.1
"""How far, relative to the reference, a number may lie and still be worth something to ``closeness``."""
_HALF = 0.5  # what a number that is nearly right, or half the words of a cited line, comes to
_OTHERS = 2  # figures beside those of the reference that an answer in words may name
_WORDS = (3, 40)  # an answer has at most so many times the reference's words, and so many more
_CITED = re.compile(r"\[([\d,\s]{1,20})\]")
_BOTH_SIDES = re.compile(r"\A\W*(?P<first>yes|no)\b.*?(?:\b(?:or|and)\s+|/\s*|[.;,!?\n]\s*)(?!(?P=first))(?:yes|no)\b"
                         r"(?=\s*(?:[.,;!?]|\Z))", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """A completion to an example. ``question`` is unanswerable where the shown passages do not hold the answer.

    ``is_finished`` says that the model ended it itself; it was cut at generator.max_new_tokens otherwise.
    """

    example: Example
    question: Question
    text: str
    passages: tuple[Passage, ...]
    is_finished: bool = True

    @cached_property
    def read(self) -> tuple[str, str, tuple[int, ...], bool]:
        """Answer, reasoning, cited passages, and whether it refuses: as serving reads the completion."""
        return parse_completion(self.text)

    @cached_property
    def outcome(self) -> Outcome:
        """The scorer's outcome of the completion as it stands; wrong also where it is empty or answers in several ways."""
        answer, _, _, refuses = self.read
        if not answer:
            return "wrong"
        outcome = score_answer(self.question, answer, refuses or None).outcome or "wrong"
        if outcome != "correct":
            return outcome
        if not self.question.is_answerable:
            return "wrong" if parse_numbers(self.text) else outcome
        return outcome if self.says_one_thing else "wrong"

    @property
    def says_one_thing(self) -> bool:
        """Whether there is one answer: no second one, no other figures beside it, not both yes and no, no copied pages."""
        answer, gold = self.read[0], self.question.answer
        if self.text.count(ANSWER) > 1 or len(answer.split()) > _WORDS[0] * len(gold.split()) + _WORDS[1]:
            return False
        kind, figures = kind_of_gold(self.question), parse_numbers(gold)
        if kind == "yes_no" and _BOTH_SIDES.search(answer):
            return False
        others = [n for n in parse_numbers(answer) if not any(self._meets(figure, n) for figure in figures)]
        return len(others) <= (0 if kind == "number" and figures else max(_OTHERS, len(figures)))

    def _meets(self, gold: Number, said: Number) -> bool:
        return match_number(gold, said, parse_scale(self.question.text), wants_percent_of(self.question)) is not None

    @property
    def closeness(self) -> float:
        """1 for the right number, half at most for one that lies within NEAR of it, 0 beyond.

        Where the reference is no number, or the right reply is the refusal: 1 where the outcome is correct, else 0.
        """
        if self.outcome == "correct":
            return 1.0
        if kind_of_gold(self.question) != "number" or self.outcome == "refused":
            return 0.0
        gold, answer = parse_numbers(self.question.answer), self.read[0]
        said, sentence = last_numbers(answer)
        if len(gold) != 1 or len(parse_numbers(answer)) != 1 or len(said) != 1 or self.text.count(ANSWER) > 1:
            return 0.0
        wanted, found = gold[0].value * gold[0].scale, said[0].value * said[0].scale
        is_sort = gold[0].is_percent == said[0].is_percent and signs_agree(gold[0], said[0], self.question, sentence)
        if not wanted or not is_sort:
            return 0.0
        return _HALF * max(0.0, 1 - abs(abs(found) - abs(wanted)) / (NEAR * abs(wanted)))

    @property
    def citing(self) -> float:
        """The share of its citations that hold, 0 unless the answer is right and its figures follow from what is cited.

        A citation holds where the shown passage of that number has the cited line, or, for a line in other words, its
        amounts or half its words; behind a calculated answer, where it has one of the operands. A right refusal cites none.
        """
        answer, reasoning, numbers, _ = self.read
        if self.outcome != "correct":
            return 0.0
        if not self.question.is_answerable:
            return float(not numbers)
        held = self._check_citations()
        sources = [f"{p.title}\n{p.text}" for p in self.passages if (p.number, True) in held]
        if not sources or unsupported_numbers(answer, QUOTE.sub("", reasoning), self.question.text, sources):
            return 0.0
        return sum(is_held for _, is_held in held) / len(held)

    def _check_citations(self) -> list[tuple[int, bool]]:
        """Return (passage, whether it holds what is cited to it) of each citation."""
        shown = {passage.number: passage for passage in self.passages}
        found: list[tuple[int, bool]] = []
        for match in QUOTE.finditer(self.text):
            placed, number = place_quote(match["text"], int(match["number"]), self.passages), int(match["number"])
            found.append((number, placed is not None and placed[1] == number))
        operands = {amount for calculation in find_calculations(self.text) for amount in find_amounts(calculation.formula)}
        for line in QUOTE.sub("", self.text).split("\n"):
            moved = {old for old, _ in verify_citations(line, self.passages)[1]}
            bare = _CITED.sub("", line).removeprefix(ANSWER).strip()
            for number in (int(n) for group in _CITED.findall(line) for n in re.findall(r"\d+", group)):
                is_held = number in shown and number not in moved and (
                    _holds(shown[number], bare) or (line.startswith(ANSWER) and _prints_any(shown[number], operands)))
                found.append((number, is_held))
        return found

    @property
    def is_well_formed(self) -> bool:
        """Whether it is the refusal as the prompt words it, or ends with its one answer's line; not cut at the limit."""
        last = self.text.rpartition("\n")[2]
        is_answer = self.text.count(ANSWER) == 1 and last.startswith(ANSWER)
        return self.is_finished and (self.text == REFUSAL or (is_answer and bool(self.read[0]) and not self.read[3]))


def _prints_any(passage: Passage, amounts: set[str]) -> bool:
    return not amounts.isdisjoint(find_amounts(passage.text))


def _holds(passage: Passage, line: str) -> bool:
    """Tell whether a passage has this line, or its amounts, or half its words where it has no amounts."""
    if line in passage.text.split("\n"):
        return True
    printed = f"{passage.title}\n{passage.text}"
    if amounts := find_amounts(line):
        return set(amounts) <= set(find_amounts(printed))
    words = content_words(line)
    return bool(words) and len(words & content_words(printed)) >= _HALF * len(words)


def read_reply(example: Example, question: Question, completion: str, is_finished: bool = True) -> Reply:
    """Return the completion of an example as rewards see it; ``question`` is the one that the example was built from."""
    return Reply(example, as_shown(question, example), completion.strip(), shown_passages(example), is_finished)


def share_refused(completions: Sequence[str]) -> float:
    """Return the share of completions that refuse, as serving reads them; 0 of none."""
    return sum(parse_completion(text)[3] for text in completions) / max(1, len(completions))
