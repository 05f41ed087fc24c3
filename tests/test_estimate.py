"""Estimates before loading: counted as PEFT counts, growing as they must, and refused with what would fit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from tiny_model import make_tiny_model

from ragtune.cli.main import ragtune
from ragtune.errors import RunError
from ragtune.models.checkpoint import read_config
from ragtune.models.weights import build_skeleton
from ragtune.recipe.load import check_recipe
from ragtune.recipe.schema import Training
from ragtune.training import estimate
from ragtune.training.estimate import GIB, check_fits, estimate_run
from ragtune.training.methods import METHODS, RETRIEVER
from ragtune.training.sizes import count_trainable, measure_sizes, read_sizes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny", layers=3)


@pytest.fixture(scope="module")
def sizes(model):
    return read_sizes(str(model))


@pytest.fixture(scope="module")
def large():
    """A 1B-shaped Llama, of which only the configuration exists."""
    from transformers import LlamaConfig

    return measure_sizes(LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
        head_dim=64, vocab_size=128256, tie_word_embeddings=True))


def recipe_for(model="bundled", **training):
    return check_recipe({"name": "t", "generator": {"model": str(model), "device": "cpu"}, "training": training}, "test")


def test_sizes_are_those_of_the_known_model(large):
    assert large.parameters == 1_235_814_400  # Llama-3.2-1B
    assert (large.kv_width, large.inner, large.layers) == (512, 8192, 16)
    assert large.in_linears == 16 * (2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192)


def peft_config(weights, training):
    import peft

    common = {"task_type": "CAUSAL_LM"}
    lora = {**common, "r": training.r, "target_modules": "all-linear"}
    tokens = {**common, "num_virtual_tokens": training.virtual_tokens}
    return {
        "lora": lambda: peft.LoraConfig(**lora),
        "rslora": lambda: peft.LoraConfig(**lora, use_rslora=True),
        "dora": lambda: peft.LoraConfig(**lora, use_dora=True),
        "adalora": lambda: peft.AdaLoraConfig(**common, target_modules="all-linear", init_r=training.r * 3 // 2,
                                              target_r=training.r, total_step=10),
        "ia3": lambda: peft.IA3Config(**common),
        "prompt_tuning": lambda: peft.PromptTuningConfig(**tokens),
        "prefix_tuning": lambda: peft.PrefixTuningConfig(**tokens),
        "p_tuning": lambda: peft.PromptEncoderConfig(**tokens, encoder_hidden_size=64),
    }[weights]()


@pytest.mark.parametrize("weights", ["lora", "rslora", "dora", "adalora", "ia3", "prompt_tuning", "prefix_tuning",
                                     "p_tuning"])
def test_trainable_parameters_are_those_that_peft_makes(model, sizes, weights):
    from peft import get_peft_model

    training = Training(r=8)
    base = build_skeleton(read_config(str(model)))
    base = base.to_empty(device="cpu")
    tuned = get_peft_model(base, peft_config(weights, training))
    made = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    if weights == "adalora":  # the rank that is left of each layer is a number too, but it is not tuned
        made = sum(p.numel() for name, p in tuned.named_parameters() if p.requires_grad and "ranknum" not in name)
    assert count_trainable(weights, training, sizes) == made


def test_own_weights_are_counted_by_name(model, sizes):
    h, inner, vocabulary = 64, 128, 512
    layer = 4 * h * h + 3 * h * inner + 2 * h
    assert count_trainable("full", Training(), sizes) == 3 * layer + h + vocabulary * h == sizes.parameters
    assert count_trainable("head", Training(), sizes) == vocabulary * h
    assert count_trainable("last_layers", Training(last_layers=2), sizes) == 2 * layer + h
    assert count_trainable("modules", Training(modules=("*.self_attn.*",)), sizes) == 3 * 4 * h * h
    assert count_trainable("bottleneck", Training(bottleneck=16), sizes) == 2 * 3 * (2 * h * 16 + 16 + h)
    targets = Training(r=4, target_modules=("q_proj", "v_proj"))
    assert count_trainable("lora", targets, sizes) == 3 * 2 * 4 * 2 * h


def test_memory_grows_and_shrinks_as_it_must(large):
    def estimated(**training):
        return estimate_run(recipe_for(**training), 1000, 1000, large)

    lora, full, qlora = estimated(method="lora"), estimated(method="full"), estimated(method="qlora")
    assert full.weights == 4 * large.parameters
    assert full.optimizer == 2 * full.gradients == 8 * large.parameters
    assert qlora.weights < lora.weights < full.weights
    assert lora.total < full.total
    small = {"batch_size": 1, "gradient_checkpointing": True}  # with much else to keep, a CPU's 4 bits save nothing
    assert estimated(method="qlora", **small).total < estimated(method="lora", **small).total
    assert qlora.activations > lora.activations
    assert estimated(method="lora", batch_size=4).activations == pytest.approx(lora.activations / 2, rel=1e-6)
    assert estimated(method="lora", gradient_checkpointing=True).activations < lora.activations / 2
    assert estimated(method="lora", gradient_checkpointing=True).seconds > lora.seconds
    assert estimated(method="dpo").activations == pytest.approx(2 * lora.activations)
    assert (lora.cache, estimated(method="lora", stop_patience=2).cache > 0) == (0, True)
    assert estimated(method="grpo").cache == 2 * 4 * 16 * 512 * 64 * 1000
    assert lora.share == pytest.approx(11_272_192 / large.parameters)
    for name in (name for name, each in METHODS.items() if each.loop != RETRIEVER):
        assert estimated(method=name).total > 0


def test_a_run_that_does_not_fit_is_refused_with_what_would(model, monkeypatch):
    recipe = recipe_for(model, method="lora")
    needed = estimate_run(recipe).total
    assert check_fits(recipe).total == needed
    less = estimate_run(recipe_for(model, method="lora", gradient_checkpointing=True)).total
    monkeypatch.setattr(estimate, "free_memory", lambda device: int((needed + less) / 2 / 0.9))
    with pytest.raises(RunError, match=r"too much. It would fit with .*gradient_checkpointing=true.*check_memory=false"):
        check_fits(recipe)
    assert check_fits(recipe_for(model, method="lora", check_memory=False)).total == needed
    monkeypatch.setattr(estimate, "free_memory", lambda device: 1 << 20)
    with pytest.raises(RunError, match="Nothing tried would fit: take a smaller model"):
        check_fits(recipe)


def test_the_sentence_says_what_counts(model):
    found = estimate_run(recipe_for(model, method="lora"), rows=300)
    text = found.sentence()
    assert f"lora tunes {found.trainable:,} of {found.parameters:,} parameters" in text
    assert "on cpu: about" in text
    assert "for 300 rows" in text
    assert estimate._size(1.5 * GIB) == "1.5 GiB"
    assert estimate._size(5 << 20) == "5 MiB"
    assert [estimate._duration(x) for x in (5, 600, 36000)] == ["5 s", "10 minutes", "10.0 hours"]


def test_the_list_has_every_method_and_loads_nothing():
    code = ("import sys\nfrom ragtune.cli.main import ragtune\n"
            "try: ragtune.main(['methods', '--json'])\nexcept SystemExit: pass\n"
            "print('loaded', sorted({'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("loaded []")
    listed = json.loads(done.stdout)
    assert [line["method"] for line in listed] == list(METHODS)
    assert all(line["command"].startswith("ragtune ") and line["data"] and line["precision"] for line in listed)


def test_with_a_recipe_it_tells_figures(model, tmp_path):
    (tmp_path / "r.yaml").write_text(f"name: t\ngenerator: {{model: {model}, device: cpu}}\n")
    done = CliRunner().invoke(ragtune, ["methods", "--recipe", str(tmp_path / "r.yaml"), "--json"])
    listed = {line["method"]: line for line in json.loads(done.output)}
    assert listed["full"]["share"] == 1.0
    assert 0 < listed["prompt_tuning"]["trainable"] < listed["lora"]["trainable"]
    assert all(line["memory_bytes"] > 0 and line["seconds"] > 0 for line in listed.values()
               if line["weights"] != "query adapter")
    told = CliRunner().invoke(ragtune, ["methods", "--recipe", str(tmp_path / "r.yaml")]).output
    assert f"{listed['lora']['trainable']:,} parameters" in told
