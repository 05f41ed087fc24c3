"""Rewards of drawn answers: what each is worth, and that none is had by other means than a right, rightly cited answer."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path

import pytest

from ragtune.answering.prompt import render_prompt
from ragtune.errors import ModelError, RecipeError, RunError
from ragtune.recipe.schema import Generator, Reinforce, Training
from ragtune.records import REFUSAL, Example, Passage, Question
from ragtune.training.job import Job
from ragtune.training.methods import METHODS
from ragtune.training.reinforcement.rewards import REFUSED, REWARDS, build_reward

INCOME = "Consolidated Statements of Income\nRevenue 2022: 974,402\nRevenue 2021: 900,434\nNet income 2022: 130,691"
SHEET = "Consolidated Balance Sheets\nTotal assets 2022: 1,111,334\nTotal debt 2022: 190,944"
PROSE = "Overview\nWe make oscilloscopes, signal analyzers and calibration software for laboratories."
PASSAGES = [Passage(n, text, f"c{n}", "TESSADYNE_2022_10K", n, 0, 1, title=f"Tessadyne Systems 10-K 2022, page {n}", rank=n)
            for n, text in ((1, INCOME), (2, SHEET), (3, PROSE))]
QUESTIONS = {
    "revenue": Question("revenue", "What was the revenue of Tessadyne Systems in 2022?", "$974,402 thousand", kind="lookup"),
    "growth": Question("growth", "By what percentage did the revenue of Tessadyne Systems grow in 2022?", "8.2%"),
    "rose": Question("rose", "Did the revenue of Tessadyne Systems rise in 2022?",
                     "Yes, revenue rose from $900,434 thousand to $974,402 thousand.", kind="yes_no"),
    "none": Question("none", "What was the goodwill of Tessadyne Systems in 2022?", ""),
    "makes": Question("makes", "What does Tessadyne Systems make?",
                      "It makes oscilloscopes, signal analyzers and calibration software."),
}
RIGHT = {
    "revenue": "Revenue 2022: 974,402 [1]\nAnswer: $974,402 thousand",
    "growth": "Revenue 2022: 974,402 [1]\nRevenue 2021: 900,434 [1]\n974,402 / 900,434 - 1 = 8.2%\nAnswer: 8.2%",
    "rose": "Revenue 2022: 974,402 [1]\nRevenue 2021: 900,434 [1]\n"
            "Answer: Yes, revenue rose from $900,434 thousand to $974,402 thousand.",
    "none": REFUSAL,
    "makes": "We make oscilloscopes, signal analyzers and calibration software for laboratories. [3]\n"
             "Answer: Oscilloscopes, signal analyzers and calibration software.",
}
RULES = ("outcome", "number", "citation", "refusal", "format")


def example_of(name: str, completion: str | None = None) -> Example:
    question = QUESTIONS[name]
    provenance = {"question_id": question.id, "passages": [p.chunk_id for p in PASSAGES]}
    return Example(render_prompt(question.text, PASSAGES), RIGHT[name] if completion is None else completion, provenance)


def job_of(rewards: dict[str, float], train=(), **reinforce) -> Job:
    training = Training(method="grpo", reinforce=Reinforce(rewards=rewards, **reinforce))
    return Job(Generator(model="echo"), training, METHODS["grpo"], train, (), Path("nowhere"), questions=QUESTIONS)


def parts_of(name: str, completion: str, finished: bool = True) -> dict[str, float]:
    reward = build_reward(job_of(dict.fromkeys(RULES, 1.0)))
    return {key: values[0] for key, values in reward.parts([example_of(name)], [completion], [finished]).items()}


LISTED = "Answer: 974,402, 900,434, 130,691, 1,111,334, 190,944"
CASES = [
    # question, completion, outcome, number, citation, refusal, format
    *((name, text, 1, 1, 1, 1, 1) for name, text in RIGHT.items()),
    ("revenue", "Answer: $974,402 thousand [1]", 1, 1, 1, 1, 1),
    ("revenue", "Net income 2022: 130,691 [1]\nAnswer: $130,691 thousand", 0, 0, 0, 1, 1),
    ("revenue", "Revenue 2022: 974,402 [2]\nAnswer: $974,402 thousand", 1, 1, 0, 1, 1),  # wrong passage
    ("revenue", "Revenue 2022: 974,402 [9]\nAnswer: $974,402 thousand", 1, 1, 0, 1, 1),  # no such passage
    ("revenue", "Answer: $974,402 thousand", 1, 1, 0, 1, 1),  # cites nothing
    ("revenue", "Answer: $974,402 thousand [1][2][3]", 1, 1, 1 / 3, 1, 1),  # cites everything
    ("revenue", REFUSAL, REFUSED, 0, 0, 0, 1),  # needlessly
    ("revenue", "", 0, 0, 0, 0, 0),
    ("revenue", "Fiscal fiscal fiscal [", 0, 0, 0, 1, 0),
    ("revenue", LISTED, 0, 0, 0, 1, 1),
    ("revenue", LISTED + " [1][2][3]", 0, 0, 0, 1, 1),
    ("revenue", INCOME, 0, 0, 0, 1, 0),  # all that is shown
    ("revenue", "Answer: $900,434 thousand\nAnswer: $974,402 thousand [1]", 0, 0, 0, 1, 0),
    ("revenue", "Answer: $974,402 thousand [1]\nAnswer: $974,402 thousand [1]", 0, 0, 0, 1, 0),
    ("revenue", "Answer: $974,402 thousand or $900,434 thousand [1]", 0, 0, 0, 1, 1),
    ("revenue", f"Answer: $974,402 thousand [1]\n{REFUSAL}", REFUSED, 0, 0, 0, 0),  # both
    ("revenue", "Revenue 2022: 974,402 [1]\nAnswer: $974,402 thousand\nI hope this helps.", 1, 1, 1, 1, 0),
    ("revenue", "Answer:", 0, 0, 0, 0, 0),
    ("none", "Answer: [1]", 0, 0, 0, 0, 0),
    ("growth", "Answer: 8.2% [1]", 1, 1, 0, 1, 1),  # out of thin air: no calculation is shown
    ("growth", "974,402 / 900,434 - 1 = 8.2%\nAnswer: 8.2% [1]", 1, 1, 1, 1, 1),
    ("growth", "Answer: 8.2% or 7.9%", 0, 0, 0, 1, 1),
    ("rose", "Answer: Yes or no.", 0, 0, 0, 1, 1),
    ("rose", "Answer: No. Yes.", 0, 0, 0, 1, 1),
    ("rose", "Answer: No, revenue fell from $974,402 thousand to $900,434 thousand. [1]", 0, 0, 0, 1, 1),
    ("none", "", 0, 0, 0, 0, 0),  # silence is no refusal
    ("none", f"{REFUSAL} [1]", 1, 1, 0, 1, 0),
    ("none", f"Total debt 2022: 190,944 [2]\n{REFUSAL}", 0, 0, 0, 0, 0),  # refuses and answers
    ("none", "Total debt 2022: 190,944 [2]\nAnswer: $190,944 thousand", 0, 0, 0, 0, 1),
    ("none", "fiscal fiscal", 0, 0, 0, 0, 0),
    ("makes", f"Answer: {INCOME} {SHEET} {PROSE} {INCOME} {SHEET}", 0, 0, 0, 1, 0),  # copies the pages
]


@pytest.mark.parametrize(("name", "completion", "outcome", "number", "citation", "refusal", "form"), CASES)
def test_what_a_completion_is_worth(name, completion, outcome, number, citation, refusal, form):
    found = parts_of(name, completion)
    assert found == pytest.approx(dict(zip(RULES, (outcome, number, citation, refusal, form))))


@pytest.mark.parametrize(("said", "worth"), [
    ("$974,402 thousand", 1.0), ("$974.4 million", 1.0), ("$974,403 thousand", 0.5), ("$1,000,000 thousand", 0.3686),
    ("$900,434 thousand", 0.1204), ("$800,000 thousand", 0.0), ("$974,402 million", 0.0), ("8.2%", 0.0), ("none", 0.0),
    ("974,402 or 974,403 thousand", 0.0),
])
def test_a_number_nearly_right_is_worth_up_to_half(said, worth):
    assert parts_of("revenue", f"Answer: {said}")["number"] == pytest.approx(worth, abs=1e-4)


def test_what_was_cut_is_not_well_formed():
    assert parts_of("revenue", RIGHT["revenue"], finished=False) == {
        "outcome": 1, "number": 1, "citation": 1, "refusal": 1, "format": 0}


def test_a_row_without_its_gold_wants_the_refusal():
    reward = build_reward(job_of({"outcome": 1.0}))
    assert reward([example_of("revenue", REFUSAL)] * 2, [REFUSAL, RIGHT["revenue"]]) == [1, 0]


def test_no_way_of_answering_everything_alike_earns_what_right_answers_do():
    reward = build_reward(job_of({"outcome": 1.0, "citation": 0.25}))
    examples = [example_of(name) for name in QUESTIONS]
    everything = LISTED + ", 8.2%, yes, no " + "[1][2][3]"
    for text in (REFUSAL, "", everything, f"{everything}\n{REFUSAL}", INCOME + SHEET + PROSE, "Answer: Yes. [1]"):
        assert sum(reward(examples, [text] * len(examples))) <= 2.1, text
    assert reward(examples, list(RIGHT.values())) == pytest.approx([1.25] * len(examples))


def test_the_sum_is_weighted_and_the_means_are_kept():
    reward = build_reward(job_of({"outcome": 2.0, "format": 0.5, "refusal": 0.0}))
    examples = [example_of("revenue")] * 3
    texts = [RIGHT["revenue"], REFUSAL, "Answer: 5"]
    assert reward(examples, texts) == pytest.approx([2.5, 2 * REFUSED + 0.5, 0.5])
    assert reward.means == pytest.approx({"outcome": (1 + REFUSED) / 3, "format": 1.0, "refused": 1 / 3})
    assert reward([], []) == []


@pytest.mark.parametrize(("rewards", "message"), [
    ({"outcom": 1.0}, "names 'outcom'. Allowed: outcome, .* Did you mean 'outcome'"),
    ({"outcome": math.nan}, "the weight nan. Allowed is a finite number"),
    ({"outcome": 0.0}, "nothing would be learned"),
    ({"model": 1.0}, "needs a reward model. Tune one .ragtune train --method reward"),
    ({"judge": 1.0}, "needs a judge. Set training.reinforce.judge"),
])
def test_rewards_that_cannot_be_given_are_refused(rewards, message):
    with pytest.raises(RecipeError, match=message):
        build_reward(job_of(rewards))


def test_a_row_without_its_question_is_named():
    lost = Example(example_of("revenue").prompt, "x", {"question_id": "lost"})
    with pytest.raises(RunError, match="question 'lost' is not among the questions of the dataset.*ragtune dataset"):
        build_reward(job_of({"outcome": 1.0}, [lost]))


class FakeModel:
    """Scores by length; NaN for what begins with 'nan'."""

    def score(self, prompts, completions):
        assert all(prompt[-1]["role"] == "user" for prompt in prompts)
        return [math.nan if text.startswith("nan") else len(text) - 3.0 for text in completions]


def test_the_reward_model_of_a_run_folder_scores_prompts_with_completions(monkeypatch):
    asked = []
    module = types.ModuleType("ragtune.training.preferences.reward")
    module.load_reward_model = lambda section, adapter: asked.append((section.model, adapter)) or FakeModel()
    monkeypatch.setitem(sys.modules, "ragtune.training.preferences.reward", module)
    run = types.SimpleNamespace(adapter=Path("runs/reward/adapter"))
    monkeypatch.setattr("ragtune.training.reinforcement.rewards.open_run", lambda folder: run)
    reward = build_reward(job_of({"model": 1.0}, reward_model="runs/reward"))
    assert asked == [("echo", Path("runs/reward/adapter"))]
    assert reward([example_of("revenue")] * 2, ["four", "a"]) == [1.0, -2.0]
    with pytest.raises(RunError, match="reward 'model' of an answer to the question revenue is nan"):
        reward([example_of("revenue")] * 2, ["nan", "four"])


class FakeChat:
    """A chat model whose reply is chosen by the answer it is shown."""

    name, fingerprint, context_tokens = "fake", "f", 10_000

    def __init__(self, replies):
        self.replies, self.asked = replies, []

    def generate(self, prompts, max_new_tokens, progress=None):
        found = []
        for prompt in prompts:
            text = prompt[-1]["content"]
            self.asked.append(text)
            reply = next((reply for key, reply in self.replies.items() if f"| {key}" in text), "")
            if isinstance(reply, Exception):
                raise reply
            found.append(reply)
        return found


def judged(monkeypatch, replies, name="some/model"):
    chat = FakeChat(replies)
    monkeypatch.setattr("ragtune.evaluation.judging.judge.open_generator", lambda section: chat)
    return build_reward(job_of({"judge": 1.0}, judge=name)), chat


def test_a_judge_rates_and_what_cannot_be_read_counts_nothing(monkeypatch):
    replies = {"best": "Right.\nVerdict: 5", "half": "Verdict: 3", "worst": "Verdict: 1", "mumble": "I like it",
               "nan": "Verdict: nan", "over": "Verdict: 7", "both": "Verdict: 5\nVerdict: 1"}
    reward, chat = judged(monkeypatch, replies)
    texts = [*replies, "best", ""]
    assert reward([example_of("revenue")] * len(texts), texts) == [1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert reward.means["judge_unread"] == pytest.approx(5 / 9)
    assert reward.means["judge"] == pytest.approx(2.5 / 9)
    assert len(chat.asked) == 8  # the same answer to the same question once
    assert "$974,402 thousand" in chat.asked[0]


def test_a_judge_that_cannot_be_reached_stops_the_run(monkeypatch):
    reward, _ = judged(monkeypatch, {str(n): ModelError("no route to host") for n in range(9)}, "openai:any")
    with pytest.raises(ModelError, match="judge 'fake' cannot be reached.*no route to host"):
        reward([example_of("revenue")] * 8, [str(n) for n in range(8)])


def test_the_scorer_may_be_the_judge():
    reward = build_reward(job_of({"judge": 1.0}, judge="scorer"))
    assert reward([example_of("revenue")] * 3, [RIGHT["revenue"], REFUSAL, "Answer: 5"]) == [1.0, REFUSED, 0.0]
    assert reward.means["judge_unread"] == 0


def test_every_reward_says_what_it_is_for():
    assert set(REWARDS) == {*RULES, "model", "judge"}
    assert all(reward.description.endswith(".") for reward in REWARDS.values())
