"""Packed rows: nothing lost, and the loss and gradients of the same rows one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_rows, make_tiny_model

from ragtune.answering.prompt import prompt_hash
from ragtune.errors import RecipeError, RunError
from ragtune.files import building_folder, write_jsonl, write_manifest
from ragtune.models.weights import load_4bit, load_base
from ragtune.recipe.load import check_recipe
from ragtune.recipe.schema import Generator
from ragtune.stages.train import run_train
from ragtune.training.rows import NO_LOSS
from ragtune.training.supervised.packing import PackedCollator, check_apart, check_packable, pack_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def make_row(length, start, prompt):
    ids = [5 + (start + 7 * i) % 500 for i in range(length)]
    return {"input_ids": ids, "labels": [NO_LOSS] * prompt + ids[prompt:]}


ROWS = [make_row(length, 3 * length, length // 2) for length in (60, 9, 14, 31, 22, 40, 12, 19)]


@given(st.lists(st.tuples(st.integers(2, 60), st.integers(0, 400)), max_size=40), st.integers(0, 9))
def test_no_token_is_lost_and_no_pack_is_longer_than_the_longest_row(shapes, seed):
    rows = [make_row(length, start, 1) for length, start in shapes]
    packs = pack_rows(rows, seed)
    parts = []
    for pack in packs:
        assert len(pack["input_ids"]) == len(pack["labels"]) == sum(pack["seq_lengths"])
        at = 0
        for length in pack["seq_lengths"]:
            parts.append((tuple(pack["input_ids"][at : at + length]), tuple(pack["labels"][at : at + length])))
            at += length
    assert sorted(parts) == sorted((tuple(row["input_ids"]), tuple(row["labels"])) for row in rows)
    longest = max((length for length, _ in shapes), default=0)
    assert all(len(pack["input_ids"]) <= longest for pack in packs)
    assert packs == pack_rows(rows, seed)


def test_packs_are_filled():
    assert sorted(sum(pack["seq_lengths"]) for pack in pack_rows(ROWS, 0)) == [14 + 12 + 9, 31 + 22, 40 + 19, 60]


def loss_and_gradients(model, batches):
    """Sum of the loss over all rows, and the gradients of what is tuned."""
    import torch

    model.zero_grad()
    total = 0.0
    for batch in batches:
        labels = batch.pop("labels")
        logits = model(**batch, use_cache=False).logits.float()[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("is_4bit", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_loss_and_gradients_are_those_of_the_rows_alone(model, is_4bit, attention, monkeypatch):
    import torch
    from peft import LoraConfig, get_peft_model

    monkeypatch.setattr("ragtune.models.weights.has_fast_bfloat16", lambda: False)  # computed in float32, to compare
    section = Generator(model=str(model), device="cpu")
    base = load_4bit(section) if is_4bit else load_base(section)
    base.set_attn_implementation(attention)
    tuned = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)).train()
    collate = PackedCollator(0)
    alone = loss_and_gradients(tuned, [
        {"input_ids": torch.tensor([row["input_ids"]]), "labels": torch.tensor([row["labels"]])} for row in ROWS])
    packs = pack_rows(ROWS, 0)
    assert len(packs) < len(ROWS)
    packed = loss_and_gradients(tuned, [collate(packs)])
    assert packed[0] == pytest.approx(alone[0], rel=1e-5)
    assert packed[1].keys() == alone[1].keys()
    for name, gradient in alone[1].items():
        assert float((packed[1][name] - gradient).abs().max()) < 1e-4 * max(1.0, float(gradient.abs().max())), name
    joined = {"input_ids": torch.tensor([packs[0]["input_ids"] + packs[1]["input_ids"]]),
              "labels": torch.tensor([packs[0]["labels"] + packs[1]["labels"]])}
    apart = loss_and_gradients(tuned, [collate(packs[:2])])[0]
    assert abs(loss_and_gradients(tuned, [joined])[0] - apart) > 0.05  # the test can fail: neighbours matter


def recipe_for(model, work, **training):
    return check_recipe(
        {"name": "t", "work": str(work), "generator": {"model": str(model), "max_new_tokens": 16, "device": "cpu"},
         "training": {"lr": 5e-3, "epochs": 2, "batch_size": 2, "warmup_share": 0.0, "method": "lora", **training}},
        "test",
    )


def make_uneven(folder):
    """A dataset whose rows show tables of 2 to 60 lines."""
    with building_folder(folder) as partial:
        write_jsonl(partial / "train.jsonl", make_rows(16, seed=1, amounts=60))
        write_jsonl(partial / "test.jsonl", make_rows(4, seed=2, amounts=20))
        write_manifest(partial, "dataset", prompt_hash=prompt_hash(), index_id="i")
    return folder


def test_a_packed_run_learns_in_fewer_steps(model, tmp_path):
    dataset = make_uneven(tmp_path / "dataset")
    packed = run_train(recipe_for(model, tmp_path / "packed", packing=True), dataset=dataset)
    plain = run_train(recipe_for(model, tmp_path / "plain", max_steps=1), dataset=dataset)
    assert packed.steps < 14
    assert packed.eval_losses[0][1] == pytest.approx(plain.eval_losses[0][1], abs=2e-3)  # test rows are not packed
    assert packed.eval_losses[-1][1] < packed.eval_losses[0][1] - 1


def test_weights_and_models_in_which_rows_would_see_each_other_are_refused(model, tmp_path):
    with pytest.raises(RecipeError, match="packing does not go with prefix_tuning"):
        check_packable("prefix_tuning", "prefix_tuning")
    check_packable("lora", "lora")
    base = load_base(Generator(model=str(model), device="cpu"))
    check_apart(base, ROWS)
    forward = base.forward
    base.forward = lambda *args, position_ids=None, **rest: forward(*args, **rest)  # a model that heeds no positions
    with pytest.raises(RunError, match="would see each other"):
        check_apart(base, ROWS)
