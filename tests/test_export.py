"""Merging: from the base on disk, checked by its logits; and the trap of merging into an evaluated 4-bit model."""

from __future__ import annotations

import pytest
from tiny_model import make_dataset, make_tiny_model

from ragtune.errors import RunError
from ragtune.models.language import open_generator
from ragtune.recipe.load import check_recipe
from ragtune.records import Message
from ragtune.stages.train import run_train
from ragtune.training.exporting.merge import merge_adapter

PROMPT = [Message(role="user", content="[1] Item 0 2021: 4,210\n\nQuestion: What was item 0 in 2021?")]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Return (generator section, adapter folder) of a short QLoRA run."""
    work = tmp_path_factory.mktemp("work")
    recipe = check_recipe(
        {
            "name": "t", "work": str(work),
            "generator": {"model": str(make_tiny_model(work / "tiny")), "max_new_tokens": 16, "device": "cpu"},
            "training": {"lr": 5e-3, "max_steps": 8, "warmup_share": 0.0},
        },
        "test",
    )
    run_train(recipe, dataset=make_dataset(work / "dataset"))
    return recipe.generator, work / "t" / "run" / "adapter"


def test_the_merged_model_answers_as_the_adapter_does(tuned, tmp_path):
    section, adapter = tuned
    difference = merge_adapter(section, adapter, tmp_path / "merged")
    assert difference < 1e-4
    merged = open_generator(section.model_copy(update={"model": str(tmp_path / "merged")}))
    with_adapter = open_generator(section, adapter=adapter)
    base = open_generator(section)
    assert (merged.logits(PROMPT) - with_adapter.logits(PROMPT)).abs().max() < 1e-4
    assert (merged.logits(PROMPT) - base.logits(PROMPT)).abs().max() > 0.1
    assert merged.generate([PROMPT], 16) == with_adapter.generate([PROMPT], 16)
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json", "manifest.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in names)


def test_merging_into_an_evaluated_4bit_model_is_the_trap_we_avoid(tuned):
    """bitsandbytes dequantises rubbish after an evaluation (#2078); should this fail, it has been mended."""
    import torch
    from bitsandbytes.functional import has_avx512bf16
    from bitsandbytes.nn.modules import Linear4bit
    from peft import PeftModel

    from ragtune.models.weights import load_4bit

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16, so bitsandbytes does not repack the weights")
    section, adapter = tuned
    ids = torch.tensor([open_generator(section).chat.encode_prompt(PROMPT)])

    def merge_error(is_evaluated):
        base = load_4bit(section)
        for module in base.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = True  # as bitsandbytes has it by itself
        model = PeftModel.from_pretrained(base, str(adapter)).eval()
        if is_evaluated:
            with torch.no_grad():
                model(input_ids=ids)
        merged = model.merge_and_unload()
        with torch.no_grad():
            answered = merged(input_ids=ids).logits.float()[0, -1]
        return float((answered - open_generator(section, adapter).logits(PROMPT)).abs().max())

    assert merge_error(True) > 2 * merge_error(False)


def test_a_merge_that_differs_writes_nothing(tuned, tmp_path, monkeypatch):
    section, adapter = tuned
    from ragtune.training.exporting import merge as export

    reload = export._reload

    def spoil(*args):
        model = reload(*args)
        model.lm_head.weight.data += 0.01
        return model

    monkeypatch.setattr(export, "_reload", spoil)
    with pytest.raises(RunError, match=r"logits differ from the adapter's by .* Nothing was written"):
        merge_adapter(section, adapter, tmp_path / "merged")
    assert not list(tmp_path.iterdir())
