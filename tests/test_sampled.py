"""Pairs of sampled answers: told apart by the scorer, or picked between by a judge that is asked in both orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from test_instruct import SALES
from test_prefer import make_rows

from ragtune.answering.prompt import REFUSAL
from ragtune.datasets.prefer import PairsResult, build_labels
from ragtune.datasets.sampled import (
    NEITHER,
    NOT_READ,
    ONE_ANSWER,
    TURNED,
    Choice,
    build_judged_pairs,
    build_sampled_pairs,
)
from ragtune.errors import QuestionError
from ragtune.stages.sampled import score_completion


def judged(samples: list[str], verdict: str | Callable[[Choice], str]) -> PairsResult:
    row = make_rows(SALES)[0]

    def choose(choices: Sequence[Choice]) -> list[str]:
        return [verdict if isinstance(verdict, str) else verdict(choice) for choice in choices]

    return build_judged_pairs([row], [SALES], [samples], choose, "picks", score_completion)


def test_sampled_answers_pair_the_best_with_the_likeliest_mistake() -> None:
    row = make_rows(SALES)[0]
    wrong, rare = "Net sales 2020: 3,900 [1]\nAnswer: $3,900 million", "Answer: $1 million"
    samples = [rare, wrong, REFUSAL, row.completion, wrong, f"{row.completion} "]
    made = build_sampled_pairs([row], [SALES], [samples], score_completion, per_row=3)
    assert [(pair.chosen, pair.rejected) for pair in made.pairs] == [
        (row.completion, wrong), (row.completion, rare), (row.completion, REFUSAL)]
    assert [pair.provenance["rejected_outcome"] for pair in made.pairs] == ["wrong", "wrong", "refused"]
    assert {pair.provenance["reason"] for pair in made.pairs} == {"sampled"}
    without_gold = make_rows(SALES, gold_share=0.0)[0]
    refused = build_sampled_pairs([without_gold], [SALES], [samples], score_completion).pairs[0]
    assert refused.chosen == REFUSAL  # what the passages do not hold is refused, even where the guess is right


def test_sampled_answers_without_right_or_wrong_are_counted() -> None:
    row = make_rows(SALES)[0]
    longer = f"Net sales were $4,210 million\n{row.completion}"
    cases = [["Answer: $1", "Answer: $2"], [row.completion], [row.completion, longer]]
    made = build_sampled_pairs([row] * 3, [SALES] * 3, cases, score_completion)
    assert made.pairs == ()
    assert made.skipped == {ONE_ANSWER: 1, "no sample is correct": 1, "no sample is worse": 1}
    with pytest.raises(QuestionError, match="1 rows, 1 questions and 2 lists"):
        build_sampled_pairs([row], [SALES], [[], []], score_completion)


def test_a_judges_numbers_stand_in_for_outcomes() -> None:
    row = make_rows(SALES)[0]
    scores = {"a": 0.9, "b": 0.4, "c": 0.7}
    made = build_sampled_pairs([row], [SALES], [list(scores)], lambda question, text: scores[text], min_difference=0.3)
    assert [(p.chosen, p.rejected, p.provenance["chosen_score"], p.provenance["rejected_score"]) for p in made.pairs] == [
        ("a", "b", 0.9, 0.4)]
    close = build_sampled_pairs([row], [SALES], [["a", "c"]], lambda question, text: scores[text], min_difference=0.3)
    assert close.skipped == {"no sample is worse": 1}


def test_labels_of_sampled_answers_hold_each_once() -> None:
    row = make_rows(SALES)[0]
    samples = [row.completion, "Answer: $1 million", REFUSAL]
    made = build_sampled_pairs([row], [SALES], [samples], score_completion, per_row=2)
    labels = build_labels(made.pairs)
    assert [(each["completion"][0]["content"], each["label"], each["provenance"]["reason"]) for each in labels] == [
        (row.completion, True, ""), ("Answer: $1 million", False, "sampled"), (REFUSAL, False, "sampled")]
    assert not any(name.startswith(("chosen_", "rejected_")) for each in labels for name in each["provenance"])


def test_a_judge_picks_between_the_two_answers_sampled_most() -> None:
    samples = ["one", "two", " two", "rare", "one", "two"]
    for verdict, halves in (("a", ("two", "one")), ("b", ("one", "two"))):
        made = judged(samples, verdict)
        assert [(pair.chosen, pair.rejected) for pair in made.pairs] == [halves]
        trace = made.pairs[0].provenance
        assert (trace["reason"], trace["judge"], trace["chosen_outcome"]) == ("judged", "picks", "wrong")  # by the scorer
        assert not made.skipped


def test_a_choice_of_neither_gives_no_pair_and_is_counted() -> None:
    for reason in (TURNED, NEITHER, NOT_READ):
        made = judged(["one", "two"], reason)
        assert (made.pairs, made.skipped) == ((), {reason: 1})
    assert judged(["one", "one"], "a").skipped == {ONE_ANSWER: 1}


def test_the_judge_sees_passages_and_the_rows_own_answer_as_reference() -> None:
    row, seen = make_rows(SALES)[0], []
    judged(["one", "two"], lambda choice: seen.append(choice) or "a")
    assert (seen[0].question.text, seen[0].question.answer) == (SALES.text, row.completion)
    assert [passage.number for passage in seen[0].passages] == list(range(1, len(seen[0].passages) + 1))
    assert {seen[0].one, seen[0].other} == {"one", "two"}
