"""Rows are read by the method's shape; what early stopping measures on is held out by whole groups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import make_dataset

from ragtune.errors import RunError
from ragtune.files import building_folder, write_jsonl, write_manifest
from ragtune.recipe.schema import Recipe, Training
from ragtune.records import Evidence, Example, Pair, Question
from ragtune.stages.rows import Rows, hold_out, read_rows
from ragtune.training.methods import METHODS

PROMPT = ({"role": "user", "content": "?"},)


def make_rows(groups: dict[str, int], per_question: int = 2, has_groups: bool = True) -> Rows:
    """Rows of questions by group, as the dataset stage traces them."""
    rows, questions = [], {}
    for group, count in groups.items():
        for number in range(count):
            name = f"{group}-{number}"
            questions[name] = Question(name, "?", "1", (Evidence(group, 1),))
            trace = {"question_id": name, **({"groups": [group]} if has_groups else {})}
            rows += [Example(PROMPT, f"{name} {turn}", trace) for turn in range(per_question)]
    return Rows(tuple(rows), (), {}, "h", questions)


@pytest.mark.parametrize("has_groups", [True, False])
def test_whole_groups_are_held_out_until_there_are_questions_enough(has_groups: bool) -> None:
    rows = make_rows(dict.fromkeys("abcdefgh", 5), has_groups=has_groups)
    kept, held = hold_out(rows, Training(stop_patience=1, stop_questions=8))
    assert sorted([*kept, *held], key=repr) == sorted(rows.train, key=repr)
    groups = [{str(row.provenance["question_id"])[0] for row in part} for part in (kept, held)]
    assert not groups[0] & groups[1], "no group on both sides"
    assert len(groups[1]) == 2, "two groups of five questions make eight"
    assert hold_out(rows, Training(stop_patience=1, stop_questions=8)) == (kept, held)
    assert hold_out(rows, Training(stop_patience=1, stop_questions=8, seed=1)) != (kept, held)
    assert hold_out(rows, Training()) == (rows.train, ())


def test_at_most_half_is_held_out_and_one_group_is_refused() -> None:
    kept, held = hold_out(make_rows(dict.fromkeys("abcd", 3)), Training(stop_patience=1, stop_questions=500))
    assert len(held) == len(kept) == 12
    with pytest.raises(RunError, match="all rows are of one group"):
        hold_out(make_rows({"a": 9}), Training(stop_patience=1))


def test_pairs_and_labels_are_held_out_by_their_trace() -> None:
    rows = make_rows(dict.fromkeys("abcd", 4), 1)
    for made in (lambda e: Pair(e.prompt, "1", "2", e.provenance),
                 lambda e: {"prompt": list(e.prompt), "completion": [], "label": True, "provenance": e.provenance}):
        kept, held = hold_out(Rows(tuple(map(made, rows.train)), (), {}, "h", rows.questions),
                              Training(stop_patience=1, stop_questions=4))
        assert (len(kept), len(held)) == (12, 4)


def make_pairs(folder: Path) -> Path:
    with building_folder(folder) as partial:
        row = {"prompt": [{"role": "user", "content": "?"}], "chosen": [{"role": "assistant", "content": "a"}],
               "rejected": [{"role": "assistant", "content": "b"}], "provenance": {}}
        write_jsonl(partial / "pairs.jsonl", [row])
        write_manifest(partial, "pairs", prompt_hash="p", index_id="i")
    return folder


def test_each_shape_finds_its_rows_and_refuses_the_others(tmp_path: Path) -> None:
    dataset, pairs = make_dataset(tmp_path / "dataset", prompt_hash="p"), make_pairs(tmp_path / "pairs")
    recipe = Recipe()
    assert len(read_rows(recipe, METHODS["lora"], dataset, ours="p").train) == 32
    assert read_rows(recipe, METHODS["dpo"], pairs, ours="p").train == (Pair(PROMPT, "a", "b", {}),)
    with pytest.raises(RunError, match="is a dataset folder, but this method takes pairs .* Do: ragtune dataset pairs"):
        read_rows(recipe, METHODS["dpo"], dataset)
    with pytest.raises(RunError, match="is a pairs folder, but this method takes rows of a dataset"):
        read_rows(recipe, METHODS["lora"], pairs)
    with pytest.raises(RunError, match="has no kto.jsonl: this method takes completions labelled"):
        read_rows(recipe, METHODS["kto"], pairs)
    with pytest.raises(RunError, match="was made with prompt p, this ragtune asks with prompt q"):
        read_rows(recipe, METHODS["grpo"], dataset, ours="q")


def test_methods_with_a_preset_take_its_rows_alone(tmp_path: Path) -> None:
    plain = make_dataset(tmp_path / "plain")
    with pytest.raises(RunError, match="built with dataset.preset 'none', .* Do: .* dataset.preset=raft"):
        read_rows(Recipe(), METHODS["raft"], plain)
    made = make_dataset(tmp_path / "made", recipe={"dataset": {"preset": "raft"}})  # type: ignore[arg-type]
    assert json.loads((made / "manifest.json").read_text())["recipe"]["dataset"]["preset"] == "raft"
    assert len(read_rows(Recipe(), METHODS["raft"], made).train) == 32
    with pytest.raises(RunError, match="preset 'ra_dit'"):
        read_rows(Recipe(), METHODS["ra_dit"], made)
