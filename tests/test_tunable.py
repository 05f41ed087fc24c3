"""Every name in TUNABLE: the loss falls, what is saved answers as tuned, the base comes back, a kill changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_rows, make_tiny_model

from ragtune.files import write_jsonl
from ragtune.models.language import open_generator
from ragtune.recipe.schema import Generator, Training
from ragtune.records import Example, Message
from ragtune.training.job import Fit, Job
from ragtune.training.methods import METHODS
from ragtune.training.sft import fit_sft
from ragtune.training.tunable import TUNABLE

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


def job_for(model: Path, examples: list[Example], folder: Path, weights: str, **training: Any) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"lr": LR.get(weights, 5e-3), "max_steps": 8, "batch_size": 8, "save_steps": 3, "warmup_share": 0.0, "r": 4,
                "alpha": 8, "last_layers": 1, "bottleneck": 16, "virtual_tokens": 6, "schedule": "constant", **training}
    callbacks = settings.pop("callbacks", ())
    start = settings.pop("start", None)
    method = settings.pop("method", weights)
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
