"""Runs exported for other tools: each format answers as the adapter does, a broken one is blocked, nothing half-written
stays."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil

import pytest
from gguf_files import make_converter
from tiny_model import make_dataset, make_tiny_model

from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.errors import MissingPackage, ModelError, RecipeError, RunError
from ragtune.files import hash_manifest, read_manifest
from ragtune.models import gguf
from ragtune.models.chat import load_chat
from ragtune.models.language import open_generator
from ragtune.recipe.load import check_recipe
from ragtune.records import Message
from ragtune.stages.export_model import run_export_model
from ragtune.stages.train import run_train
from ragtune.training.exporting import formats as export_formats

PROMPT = [Message(role="user", content="[1] Item 0 2021: 4,210\n\nQuestion: What was item 0 in 2021?")]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe whose run and dataset are there."""
    work = tmp_path_factory.mktemp("work")
    recipe = check_recipe(
        {
            "name": "t", "work": str(work),
            "generator": {"model": str(make_tiny_model(work / "tiny")), "max_new_tokens": 16, "device": "cpu"},
            "dataset": {"folder": str(make_dataset(work / "dataset", train=32, test=12))},
            "training": {"lr": 5e-3, "max_steps": 24, "warmup_share": 0.0, "method": "lora"},
        },
        "test",
    )
    run_train(recipe, dataset=work / "dataset")
    return recipe


def place_of(recipe):
    return open_generator(recipe.generator), recipe.work + "/t/run/adapter"


def names_in(folder):
    return {path.name for path in folder.rglob("*")}


@pytest.mark.parametrize(("numbers", "dtype"), [(None, "float32"), ("bfloat16", "bfloat16")])
def test_safetensors_answer_as_the_adapter(recipe, tmp_path, numbers, dtype):
    import torch

    summary = run_export_model(recipe, "safetensors", tmp_path / "out", numbers, questions=8)
    side = summary.parity.sides[0]
    assert (summary.numbers, side.n, side.changed, side.faults) == (dtype, 8, 0, ())
    assert side.equal + side.ties == 8
    merged = open_generator(recipe.generator.model_copy(update={"model": str(tmp_path / "out"), "dtype": dtype}))
    tuned = open_generator(recipe.generator.model_copy(update={"dtype": dtype}), adapter=recipe.work + "/t/run/adapter")
    assert merged.model.dtype == getattr(torch, dtype)
    assert (merged.logits(PROMPT) - tuned.logits(PROMPT)).abs().max() < (1e-4 if dtype == "float32" else 0.2)
    manifest = read_manifest(tmp_path / "out", "model")
    assert manifest["parity"]["sides"][0]["logit_difference"] == side.logit_difference < side.logit_limit
    assert manifest["base_fingerprint"] == open_generator(recipe.generator).fingerprint
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names_in(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "8 held-out questions" in card
    assert "base_model: tiny" in card
    assert recipe.work not in card


@pytest.mark.parametrize(("method", "format_name"),
                         [("head", "safetensors"), ("head", "ctranslate2"), ("ia3", "safetensors")])
def test_other_kinds_of_tuned_weights_are_exported(recipe, tmp_path, method, format_name):
    training = recipe.training.model_copy(update={"method": method, "max_steps": 6, "folder": str(tmp_path / "run")})
    other = recipe.model_copy(update={"training": training})
    run_train(other)
    summary = run_export_model(other, format_name, tmp_path / "out", "float32", questions=4)
    assert [side.faults for side in summary.parity.sides] == [()] * (1 if format_name == "safetensors" else 2)
    if format_name == "safetensors":
        merged = open_generator(recipe.generator.model_copy(update={"model": str(tmp_path / "out")}))
        assert (merged.logits(PROMPT) - open_generator(recipe.generator).logits(PROMPT)).abs().max() > 1e-3


@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_ctranslate2_answers_as_the_adapter(recipe, tmp_path, numbers):
    ctranslate2 = pytest.importorskip("ctranslate2")
    summary = run_export_model(recipe, "ctranslate2", tmp_path / "out", numbers, questions=8)
    merged, converted = summary.parity.sides
    assert (merged.name, converted.name, converted.numbers) == ("merged", "CTranslate2", numbers)
    assert converted.logit_difference < (1e-3 if numbers == "float32" else 0.2)
    assert {"model.bin", "config.json", "tokenizer.json", "README.md", "manifest.json"} <= names_in(tmp_path / "out")
    assert not any(path.is_dir() for path in (tmp_path / "out").iterdir())
    chat, tuned = load_chat(recipe.generator), open_generator(recipe.generator, adapter=recipe.work + "/t/run/adapter")
    engine = ctranslate2.Generator(str(tmp_path / "out"), compute_type=numbers)
    tokens = chat.tokenizer.convert_ids_to_tokens(chat.encode_prompt(PROMPT))
    found = engine.generate_batch([tokens], max_length=16, include_prompt_in_result=False, end_token=chat.stop_ids,
                                  sampling_topk=1)[0]
    if numbers == "float32":
        assert [chat.decode(found.sequences_ids[0])] == tuned.generate([PROMPT], 16)


@pytest.mark.parametrize("numbers", ["float32", "float16", "q8_0"])
def test_gguf_is_converted_by_llama_cpp_and_read_back(recipe, tmp_path, numbers):
    pytest.importorskip("gguf")
    summary = run_export_model(recipe, "gguf", tmp_path / "out", numbers, questions=8,
                               llama_cpp=make_converter(tmp_path / "llama.cpp"))
    side = summary.parity.sides[1]
    assert (side.name, side.faults) == ("GGUF", ())
    assert side.logit_difference < {"float32": 1e-5, "float16": 2e-3, "q8_0": 0.1}[numbers]
    assert names_in(tmp_path / "out") == {f"t-{gguf.NUMBERS[numbers]}.gguf", "README.md", "manifest.json"}


def spoil_merge(monkeypatch, change):
    """Let the merged weights be others than those that were tuned."""
    merge = export_formats.merge_weights

    def spoiled(section, adapter, folder, dtype):
        merge(*change(section, adapter, folder, dtype))

    monkeypatch.setattr(export_formats, "merge_weights", spoiled)


def scaled_adapter(folder, adapter, factor):
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter, folder)
    weights = load_file(str(folder / "adapter_model.safetensors"))
    save_file({name: value * (factor if "lora_B" in name else 1) for name, value in weights.items()},
              str(folder / "adapter_model.safetensors"))
    return folder


@pytest.mark.parametrize("format_name", ["safetensors", "ctranslate2"])
def test_a_scaled_adapter_is_blocked_and_shown(recipe, tmp_path, monkeypatch, format_name):
    spoil_merge(monkeypatch, lambda section, adapter, folder, dtype: (
        section, scaled_adapter(tmp_path / "scaled", adapter, 0.5), folder, dtype))
    with pytest.raises(RunError, match=r"(?s)merged: its logits differ by .* was not written.*adapter: .*merged: .*--allow"):
        run_export_model(recipe, format_name, tmp_path / "out", questions=8)
    assert not (tmp_path / "out").exists()
    shutil.rmtree(tmp_path / "scaled")
    summary = run_export_model(recipe, format_name, tmp_path / "out", questions=8, allow_difference=True)
    assert summary.parity.faults
    assert "differs beyond noise" in (tmp_path / "out" / "README.md").read_text()
    assert read_manifest(tmp_path / "out", "model")["allow_difference"] is True


def test_a_merge_into_a_4_bit_base_is_blocked(recipe, tmp_path, monkeypatch):
    from ragtune.models.weights import load_4bit
    from ragtune.training.exporting import merge as export

    def quantised(section, dtype=None):
        import torch
        from bitsandbytes.functional import dequantize_4bit
        from bitsandbytes.nn.modules import Linear4bit

        model, plain = load_4bit(section), load(section, dtype)
        for name, module in model.named_modules():
            if isinstance(module, Linear4bit):
                weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
                plain.get_submodule(name).weight.data = weight.to(torch.float32)
        return plain

    load = export.load_base
    monkeypatch.setattr(export, "load_base", quantised)
    with pytest.raises(RunError, match="its logits differ by"):
        run_export_model(recipe, "safetensors", tmp_path / "out", questions=8)
    assert not list(tmp_path.iterdir())


def test_a_converter_that_changes_the_weights_is_blocked(recipe, tmp_path):
    pytest.importorskip("gguf")
    with pytest.raises(RunError, match="GGUF: its logits differ by"):
        run_export_model(recipe, "gguf", tmp_path / "out", questions=4,
                         llama_cpp=make_converter(tmp_path / "llama.cpp", spoil=1.2))
    assert {path.name for path in tmp_path.iterdir()} == {"llama.cpp"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import sys; print('NotImplementedError: BPE pre-tokenizer was not recognized'); sys.exit(1)",
         "does not know this model's tokenizer"),
        ("import sys; print('no module torch', file=sys.stderr); sys.exit(3)", "exit code 3: no module torch"),
        ("print('done')", "left no GGUF file"),
        ("import time\nprint('thinking', flush=True)\ntime.sleep(60)", "did not end within 2 s"),
    ],
)
def test_a_converter_that_fails_is_explained(tmp_path, body, message):
    folder = make_converter(tmp_path / "llama.cpp", body)
    with pytest.raises(ModelError, match=message):
        gguf.convert_gguf(tmp_path, tmp_path / "out.gguf", "float16", gguf.find_converter(folder), 2)


def test_where_the_converter_is_looked_for(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(MissingPackage, match=r"was not found\. Do: git clone .*llama\.cpp.*LLAMA_CPP"):
        gguf.find_converter()
    with pytest.raises(MissingPackage, match=r"has no convert_hf_to_gguf\.py"):
        gguf.find_converter(tmp_path)
    on_path = make_converter(tmp_path / "bin") / gguf.SCRIPT
    on_path.chmod(0o755)
    assert gguf.find_converter() == on_path
    monkeypatch.setenv("LLAMA_CPP", str(make_converter(tmp_path / "own")))
    assert gguf.find_converter() == tmp_path / "own" / gguf.SCRIPT
    assert gguf.find_converter(on_path) == on_path
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"ragtune\[gguf\]"):
        gguf.find_converter()


class Trap:
    """A pickle that leaves a mark where it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("format_name", ["safetensors", "adapter"])
def test_pickles_are_never_loaded_and_never_exported(recipe, tmp_path, format_name):
    run = tmp_path / "run"
    shutil.copytree(recipe.work + "/t/run", run)
    for place in (run, run / "adapter"):
        for name in ("training_args.bin", "adapter_model.bin", "optimizer.pt"):
            (place / name).write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    run_export_model(recipe, format_name, tmp_path / "out", run=run, questions=4)
    open_generator(recipe.generator, adapter=run / "adapter").generate([PROMPT], 2)
    assert not (tmp_path / "mark").exists()
    assert not names_in(tmp_path / "out") & {"training_args.bin", "adapter_model.bin", "optimizer.pt"}
    (run / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(RunError, match="is missing"):
        run_export_model(recipe, format_name, tmp_path / "out", run=run)
    assert not (tmp_path / "mark").exists()


def test_a_base_that_changed_and_a_run_of_another_version_are_refused(recipe, tmp_path):
    other = make_tiny_model(tmp_path / "other", seed=5)
    changed = recipe.model_copy(update={"generator": recipe.generator.model_copy(update={"model": str(other)})})
    with pytest.raises(RunError, match="tuned with base model .* and is used with base model"):
        run_export_model(changed, "safetensors", tmp_path / "out", run=tmp_path.parent / recipe.work / "t" / "run")
    run = tmp_path / "run"
    shutil.copytree(recipe.work + "/t/run", run)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["format"] = 99
    manifest["manifest_sha256"] = hash_manifest(manifest)
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="has format 99, this ragtune reads 1"):
        run_export_model(recipe, "safetensors", tmp_path / "out", run=run)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing(recipe, tmp_path, monkeypatch):
    from transformers import PreTrainedModel

    def full(self, folder, **_):
        with open(f"{folder}/model.safetensors", "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(RunError, match="the disk is full"):
        run_export_model(recipe, "safetensors", tmp_path / "out", questions=4)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_named(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"format is 'ggfu'.*Did you mean 'gguf'"):
        run_export_model(recipe, "ggfu", tmp_path / "out")
    with pytest.raises(RecipeError, match=r"number type is 'int4'. Allowed for ctranslate2: int8"):
        run_export_model(recipe, "ctranslate2", tmp_path / "out", "int4")
    run = tmp_path / "run"
    shutil.copytree(recipe.work + "/t/run", run)
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    (run / "adapter" / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "PREFIX_TUNING"}))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["files"].pop("adapter/adapter_config.json")
    manifest["manifest_sha256"] = hash_manifest(manifest)
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"is a soft prompt and cannot be merged.*Serve it beside the base"):
        run_export_model(recipe, "safetensors", tmp_path / "out", run=run)


def test_the_command_prints_the_comparison(recipe, tmp_path, capsys):
    import yaml

    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    given = ["export", "--recipe", str(tmp_path / "r.yaml"), "--format", "safetensors", "--questions", "4"]
    assert run_guarded(ragtune, [*given, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "4 held-out questions" in out
    assert "4 of 4" in out
    assert run_guarded(ragtune, [*given, "--out", str(tmp_path / "again"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parity"]["sides"][0]["equal"] == 4
