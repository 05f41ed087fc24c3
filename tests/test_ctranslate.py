"""Conversions for CTranslate2: made once, checked, kept whole; the number types and what cannot be converted."""

from __future__ import annotations

import builtins
import json

import pytest
from tiny_model import make_adapter, make_tiny_model

from ragtune.errors import MissingPackage, ModelError, RunError
from ragtune.models import convert
from ragtune.models.chat import load_chat
from ragtune.models.convert import cache_folder, convert_checkpoint
from ragtune.models.ctranslate import APART, _alike, choose_compute_type
from ragtune.models.language import open_generator
from ragtune.recipe.schema import Generator
from ragtune.records import Message

pytest.importorskip("ctranslate2")
PROMPTS = [[Message(role="user", content="Net sales 2021: 4,210 " * length)] for length in (1, 9, 3, 7, 2)]


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    folder = make_tiny_model(tmp_path_factory.mktemp("model"), seed=4)
    return Generator(model=str(folder), engine="ctranslate2", max_new_tokens=12, device="cpu")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ctranslate2"


def folders(cache):
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_a_conversion_is_made_once_for_each_base_and_adapter(section, cache, tmp_path, monkeypatch):
    calls = []
    write = convert.write_weights
    monkeypatch.setattr(convert, "write_weights", lambda *args: (calls.append(args[-1]), write(*args)))
    chat, adapter = load_chat(section), make_adapter(tmp_path / "adapter", section.model)
    base = convert_checkpoint(section, chat, "float32")
    tuned = convert_checkpoint(section, chat, "float32", adapter)
    assert convert_checkpoint(section, chat, "float32") == base
    assert convert_checkpoint(section, chat, "float32", adapter) == tuned
    assert len(calls) == 2
    assert folders(cache) == sorted({base.name, tuned.name})
    manifest = json.loads((tuned / "manifest.json").read_text())
    assert manifest["largest_logit_difference"] < 1e-3
    assert manifest["stop_ids"] == [1]
    assert str(tmp_path) not in json.dumps(manifest)


def test_other_weights_are_another_conversion(section, cache, tmp_path):
    other = make_tiny_model(tmp_path / "other", seed=9)
    convert_checkpoint(section, load_chat(section), "float32")
    convert_checkpoint(section.model_copy(update={"model": str(other)}), load_chat(section), "float32")
    assert len(folders(cache)) == 2


def test_a_damaged_conversion_is_made_anew(section, cache):
    wanted = open_generator(section).generate(PROMPTS, 12)
    weights = next(cache.glob("*/weights/model.bin"))
    weights.write_bytes(weights.read_bytes()[:-100])
    assert open_generator(section).generate(PROMPTS, 12) == wanted


def test_a_conversion_that_answers_differently_is_refused_and_leaves_nothing(section, cache, monkeypatch):
    read = convert.read_logits
    monkeypatch.setattr(convert, "read_logits", lambda *args: read(*args) + 0.1)
    with pytest.raises(ModelError, match=r"differ by 0\.1, allowed are .* Nothing was kept"):
        open_generator(section)
    assert folders(cache) == []


def test_rotary_base_groups_of_heads_and_an_own_output_head_are_converted(tmp_path, cache):
    """What a converter may read from the wrong field of a newer configuration: the check would refuse it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    make_tiny_model(tmp_path)
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=512, hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=False, eos_token_id=1,
                         pad_token_id=0, bos_token_id=None, initializer_range=0.08,
                         rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    section = Generator(model=str(tmp_path), max_new_tokens=12, device="cpu")
    wanted = open_generator(section).generate(PROMPTS, 12)
    assert open_generator(section.model_copy(update={"engine": "ctranslate2"})).generate(PROMPTS, 12) == wanted


def test_larger_models_answer_prompts_of_like_length_together(section, monkeypatch):
    wanted = open_generator(section).generate(PROMPTS, 12)
    monkeypatch.setattr("ragtune.models.ctranslate.SMALL", 0)
    generator = open_generator(section)
    assert not generator._is_small
    assert generator.generate(PROMPTS, 12) == wanted


def test_a_batch_is_cut_where_lengths_part():
    lengths = [100, 99, 100 - APART, 83, 60, 60]
    groups = [list(group) for group in _alike(lengths, lengths)]
    assert groups == [[100, 99, 84], [83], [60, 60]]
    assert list(_alike([], [])) == []


def test_an_architecture_that_ctranslate2_does_not_know_is_one_clear_error(tmp_path, cache):
    from transformers.models.olmo import OlmoConfig, OlmoForCausalLM

    make_tiny_model(tmp_path)
    config = OlmoConfig(vocab_size=512, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1,
                        eos_token_id=1, pad_token_id=0, bos_token_id=None)
    OlmoForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"cannot convert .* Set generator\.engine: transformers"):
        open_generator(Generator(model=str(tmp_path), engine="ctranslate2", device="cpu"))
    assert folders(cache) == []


def test_a_number_type_the_processor_lacks_is_refused(section, monkeypatch):
    with pytest.raises(ModelError, match=r"'bfloat16', in which CTranslate2 does not compute on cpu.*auto, float32"):
        open_generator(section.model_copy(update={"dtype": "bfloat16"}))
    assert choose_compute_type("auto", "cpu") == choose_compute_type("float32", "cpu") == "float32"
    monkeypatch.setattr("ctranslate2.get_supported_compute_types", lambda *_: {"float32", "float16"})
    assert choose_compute_type("auto", "cuda:0") == "float16"


def test_a_missing_package_names_the_pip_line(section, monkeypatch):
    real = builtins.__import__

    def fail(name, *args, **kwargs):
        if name.startswith("ctranslate2"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(MissingPackage, match=r"pip install 'ragtune\[ctranslate2\]', or set generator.engine: transformers"):
        open_generator(section)


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path, section):
    monkeypatch.delenv("RAGTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ragtune"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="Set the environment variable RAGTUNE_CACHE"):
        open_generator(section)


def test_a_wrong_adapter_is_refused_before_the_model_is_read(section, tmp_path):
    with pytest.raises(RunError, match=r"adapter_config\.json is missing"):
        open_generator(section, adapter=tmp_path)


def test_eight_bits_are_a_quarter_of_the_weights_and_need_this_engine(section, cache):
    from pydantic import ValidationError

    whole, small = open_generator(section), open_generator(section.model_copy(update={"quantization": "int8"}))
    said = small.generate(PROMPTS, 12)
    assert len(said) == len(PROMPTS)
    assert said == small.generate(PROMPTS, 12)
    sizes = {json.loads((cache / name / "manifest.json").read_text())["compute_type"]:
             (cache / name / "weights" / "model.bin").stat().st_size for name in folders(cache)}
    assert sizes["int8_float32"] < 0.4 * sizes["float32"]
    assert whole._is_small
    assert small._is_small
    with pytest.raises(ValidationError, match="needs engine: ctranslate2"):
        Generator(quantization="int8")


def test_switching_between_base_and_adapters_opens_each_once(section, cache, tmp_path, monkeypatch):
    """A served model is switched at every request: nothing may be hashed or loaded anew then."""
    from ragtune.models import ctranslate
    from ragtune.models.streaming import Wish

    adapters = [make_adapter(tmp_path / f"adapter{seed}", section.model, seed=seed) for seed in (1, 2)]
    generator = open_generator(section)
    wishes = [Wish(PROMPTS[0], 6, adapter=adapter) for adapter in (adapters[0], None, adapters[1])]
    wanted = [generator.stream([wish], lambda place, piece: True)[0].text for wish in wishes]
    opened = []
    monkeypatch.setattr(ctranslate, "convert_checkpoint", lambda *args: opened.append(args))
    for _ in range(2):
        assert [generator.stream([wish], lambda place, piece: True)[0].text for wish in wishes] == wanted
    assert not opened
    assert wanted[1] == generator.generate([PROMPTS[0]], 6)[0], "the adapter it had is attached again"
