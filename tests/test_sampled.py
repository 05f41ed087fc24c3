"""Pairs of sampled answers: told apart by the scorer, or picked between by a judge that is asked in both orders."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_instruct import SALES
from test_prefer import make_rows

from ragtune.answering.prompt import REFUSAL
from ragtune.datasets.prefer import PairsResult, build_labels
from ragtune.datasets.sampled import (
    JUDGE_TOKENS,
    NOT_READ,
    ONE_ANSWER,
    TURNED,
    build_judged_pairs,
    build_sampled_pairs,
    parse_choice,
    render_choice,
)
from ragtune.errors import QuestionError
from ragtune.models.fake import EchoGenerator
from ragtune.stages.sampled import score_completion


class Picks(EchoGenerator):
    """A judge that replies as told by (A, B)."""

    name = "picks"

    def __init__(self, reply: Callable[[str, str], str]) -> None:
        self.reply, self.asked = reply, 0

    def generate(self, prompts, max_new_tokens, progress=None):  # type: ignore[no-untyped-def]
        assert max_new_tokens == JUDGE_TOKENS
        self.asked += len(prompts)
        parts = [messages[-1]["content"].split("\n\n")[-3:-1] for messages in prompts]
        return [self.reply(a.removeprefix("A:\n"), b.removeprefix("B:\n")) for a, b in parts]


def judged(samples: list[str], reply: Callable[[str, str], str]) -> PairsResult:
    row = make_rows(SALES)[0]
    return build_judged_pairs([row], [SALES], [samples], Picks(reply), score_completion)


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
    made = judged(samples, lambda a, b: "A" if a == "one" else "B")
    assert [(pair.chosen, pair.rejected) for pair in made.pairs] == [("one", "two")]
    trace = made.pairs[0].provenance
    assert (trace["reason"], trace["judge"], trace["chosen_outcome"]) == ("judged", "picks", "wrong")  # the scorer's view
    assert not made.skipped


def test_a_verdict_that_turns_or_cannot_be_read_gives_no_pair_and_is_counted_apart() -> None:
    assert judged(["one", "two"], lambda a, b: "A").skipped == {TURNED: 1}
    assert judged(["one", "two"], lambda a, b: "A" if a == "one" else "both are fine").skipped == {NOT_READ: 1}
    assert judged(["one", "one"], lambda a, b: "A").skipped == {ONE_ANSWER: 1}
    judge = Picks(lambda a, b: "A")
    build_judged_pairs([], [], [], judge, score_completion)
    assert judge.asked == 0


def test_the_judge_sees_prompt_reference_and_both_answers() -> None:
    row = make_rows(SALES)[0]
    system, user = render_choice(row, "first answer", "second answer")
    assert "one letter" in system["content"]
    assert user["content"].startswith(row.prompt[-1]["content"])
    after = user["content"].removeprefix(row.prompt[-1]["content"])
    assert after.index(row.completion) < after.index("A:\nfirst answer") < after.index("B:\nsecond answer")


@pytest.mark.parametrize(("reply", "verdict"), [
    ("A", "A"), (" b.", "B"), ("**B**", "B"), ("The better answer is A.", "A"), ("Verdict: B", "B"), ("(A)", "A"),
    ("The first cites its passage.\nAnswer: A", "A"), ("", None), ("Both", None), ("A or B", None),
    ("A is better, but B", None), ("A good answer", None), ("C", None), ("I prefer the first", None),
])
def test_a_verdict_is_one_letter_on_the_last_line(reply: str, verdict: str | None) -> None:
    assert parse_choice(reply) == verdict


@given(st.text(max_size=60))
def test_any_reply_is_read_or_not(reply: str) -> None:
    assert parse_choice(reply) in ("A", "B", None)
