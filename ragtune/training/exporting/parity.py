"""The parity gate: held-out questions through an adapter and through the models made of it, and what may differ.

What is compared, question by question: the greedy completions, what the scorer says of them (McNemar's exact test on right
or not), and the logits of every token of the adapter's own completion. What may differ depends on the number type:

- In 16 or 32 bits the logits may differ by a share of the largest one that rounding explains (``LOGIT_LIMITS``). A
  completion may then leave the adapter's only at a tie: at its first other token the adapter's own logits for the two tokens
  lie within twice that limit. Any other change means another model, other stop tokens, another tokenizer or template.
- In 8 bits rounding moves the logits more than ties explain. Completions may change, up to ``CHANGED_LIMIT`` of them.

In every number type the export is at fault where its answers are significantly worse than the adapter's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ragtune.answering.prompt import parse_completion
from ragtune.errors import RunError
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.evaluation.statistics.compare import compare_paired, p_text
from ragtune.models.local import LocalGenerator
from ragtune.records import Example, Outcome, Question, Record
from ragtune.seams import Progress

if TYPE_CHECKING:
    import torch

LOGIT_LIMITS = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.05}
"""Largest difference of logits that rounding explains, as a share of the largest logit, by number type."""
CHANGED_LIMIT = 0.2
"""Largest share of completions that may change in number types with fewer bits."""
CONFIDENCE = 0.95
_KEPT_LOGITS = 64_000_000  # float32 numbers of the adapter's logits kept to be compared: 256 MB
_BEST = 8  # of every token's logits, kept to tell a tie
_SHOWN = 3

RowLogits = Callable[[list[int]], "torch.Tensor"]


@dataclass(frozen=True)
class Asked:
    """One model of the comparison: what generates, and what gives the logits after each token of a row.

    ``numbers`` is the number type of its weights: a name in LOGIT_LIMITS, or another (int8, q8_0).
    """

    name: str
    generator: LocalGenerator
    row_logits: RowLogits
    numbers: str = "float32"


@dataclass(frozen=True)
class Changed(Record):
    """A question that two models answer differently."""

    question: str
    adapter: str
    other: str


@dataclass(frozen=True)
class SideParity(Record):
    """One model against the adapter on the same n questions. ``ties`` differ at a tie, ``changed`` otherwise.

    ``logit_difference`` is the largest one as a share of the largest logit; ``p`` McNemar's, of right or not. ``faults`` say
    what blocks the export; none where there are none.
    """

    name: str
    numbers: str
    n: int
    equal: int
    ties: int
    changed: int
    outcomes: dict[str, int]
    only_adapter: int
    only_other: int
    p: float
    logit_difference: float
    logit_limit: float | None
    faults: tuple[str, ...] = ()
    examples: tuple[Changed, ...] = ()


@dataclass(frozen=True)
class Parity(Record):
    """The adapter's outcomes on n questions, and how each model made of it compares."""

    n: int
    adapter: dict[str, int]
    sides: tuple[SideParity, ...] = field(default=())

    @property
    def faults(self) -> tuple[str, ...]:
        """What blocks the export, of all sides."""
        return tuple(f"{side.name}: {fault}" for side in self.sides for fault in side.faults)


@dataclass(frozen=True)
class _Kept:
    """What is kept of one row of the adapter: its token ids, where the completion begins, and its logits there."""

    ids: list[int]
    start: int
    best: tuple[Any, Any]
    logits: Any | None


class ParityGate:
    """Holds the adapter's answers to some rows; ``compare`` sets another model's beside them.

    The adapter's model may be let go after this is built: one model at a time is in memory.
    """

    def __init__(
        self, rows: Sequence[Example], questions: Sequence[Question], asked: Asked, max_new_tokens: int,
        progress: Progress | None = None,
    ) -> None:
        """Ask the adapter. Raises RunError without rows; ``questions`` are those of the rows, in their order."""
        if not rows:
            raise RunError("there are no held-out questions to compare the models on. Give the dataset a test side "
                           "(dataset.test_share), or name another with --dataset FOLDER")
        self.rows, self.questions, self._max_new_tokens = list(rows), list(questions), max_new_tokens
        self.completions, self.outcomes = self._ask(asked, progress)
        self._scale, room = 1.0, _KEPT_LOGITS
        self._kept: list[_Kept] = []
        for row, completion in zip(self.rows, self.completions):
            prompt, written = asked.generator.chat.encode_example(row.prompt, completion)
            logits = asked.row_logits(prompt + written)[len(prompt) - 1 : -1]
            self._scale = max(self._scale, float(logits.abs().max()))
            best = logits.topk(min(_BEST, logits.shape[1]))
            room -= logits.numel()
            self._kept.append(_Kept(prompt + written, len(prompt), (best.values, best.indices),
                                    logits if room >= 0 or not self._kept else None))

    def _ask(self, asked: Asked, progress: Progress | None) -> tuple[list[str], list[Outcome]]:
        completions = asked.generator.generate([row.prompt for row in self.rows], self._max_new_tokens, progress)
        return completions, [score_row(question, text) for question, text in zip(self.questions, completions)]

    def compare(self, asked: Asked, progress: Progress | None = None) -> SideParity:
        """Ask another model the same questions and judge what differs by the rule of its number type."""
        completions, outcomes = self._ask(asked, progress)
        limit = LOGIT_LIMITS.get(asked.numbers)
        difference = self._compare_logits(asked)
        others = [place for place, text in enumerate(completions) if text != self.completions[place]]
        ties = [place for place in others if limit is not None and self._is_tie(asked, place, completions[place], limit)]
        changed = [place for place in others if place not in ties]
        right, theirs = ([outcome == "correct" for outcome in side] for side in (self.outcomes, outcomes))
        test = compare_paired(right, theirs, CONFIDENCE)
        faults = find_faults(asked.numbers, len(changed), len(completions), difference, test.only_a, test.only_b, test.p)
        examples = [Changed(self.questions[place].text, self.completions[place], completions[place])
                    for place in (changed or ties)[:_SHOWN]]
        return SideParity(asked.name, asked.numbers, len(completions), len(completions) - len(others), len(ties),
                          len(changed), count_outcomes(outcomes), test.only_a, test.only_b, test.p, difference, limit,
                          faults, tuple(examples))

    def report(self, sides: Sequence[SideParity]) -> Parity:
        """Return the whole comparison."""
        return Parity(len(self.rows), count_outcomes(self.outcomes), tuple(sides))

    def _compare_logits(self, asked: Asked) -> float:
        """Return the largest difference of logits on the adapter's completions, as a share of its largest logit."""
        largest = 0.0
        for kept in self._kept:
            if kept.logits is None:
                break
            found = asked.row_logits(kept.ids)[kept.start - 1 : -1]
            if found.shape != kept.logits.shape:
                return float("inf")
            difference = float((found - kept.logits).abs().max())
            largest = max(largest, difference if difference == difference else float("inf"))
        return largest / self._scale

    def _is_tie(self, asked: Asked, place: int, completion: str, limit: float) -> bool:
        """Whether the adapter itself holds the two first different tokens for as good as equal."""
        kept = self._kept[place]
        _, written = asked.generator.chat.encode_example(self.rows[place].prompt, completion)
        own = kept.ids[kept.start :]
        first = next((i for i, (a, b) in enumerate(zip(own, written)) if a != b), None)
        if first is None:
            return False
        values, ids = (side[first].tolist() for side in kept.best)
        found = dict(zip(ids, values))
        if own[first] not in found or written[first] not in found:
            return False
        return abs(found[own[first]] - found[written[first]]) <= 2 * limit * self._scale


def find_faults(
    numbers: str, changed: int, n: int, logit_difference: float, only_adapter: int, only_other: int, p: float
) -> tuple[str, ...]:
    """Return what the rule of a number type finds at fault; see the module's description."""
    limit, faults = LOGIT_LIMITS.get(numbers), []
    if limit is not None and not logit_difference <= limit:
        faults.append(f"its logits differ by {logit_difference:.2g} of the largest one, where rounding in {numbers} "
                      f"explains {limit:g}")
    if limit is not None and changed:
        faults.append(f"{changed} of {n} completions differ where the adapter sees no tie")
    if limit is None and changed > CHANGED_LIMIT * n:
        faults.append(f"{changed} of {n} completions differ, {CHANGED_LIMIT:.0%} may in {numbers}")
    if only_adapter > only_other and p < 1 - CONFIDENCE:
        faults.append(f"it answers worse: {only_adapter} questions are right only with the adapter, {only_other} only with "
                      f"it (McNemar p = {p_text(p)})")
    return tuple(faults)


def score_row(question: Question, completion: str) -> Outcome:
    """Return the scorer's outcome of a whole completion; no guard looks at it."""
    text, _, _, is_refusal = parse_completion(completion)
    outcome = score_answer(question, text, is_refusal or None).outcome
    assert outcome is not None
    return outcome


def count_outcomes(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return how many there are of each."""
    return {name: outcomes.count(name) for name in ("correct", "wrong", "refused")}  # type: ignore[arg-type]


def parity_rows(parity: Parity) -> list[tuple[str, ...]]:
    """Return the comparison as the rows of a table, its head first."""
    def shares(counts: dict[str, int]) -> str:
        return "/".join(str(counts[name]) for name in ("correct", "wrong", "refused"))

    head = ("model", "right/wrong/refused", "same completion", "at a tie", "changed", "logits differ by", "McNemar p", "")
    rows: list[tuple[str, ...]] = [head, ("adapter", shares(parity.adapter), "", "", "", "", "", "")]
    for side in parity.sides:
        allowed = "" if side.logit_limit is None else f" (<= {side.logit_limit:g})"
        rows.append((f"{side.name} {side.numbers}", shares(side.outcomes), f"{side.equal} of {side.n}", str(side.ties),
                     str(side.changed), f"{side.logit_difference:.2g}{allowed}", p_text(side.p),
                     "differs" if side.faults else "equal"))
    return rows
