"""Every name in TUNABLE: the loss falls, what is saved answers as tuned, the base comes back, a kill changes nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_rows, make_tiny_model

from ragtune.errors import ModelError, RecipeError, RunError
from ragtune.files import write_jsonl
from ragtune.models.chat import load_chat
from ragtune.models.language import open_generator
from ragtune.models.weights import load_base
from ragtune.recipe.schema import Generator, Training
from ragtune.records import Example, Message
from ragtune.training.exporting.merge import merge_adapter
from ragtune.training.job import Fit, Job
from ragtune.training.methods import METHODS
from ragtune.training.sizes import count_trainable, read_sizes
from ragtune.training.supervised.sft import fit_sft
from ragtune.training.supervised.text import encode_texts, fit_text
from ragtune.training.weights.tunable import TUNABLE, prepare

LR = {"full": 3e-3, "ia3": 5e-2, "prompt_tuning": 5e-2, "prefix_tuning": 5e-2, "p_tuning": 2e-2, "adalora": 2e-2}
PROMPT = [Message(role="user", content="[1] Item 0 2021: 4,210\n\nQuestion: What was item 0 in 2021?")]
LONG = [Message(role="user", content=PROMPT[0]["content"] + " Of those in the table, for the year that ended in 2021." * 4)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module", autouse=True)
def float32() -> Any:
    """Tune in float32 on each machine, so that logits are compared to their last digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ragtune.training.arguments.has_fast_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    from ragtune.datasets.folder import read_examples

    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    write_jsonl(path, make_rows(24, seed=1, amounts=3))
    return read_examples(path)


def job_for(model: Path, examples: list[Example], folder: Path, name: str, **training: Any) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"lr": LR.get(name, 5e-3), "max_steps": 8, "batch_size": 8, "save_steps": 3, "warmup_share": 0.0, "r": 4,
                "alpha": 8, "last_layers": 1, "bottleneck": 16, "virtual_tokens": 6, "schedule": "constant", **training}
    callbacks = settings.pop("callbacks", ())
    start = settings.pop("start", None)
    method = str(settings.pop("method", name))
    section = Generator(model=str(model), device="cpu", max_prompt_tokens=500, max_new_tokens=16)
    return Job(section, Training(method=method, **settings), METHODS[method], examples, [], folder, callbacks=callbacks,
               start=start)


def stop_at(step: int) -> Any:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                raise KeyboardInterrupt

    return Stop()


def read_adapter(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(str(folder / "adapter" / "adapter_model.safetensors"))


@pytest.fixture(scope="module")
def fitted(model: Path, examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what tunes each name once; further tests take the run from here."""
    runs: dict[str, tuple[Path, Fit, Any]] = {}
    root = tmp_path_factory.mktemp("runs")

    def fit(weights: str) -> tuple[Path, Fit, Any]:
        if weights not in runs:
            from transformers import TrainerCallback

            class Look(TrainerCallback):
                def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
                    found.append(logits_of(model.eval(), ids))

            found: list[Any] = []
            ids = open_generator(Generator(model=str(model), device="cpu", max_prompt_tokens=500)).chat.encode_prompt(PROMPT)
            result = fit_sft(job_for(model, examples, root / weights, weights, callbacks=[Look()]))
            runs[weights] = (root / weights, result, found[0])
        return runs[weights]

    return fit


def logits_of(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits[0, -1]


def many_and_one(generator: Any) -> tuple[list[str], list[str]]:
    """Return the answers to prompts of unlike length in one batch, and to each alone."""
    prompts = [LONG, PROMPT, [Message(role="user", content="Sales?")]]
    return generator.generate(prompts, 12), [generator.generate([each], 12)[0] for each in prompts]


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("weights", TUNABLE)
def test_it_is_switched_on_and_off_and_padding_changes_nothing(
    model: Path, fitted: Any, monkeypatch: pytest.MonkeyPatch, weights: str, is_large: bool
) -> None:
    import torch

    if is_large:
        monkeypatch.setattr("ragtune.models.language.SMALL", 0)
    folder, _, logits = fitted(weights)
    generator = open_generator(Generator(model=str(model), device="cpu", max_prompt_tokens=500))
    base, plain = generator.logits(PROMPT), generator.generate([PROMPT], 12)
    ids = torch.tensor([generator.chat.encode_prompt(LONG)])
    with torch.inference_mode():
        whole = generator.model(input_ids=ids).logits
    for _ in range(2):
        with generator.with_adapter(folder / "adapter"):
            assert (generator.logits(PROMPT) - logits).abs().max() < 1e-5 < (base - logits).abs().max()
            assert generator.model(input_ids=ids).logits.shape == whole.shape
            batch, alone = many_and_one(generator)
            assert batch == alone
        assert torch.equal(generator.logits(PROMPT), base)
        assert generator.generate([PROMPT], 12) == plain


def test_adapters_of_all_kinds_follow_one_another_on_a_large_model(
    model: Path, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("ragtune.models.language.SMALL", 0)
    generator = open_generator(Generator(model=str(model), device="cpu", max_prompt_tokens=500))
    base = generator.logits(PROMPT)
    names = [*TUNABLE, *reversed(TUNABLE)]
    for weights in names[::2] + names[1::2]:
        folder, _, logits = fitted(weights)
        generator.attach(folder / "adapter")
        assert (generator.logits(PROMPT) - logits).abs().max() < 1e-5, weights
    generator.attach(None)
    assert torch.equal(generator.logits(PROMPT), base)


@pytest.mark.parametrize("weights", TUNABLE)
def test_the_loss_falls_and_what_is_saved_answers_as_tuned(model: Path, fitted: Any, weights: str) -> None:
    folder, fit, logits = fitted(weights)
    losses = [point["loss"] for point in fit.metrics]
    assert len(losses) == fit.steps == 8
    assert min(losses[-3:]) < losses[0] - 0.02
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {
        "adapter_model.safetensors", "adapter_config.json", "metrics.jsonl"}
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    assert str(model.parent) not in (folder / "adapter" / "adapter_config.json").read_text()
    generator = open_generator(Generator(model=str(model), device="cpu", max_prompt_tokens=500), folder / "adapter")
    assert (generator.logits(PROMPT) - logits).abs().max() < 1e-5


@pytest.mark.parametrize("weights", TUNABLE)
def test_a_killed_run_goes_on_and_ends_like_an_unbroken_one(
    model: Path, examples: list[Example], fitted: Any, tmp_path: Path, weights: str
) -> None:
    folder, _, _ = fitted(weights)
    with pytest.raises(KeyboardInterrupt):
        fit_sft(job_for(model, examples, tmp_path, weights, callbacks=[stop_at(7)]))
    resumed = fit_sft(job_for(model, examples, tmp_path, weights))
    assert resumed.resumed_from_step == 6
    ours, theirs = read_adapter(tmp_path), read_adapter(folder)
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours if ours[name].numel()) < 1e-6


@pytest.mark.parametrize("weights", TUNABLE)
def test_as_many_parameters_are_tuned_as_is_told_before(model: Path, fitted: Any, weights: str, tmp_path: Path) -> None:
    _, fit, _ = fitted(weights)
    job = job_for(model, [], tmp_path, weights)
    assert fit.trainable_parameters == count_trainable(weights, job.training, read_sizes(str(model)))


@pytest.mark.parametrize("weights", ["prompt_tuning", "prefix_tuning", "p_tuning"])
def test_padding_on_either_side_leaves_a_soft_prompts_logits(model: Path, fitted: Any, weights: str) -> None:
    import torch

    folder, _, _ = fitted(weights)
    generator = open_generator(Generator(model=str(model), device="cpu", max_prompt_tokens=500), folder / "adapter")
    ids = generator.chat.encode_prompt(PROMPT)
    with torch.inference_mode():
        alone = generator.model(input_ids=torch.tensor([ids])).logits[0]
        left = generator.model(input_ids=torch.tensor([[0] * 9 + ids]),
                               attention_mask=torch.tensor([[0] * 9 + [1] * len(ids)])).logits[0, 9:]
        right = generator.model(input_ids=torch.tensor([ids + [0] * 9]),
                                attention_mask=torch.tensor([[1] * len(ids) + [0] * 9])).logits[0, :-9]
    assert (left - alone).abs().max() < 1e-5
    assert (right - alone).abs().max() < 1e-5
    assert generator.context_tokens == 2048 - 6


@pytest.mark.parametrize("weights", TUNABLE)
def test_what_is_merged_answers_as_tuned_or_is_refused(model: Path, fitted: Any, tmp_path: Path, weights: str) -> None:
    folder, _, logits = fitted(weights)
    section = Generator(model=str(model), device="cpu", max_prompt_tokens=500)
    if not TUNABLE[weights].is_mergeable:
        with pytest.raises(ModelError, match=r"(soft prompt|bottleneck) and cannot be merged.*engine: transformers"):
            merge_adapter(section, folder / "adapter", tmp_path / "merged")
        with pytest.raises(ModelError, match="cannot be merged"):
            open_generator(section.model_copy(update={"engine": "ctranslate2"}), folder / "adapter")
        return
    assert merge_adapter(section, folder / "adapter", tmp_path / "merged") < 1e-4
    merged = open_generator(section.model_copy(update={"model": str(tmp_path / "merged")}))
    assert (merged.logits(PROMPT) - logits).abs().max() < 1e-4


@pytest.mark.parametrize("weights", ["head", "lora", "pissa", "adalora", "bottleneck", "ia3", "p_tuning", "prefix_tuning"])
def test_a_run_is_tuned_further(
    model: Path, examples: list[Example], fitted: Any, tmp_path: Path, weights: str
) -> None:
    folder, fit, _ = fitted(weights)
    rate = LR.get(weights, 5e-3) / 10
    further = fit_sft(job_for(model, examples, tmp_path, weights, start=folder / "adapter", lr=rate, max_steps=2))
    first, last = fit.metrics[0]["loss"], fit.metrics[-1]["loss"]
    assert abs(further.metrics[0]["loss"] - last) < abs(further.metrics[0]["loss"] - first)
    ours, theirs = read_adapter(tmp_path), read_adapter(folder)
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in theirs.items()}
    assert any((ours[name] != theirs[name]).any() for name in ours)


def test_another_kind_is_not_tuned_further(model: Path, examples: list[Example], fitted: Any, tmp_path: Path) -> None:
    folder, _, _ = fitted("lora")
    with pytest.raises(RecipeError, match=r"tuned LORA, and this method tunes full.*ragtune merge"):
        fit_sft(job_for(model, examples, tmp_path, "full", start=folder / "adapter"))


@pytest.mark.parametrize(
    ("weights", "training", "says"),
    [
        ("modules", {"modules": ("*.self_atn.*",)}, r"'\*.self_atn.\*', which matches no parameter.*self_attn"),
        ("last_layers", {"last_layers": 3}, r"last_layers is 3, but the model has 2 layers"),
        ("lora", {"target_modules": ("q_prj",)}, r"'q_prj', but the model has no linear layer.*q_proj"),
        ("lora", {"weights": "lorra"}, r"training.weights is 'lorra'.*Did you mean 'lora'"),
        ("prefix_tuning", {"gradient_checkpointing": True}, r"gradient_checkpointing is true, with which prefix tuning"),
        ("lora", {"method": "qlora", "weights": "dora"}, r"'dora' cannot be tuned on a base of 4 bits on a CPU"),
        ("lora", {"method": "qlora", "weights": "full"}, r"'full' cannot be tuned on a base of 4 bits on any device"),
    ],
)
def test_what_does_not_go_together_is_one_clear_error(
    model: Path, examples: list[Example], tmp_path: Path, weights: str, training: dict[str, Any], says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        fit_sft(job_for(model, examples, tmp_path, weights, **training))


def test_patterns_choose_parameters_and_untie_where_only_the_head_is_meant(model: Path, tmp_path: Path) -> None:
    def tuned(*patterns: str) -> dict[str, Any]:
        job = job_for(model, [], tmp_path, "modules", modules=patterns)
        opened = prepare(load_base(job.generator), job, 1)
        return {name: p for name, p in opened.named_parameters() if p.requires_grad}

    assert set(tuned("*norm*")) == {"model.norm.weight", *(
        f"model.layers.{n}.{place}_layernorm.weight" for n in range(2) for place in ("input", "post_attention"))}
    assert set(tuned("lm_head.weight")) == {"lm_head.weight"}
    assert set(tuned("lm_head.weight", "*embed*")) == {"model.embed_tokens.weight"}


def test_an_adapter_of_another_base_is_refused_by_name(model: Path, fitted: Any, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", hidden=128, seed=1)
    section = Generator(model=str(other), device="cpu", max_prompt_tokens=500)
    for weights in ("full", "bottleneck", "lora", "prompt_tuning"):
        folder, _, _ = fitted(weights)
        with pytest.raises(RunError, match=r"does not fit 'other'"):
            open_generator(section, folder / "adapter").logits(PROMPT)
    run = tmp_path / "run"
    shutil.copytree(fitted("lora")[0] / "adapter", run / "adapter")
    (run / "manifest.json").write_text(json.dumps({"base_model": "tiny", "base_fingerprint": "feed"}))
    with pytest.raises(RunError, match=r"was tuned on 'tiny' \(feed\) and is put on 'tiny' \([0-9a-f]{16}\)"):
        open_generator(section.model_copy(update={"model": str(model)}), run / "adapter")


@pytest.mark.parametrize("weights", ["full", "lora"])
def test_text_of_documents_is_learned_token_by_token(model: Path, tmp_path: Path, weights: str) -> None:
    texts = [{"text": "Net sales 2021: 4,210 2020: 3,900 Cost of goods sold (1,234) " * times} for times in (1, 3, 2, 40)]
    job = job_for(model, [], tmp_path, weights, method="continued_pretraining", weights=weights, batch_size=2)
    fit = fit_text(dataclasses.replace(job, train=texts, test=texts[:1]))
    assert fit.metrics[-1]["eval_loss"] < next(p["eval_loss"] for p in fit.metrics if "eval_loss" in p) - 0.1
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_a_text_longer_than_the_window_becomes_rows_and_loses_no_token(model: Path) -> None:
    tokenizer = load_chat(Generator(model=str(model), max_prompt_tokens=500)).tokenizer
    text = "Net sales 2021: 4,210 2020: 3,900 " * 9
    rows = encode_texts([{"text": text}], tokenizer, 32, "texts")
    assert [token for row in rows for token in row["input_ids"]] == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert all(row["labels"] == row["input_ids"] and 2 <= len(row["input_ids"]) <= 32 for row in rows)
    assert len(rows) > 3
    with pytest.raises(RunError, match="no text has two tokens"):
        encode_texts([{"text": ""}], tokenizer, 32, "texts")
