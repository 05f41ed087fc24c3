"""DPO, KTO, ORPO and SimPO on a tiny Llama: our tokens, the papers' losses, the right reference, one adapter at the end."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from preference_rows import completion_logps, fit, make_job, make_pairs, read_adapter, stop_at
from tiny_model import make_adapter, make_tiny_model

from ragtune.datasets.prefer import build_labels
from ragtune.errors import RunError
from ragtune.models.adapt import load_adapter
from ragtune.models.chat import Chat, load_chat
from ragtune.models.weights import load_base
from ragtune.recipe.schema import Generator
from ragtune.records import Example, Pair, Question
from ragtune.training import arguments
from ragtune.training.methods import METHODS
from ragtune.training.preferences import preference

NAMES = ["dpo", "kto", "orpo", "simpo"]
TRAIN, TEST = make_pairs(24, 1), make_pairs(9, 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def start(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("start") / "adapter", model)


@pytest.fixture(scope="module")
def chat(model: Path) -> Chat:
    return load_chat(Generator(model=str(model), device="cpu"))


def open_model(model: Path, adapter: Path | None = None) -> Any:
    base = load_base(Generator(model=str(model), device="cpu"))
    return load_adapter(base, adapter, "tiny").eval() if adapter else base


def seize(monkeypatch: pytest.MonkeyPatch, job: Any) -> Any:
    """Return the trainer of a job, built and ready, in float32 throughout."""
    kept = []

    class Built(Exception):
        pass

    def keep(trainer: Any, *_: Any) -> None:
        kept.append(trainer)
        raise Built

    with monkeypatch.context() as patch, pytest.raises(Built):
        patch.setattr(preference, "run_trainer", keep)
        patch.setattr(arguments, "has_fast_bfloat16", lambda: False)
        job.method.fit(job)
    return kept[0]


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_the_saved_adapter_is_one_and_says_what_the_tuned_model_says(
    model: Path, start: Path, chat: Chat, tmp_path: Path, name: str
) -> None:
    import torch
    from transformers import TrainerCallback

    said = {}

    class Listen(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            with torch.inference_mode():
                said["logps"] = completion_logps(model.eval(), chat, TEST[0].prompt, TEST[0].chosen)

    done = fit(model, tmp_path, name, TRAIN, TEST, start, [Listen()])
    tuned = [point for point in done.metrics if "loss" in point]
    held = [point for point in done.metrics if "eval_loss" in point]
    assert [point["step"] for point in tuned] == list(range(1, 10))
    assert [point["step"] for point in held] == [0, 3, 6, 9]
    assert tuned[-1]["loss"] < tuned[0]["loss"] - 0.05
    assert tuned[-1]["margin"] > tuned[0]["margin"] + 0.04
    assert held[-1]["eval_margin"] > held[0]["eval_margin"] + 0.04
    assert {"rewards/chosen", "rewards/rejected"} <= set(tuned[0])
    if name != "kto":  # which has no pairs to order
        assert held[-1]["eval_pair_accuracy"] == 1.0 == tuned[-1]["pair_accuracy"]
        ordered = held[0]["eval_pair_accuracy"] * len(TEST)
        assert ordered == pytest.approx(round(ordered)), "each row counts once, also in a short batch"
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        pytest.approx(point) for point in done.metrics]
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["adapter/adapter_config.json", "adapter/adapter_model.safetensors", "metrics.jsonl"]
    saved = read_adapter(tmp_path)
    assert not [key for key in saved if ".ref." in key or ".default." in key]
    assert sum(tensor.numel() for tensor in saved.values()) == done.trainable_parameters
    with torch.inference_mode():
        again = completion_logps(open_model(model, tmp_path / "adapter"), chat, TEST[0].prompt, TEST[0].chosen)
        before = completion_logps(open_model(model, start), chat, TEST[0].prompt, TEST[0].chosen)
    assert (again - said["logps"]).abs().max() < 0.05, "bfloat16 in the run"
    assert (again - before).abs().max() > 0.2


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo"])
def test_an_interrupted_run_ends_like_an_unbroken_one(model: Path, start: Path, tmp_path: Path, name: str) -> None:
    one = {"start": start, "dropout": 0.1, "max_steps": 7}
    with pytest.raises(KeyboardInterrupt):
        fit(model, tmp_path / "broken", name, TRAIN, callbacks=[stop_at(6)], **one)
    resumed = fit(model, tmp_path / "broken", name, TRAIN, **one)
    whole = fit(model, tmp_path / "whole", name, TRAIN, **one)
    assert (resumed.resumed_from_step, resumed.steps, whole.resumed_from_step) == (4, 7, 0)
    ours, theirs = (read_adapter(tmp_path / side) for side in ("broken", "whole"))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 1e-6
    assert [p["loss"] for p in resumed.metrics] == pytest.approx([p["loss"] for p in whole.metrics], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_sees_our_tokens_whole(
    model: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trainer = seize(monkeypatch, make_job(model, tmp_path, name, TRAIN, TEST))
    for loader, pairs in ((trainer.get_train_dataloader(), TRAIN), (trainer.get_eval_dataloader(), TEST)):
        seen: Counter[Any] = Counter()
        for batch in loader:
            if name in ("orpo", "simpo"):
                parts = [(batch[f"{half}_input_ids"], batch[f"{half}_attention_mask"], batch[f"{half}_labels"] != -100,
                          [half] * len(batch[f"{half}_labels"])) for half in ("chosen", "rejected")]
            else:
                count = len(batch["input_ids"]) // 2
                halves = ["chosen" if label else "rejected" for label in batch["label"]] if name == "kto" else (
                    ["chosen"] * count + ["rejected"] * count)
                parts = [(batch["input_ids"], batch["attention_mask"], batch["completion_mask"].bool(), halves)]
            for all_ids, all_masks, all_counted, halves in parts:
                for ids, mask, counted, half in zip(all_ids, all_masks.bool(), all_counted, halves):
                    assert not counted[~mask].any()
                    seen[half, tuple(ids[mask & ~counted].tolist()), tuple(ids[mask & counted].tolist())] += 1
                    assert ids[mask][-1] in chat.stop_ids, "it learns to end"
        wanted = Counter((half, *map(tuple, chat.encode_example(pair.prompt, getattr(pair, half))))
                         for pair in pairs for half in ("chosen", "rejected"))
        assert seen == wanted
    ids, _ = chat.encode_example(TRAIN[0].prompt, "")
    assert ids == chat.encode_prompt(TRAIN[0].prompt), "and asks with the same"


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_a_trainer_that_cuts_rows_is_told(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    build = preference.build_arguments

    def cut(*given: Any, **own: Any) -> Any:
        settings = build(*given, **own)
        assert settings.max_length is None
        settings.max_length = 100
        return settings

    monkeypatch.setattr(preference, "build_arguments", cut)
    with pytest.raises(RunError, match=r"the trainer kept 100 of the \d+ tokens of the longest training row"):
        fit(model, tmp_path, name, TRAIN)


def test_a_trainer_that_drops_rows_is_told(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import DPOTrainer

    build = DPOTrainer.__init__

    def drop(self: Any, *given: Any, **named: Any) -> None:
        build(self, *given, **named)
        self.train_dataset = self.train_dataset.select(range(20))

    monkeypatch.setattr(DPOTrainer, "__init__", drop)
    with pytest.raises(RunError, match="the trainer kept 20 of 24 training rows"):
        fit(model, tmp_path, "dpo", TRAIN)


def halves(model: Any, chat: Chat, pairs: list[Pair], is_mean: bool = False) -> Any:
    """Return the log probabilities of chosen and rejected, each by a forward pass of its own: (pairs, 2)."""
    import torch

    def score(pair: Pair, half: str) -> Any:
        each = completion_logps(model, chat, pair.prompt, getattr(pair, half))
        return each.mean() if is_mean else each.sum()

    with torch.no_grad():
        return torch.stack([torch.stack([score(pair, half) for half in ("chosen", "rejected")]) for pair in pairs])


def shaken(trainer: Any) -> Any:
    """Return the trainer's model after a random step, which no formula takes for the start."""
    import torch

    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return trainer.model.eval()


def loss_of(trainer: Any, count: int) -> float:
    import torch

    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[number] for number in range(count)]))
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))


@pytest.mark.parametrize(("is_start", "sft_weight"), [(True, 0.0), (False, 0.5)])
def test_dpo_is_the_papers_loss_against_the_start_or_the_base(
    model: Path, start: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_start: bool, sft_weight: float
) -> None:
    import torch

    pairs = TRAIN[:5]
    trainer = seize(monkeypatch, make_job(model, tmp_path, "dpo", pairs, start=start if is_start else None,
                                          preference={"beta": 0.3, "sft_weight": sft_weight}))
    frozen = halves(open_model(model, start if is_start else None), chat, pairs)
    stored = torch.tensor([[row["ref_chosen_logps"], row["ref_rejected_logps"]] for row in trainer.train_dataset])
    assert (stored - frozen).abs().max() < 1e-3
    chosen = torch.cat([completion_logps(trainer.model, chat, pair.prompt, pair.chosen) for pair in pairs]).mean()
    assert loss_of(trainer, 5) == pytest.approx(math.log(2) - sft_weight * float(chosen), abs=1e-4), "nothing is learned yet"
    tuned = halves(shaken(trainer), chat, pairs)
    ratios = tuned - frozen
    chosen = torch.cat([completion_logps(trainer.model, chat, pair.prompt, pair.chosen) for pair in pairs]).mean()
    wanted = -torch.nn.functional.logsigmoid(0.3 * (ratios[:, 0] - ratios[:, 1])).mean() - sft_weight * chosen
    assert loss_of(trainer, 5) == pytest.approx(float(wanted), abs=1e-4)
    assert abs(float(wanted) - math.log(2)) > 0.01


def test_kto_is_the_papers_loss(
    model: Path, start: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    labels = build_labels(TRAIN[:4])
    trainer = seize(monkeypatch, make_job(model, tmp_path, "kto", labels, start=start, preference={
        "beta": 0.2, "desirable_weight": 1.5, "undesirable_weight": 0.7}))
    rows = list(trainer.train_dataset)
    for row in rows:  # the divergence is measured on what belongs to another prompt
        owners = [other["prompt_ids"] for other in rows if other["completion_ids"] == row["KL_completion_ids"]]
        assert owners
        assert row["prompt_ids"] not in owners or len(owners) > 1
    base = open_model(model, start)
    tuned = shaken(trainer)

    def ratio(row: Any, completion: str) -> Any:
        ids = torch.tensor([row["prompt_ids"] + row[completion]])
        place = len(row["prompt_ids"]) - 1
        with torch.no_grad():
            now, then = (m(input_ids=ids).logits[0, place:-1].log_softmax(-1).gather(1, ids[0, place + 1 :, None]).sum()
                         for m in (tuned, base))
        return now - then

    divergence = torch.stack([ratio(row, "KL_completion_ids") for row in rows]).mean().clamp(min=0)
    values = [1.5 * (1 - torch.sigmoid(0.2 * (ratio(row, "completion_ids") - divergence))) if row["label"] else
              0.7 * (1 - torch.sigmoid(0.2 * (divergence - ratio(row, "completion_ids")))) for row in rows]
    wanted = float(torch.stack(values).mean())
    assert loss_of(trainer, len(rows)) == pytest.approx(wanted, abs=1e-4)
    assert abs(wanted - (4 * 1.5 * 0.5 + 4 * 0.7 * 0.5) / 8) > 0.005, "not the start's"


def test_orpo_is_the_papers_loss_on_the_completion_alone(
    model: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    pairs = TRAIN[:5]
    trainer = seize(monkeypatch, make_job(model, tmp_path, "orpo", pairs, preference={"beta": 0.4}))
    means = halves(shaken(trainer), chat, pairs, is_mean=True)
    odds = means - torch.log1p(-means.exp())
    with torch.no_grad():
        nll = -torch.cat([completion_logps(trainer.model, chat, pair.prompt, pair.chosen) for pair in pairs]).mean()
    wanted = nll - 0.4 * torch.nn.functional.logsigmoid(odds[:, 0] - odds[:, 1]).mean()
    assert loss_of(trainer, 5) == pytest.approx(float(wanted), abs=1e-4)


@pytest.mark.parametrize("sft_weight", [0.0, 0.5])
def test_simpo_is_the_papers_loss(
    model: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sft_weight: float
) -> None:
    import torch

    pairs = TRAIN[:5]
    trainer = seize(monkeypatch, make_job(model, tmp_path, "simpo", pairs,
                                          preference={"margin": 0.6, "sft_weight": sft_weight}))
    means = halves(shaken(trainer), chat, pairs, is_mean=True)
    with torch.no_grad():
        nll = -torch.cat([completion_logps(trainer.model, chat, pair.prompt, pair.chosen) for pair in pairs]).mean()
    wanted = -torch.nn.functional.logsigmoid(2.0 * (means[:, 0] - means[:, 1]) - 0.6).mean() + sft_weight * nll
    assert loss_of(trainer, 5) == pytest.approx(float(wanted), abs=1e-4)


def test_the_reference_of_a_4_bit_base_is_the_start_unrounded(
    model: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    four = dataclasses.replace(METHODS["dpo"], is_4bit=True)
    trainer = seize(monkeypatch, make_job(model, tmp_path, "dpo", TRAIN[:4], start=start, other=four))
    assert loss_of(trainer, 4) == pytest.approx(math.log(2), abs=1e-3)
    kept = load_file(str(start / "adapter_model.safetensors"))
    now = {name.replace(".default", ""): p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert now.keys() == kept.keys()
    assert max(float((now[name] - kept[name]).abs().max()) for name in kept) == 0


@pytest.mark.parametrize(("name", "weights", "lr"), [
    ("dpo", "full", 2e-3), ("dpo", "pissa", 2e-3), ("kto", "bottleneck", 2e-3), ("kto", "head", 2e-3),
    ("orpo", "prompt_tuning", 3e-2), ("dpo", "prompt_tuning", 3e-2),
])
def test_other_weights_are_tuned_against_the_base_and_read_back(
    model: Path, chat: Chat, tmp_path: Path, name: str, weights: str, lr: float
) -> None:
    """What the trainer calls the reward is beta times what the adapter, opened again, says more than the base."""
    import torch

    done = fit(model, tmp_path, name, TRAIN[:16], TEST, weights=weights, max_steps=3, lr=lr, virtual_tokens=4)
    last = done.metrics[-1]
    assert last["step"] == 3
    assert last["eval_margin"] > done.metrics[0]["eval_margin"] + 0.005
    tuned, base = open_model(model, tmp_path / "adapter"), open_model(model)
    is_mean = name == "orpo"
    said = halves(tuned.eval(), chat, TEST, is_mean) - (0 if is_mean else halves(base, chat, TEST))
    assert 0.1 * float(said[:, 0].mean()) == pytest.approx(last["eval_rewards/chosen"], abs=0.02)
    if name != "kto":  # where each completion counts once
        assert 0.1 * float((said[:, 0] - said[:, 1]).mean()) == pytest.approx(last["eval_margin"], abs=0.02)
    assert torch.isfinite(said).all()


def test_tuning_ends_when_answers_get_no_better(model: Path, tmp_path: Path) -> None:
    questions = {f"q{number}": Question(f"q{number}", "What was item 0 in 2021?", "4,210") for number in range(24)}
    job = make_job(model, tmp_path, "dpo", TRAIN[:12], stop_patience=2, stop_steps=1, stop_questions=4)
    job = dataclasses.replace(job, questions=questions, held_out=TRAIN[12:16],
                              generator=job.generator.model_copy(update={"max_new_tokens": 4}))
    done = job.method.fit(job)
    measured = [point for point in done.metrics if "accuracy" in point]
    assert done.steps == 3
    assert [point["step"] for point in measured] == [1, 2, 3]
    assert {point["accuracy"] for point in measured} == {0.0}
    assert [point["step"] for point in done.metrics if "loss" in point and "margin" in point] == [1, 2, 3]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_only_rows_that_are_shown_are_referred(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = seize(monkeypatch, make_job(model, tmp_path, "dpo", TRAIN, max_steps=2, batch_size=4))
    shown = [number for number, row in enumerate(trainer.train_dataset) if math.isfinite(row["ref_chosen_logps"])]
    assert len(shown) == 8
    batches = iter(trainer.get_train_dataloader())
    assert all(bool(next(batches)["ref_chosen_logps"].isfinite().all()) for _ in range(2))


PROMPT = TRAIN[0].prompt


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("dpo", [], r"pairs.jsonl holds no rows to learn from. Do: ragtune dataset pairs"),
        ("kto", [], r"kto.jsonl holds no rows"),
        ("dpo", [Example(PROMPT, "4,210 [1]")], r"'dpo' takes pairs .* found a prompt with one completion in row 1. "
                                                r"Do: ragtune dataset pairs --recipe FILE"),
        ("orpo", build_labels(TRAIN[:2]), r"'orpo' takes pairs .* found the keys completion, label, prompt, provenance"),
        ("kto", [*build_labels(TRAIN[:2]), TRAIN[0]], r"'kto' takes completions labelled .* found a pair in row 5"),
        ("kto", [{**build_labels(TRAIN[:2])[0], "label": "yes"}], r"'kto' takes completions labelled"),
        ("kto", build_labels(TRAIN)[::2], r"kto.jsonl: all 24 rows have the label true; KTO learns from right and wrong"),
        ("dpo", [TRAIN[0], Pair(PROMPT, "4,210 [1]", "4,210 [1]\n")], r"pairs.jsonl: 1 of 2 pairs have halves that are "
                                                                      r"alike"),
        ("simpo", [TRAIN[0], Pair(PROMPT, "4,210 [1]", " ")], r"pairs.jsonl: 1 of 2 pairs have an empty half"),
        ("dpo", [TRAIN[0], Pair(PROMPT, "so " * 2100, "no")], r"pairs.jsonl: 1 of 2 rows are longer than the model's 2048 "
                                                              r"tokens \(the longest has \d+\).*ragtune dataset pairs"),
    ],
)
def test_rows_that_cannot_be_learned_are_one_clear_error_before_the_weights_are_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, rows: list[Any], message: str
) -> None:
    monkeypatch.setattr(preference, "load_base", None)
    with pytest.raises(RunError, match=message):
        fit(model, tmp_path, name, rows)


def test_a_loss_that_is_not_a_number_stops_the_run(model: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the loss is (nan|inf) at step \d+. Lower training.lr"):
        fit(model, tmp_path, "dpo", TRAIN, lr=1e30)


def test_a_trl_without_the_experimental_trainers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from ragtune.training.preferences.experimental import load_orpo

    monkeypatch.setitem(sys.modules, "trl.experimental.orpo", None)
    with pytest.raises(RunError, match=r"TRL .* has no ORPO trainer any more. Install trl 1.16, or .* to dpo"):
        load_orpo()
