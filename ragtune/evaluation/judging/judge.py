"""Judges of answers: a chat model with a rubric, local or of a provider, or the project's own scorer offline."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ragtune.errors import MissingPackage, ModelError, RunError
from ragtune.evaluation.judging.rubric import Rubric
from ragtune.evaluation.judging.verdicts import ToJudge, combine_orders, parse_verdict, render_judging
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.models.language import UNTUNABLE, open_generator
from ragtune.models.remote import is_remote
from ragtune.recipe.schema import Generator as Section
from ragtune.records import Answer, Message, Outcome, Question, Record, Score
from ragtune.seams import Generator

SCORER = "scorer"
NO_CHAT = ("bundled", *UNTUNABLE)
"""Generators that write one form of answer and follow no other instruction."""
MAX_NEW_TOKENS = 512
TIMEOUT_S = 120.0
MAX_IN_A_ROW = 5
"""So many prompts that fail one after another stop the work: the provider is not there."""
_WORTH: dict[Outcome, int] = {"correct": 2, "refused": 1, "wrong": 0}


@dataclass(frozen=True)
class Verdict(Record):
    """What a judge said of one item. ``state`` is 'read', 'unparsed' (no clear verdict in the reply) or 'failed' (no reply).

    ``verdict`` is the rubric's word or number; of a pair 'a', 'b' or 'tie', where ``is_turned`` tells a tie that comes of
    preferences that turned with the order. '' where it was not read. ``replies`` are kept as they came.
    """

    id: str
    state: str
    verdict: str = ""
    is_turned: bool = False
    replies: tuple[str, ...] = ()
    problem: str = ""
    sides: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        """The number a scale's verdict is, NaN where there is none."""
        try:
            return float(self.verdict)
        except ValueError:
            return math.nan


class AnyJudge(Protocol):
    """What both judges offer beside the seam ``Judge``: verdicts of many items at once."""

    name: str

    def judge(self, items: Sequence[ToJudge]) -> list[Verdict]:
        """Return a verdict an item, in order."""
        ...

    def score(self, question: Question, answer: Answer) -> Score:
        """Return the score of one answer, as seams.Judge wants it."""
        ...


def open_judge(name: str, rubric: Rubric, section: Section | None = None, timeout_s: float = TIMEOUT_S,
               max_new_tokens: int = MAX_NEW_TOKENS, option: str = "--judge") -> AnyJudge:
    """Return the judge of that name: 'scorer', a folder or Hugging Face name of a chat model, or provider:model.

    ``section`` gives device, number type and batch size, ``option`` is what errors call the name by. Raises ModelError for a
    generator that is no chat model and for one that cannot be opened, MissingPackage for a provider's package, RunError for
    a rubric the scorer cannot judge by.
    """
    if name == SCORER:
        return ScorerJudge(rubric)
    if name in NO_CHAT:
        raise ModelError(
            f"'{name}' cannot judge: it writes answers from passages and follows no other instruction. Name a chat model: a "
            f"folder, a Hugging Face name or provider:model (e.g. openai:gpt-4o-mini); or '{SCORER}', which needs none."
        )
    given = section or Section()
    # the length of a prompt is checked when it is asked: a judge's prompts are no longer than the answers make them
    asked = given.model_copy(update={"model": name, "engine": "transformers", "max_prompt_tokens": 64,
                                     "max_new_tokens": max_new_tokens})
    try:
        generator = open_generator(asked)
    except (ModelError, MissingPackage) as error:  # which speaks of the setting that names a recipe's generator
        told = str(error).replace("generator.model: bundled", f"{option} {SCORER}").replace("generator.model", option)
        raise type(error)(told) from error
    return ModelJudge(generator, rubric, given.batch_size, timeout_s if is_remote(name) else math.inf, max_new_tokens)


class ScorerJudge:
    """The project's scorer in a judge's place: offline, and the same every time."""

    name = SCORER

    def __init__(self, rubric: Rubric) -> None:
        if rubric.asks != "pair" and not rubric.gives_outcomes:
            raise RunError(
                f"the scorer cannot judge by the rubric '{rubric.name}': it says correct, wrong, refused, and which of two "
                "answers is better by that. Use --rubric correctness or better, or name a chat model with --judge."
            )
        self.rubric = rubric

    def judge(self, items: Sequence[ToJudge]) -> list[Verdict]:
        """Return a verdict an item; of a pair, correct is better than refused, and refused than wrong."""
        return [self._judge_one(item) for item in items]

    def _judge_one(self, item: ToJudge) -> Verdict:
        outcome, reason = outcome_of(item)
        if self.rubric.asks == "pair":
            return Verdict(item.id, "read", prefer(item), replies=(reason, outcome_of_other(item)[1]))
        return Verdict(item.id, "read", outcome if outcome in self.rubric.verdicts else "wrong", replies=(reason,))

    def score(self, question: Question, answer: Answer) -> Score:
        """Return the scorer's score."""
        return score_answer(question, answer.text, answer.is_refusal or None)


def outcome_of(item: ToJudge) -> tuple[Outcome, str]:
    """Return the scorer's outcome of an item's answer, and why."""
    score = score_answer(item.question, item.answer if item.final is None else item.final, item.is_refusal or None)
    return score.outcome or "wrong", score.reason


def outcome_of_other(item: ToJudge) -> tuple[Outcome, str]:
    """Return the scorer's outcome of the other answer of a pair, and why."""
    return outcome_of(ToJudge(item.id, item.question, item.other or "", is_refusal=item.other_is_refusal,
                              final=item.other_final))


def prefer(item: ToJudge) -> str:
    """Return the scorer's choice of a pair, 'a', 'b' or 'tie': correct is better than refused, and refused than wrong."""
    a, b = _WORTH[outcome_of(item)[0]], _WORTH[outcome_of_other(item)[0]]
    return "tie" if a == b else "a" if a > b else "b"


class ModelJudge:
    """A chat model that judges by a rubric. A pair is shown in both orders, since models favour a place.

    ``timeout_s`` bounds one request to a provider. A request that fails is made again, prompt by prompt, so that one bad
    prompt costs no other its verdict. After MAX_IN_A_ROW that fail one after another nothing more is sent to a provider:
    ``has_given_up`` says so, ``last_problem`` why.
    """

    def __init__(self, generator: Generator, rubric: Rubric, batch_size: int = 8, timeout_s: float = math.inf,
                 max_new_tokens: int = MAX_NEW_TOKENS) -> None:
        self.name, self.rubric = generator.name, rubric
        self._generator, self._batch_size = generator, batch_size
        self._timeout_s, self._max_new_tokens = timeout_s, max_new_tokens
        self._failed_in_a_row = 0
        self.last_problem = ""

    @property
    def has_given_up(self) -> bool:
        """Whether the provider is taken to be out of reach. A local model fails on single prompts only."""
        return self._failed_in_a_row >= MAX_IN_A_ROW and not math.isinf(self._timeout_s)

    @property
    def fingerprint(self) -> str:
        """The generator's, else its name: verdicts of another model are not taken up."""
        return str(getattr(self._generator, "fingerprint", "") or self.name)

    def judge(self, items: Sequence[ToJudge]) -> list[Verdict]:
        """Return a verdict an item, in order; replies that cannot be read and requests that fail are told apart."""
        orders = (False, True) if self.rubric.asks == "pair" else (False,)
        prompts = [render_judging(self.rubric, item, is_turned) for item in items for is_turned in orders]
        replies: list[str | ModelError] = []
        for start in range(0, len(prompts), self._batch_size):
            replies += self._ask(prompts[start : start + self._batch_size])
        step = len(orders)
        return [self._read(item, replies[place * step : (place + 1) * step]) for place, item in enumerate(items)]

    def _read(self, item: ToJudge, replies: Sequence[str | ModelError]) -> Verdict:
        kept = tuple(reply for reply in replies if isinstance(reply, str))
        if failed := next((reply for reply in replies if isinstance(reply, ModelError)), None):
            return Verdict(item.id, "failed", replies=kept, problem=str(failed))
        said = [parse_verdict(reply, self.rubric) for reply in kept]
        if self.rubric.asks != "pair":
            return Verdict(item.id, "unparsed" if said[0] is None else "read", said[0] or "", replies=kept)
        sides = tuple(side or "" for side in said)
        found = combine_orders(*said)
        if found is None:
            return Verdict(item.id, "unparsed", replies=kept, sides=sides)
        is_turned = found == "turned"
        return Verdict(item.id, "read", "tie" if is_turned else found, is_turned, kept, sides=sides)

    def _ask(self, prompts: Sequence[Sequence[Message]]) -> list[str | ModelError]:
        """Return a reply or an error a prompt: all together first, one by one where that fails."""
        if self.has_given_up:
            return [ModelError(f"not asked: the judge had failed too often. {self.last_problem}")] * len(prompts)
        try:
            replies: list[str | ModelError] = [*self._generate(prompts)]
            self._failed_in_a_row = 0
            return replies
        except ModelError as error:
            if len(prompts) > 1:
                return [self._ask([prompt])[0] for prompt in prompts]
            self._failed_in_a_row += 1
            self.last_problem = str(error)
            return [error]

    def _generate(self, prompts: Sequence[Sequence[Message]]) -> list[str]:
        def ask() -> list[str]:
            return self._generator.generate(prompts, self._max_new_tokens)

        return ask() if math.isinf(self._timeout_s) else call_in_time(ask, self._timeout_s, self.name)

    def score(self, question: Question, answer: Answer) -> Score:
        """Return 0 to 1 along the scale, or 1 for the rubric's first verdict; NaN where none is read."""
        passages = tuple(passage.text for passage in answer.passages)
        verdict = self.judge([ToJudge(question.id, question, answer.text, passages=passages)])[0]
        metric = f"judge:{self.rubric.name}"
        if verdict.state != "read":
            return Score(metric, math.nan, verdict.problem or "no verdict could be read in the reply", question.id)
        if self.rubric.scale:
            low, high = self.rubric.scale
            return Score(metric, (verdict.value - low) / (high - low), verdict.replies[0], question.id)
        outcome: Any = verdict.verdict if self.rubric.gives_outcomes else None
        value = float(verdict.verdict == self.rubric.verdicts[0])
        return Score(metric, value, verdict.replies[0], question.id, outcome)


def call_in_time(call: Callable[[], list[str]], timeout_s: float, name: str) -> list[str]:
    """Return what the call returns. Raises ModelError where it takes longer; the call is then left behind, not stopped.

    Providers' packages name their own timeouts in as many ways as there are providers, and some have none.
    """
    found: list[list[str]] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:  # raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if raised:
        raise raised[0]
    if not found:
        raise ModelError(f"'{name}' did not answer within {timeout_s:g} s. Raise --timeout, or try again later.")
    return found[0]
