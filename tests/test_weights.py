"""4-bit weights on a CPU: the two traps of bitsandbytes, and the number types."""

from __future__ import annotations

import pytest
from tiny_model import make_tiny_model

from ragtune.errors import ModelError
from ragtune.models.weights import build_skeleton, check_4bit_widths, choose_dtype, half_dtype, load_4bit, load_base
from ragtune.recipe.schema import Generator


def has_repacking():
    from bitsandbytes.functional import has_avx512bf16

    return has_avx512bf16()


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return Generator(model=str(make_tiny_model(tmp_path_factory.mktemp("model"))), device="cpu")


def adapted(model):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(model, config)


def loss_and_gradient(model):
    """Return the loss in training mode and the gradient of all adapter weights in one vector."""
    import torch

    model.train()
    model.zero_grad()
    ids = torch.arange(5, 69)[None]
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return float(loss), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad and p.grad is not None])


def forward_in_eval(model):
    import torch

    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 69)[None]).logits


def test_a_4bit_model_trains_on_unchanged_after_an_evaluation(section):
    import torch

    model = adapted(load_4bit(section))
    before, gradient = loss_and_gradient(model)
    forward_in_eval(model)
    after, gradient_after = loss_and_gradient(model)
    assert after == pytest.approx(before, abs=1e-6)
    assert float(gradient.norm()) > 1e-3
    assert len(gradient_after) == len(gradient)
    assert torch.allclose(gradient, gradient_after, atol=1e-6)


def test_without_our_flag_an_evaluation_garbles_training(section):
    """Shows the trap (bitsandbytes #2078): should this fail, bitsandbytes has mended it and the flag can go."""
    import torch
    from bitsandbytes.nn.modules import Linear4bit

    if not has_repacking():
        pytest.skip("this CPU has no AVX512-BF16, so bitsandbytes does not repack the weights")
    base = load_4bit(section)
    for module in base.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = True
    model = adapted(base)
    _, gradient = loss_and_gradient(model)
    forward_in_eval(model)
    _, gradient_after = loss_and_gradient(model)
    is_same = len(gradient) == len(gradient_after) and torch.allclose(gradient, gradient_after, atol=1e-3)
    assert not is_same


def test_repacking_is_switched_off_wherever_bitsandbytes_would_switch_it_on(section, monkeypatch):
    """The same trap on any CPU: without AVX512-BF16 the tests above cannot tell whether the flag is set."""
    from bitsandbytes.nn.modules import Linear4bit

    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    assert Linear4bit(64, 64).support_avx512bf16_for_cpu
    layers = [module for module in load_4bit(section).modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 2 * 7
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


def test_nf4_keeps_most_of_the_model(section):
    import torch

    full, quantised = forward_in_eval(load_base(section)), forward_in_eval(load_4bit(section))
    cosine = torch.nn.functional.cosine_similarity(full.flatten(), quantised.float().flatten(), dim=0)
    assert cosine > 0.95


def test_the_weights_are_4bit_with_double_quantisation(section):
    from bitsandbytes.nn.modules import Linear4bit

    model = load_4bit(section)
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 2 * 7
    assert all(layer.weight.quant_state.quant_type == "nf4" and layer.weight.quant_state.nested for layer in layers)
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


@pytest.mark.parametrize(
    ("hidden", "intermediate", "layer"), [(64, 100, "mlp.down_proj takes 100"), (96, 128, "self_attn.q_proj takes 96")]
)
def test_widths_that_64_does_not_divide_are_refused_by_layer(tmp_path, hidden, intermediate, layer):
    folder = make_tiny_model(tmp_path, hidden=hidden, intermediate=intermediate)
    with pytest.raises(ModelError, match=rf"layer model\.layers\.0\.{layer} inputs"):
        load_4bit(Generator(model=str(folder), device="cpu"))
    load_base(Generator(model=str(folder), device="cpu"))


def test_the_output_head_stays_in_full_so_its_width_does_not_matter(section):
    import torch
    from transformers import LlamaConfig

    config = LlamaConfig(vocab_size=10, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1)
    skeleton = build_skeleton(config)
    assert next(skeleton.parameters()).device.type == "meta"
    skeleton.lm_head = torch.nn.Linear(63, 10)
    check_4bit_widths(skeleton, "a model")


def test_automatic_number_types(monkeypatch):
    import torch

    class Config:
        dtype = "float16"

    assert choose_dtype("auto", "cpu", Config(), 3_000_000) == torch.float32
    monkeypatch.setattr("ragtune.models.weights.has_fast_bfloat16", lambda: True)
    assert choose_dtype("auto", "cpu", Config(), 300_000_000) == torch.bfloat16
    monkeypatch.setattr("ragtune.models.weights.has_fast_bfloat16", lambda: False)
    assert choose_dtype("auto", "cpu", Config(), 300_000_000) == torch.float32
    assert choose_dtype("auto", "cuda:0", Config(), 3_000_000) == torch.float16
    assert choose_dtype("float16", "cpu", Config(), 3_000_000) == torch.float16
    assert half_dtype("cpu") == torch.bfloat16
