"""Preference pairs of a run's own sampled answers: the scorer tells the right from the wrong ones, or a judge model picks
between two of them (RLAIF, arXiv 2309.00267). The halves are what the model itself says, so they differ in nothing else.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ragtune.datasets.lineage import shown_passages
from ragtune.datasets.prefer import OutcomeOf, PairsResult, as_shown, judge_completion
from ragtune.errors import QuestionError
from ragtune.records import Example, Outcome, Pair, Passage, Question

JudgeOf = Callable[[Question, str], "Outcome | float"]
"""Scores a whole completion: an outcome, or a judge's number, of which more is better."""
ChooseOf = Callable[[Sequence["Choice"]], Sequence[str]]
"""Says of each choice 'a' for its one answer, 'b' for its other, or why neither: TURNED, NEITHER, NOT_READ."""
SAMPLED, JUDGED = "sampled", "judged"
"""The reasons of these pairs in their provenance."""
ONE_ANSWER = "fewer than two different samples"
NOT_READ = "the judge's verdict was not read"
TURNED = "the judge's verdict turned with the order"
NEITHER = "the judge finds neither better"
_WORTH: Mapping[str, float] = {"correct": 1.0, "refused": 0.5, "wrong": 0.0}


def build_sampled_pairs(
    examples: Sequence[Example], questions: Sequence[Question], completions: Sequence[Sequence[str]], judge: JudgeOf,
    min_difference: float = 0.0, per_row: int = 1,
) -> PairsResult:
    """Return pairs of a run's own answers: the best against the worse ones, ``per_row`` of these at most.

    ``completions[n]`` are samples for the prompt of ``examples[n]``, which asks ``questions[n]``. With outcomes the chosen
    half is correct (with the right citations) and the rejected one wrong, else refused; a row whose gold is not shown counts
    as unanswerable. With a judge's numbers the chosen half is the best one, and the halves differ by more than
    ``min_difference``. Of equals the answer sampled most often goes first: the likeliest mistake is worth most. Raises
    QuestionError where the three do not fit each other.
    """
    if not len(examples) == len(questions) == len(completions):
        raise QuestionError(
            f"found {len(examples)} rows, {len(questions)} questions and {len(completions)} lists of completions; give each "
            "row its question and its list of samples.")
    pairs: list[Pair] = []
    skipped: Counter[str] = Counter()
    for example, question, samples in zip(examples, questions, completions):
        counts = Counter(sample.strip() for sample in samples if sample.strip())
        asked = as_shown(question, example)
        judged = {text: _judge_sample(asked, text, shown_passages(example), judge) for text in counts}
        ranked = sorted(counts, key=lambda text: (-judged[text][0], -counts[text], text))
        if len(ranked) < 2:
            skipped["fewer than two different samples"] += 1
            continue
        best = ranked[0]
        if judged[best][1] not in ("correct", ""):
            skipped["no sample is correct"] += 1
            continue
        worse = [text for text in ranked if judged[best][0] - judged[text][0] > min_difference]
        if not worse:
            skipped["no sample is worse"] += 1
            continue
        for text in sorted(worse, key=lambda text: (judged[text][0], -counts[text], text))[:per_row]:
            trace = {**example.provenance, "reason": SAMPLED, "chosen_outcome": judged[best][1],
                     "rejected_outcome": judged[text][1], "chosen_score": judged[best][0], "rejected_score": judged[text][0]}
            pairs.append(Pair(example.prompt, best, text, trace))
    return PairsResult(tuple(pairs), dict(sorted(skipped.items())))


def _judge_sample(question: Question, text: str, passages: Sequence[Passage], judge: JudgeOf) -> tuple[float, str]:
    """Return (score, outcome); the outcome is '' where the judge gives a number."""
    found = judge(question, text)
    if not isinstance(found, str):
        return float(found), ""
    outcome = judge_completion(question, text, passages, lambda _, __: found)
    return _WORTH[outcome], outcome


@dataclass(frozen=True)
class Choice:
    """Two answers to a question that passages were shown for; the question's answer is what the row itself would say."""

    question: Question
    passages: tuple[Passage, ...]
    one: str
    other: str


def build_judged_pairs(
    examples: Sequence[Example], questions: Sequence[Question], completions: Sequence[Sequence[str]], choose: ChooseOf,
    judge_name: str, outcome_of: OutcomeOf,
) -> PairsResult:
    """Return pairs of the two answers sampled most often, as a judge chooses between them.

    ``choose`` is asked for all of them at once, with the row's own completion as the reference. A choice of neither gives no
    pair, nor does one that turned with the order or was not read; each is counted. The scorer's outcomes stand in the
    provenance and decide nothing.
    """
    asked: list[tuple[int, Choice]] = []
    skipped: Counter[str] = Counter()
    for number, (example, question, samples) in enumerate(zip(examples, questions, completions)):
        most = Counter(filter(None, map(str.strip, samples))).most_common(2)
        if len(most) == 2:
            reference = dataclasses.replace(question, answer=example.completion)
            asked.append((number, Choice(reference, tuple(shown_passages(example)), most[0][0], most[1][0])))
        else:
            skipped[ONE_ANSWER] += 1
    pairs = []
    for (number, choice), verdict in zip(asked, choose([choice for _, choice in asked])):
        if verdict not in ("a", "b"):
            skipped[verdict] += 1
            continue
        example, halves = examples[number], (choice.one, choice.other)
        if verdict == "b":
            halves = choice.other, choice.one
        question = as_shown(questions[number], example)
        outcomes = [judge_completion(question, half, choice.passages, outcome_of) for half in halves]
        trace = {**example.provenance, "reason": JUDGED, "judge": judge_name, "chosen_outcome": outcomes[0],
                 "rejected_outcome": outcomes[1]}
        pairs.append(Pair(example.prompt, *halves, trace))
    return PairsResult(tuple(pairs), dict(sorted(skipped.items())))
