"""What drawn answers are rewarded for: the table REWARDS, and their weighted sum as a recipe sets it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import ModelError, RecipeError, RunError, nearest
from ragtune.evaluation.judging.judge import SCORER, Verdict, open_judge
from ragtune.evaluation.judging.rubric import load_rubric
from ragtune.evaluation.judging.verdicts import ToJudge
from ragtune.records import Example, Question
from ragtune.training.job import Job
from ragtune.training.reinforcement.reply import Reply, read_reply, share_refused
from ragtune.training.run import open_run

REFUSED = 0.2
"""What refusing an answerable question is worth: more than a wrong answer, so that guessing pays from so likely on."""
Score = Callable[[Sequence[Reply]], list[float]]
"""Returns one number a reply, in order; where it counts replies it could not read, it has the attribute ``unread``."""


@dataclass(frozen=True)
class Reward:
    """One thing to be rewarded for, 0 to 1 but for 'model'. ``build`` opens what it takes to score replies."""

    description: str
    build: Callable[[Job], Score]


def _rule(description: str, rule: Callable[[Reply], float]) -> Reward:
    return Reward(description, lambda job: lambda replies: [float(rule(reply)) for reply in replies])


def score_outcome(reply: Reply) -> float:
    """Return 1 for a correct reply, a refusal of what cannot be answered among them, REFUSED for another refusal, else 0."""
    return {"correct": 1.0, "refused": REFUSED, "wrong": 0.0}[reply.outcome]


def score_refusal(reply: Reply) -> float:
    """Return 1 where the reply refuses what cannot be answered, or answers, rightly or not, what can; else 0."""
    is_right = reply.outcome != "refused" if reply.question.is_answerable else reply.outcome == "correct"
    return float(is_right and bool(reply.read[0]))


def _build_model(job: Job) -> Score:
    """Return the scores of a tuned reward model, any number. Raises RecipeError, RunError where there is none."""
    folder = job.training.reinforce.reward_model
    if folder is None:
        raise RecipeError("the reward 'model' needs a reward model. Tune one (ragtune train --method reward), then set "
                          "training.reinforce.reward_model to its run folder.")
    module: Any = importlib.import_module("ragtune.training.preferences.reward")
    model = module.load_reward_model(job.generator, open_run(Path(folder)).adapter)

    def score(replies: Sequence[Reply]) -> list[float]:
        values = model.score([reply.example.prompt for reply in replies], [reply.text for reply in replies])
        return [float(value) for value in values]

    return score


class _JudgeScore:
    """A judge's verdicts as numbers (RLAIF, arXiv 2309.00267): 0 to 1 along the rubric 'quality'; of 'correctness' where
    the judge is the scorer. What cannot be read counts 0 and is counted in ``unread``."""

    def __init__(self, job: Job) -> None:
        name = job.training.reinforce.judge
        if name is None:
            raise RecipeError(f"the reward 'judge' needs a judge. Set training.reinforce.judge to a chat model (a folder, a "
                              f"Hugging Face name or provider:model), or to '{SCORER}'.")
        self.rubric = load_rubric("correctness" if name == SCORER else "quality")
        self.judge = open_judge(name, self.rubric, job.generator)
        self.unread = 0

    def __call__(self, replies: Sequence[Reply]) -> list[float]:
        # the same words are judged once: a group of draws holds many twins
        items: dict[tuple[str, bool, str], ToJudge] = {}
        for reply in replies:
            answer, _, _, refuses = reply.read
            passages = tuple(f"[{p.number}] {p.title}\n{p.text}" for p in reply.passages)
            items.setdefault(_key(reply), ToJudge(str(len(items)), reply.question, reply.text, passages=passages,
                                                  is_refusal=refuses, final=answer))
        values = dict(zip(items, map(self._value, self.judge.judge(list(items.values())))))
        if getattr(self.judge, "has_given_up", False):
            raise ModelError(f"the judge '{self.judge.name}' cannot be reached, and nothing can be learned without it: "
                             f"{getattr(self.judge, 'last_problem', '')}. The last checkpoint is kept; tune again to go on.")
        found = [values[_key(reply)] for reply in replies]
        self.unread = sum(value is None for value in found)
        return [value if value is not None and reply.text else 0.0 for value, reply in zip(found, replies)]

    def _value(self, verdict: Verdict) -> float | None:
        if verdict.state != "read":
            return None
        if self.rubric.scale is None:
            return {"correct": 1.0, "refused": REFUSED}.get(verdict.verdict, 0.0)
        low, high = self.rubric.scale
        value = (verdict.value - low) / (high - low)
        return min(1.0, max(0.0, value)) if math.isfinite(value) else None


def _key(reply: Reply) -> tuple[str, bool, str]:
    return reply.question.id, reply.question.is_answerable, reply.text


REWARDS: dict[str, Reward] = {
    "outcome": _rule(f"The scorer: correct 1, needlessly refused {REFUSED}, wrong 0; refusing what is not there is correct.",
                     score_outcome),
    "number": _rule("As outcome, but a number nearly right is worth up to half, and a refusal nothing.",
                    lambda reply: reply.closeness),
    "citation": _rule("Of a right answer: the share of its citations whose passage holds what is cited.",
                      lambda reply: reply.citing),
    "refusal": _rule("Refuses what the passages do not hold, and nothing else.", score_refusal),
    "format": _rule("Ends with one line 'Answer: ...', or is the refusal; not cut at max_new_tokens.",
                    lambda reply: reply.is_well_formed),
    "model": Reward("A tuned reward model: training.reinforce.reward_model.", _build_model),
    "judge": Reward("A chat model's rating: training.reinforce.judge.", _JudgeScore),
}
"""The rewards by name, as training.reinforce.rewards weighs them."""


class Rewarder:
    """The weighted sum of a recipe's rewards. ``means`` are the last call's: each reward, refusals, unread verdicts."""

    def __init__(
        self, scores: Mapping[str, Score], weights: Mapping[str, float], questions: Mapping[str, Question]
    ) -> None:
        self.weights = dict(weights)
        self.means: dict[str, float] = {}
        self._scores = dict(scores)
        self._questions = questions

    def parts(
        self, examples: Sequence[Example], completions: Sequence[str], finished: Sequence[bool] | None = None
    ) -> dict[str, list[float]]:
        """Return each reward by name, not weighted, one number a completion of the example at its place.

        ``finished`` says which completions the model ended itself; all where it is not given. Raises RunError for a
        reward that is not a finite number, ModelError where a judge cannot be reached.
        """
        ended = finished if finished is not None else [True] * len(completions)
        replies = [read_reply(example, find_question(example, self._questions), text, is_finished)
                   for example, text, is_finished in zip(examples, completions, ended, strict=True)]
        found = {name: score(replies) for name, score in self._scores.items()}
        for name, values in found.items():
            for value, example in zip(values, examples):
                if not math.isfinite(value):
                    raise RunError(_not_finite(name, value, example))
        count = max(1, len(completions))
        self.means = {name: sum(values) / count for name, values in found.items()}
        self.means["refused"] = share_refused(completions)
        for name, score in self._scores.items():
            if hasattr(score, "unread"):
                self.means[f"{name}_unread"] = score.unread / count
        return found

    def __call__(
        self, examples: Sequence[Example], completions: Sequence[str], finished: Sequence[bool] | None = None
    ) -> list[float]:
        """Return the weighted sum of the parts, one number a completion."""
        parts = self.parts(examples, completions, finished)
        return [sum(self.weights[name] * values[place] for name, values in parts.items())
                for place in range(len(completions))]


def _not_finite(name: str, value: float, example: Example) -> str:
    return (f"the reward '{name}' of an answer to the question {example.provenance.get('question_id', '')} is {value}. "
            "A reward model that gives no number is damaged or was tuned too fast: tune it again with a lower training.lr.")


def find_question(example: Example, questions: Mapping[str, Question]) -> Question:
    """Return the question of a row. Raises RunError where it is not among those of the dataset."""
    name = str(example.provenance.get("question_id", ""))
    if name not in questions:
        raise RunError(f"a row's question '{name}' is not among the questions of the dataset, so its answers cannot be "
                       "rewarded. Build the dataset again. Do: ragtune dataset --recipe FILE")
    return questions[name]


def build_reward(job: Job) -> Rewarder:
    """Return what rewards completions of the job's rows, by ``training.reinforce.rewards``.

    Raises RecipeError for an unknown reward, a weight that is no number, none that counts, or a reward that lacks its
    setting; RunError for rows without a question or a run folder that is no reward model.
    """
    weights = job.training.reinforce.rewards
    for name, weight in weights.items():
        if name not in REWARDS:
            raise RecipeError(f"training.reinforce.rewards names '{name}'. Allowed: {', '.join(REWARDS)}."
                              f"{nearest(name, REWARDS)}")
        if not math.isfinite(weight):
            raise RecipeError(f"training.reinforce.rewards gives '{name}' the weight {weight}. Allowed is a finite number.")
    used = {name: weight for name, weight in weights.items() if weight}
    if not used:
        raise RecipeError("all weights of training.reinforce.rewards are 0: nothing would be learned. Give one, e.g. "
                          "outcome, the weight 1.")
    for example in job.train:
        find_question(example, job.questions)
    return Rewarder({name: REWARDS[name].build(job) for name in used}, used, job.questions)
