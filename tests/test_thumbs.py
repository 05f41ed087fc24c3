"""Thumbs as preference data: pairs where there is a better answer, labels where there is none, and what is left out."""

from __future__ import annotations

import dataclasses

import pytest

from ragtune.datasets.prefer import read_pairs
from ragtune.datasets.thumbs import Thumb, build_preferences, complete_answer, read_thumbs
from ragtune.errors import RunError
from ragtune.files import read_jsonl, read_manifest, write_jsonl
from ragtune.recipe.load import check_recipe
from ragtune.records import REFUSAL, Message, Passage
from ragtune.stages.feedback import feedback_file, run_feedback

PASSAGES = [Passage(1, "Cost of sales 2021: 2,000", "c1", "A", 1, 0, 9),
            Passage(2, "Net sales 2021: 4,210", "c2", "A", 2, 0, 9)]


def thumb(completion="Answer: 1", verdict="up", question="q", caller="a", **values):
    prompt = (Message(role="system", content="s"), Message(role="user", content=question))
    return Thumb(f"{completion}{caller}", verdict, question, prompt, completion, completion, "m", "i",
                 values.pop("prompt_hash", "h"), caller=caller, **values)


@pytest.mark.parametrize(("right", "completion"), [
    ("$4,210 million", "Net sales 2021: 4,210 [2]\nAnswer: $4,210 million"), ("yes", "Answer: yes"), ("", ""),
    ("77", "Answer: 77"), ("not found in the documents", REFUSAL),
    ("So [1]\nAnswer: 5", "So [1]\nAnswer: 5"), ("<|im_end|>", "Answer: < |im_end|>"),
])
def test_a_right_answer_becomes_a_completion_as_models_write_them(right, completion):
    assert complete_answer(right, PASSAGES) == completion


def test_a_liked_and_a_disliked_answer_to_one_prompt_are_a_pair():
    made = build_preferences([thumb("Answer: 1"), thumb("Answer: 2", "down")], "h")
    (pair,) = made.pairs
    assert (pair.chosen, pair.rejected, pair.provenance["reason"]) == ("Answer: 1", "Answer: 2", "thumb")
    assert sorted(row["label"] for row in made.labels) == [False, True]


def test_the_right_answer_is_chosen_over_the_wrong_one():
    made = build_preferences([thumb("Answer: 2", "down", right_answer="3", right_completion="Answer: 3")], "h")
    assert [(pair.chosen, pair.rejected) for pair in made.pairs] == [("Answer: 3", "Answer: 2")]


def test_thumbs_without_a_counterpart_are_labels():
    made = build_preferences([thumb(), thumb("Answer: 2", "down", question="other")], "h")
    assert made.pairs == ()
    said = [(row["completion"][0]["content"], row["label"]) for row in made.labels]
    assert said == [("Answer: 1", True), ("Answer: 2", False)]


def test_the_last_word_of_a_caller_counts_and_discord_does_not():
    changed = build_preferences([thumb(), thumb(verdict="down")], "h")
    assert [row["label"] for row in changed.labels] == [False]
    torn = build_preferences([thumb(), thumb(verdict="down", caller="b")], "h")
    assert torn.labels == ()
    assert torn.skipped == {"liked by one and not by another": 1}


def test_other_prompts_and_empty_answers_are_counted_and_left_out():
    made = build_preferences([thumb(prompt_hash="old"), thumb(" ")], "h")
    assert (made.labels, made.skipped) == ((), {"asked by another prompt": 1, "nothing was written": 1})


def test_the_folder_is_one_that_training_takes(tmp_path):
    from ragtune.answering.prompt import prompt_hash
    from ragtune.stages.rows import read_rows
    from ragtune.training.methods import find_method

    recipe = check_recipe({"name": "t", "work": str(tmp_path), "documents": {"folder": str(tmp_path)}}, "test")
    ours = prompt_hash(recipe.answering.names_rows)
    thumbs = [dataclasses.replace(each, prompt_hash=ours) for each in
              (thumb(), thumb("Answer: 2", "down"), thumb("Answer: 3", question="alone"))]
    feedback_file(recipe).parent.mkdir(parents=True)
    write_jsonl(feedback_file(recipe), (each.to_dict() for each in thumbs))
    assert read_thumbs(feedback_file(recipe)) == thumbs
    out = tmp_path / "made"
    summary = run_feedback(recipe, out=out)
    assert (summary.judgements, summary.pairs, dict(summary.labels)) == (3, 1, {"desirable": 2, "undesirable": 1})
    assert read_manifest(out, "pairs")["prompt_hash"] == ours
    assert [pair.chosen for pair in read_pairs(out / "pairs.jsonl")] == ["Answer: 1"]
    assert len(list(read_jsonl(out / "kto.jsonl"))) == 3
    for method, count in (("dpo", 1), ("kto", 3)):
        rows = read_rows(recipe, find_method(method), out, None, ours, None)
        assert len(rows.train) == count


def test_nothing_to_learn_from_is_said(tmp_path):
    recipe = check_recipe({"name": "t", "work": str(tmp_path), "documents": {"folder": str(tmp_path)}}, "test")
    with pytest.raises(RunError, match="no feedback at"):
        run_feedback(recipe)
    feedback_file(recipe).parent.mkdir(parents=True)
    write_jsonl(feedback_file(recipe), [thumb(prompt_hash="old").to_dict()])
    with pytest.raises(RunError, match="1 asked by another prompt"):
        run_feedback(recipe)
    feedback_file(recipe).write_text('{"id": 1}\n')
    with pytest.raises(RunError, match=r"feedback.jsonl:1: no judgement"):
        run_feedback(recipe)
