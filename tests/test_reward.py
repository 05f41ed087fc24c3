"""The reward model on a tiny Llama: orders pairs, is saved and opened again, and answers nothing."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from preference_rows import fit, make_job, make_pairs, read_adapter, stop_at
from tiny_model import make_adapter, make_rows, make_tiny_model

from ragtune.datasets.prefer import build_labels
from ragtune.errors import ModelError, RunError
from ragtune.models.language import open_generator
from ragtune.recipe.schema import Generator
from ragtune.records import Example, Pair
from ragtune.training import arguments
from ragtune.training.methods import METHODS
from ragtune.training.preferences import reward
from ragtune.training.preferences.reward import load_reward_model

TRAIN, TEST = make_pairs(24, 1), make_pairs(9, 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def tuned(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("run")
    return folder, fit(model, folder, "reward", TRAIN, TEST, max_steps=16)


def section(model: Path, **settings: Any) -> Generator:
    return Generator(model=str(model), device="cpu", max_prompt_tokens=420, max_new_tokens=96, **settings)


def margins(model: Path, adapter: Path, pairs: list[Pair], **settings: Any) -> list[float]:
    scorer = load_reward_model(section(model, **settings), adapter)
    prompts = [pair.prompt for pair in pairs]
    return [a - b for a, b in zip(scorer.score(prompts, [pair.chosen for pair in pairs]),
                                  scorer.score(prompts, [pair.rejected for pair in pairs]))]


def test_it_learns_to_order_pairs_and_says_the_same_when_opened_again(model: Path, tuned: Any) -> None:
    folder, done = tuned
    steps = [point for point in done.metrics if "loss" in point]
    held = [point for point in done.metrics if "eval_loss" in point]
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.2
    assert steps[-1]["margin"] > steps[0]["margin"] + 1
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == ["adapter/adapter_config.json", "adapter/adapter_model.safetensors", "metrics.jsonl"]
    saved = read_adapter(folder)
    assert [key for key in saved if key.endswith("score.weight")]
    assert sum(tensor.numel() for tensor in saved.values()) == done.trainable_parameters
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert (config["task_type"], config["base_model_name_or_path"]) == ("SEQ_CLS", "tiny")
    once, again = (margins(model, folder / "adapter", TEST) for _ in range(2))
    assert once == again
    assert held[-1]["eval_pair_accuracy"] == pytest.approx(sum(margin > 0 for margin in once) / len(once))
    assert held[-1]["eval_pair_accuracy"] > 0.85
    assert sum(once) / len(once) == pytest.approx(held[-1]["eval_margin"], abs=0.1), "bfloat16 in the run"
    assert margins(model, folder / "adapter", TEST, batch_size=1) == pytest.approx(once, abs=1e-4), "padding says nothing"


def test_scores_come_in_the_order_asked_and_too_long_ones_are_refused(model: Path, tuned: Any) -> None:
    scorer = load_reward_model(section(model), tuned[0] / "adapter")
    prompts, texts = [pair.prompt for pair in TEST], [pair.chosen for pair in TEST]
    assert scorer.score(prompts[::-1], texts[::-1]) == pytest.approx(scorer.score(prompts, texts)[::-1], abs=1e-4)
    assert scorer.score([], []) == []
    with pytest.raises(RunError, match=r"1 of 2 completions are with their prompts longer than the 2048 tokens"):
        scorer.score(prompts[:2], [texts[0], "so " * 2100])


def test_its_loss_is_bradley_terrys_on_our_tokens(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    kept = []

    def keep(trainer: Any, *_: Any) -> None:
        kept.append(trainer)
        raise KeyboardInterrupt

    monkeypatch.setattr(reward, "run_trainer", keep)
    monkeypatch.setattr(arguments, "has_fast_bfloat16", lambda: False)
    job = make_job(model, tmp_path, "reward", TRAIN[:5])
    with pytest.raises(KeyboardInterrupt):
        job.method.fit(job)
    trainer = kept[0]
    chat = reward.load_chat(job.generator)
    with torch.no_grad():
        batch = trainer.data_collator([trainer.train_dataset[number] for number in range(5)])
        theirs = float(trainer.compute_loss(trainer.model, batch))
        scores = []
        for half in ("chosen", "rejected"):
            ids = [sum(chat.encode_example(pair.prompt, getattr(pair, half)), []) for pair in TRAIN[:5]]  # noqa: RUF017
            assert all(row[-1] in chat.stop_ids for row in ids)
            assert [row[f"{half}_ids"] for row in trainer.train_dataset] == ids
            scores.append(torch.stack([trainer.model(input_ids=torch.tensor([row])).logits[0, 0] for row in ids]))
    wanted = torch.log1p(torch.exp(scores[1] - scores[0])).mean()
    assert theirs == pytest.approx(float(wanted), abs=1e-4)
    assert abs(theirs - math.log(2)) > 1e-4


def test_an_interrupted_run_ends_like_an_unbroken_one(model: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(model, tmp_path / "broken", "reward", TRAIN, callbacks=[stop_at(6)], max_steps=7)
    resumed = fit(model, tmp_path / "broken", "reward", TRAIN, max_steps=7)
    fit(model, tmp_path / "whole", "reward", TRAIN, max_steps=7)
    assert resumed.resumed_from_step == 4
    ours, theirs = (read_adapter(tmp_path / side) for side in ("broken", "whole"))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 1e-6


def test_it_starts_from_a_supervised_lora_or_an_earlier_reward_model(model: Path, tuned: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    still = {"lr": 1e-12, "max_steps": 1}
    supervised = make_adapter(tmp_path / "supervised", model)
    for start, others in ((supervised, 1), (tuned[0] / "adapter", 0)):
        folder = tmp_path / f"run{others}"
        fit(model, folder, "reward", TRAIN, start=start, **still)
        before = load_file(str(start / "adapter_model.safetensors"))
        after = read_adapter(folder)
        assert len(after) == len(before) + others, "the head"
        assert max(float((after[key] - before[key]).abs().max()) for key in before) < 1e-6
    (supervised / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(RunError, match=r"tuned IA3; a reward model starts from a run of lora"):
        fit(model, tmp_path / "other", "reward", TRAIN, start=supervised)


def test_it_is_refused_where_an_answer_is_wanted_and_others_where_a_score_is(
    model: Path, tuned: Any, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"is a reward model: it scores answers and writes none.*reinforce.reward_model"):
        open_generator(section(model), adapter=tuned[0] / "adapter")
    with pytest.raises(RunError, match=r"is no reward model: it writes answers and scores none.*--method reward"):
        load_reward_model(section(model), make_adapter(tmp_path / "a", model))
    with pytest.raises(RunError, match="no adapter at"):
        load_reward_model(section(model), tmp_path / "nothing")
    other = make_tiny_model(tmp_path / "other", hidden=128)
    with pytest.raises((RunError, ModelError), match="does not fit 'other'"):
        load_reward_model(section(other), tuned[0] / "adapter")


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([], {}, "pairs.jsonl holds no rows"),
        ([Example(TRAIN[0].prompt, "4")], {}, r"'reward' takes pairs .* found a prompt with one completion"),
        (build_labels(TRAIN[:2]), {}, r"'reward' takes pairs .* found the keys completion, label"),
        ([{"prompt": make_rows(1)[0]["prompt"]}], {}, "found the keys prompt"),
        (TRAIN[:2], {"weights": "ia3"}, "training.weights is 'ia3'; a reward model tunes lora, rslora, dora"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_the_weights_are_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Any], settings: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(reward, "_load_scorer", None)
    with pytest.raises(RunError, match=message):
        fit(model, tmp_path, "reward", rows, **settings)


def test_a_4_bit_base_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="on a base in 16 or 32 bits"):
        fit(model, tmp_path, "reward", TRAIN, other=dataclasses.replace(METHODS["reward"], is_4bit=True))
