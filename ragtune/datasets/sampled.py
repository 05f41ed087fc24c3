"""Preference pairs of a run's own sampled answers: the scorer tells the right from the wrong ones, or a judge model picks
between two of them (RLAIF, arXiv 2309.00267). The halves are what the model itself says, so they differ in nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ragtune.datasets.lineage import shown_passages
from ragtune.datasets.prefer import OutcomeOf, PairsResult, as_shown, judge_completion
from ragtune.errors import QuestionError
from ragtune.records import Example, Message, Outcome, Pair, Passage, Question
from ragtune.seams import Generator, Progress

JudgeOf = Callable[[Question, str], "Outcome | float"]
"""Scores a whole completion: an outcome, or a judge's number, of which more is better."""
SAMPLED, JUDGED = "sampled", "judged"
"""The reasons of these pairs in their provenance."""
ONE_ANSWER = "fewer than two different samples"
NOT_READ = "the judge's verdict was not read"
TURNED = "the judge's verdict turned with the order"
JUDGE_SYSTEM = (
    "You compare two answers to a question about numbered passages. The better one says what the passages hold, cites the "
    "passage it stands in and agrees with the reference; a refusal is right only where the reference is one. Reply with one "
    "letter: A or B."
)
JUDGE_TOKENS = 16
"""New tokens a judge may write: a letter, or the letter in a few words."""
_VERDICT = re.compile(
    r"(?:the )?(?:better |best )?(?:answer|verdict|choice|one)?(?: is)?[\W_]*\b([AB])\b[\W_]*", re.IGNORECASE)
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


def build_judged_pairs(
    examples: Sequence[Example], questions: Sequence[Question], completions: Sequence[Sequence[str]], judge: Generator,
    outcome_of: OutcomeOf, progress: Progress | None = None,
) -> PairsResult:
    """Return pairs of the two answers sampled most often, as a judge model picks between them.

    The judge sees the prompt, the row's own completion as the reference, and both answers, once in either order: models
    favour a place. A verdict that turns with the order gives no pair, nor does one that cannot be read; both are counted.
    The scorer's outcomes stand in the provenance and decide nothing. Raises ModelError where the judge cannot be asked.
    """
    asked: list[tuple[int, str, str]] = []
    skipped: Counter[str] = Counter()
    for number, samples in enumerate(completions):
        most = Counter(filter(None, map(str.strip, samples))).most_common(2)
        if len(most) == 2:
            asked.append((number, most[0][0], most[1][0]))
        else:
            skipped[ONE_ANSWER] += 1
    prompts = [render_choice(examples[number], *two) for number, one, other in asked for two in ((one, other), (other, one))]
    replies = judge.generate(prompts, JUDGE_TOKENS, progress)
    pairs = []
    for place, (number, one, other) in enumerate(asked):
        verdicts = [parse_choice(reply) for reply in replies[2 * place : 2 * place + 2]]
        if None in verdicts:
            skipped[NOT_READ] += 1
        elif verdicts[0] == verdicts[1]:
            skipped[TURNED] += 1
        else:
            example, halves = examples[number], (one, other) if verdicts[0] == "A" else (other, one)
            question, shown = as_shown(questions[number], example), shown_passages(example)
            outcomes = [judge_completion(question, half, shown, outcome_of) for half in halves]
            trace = {**example.provenance, "reason": JUDGED, "judge": judge.name, "chosen_outcome": outcomes[0],
                     "rejected_outcome": outcomes[1]}
            pairs.append(Pair(example.prompt, *halves, trace))
    return PairsResult(tuple(pairs), dict(sorted(skipped.items())))


def render_choice(example: Example, first: str, second: str) -> tuple[Message, ...]:
    """Return the chat messages that ask a judge which of two answers to a row's prompt is better."""
    parts = (example.prompt[-1]["content"], f"Reference:\n{example.completion}", f"A:\n{first}", f"B:\n{second}",
             "Which is better, A or B?")
    return Message(role="system", content=JUDGE_SYSTEM), Message(role="user", content="\n\n".join(parts))


def parse_choice(reply: str) -> str | None:
    """Return 'A' or 'B' where the last line of a judge's reply says one of them and nothing else, None where it does not."""
    lines = reply.strip().split("\n")
    match = _VERDICT.fullmatch(lines[-1].strip())
    return match[1].upper() if match else None
