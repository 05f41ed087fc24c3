"""Judges on fake chat models: verdicts, both orders, replies that are none, time-outs, a provider that is gone."""

import math

import pytest
from judge_fakes import SECTION, by_figure, items, scripted, sleep_on

from ragtune.errors import MissingPackage, ModelError, RunError
from ragtune.evaluation.judging.judge import MAX_IN_A_ROW, ModelJudge, ScorerJudge, open_judge
from ragtune.evaluation.judging.rubric import load_rubric
from ragtune.evaluation.judging.verdicts import ToJudge
from ragtune.records import Answer, Question
from ragtune.seams import Judge

OUTCOMES, SCALE, PAIR = load_rubric("correctness"), load_rubric("quality"), load_rubric("better")


def test_each_answer_gets_its_own_verdict():
    found = ModelJudge(scripted(by_figure), OUTCOMES, batch_size=3).judge(items(5))
    assert [(v.id, v.state, v.verdict) for v in found] == [
        (f"q{n}", "read", "wrong" if n % 2 else "correct") for n in range(5)]
    assert found[0].replies == ("I looked for it.\nVerdict: correct",)


def test_nonsense_is_counted_apart():
    judge = ModelJudge(scripted(lambda prompt: "Hm." if "item 1" in prompt else by_figure(prompt)), OUTCOMES)
    assert [v.state for v in judge.judge(items(3))] == ["read", "unparsed", "read"]


def test_a_late_reply_fails_alone():
    judge = ModelJudge(scripted(sleep_on("item 2")), OUTCOMES, batch_size=2, timeout_s=0.5)
    found = judge.judge(items(4))
    assert [v.state for v in found] == ["read", "read", "failed", "read"]
    assert "did not answer within 0.5 s" in found[2].problem
    assert not judge.has_given_up


def test_a_provider_that_is_gone_is_not_asked_for_ever():
    asked = []

    def refuse(prompt):
        asked.append(prompt)
        raise ConnectionError("no network")

    judge = ModelJudge(scripted(refuse), OUTCOMES, batch_size=1, timeout_s=5)
    found = judge.judge(items(20))
    assert {v.state for v in found} == {"failed"}
    assert len(asked) == MAX_IN_A_ROW
    assert judge.has_given_up
    assert "no network" in judge.last_problem


def test_a_local_judge_never_gives_up():
    def refuse(prompt):
        raise ModelError("too long")

    judge = ModelJudge(scripted(refuse, "local"), OUTCOMES, batch_size=1)
    assert {v.state for v in judge.judge(items(9))} == {"failed"}
    assert not judge.has_given_up


PAIRS = [ToJudge("p", Question("p", "What?", "7 million"), "It is 7 million.", other="It is 8 million.")]


@pytest.mark.parametrize(
    ("reply", "state", "verdict", "is_turned"),
    [
        (lambda p: f"Verdict: {'A' if p.index('It is 7') < p.index('It is 8') else 'B'}", "read", "a", False),
        (lambda p: f"Verdict: {'B' if p.index('It is 7') < p.index('It is 8') else 'A'}", "read", "b", False),
        (lambda p: "Verdict: tie", "read", "tie", False),
        (lambda p: "Verdict: A", "read", "tie", True),
        (lambda p: "Either.", "unparsed", "", False),
    ],
)
def test_a_pair_counts_where_both_orders_agree(reply, state, verdict, is_turned):
    found = ModelJudge(scripted(reply), PAIR).judge(PAIRS)[0]
    assert (found.state, found.verdict, found.is_turned) == (state, verdict, is_turned)
    assert len(found.replies) == 2


def test_the_scorer_judges_offline():
    assert [v.verdict for v in ScorerJudge(OUTCOMES).judge(items(3))] == ["correct", "wrong", "correct"]
    refusing = ToJudge("r", PAIRS[0].question, "I cannot answer that.", other="It is 9 million.")
    assert [v.verdict for v in ScorerJudge(PAIR).judge([*PAIRS, refusing])] == ["a", "a"]
    with pytest.raises(RunError, match="Use --rubric correctness or better"):
        ScorerJudge(SCALE)


def test_both_judges_fit_the_seam():
    answer = Answer("What is item 2?", "It is 200 million.")
    question = items(3)[2].question
    for judge in (ScorerJudge(OUTCOMES), ModelJudge(scripted(by_figure), OUTCOMES)):
        assert isinstance(judge, Judge)
        score = judge.score(question, answer)
        assert (score.value, score.outcome, score.question_id) == (1.0, "correct", "q2")
    rated = ModelJudge(scripted(lambda _: "Verdict: 4"), SCALE).score(question, answer)
    assert (rated.value, rated.outcome) == (0.75, None)
    assert math.isnan(ModelJudge(scripted(lambda _: "Hm."), SCALE).score(question, answer).value)


@pytest.mark.parametrize("name", ["bundled", "extractive", "echo"])
def test_what_is_no_chat_model_cannot_judge(name):
    with pytest.raises(ModelError, match=f"'{name}' cannot judge.*or 'scorer'"):
        open_judge(name, OUTCOMES)


def test_a_providers_model_is_opened_with_its_limits(monkeypatch):
    seen = {}

    def init(model, **settings):
        seen.update(settings, model=model)
        return scripted(by_figure)._chat

    monkeypatch.setattr("langchain.chat_models.init_chat_model", init)
    judge = open_judge("openai:gpt-4o-mini", OUTCOMES, SECTION, timeout_s=9, max_new_tokens=200)
    assert judge.judge(items(1))[0].verdict == "correct"
    assert (seen["model"], seen["max_tokens"], seen["temperature"]) == ("gpt-4o-mini", 200, 0.0)


def test_a_missing_package_of_the_judge_names_its_own_option(monkeypatch):
    def init(model, **settings):
        raise ImportError("no module named langchain_openai")

    monkeypatch.setattr("langchain.chat_models.init_chat_model", init)
    with pytest.raises(MissingPackage, match=r"^--judge 'openai:x' needs.*pip install 'ragtune\[openai\]'"):
        open_judge("openai:x", OUTCOMES)
