"""The tuning stage with the real libraries on a tiny Llama: learns, resumes, refuses, leaves a whole folder."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from tiny_model import make_dataset, make_tiny_model

from ragtune.datasets.folder import read_examples
from ragtune.errors import ModelError, RecipeError, RunError
from ragtune.models.language import open_generator
from ragtune.recipe.load import check_recipe
from ragtune.records import Message
from ragtune.stages.train import run_train
from ragtune.training.run import open_run

PROMPT = [Message(role="user", content="[1] Item 0 2021: 4,210\n\nQuestion: What was item 0 in 2021?")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


def recipe_for(model, work, **training):
    return check_recipe(
        {
            "name": "t",
            "work": str(work),
            "generator": {"model": str(model), "max_new_tokens": 16, "device": "cpu"},
            "training": {"lr": 5e-3, "max_steps": 8, "batch_size": 8, "save_steps": 4, "warmup_share": 0.0, **training},
        },
        "test",
    )


def read_adapter(folder):
    from safetensors.torch import load_file

    return load_file(str(folder / "adapter" / "adapter_model.safetensors"))


def stop_at(step, error=KeyboardInterrupt):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == step:
                raise error

    return Stop()


def test_qlora_learns_and_the_saved_adapter_answers_as_tuned(model, dataset, tmp_path):
    import torch

    recipe = recipe_for(model, tmp_path, epochs=6, max_steps=-1)
    seen = []
    summary = run_train(recipe, dataset=dataset, report=lambda *values: seen.append(values))
    assert (summary.method, summary.rows, summary.test_rows, summary.steps) == ("qlora", 32, 8, 24)
    assert summary.loss_last < summary.loss_first - 1
    assert [step for step, _ in summary.eval_losses] == [0, 8, 16, 24]
    assert summary.eval_losses[-1][1] < summary.eval_losses[0][1] - 1
    assert seen == [("train", step, 24) for step in range(25)]
    assert summary.trainable_parameters > 10_000
    assert summary.peak_memory_mb > 50

    run = open_run(tmp_path / "t" / "run")
    assert [point["step"] for point in run.metrics if "loss" in point] == list(range(1, 25))
    first = open_generator(recipe.generator, adapter=run.adapter)
    again = open_generator(recipe.generator, adapter=run.adapter)
    assert torch.equal(first.logits(PROMPT), again.logits(PROMPT))
    assert first.generate([PROMPT], 16) == again.generate([PROMPT], 16)
    with first.without_adapter():
        assert (first.logits(PROMPT) - again.logits(PROMPT)).abs().max() > 0.1


def test_the_run_folder_is_whole_portable_and_free_of_pickles(model, dataset, tmp_path):
    run_train(recipe_for(model, tmp_path, max_steps=2), dataset=dataset)
    run = open_run(tmp_path / "t" / "run")
    names = sorted(str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file())
    assert names == ["README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "curve.svg",
                     "manifest.json", "metrics.jsonl"]
    for name in ("README.md", "adapter/adapter_config.json"):
        assert str(model.parent) not in (run.folder / name).read_text()
    config = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    manifest = run.manifest
    assert manifest["base_model"] == "tiny"
    assert manifest["base_fingerprint"] == open_generator(recipe_for(model, tmp_path).generator).fingerprint
    assert manifest["index_id"] == "index-1"
    assert manifest["recipe"]["training"]["max_steps"] == 2
    assert {"torch", "trl", "peft", "bitsandbytes"} <= set(manifest["packages"])
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["run"]


@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_an_interrupted_run_goes_on_and_ends_like_an_unbroken_one(model, dataset, tmp_path, method):
    import torch

    broken = recipe_for(model, tmp_path / "broken", method=method, dropout=0.1)
    with pytest.raises(KeyboardInterrupt):
        run_train(broken, dataset=dataset, callbacks=[stop_at(6)])
    assert not (tmp_path / "broken" / "t" / "run").exists()
    resumed = run_train(broken, dataset=dataset)
    whole = run_train(recipe_for(model, tmp_path / "whole", method=method, dropout=0.1), dataset=dataset)
    assert (resumed.resumed_from_step, whole.resumed_from_step) == (4, 0)
    assert resumed.steps == whole.steps == 8
    ours, theirs = read_adapter(tmp_path / "broken" / "t" / "run"), read_adapter(tmp_path / "whole" / "t" / "run")
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-6
    assert all(torch.isfinite(tensor).all() for tensor in ours.values())
    one, other = (open_run(tmp_path / name / "t" / "run").metrics for name in ("broken", "whole"))
    assert [point["step"] for point in one] == [point["step"] for point in other]
    assert [p.get("loss", p.get("eval_loss")) for p in one] == pytest.approx(
        [p.get("loss", p.get("eval_loss")) for p in other], abs=1e-4
    )


def test_other_settings_start_clean(model, dataset, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_train(recipe_for(model, tmp_path), dataset=dataset, callbacks=[stop_at(5)])
    assert run_train(recipe_for(model, tmp_path, lr=1e-3), dataset=dataset).resumed_from_step == 0


def test_a_checkpoint_that_a_kill_cut_short_is_not_used(model, dataset, tmp_path):
    recipe = recipe_for(model, tmp_path, save_steps=2)
    with pytest.raises(KeyboardInterrupt):
        run_train(recipe, dataset=dataset, callbacks=[stop_at(5)])
    checkpoints = tmp_path / "t" / "run.partial" / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint-2", "checkpoint-4"}
    assert not list(checkpoints.rglob("training_args.bin"))
    (checkpoints / "checkpoint-4" / "complete").unlink()
    assert run_train(recipe, dataset=dataset).resumed_from_step == 2


def test_tuning_again_replaces_the_run_and_a_failure_leaves_it(model, dataset, tmp_path):
    recipe = recipe_for(model, tmp_path, max_steps=2)
    run_train(recipe, dataset=dataset)
    before = open_run(tmp_path / "t" / "run").id
    with pytest.raises(KeyboardInterrupt):
        run_train(recipe_for(model, tmp_path, max_steps=3), dataset=dataset, callbacks=[stop_at(1)])
    assert open_run(tmp_path / "t" / "run").id == before
    run_train(recipe_for(model, tmp_path, max_steps=3), dataset=dataset)
    assert open_run(tmp_path / "t" / "run").id != before


def test_a_finished_run_of_the_same_facts_is_not_tuned_again(model, dataset, tmp_path):
    recipe = recipe_for(model, tmp_path, max_steps=1)
    first = run_train(recipe, dataset=dataset)
    made = (tmp_path / "t" / "run" / "manifest.json").stat().st_mtime_ns
    again = run_train(recipe, dataset=dataset, callbacks=[stop_at(0)])
    assert (again.steps, again.loss_last) == (first.steps, first.loss_last)
    assert (tmp_path / "t" / "run" / "manifest.json").stat().st_mtime_ns == made


def test_a_loss_that_is_not_a_number_stops_the_run(model, dataset, tmp_path):
    with pytest.raises(RunError, match=r"the loss is (nan|inf) at step \d+ \(rows \d.*Lower training.lr"):
        run_train(recipe_for(model, tmp_path, lr=1e30), dataset=dataset)
    assert not (tmp_path / "t" / "run").exists()


def test_a_run_whose_loss_was_no_number_goes_on_with_a_lower_rate(model, dataset, tmp_path, monkeypatch):
    import torch
    from transformers import TrainerCallback
    from trl import SFTTrainer

    class Spoil(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **_):
            if state.global_step == 5:
                next(p for p in model.parameters() if p.requires_grad).data.fill_(float("nan"))

    shown = {}
    step = SFTTrainer.training_step

    def look(self, model, inputs, *more, **named):
        shown[self.state.global_step] = [row[mask.bool()].tolist() for row, mask in zip(inputs["input_ids"],
                                                                                     inputs["attention_mask"])]
        return step(self, model, inputs, *more, **named)

    monkeypatch.setattr(SFTTrainer, "training_step", look)
    recipe = recipe_for(model, tmp_path, method="lora")
    with pytest.raises(RunError, match=r"the loss is nan at step 6 \(rows ") as raised:
        run_train(recipe, dataset=dataset, callbacks=[Spoil()])
    chat = open_generator(recipe.generator).chat
    rows = [chat.encode_example(example.prompt, example.completion) for example in read_examples(dataset / "train.jsonl")]
    named = re.search(r"rows ([\d, ]+)", str(raised.value))[1]
    assert [list(rows[int(row) - 1][0]) + list(rows[int(row) - 1][1]) for row in named.split(", ")] == shown[5]

    class Rate(TrainerCallback):
        rates = []

        def on_step_end(self, args, state, control, lr_scheduler=None, **_):
            self.rates.append(lr_scheduler.get_last_lr()[0])

    summary = run_train(recipe_for(model, tmp_path, method="lora", lr=1e-3), dataset=dataset, callbacks=[Rate()])
    assert (summary.resumed_from_step, summary.steps) == (4, 8)
    assert Rate.rates == pytest.approx([1e-3 * left / 8 for left in (3, 2, 1, 0)])
    assert all(torch.isfinite(tensor).all() for tensor in read_adapter(tmp_path / "t" / "run").values())


def test_no_row_is_lost_on_the_way_into_the_trainer(model, dataset, tmp_path, monkeypatch):
    from trl import SFTTrainer

    kept = {}
    build = SFTTrainer.__init__

    def spy(self, *args, **kwargs):
        build(self, *args, **kwargs)
        kept.update(train=len(self.train_dataset), test=len(self.eval_dataset))
        if kept.get("drop"):
            self.train_dataset = self.train_dataset.select(range(30))

    monkeypatch.setattr(SFTTrainer, "__init__", spy)
    run_train(recipe_for(model, tmp_path, max_steps=1), dataset=dataset)
    assert kept == {"train": 32, "test": 8}
    kept["drop"] = True
    with pytest.raises(RunError, match="kept 30 of 32 training rows"):
        run_train(recipe_for(model, tmp_path, max_steps=2), dataset=dataset)


def test_our_loss_is_the_loss_of_trl(model, dataset, tmp_path, monkeypatch):
    from trl import SFTTrainer

    losses = []

    def compare(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ours = ours_loss(self, model, dict(inputs), return_outputs, num_items_in_batch)
        theirs = SFTTrainer.compute_loss(self, model, dict(inputs), return_outputs, num_items_in_batch)
        losses.append((float(ours.detach()), float(theirs.detach()), num_items_in_batch is None))
        return ours

    build = SFTTrainer.__init__

    def patch(self, *args, **kwargs):
        nonlocal ours_loss
        build(self, *args, **kwargs)
        ours_loss = type(self).compute_loss
        type(self).compute_loss = compare

    ours_loss = None
    monkeypatch.setattr(SFTTrainer, "__init__", patch)
    run_train(recipe_for(model, tmp_path, max_steps=3, method="lora"), dataset=dataset)
    assert {is_evaluation for _, _, is_evaluation in losses} == {True, False}
    for ours, theirs, _ in losses:
        assert ours == pytest.approx(theirs, rel=5e-3)  # TRL's logits are bfloat16 in places


def test_a_dataset_made_with_another_prompt_or_index_is_refused_by_name(model, tmp_path):
    other = make_dataset(tmp_path / "other", prompt_hash="feedbeef")
    recipe = recipe_for(model, tmp_path, max_steps=1)
    with pytest.raises(RunError, match=r"made with prompt feedbeef, .* asks with prompt [0-9a-f]{16}.*ragtune dataset"):
        run_train(recipe, dataset=other)
    assert run_train(recipe, dataset=other, allow_other_prompt=True).steps == 1
    from ragtune.files import building_folder, write_manifest

    with building_folder(tmp_path / "index") as folder:
        write_manifest(folder, "index", id="index-2")
    with pytest.raises(RunError, match=r"from index index-1, .* is index index-2"):
        run_train(recipe, dataset=make_dataset(tmp_path / "data"), index=tmp_path / "index")


def damage_rows(folder):
    """A row of another shape, with a manifest that knows of it."""
    from ragtune.files import write_jsonl, write_manifest

    write_jsonl(folder / "train.jsonl", [{"text": "a"}])
    manifest = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, "dataset", prompt_hash=manifest["prompt_hash"], index_id="index-1")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no dataset folder at"),
        (lambda f: (f / "manifest.json").unlink(), "has no manifest.json"),
        (lambda f: (f / "train.jsonl").write_text("x"), "train.jsonl is not what the manifest says"),
        (lambda f: (f / "train.jsonl").unlink(), "train.jsonl is missing"),
        (damage_rows, r"train.jsonl:1: found the keys text"),
    ],
)
def test_a_wrong_dataset_is_one_clear_error_and_writes_nothing(model, dataset, tmp_path, damage, message):
    folder = tmp_path / "dataset"
    shutil.copytree(dataset, folder)
    damage(folder)
    with pytest.raises(RunError, match=message):
        run_train(recipe_for(model, tmp_path / "work"), dataset=folder)
    assert not (tmp_path / "work").exists()


def test_rows_longer_than_the_model_reads_are_refused(dataset, tmp_path):
    short = make_tiny_model(tmp_path / "short", positions=96)
    with pytest.raises(RunError, match=r"32 of 32 rows are longer than the model's 96 tokens.*ragtune dataset"):
        run_train(recipe_for(short, tmp_path), dataset=dataset)


def test_what_cannot_be_tuned_is_named(model, dataset, tmp_path):
    with pytest.raises(RecipeError, match=r"training.method is 'qlor'. Allowed: .*qlora, .*Did you mean 'qlora'"):
        run_train(recipe_for(model, tmp_path, method="qlor"), dataset=dataset)
    with pytest.raises(ModelError, match="cannot be tuned here"):
        run_train(recipe_for("openai:gpt-4o-mini", tmp_path), dataset=dataset)
    with pytest.raises(ModelError, match="cannot be tuned here"):
        run_train(recipe_for("echo", tmp_path), dataset=dataset)


def test_a_place_that_cannot_be_written_is_named(model, dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write to .*--out"):
        run_train(recipe_for(model, tmp_path), out=tmp_path / "file" / "run", dataset=dataset)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not a folder of ragtune"):
        run_train(recipe_for(model, tmp_path), out=tmp_path / "mine", dataset=dataset)


def test_a_full_disk_is_named_and_cleared(model, dataset, tmp_path, monkeypatch):
    import torch

    def full(*_, **__):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    class Usage:
        free = 0

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(RunError, match="the disk is full"):
        run_train(recipe_for(model, tmp_path), dataset=dataset)
    assert not list((tmp_path / "t").iterdir())


def test_a_cpu_without_bfloat16_tunes_in_float32(model, dataset, tmp_path, monkeypatch):
    from bitsandbytes.nn.modules import Linear4bit
    from transformers import TrainerCallback

    seen = {}

    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **_):
            layer = next(module for module in model.modules() if isinstance(module, Linear4bit))
            seen.update(bf16=args.bf16, compute=str(layer.compute_dtype))

    for has, compute in ((False, "torch.float32"), (True, "torch.bfloat16")):
        for module in ("models.weights", "training.arguments"):
            monkeypatch.setattr(f"ragtune.{module}.has_fast_bfloat16", lambda has=has: has)
        recipe = recipe_for(model, tmp_path, max_steps=4)
        summary = run_train(recipe, tmp_path / f"run-{compute}", dataset=dataset, callbacks=[Look()])
        assert seen == {"bf16": has, "compute": compute}
        assert summary.loss_last < summary.loss_first
