"""Generators on a tiny real Llama: batching, budgets, adapters and the errors of wrong names."""

from __future__ import annotations

import shutil

import pytest
from tiny_model import make_adapter, make_tiny_model

from ragtune.errors import ModelError
from ragtune.models.checkpoint import fingerprint_model
from ragtune.models.language import open_counter, open_generator
from ragtune.recipe.schema import Generator
from ragtune.records import Message


def prompt(text):
    return [Message(role="system", content="Answer."), Message(role="user", content=text)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("model"), seed=3)


@pytest.fixture(scope="module")
def section(folder):
    return Generator(model=str(folder), max_new_tokens=12, batch_size=3)


@pytest.fixture(scope="module")
def generator(section):
    return open_generator(section)


def test_generation_stops_at_the_end_of_the_turn(generator, monkeypatch):
    import torch

    end = generator.chat.tokenizer.eos_token_id
    forward = generator.model.forward

    def say_end(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = torch.zeros_like(out.logits)
        out.logits[..., end] = 1.0
        return out

    monkeypatch.setattr(generator.model, "forward", say_end)
    assert generator.generate([prompt("a")], 12) == [""]


def test_the_counter_counts_as_the_generator_does_without_weights(section, generator, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(section.model, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    count = open_counter(section.model_copy(update={"model": str(bare)}))
    assert count(prompt("Net sales")) == generator.count_tokens(prompt("Net sales")) > 5


@pytest.mark.parametrize("is_merged", [True, False])
def test_adapters_are_switched_and_the_base_comes_back(section, tmp_path, monkeypatch, is_merged):
    if not is_merged:
        monkeypatch.setattr("ragtune.models.language.SMALL", 0)
    one, two = (make_adapter(tmp_path / str(seed), section.model, seed) for seed in (1, 2))
    asked = prompt("Net sales 2021: 4,210")
    base = open_generator(section).logits(asked)
    generator = open_generator(section, adapter=one)
    first = generator.logits(asked)
    with generator.with_adapter(two) as switched:
        second = switched.logits(asked)
    with generator.without_adapter():
        assert (generator.logits(asked) - base).abs().max() < 1e-5
    assert (generator.logits(asked) - first).abs().max() < 1e-5
    assert (first - base).abs().max() > 1e-3 < (second - first).abs().max()
    assert (open_generator(section, adapter=two).logits(asked) - second).abs().max() < 1e-5
    assert hasattr(generator.model, "disable_adapter") is not is_merged


def test_a_merged_adapter_answers_as_one_beside_the_weights(section, tmp_path, monkeypatch):
    adapter = make_adapter(tmp_path / "adapter", section.model, 1)
    prompts = [prompt("Net sales 2021: 4,210 " * n) for n in (1, 9, 3, 7, 2)]
    merged = open_generator(section, adapter=adapter)
    monkeypatch.setattr("ragtune.models.language.SMALL", 0)
    beside = open_generator(section, adapter=adapter)
    assert merged.generate(prompts, 12) == beside.generate(prompts, 12) != open_generator(section).generate(prompts, 12)
    assert (merged.logits(prompts[1]) - beside.logits(prompts[1])).abs().max() < 1e-4


def test_weights_of_16_bits_are_not_merged_into(section, tmp_path):
    """Merging would round the update to the 8 bits of a bfloat16."""
    adapter = make_adapter(tmp_path / "adapter", section.model, 1)
    generator = open_generator(section.model_copy(update={"dtype": "bfloat16"}), adapter=adapter)
    assert hasattr(generator.model, "disable_adapter")


def test_the_fingerprint_changes_with_the_weights_and_not_with_the_place(section, generator, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(section.model, copy)
    assert fingerprint_model(str(copy)) == generator.fingerprint
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint_model(str(copy)) != generator.fingerprint


def test_the_dtype_of_the_recipe_is_taken(section):
    import torch

    assert open_generator(section).model.dtype == torch.float32
    assert open_generator(section.model_copy(update={"dtype": "bfloat16"})).model.dtype == torch.bfloat16


def test_echo_needs_no_weights_and_takes_no_adapter(tmp_path):
    echo = Generator(model="echo")
    assert open_generator(echo).generate([prompt("[1] t\nNet sales")], 9)[0].startswith("Net sales [1]")
    assert open_counter(echo)(prompt("a b")) > 0
    with pytest.raises(ModelError, match="cannot take the adapter"):
        open_generator(echo, adapter=tmp_path)


def broken(tmp_path, section, name):
    folder = tmp_path / name
    shutil.copytree(section.model, folder)
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x00" * 64), "cannot be loaded"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be loaded"),
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "cannot be loaded"),
        (lambda f: (f / "config.json").write_text('{"model_type": "no-such-thing"}'), "cannot be loaded"),
        (lambda f: (f / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}'),
         "no code of its own"),
    ],
)
def test_a_damaged_model_folder_is_one_clear_error(tmp_path, section, damage, message):
    folder = broken(tmp_path, section, "broken")
    damage(folder)
    with pytest.raises(ModelError, match=message):
        open_generator(section.model_copy(update={"model": str(folder)}))


def test_pickled_weights_are_not_loaded(tmp_path, section):
    import torch

    folder = broken(tmp_path, section, "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        open_generator(section.model_copy(update={"model": str(folder)}))


def test_a_path_that_is_no_folder_and_an_absent_gpu_are_named(section, monkeypatch):
    import torch

    with pytest.raises(ModelError, match="no model folder at /no/such/place"):
        open_generator(Generator(model="/no/such/place"))
    with pytest.raises(ModelError, match="Allowed: auto, cpu, cuda"):
        open_generator(section.model_copy(update={"device": "gpu"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="CUDA devices"):
        open_generator(section.model_copy(update={"device": "cuda"}))


def test_a_hugging_face_name_without_a_network_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"'Nobody/Nothing' cannot be loaded.*generator.model: bundled"):
        open_generator(Generator(model="Nobody/Nothing"))
