"""GRPO and RLOO with the real libraries on a tiny Llama: served prompts, a start to stay near, rewards that rise."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from tiny_model import make_adapter, make_rows, make_tiny_model

from ragtune.errors import ModelError, RecipeError, RunError
from ragtune.models.chat import load_chat
from ragtune.models.language import open_generator
from ragtune.recipe.schema import Generator, Reinforce, Training
from ragtune.records import Example, Message, Question
from ragtune.training.job import Job
from ragtune.training.methods import METHODS
from ragtune.training.reinforcement.groups import GroupOrder, Plan, plan_groups
from ragtune.training.reinforcement.policy import fit_policy

PROMPT = [Message(role="user", content="[1] Item 0 2021: 4,210\n\nQuestion: What was item 0 in 2021?")]
BOTH = pytest.mark.parametrize("method", ["grpo", "rloo"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    # wide enough that so few tied embeddings can be told apart, or no reward could be learned
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny", hidden=128, layers=1)


@pytest.fixture(scope="module")
def start(model, tmp_path_factory):
    return make_adapter(tmp_path_factory.mktemp("start") / "adapter", model)


def short_rows(count=4):
    return [Example((Message(role="user", content=f"Item {n}{' again' * n}?"),), "x", {"question_id": f"q{n}"})
            for n in range(count)]


def job_of(model, folder, method="grpo", start=None, callbacks=(), train=None, generator=None, progress=None, **settings):
    reinforce = {"samples": 4, "prompts": 2, "kl": 0.0, "inner_epochs": 2, **settings.pop("reinforce", {})}
    training = {"lr": 3e-2, "max_steps": 4, "batch_size": 8, "save_steps": 2, "warmup_share": 0.0, "r": 4, "alpha": 8,
                "schedule": "constant", **settings}
    folder.mkdir(parents=True, exist_ok=True)
    rows = short_rows() if train is None else train
    questions = {str(row.provenance["question_id"]): Question("q", "What?", "1") for row in rows}
    return Job(Generator(**{"model": str(model), "max_new_tokens": 8, "device": "cpu", **(generator or {})}),
               Training(method=method, reinforce=Reinforce(**reinforce), **training), METHODS[method], rows, [], folder,
               progress, callbacks, questions, start)


def share_of_digits(rows, completions, ended):
    """The toy reward: how much of an answer are digits."""
    return [sum(letter.isdigit() for letter in text) / max(1, len(text)) for text in completions]


def read_adapter(folder):
    from safetensors.torch import load_file

    return load_file(str(folder / "adapter" / "adapter_model.safetensors"))


def spy_on_rounds(monkeypatch, method):
    """Keep what the trainer makes of each round's answers, before it shuffles them."""
    import trl

    trainer, kept = getattr(trl, {"grpo": "GRPOTrainer", "rloo": "RLOOTrainer"}[method]), []
    build = trainer._generate_and_score_completions

    def spy(self, inputs):
        found = build(self, inputs)
        kept.append({"inputs": [row["prompt"] for row in inputs], **found})
        return found

    monkeypatch.setattr(trainer, "_generate_and_score_completions", spy)
    return kept


@BOTH
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_reward_rises(model, tmp_path, method, seed):
    job = job_of(model, tmp_path, method, seed=seed, max_steps=9, batch_size=16,
                 reinforce={"samples": 8, "prompts": 4, "kl": 0.01})
    fit = fit_policy(job, share_of_digits)
    rewards = [point["reward"] for point in fit.metrics]
    assert len(rewards) == fit.steps == 9
    assert sum(rewards[-2:]) / 2 > sum(rewards[:2]) / 2 + 0.1, rewards


@BOTH
def test_the_model_sees_what_it_is_served_with(model, tmp_path, method, monkeypatch):
    from transformers import GenerationMixin

    rows = [Example(tuple(row["prompt"]), "x", {"question_id": f"q{n}"}) for n, row in enumerate(make_rows(3, seed=3))]
    seen, asked, settings = [], [], []
    draw = GenerationMixin.generate

    def spy(self, *args, **named):
        ids, mask = named["input_ids"], named["attention_mask"]
        seen.extend(tuple(row[kept.bool()].tolist()) for row, kept in zip(ids, mask))
        settings.append(named["generation_config"])
        return draw(self, *args, **named)

    def reward(examples, completions, ended):
        asked.extend(examples)
        return [1.0] * len(examples)

    monkeypatch.setattr(GenerationMixin, "generate", spy)
    job = job_of(model, tmp_path, method, train=rows, max_steps=2, reinforce={"temperature": 0.7})
    fit_policy(job, reward)
    chat = load_chat(job.generator)
    assert seen == [tuple(chat.encode_prompt(example.prompt)) for example in asked]
    assert set(Counter(seen).values()) <= {4, 8}  # whole groups; one row fills up the last round
    stops = open_generator(job.generator).stop_ids
    for used in settings:
        assert (used.temperature, used.top_p, used.top_k, used.repetition_penalty) == (0.7, 1.0, 0, 1.0)
        assert (used.max_new_tokens, used.do_sample, sorted(used.eos_token_id)) == (8, True, stops)


def test_advantages_of_grpo_are_distances_in_standard_deviations(model, tmp_path, monkeypatch):
    rounds, given = spy_on_rounds(monkeypatch, "grpo"), []
    values = [1.0, 0.0, 0.0, 1.0, 0.2, 0.2, 0.2, 0.2]  # the second group says nothing

    def reward(examples, completions, ended):
        given.append([example.provenance["question_id"] for example in examples])
        return values

    fit_policy(job_of(model, tmp_path, max_steps=1), reward)
    deviation = math.sqrt(4 * 0.25 / 3)
    wanted = [(value - 0.5) / (deviation + 1e-4) for value in values[:4]] + [0.0] * 4
    assert rounds[0]["advantages"].tolist() == pytest.approx(wanted, abs=1e-6)
    assert [len(set(given[0][:4])), len(set(given[0][4:])), len(set(given[0]))] == [1, 1, 2]


def test_advantages_of_rloo_are_distances_from_the_others(model, tmp_path, monkeypatch, start):
    rounds = spy_on_rounds(monkeypatch, "rloo")
    values = [1.0, 0.0, 0.0, 0.2, 0.2, 0.2, 0.2, 0.2]
    fit_policy(job_of(model, tmp_path / "a", "rloo", max_steps=1), lambda *_: values)
    wanted = [1.0 - 0.2 / 3, 0.0 - 1.2 / 3, 0.0 - 1.2 / 3, 0.2 - 1.0 / 3, 0, 0, 0, 0]
    assert rounds[0]["advantages"].tolist() == pytest.approx(wanted, abs=1e-6)


def test_the_divergence_is_taken_off_rloo_s_reward(model, tmp_path, monkeypatch):
    from trl import RLOOTrainer

    rounds, read = spy_on_rounds(monkeypatch, "rloo"), []
    reader = RLOOTrainer._get_per_token_logps_and_entropies

    def spy(self, *args, **named):
        found = reader(self, *args, **named)
        read.append(found[0].detach())
        return found

    monkeypatch.setattr(RLOOTrainer, "_get_per_token_logps_and_entropies", spy)
    job = job_of(model, tmp_path, "rloo", max_steps=2, reinforce={"kl": 0.5, "inner_epochs": 1})
    fit_policy(job, lambda *_: [0.0] * 8)
    assert max(rounds[0]["advantages"].abs()) < 1e-5  # the model is still its start
    job = job_of(model, tmp_path / "b", "rloo", max_steps=2, reinforce={"kl": 0.5, "inner_epochs": 1})
    read.clear()
    fit_policy(job, share_of_digits)
    before, reference = read[-3], read[-2]  # of the second round: policy and reference, then the pass that learns
    mask = rounds[-1]["completion_mask"]
    priced = -0.5 * ((before - reference) * mask).sum(1)
    assert priced.abs().max() > 1e-3
    others = (priced.view(2, 4).sum(1, keepdim=True) - priced.view(2, 4)) / 3
    gained = rounds[-1]["advantages"] - (priced.view(2, 4) - others).flatten()
    assert gained.view(2, 4).sum(1).abs().max() < 1e-5  # what is left are the rewards' own distances


@BOTH
@pytest.mark.parametrize("has_start", [False, True])
def test_the_reference_is_the_start(model, start, tmp_path, method, has_start, monkeypatch):
    import torch

    from ragtune.training.reinforcement import group_trainer

    references, told = [], []

    class Spy(group_trainer.Reference):
        def __init__(self, model, has_start):
            super().__init__(model, has_start)
            references.append((self, model))

    class Look:
        def __getattr__(self, name):
            return lambda *_, **__: None

        def on_train_end(self, args, state, control, model=None, **_):
            chat = load_chat(job.generator)
            ids = torch.tensor([chat.encode_prompt(PROMPT)])
            reference, tuned = references[0]
            with torch.no_grad():
                now = tuned(input_ids=ids).logits[0, -1]
                with reference.in_place():
                    told.append((now, tuned(input_ids=ids).logits[0, -1]))

    monkeypatch.setattr(group_trainer, "Reference", Spy)
    job = job_of(model, tmp_path, method, start=start if has_start else None, callbacks=[Look()], max_steps=3,
                 reinforce={"kl": 0.05, "inner_epochs": 1})
    fit = fit_policy(job, share_of_digits)
    kls = [point["kl"] for point in fit.metrics]
    assert kls[0] == pytest.approx(0, abs=1e-6)
    assert abs(kls[-1]) > 1e-4
    (now, then), = told
    was = open_generator(job.generator, adapter=start if has_start else None).logits(PROMPT)
    assert torch.allclose(then, was, atol=2e-4)
    assert (now - then).abs().max() > 0.1
    base = open_generator(job.generator).logits(PROMPT)
    assert torch.allclose(was, base) != has_start
    again = open_generator(job.generator, adapter=tmp_path / "adapter").logits(PROMPT)  # saved and loaded
    assert torch.allclose(now, again, atol=2e-4)


@pytest.mark.parametrize(("method", "weights"), [
    ("rloo", "pissa"), ("rloo", "ia3"), ("grpo", "full"), ("grpo", "bottleneck")])
def test_other_weights_start_from_themselves_and_are_not_copied(model, tmp_path, method, weights):
    """TRL would copy a PEFT adapter (PiSSA's copy changes the base once more), or load the base a second time."""
    adapters = []

    class Look:
        def __getattr__(self, name):
            return lambda *_, **__: None

        def on_train_begin(self, args, state, control, model=None, **_):
            adapters.extend(getattr(model, "peft_config", {"default": None}))

    job = job_of(model, tmp_path, method, weights=weights, lr=1e-2, max_steps=3, callbacks=[Look()],
                 reinforce={"kl": 0.05, "inner_epochs": 1})
    kls = [point["kl"] for point in fit_policy(job, share_of_digits).metrics]
    assert kls[0] == pytest.approx(0, abs=1e-6)
    assert abs(kls[-1]) > 1e-4
    assert adapters == ["default"]
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def stop_at(step):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == step:
                raise KeyboardInterrupt

    return Stop()


@BOTH
def test_an_interrupted_run_goes_on_and_ends_like_an_unbroken_one(model, tmp_path, method):
    settings = {"max_steps": 5, "batch_size": 4, "reinforce": {"kl": 0.05}, "train": short_rows(5)}  # 4 updates a round
    broken = job_of(model, tmp_path / "broken", method, callbacks=[stop_at(18)], **settings)
    with pytest.raises(KeyboardInterrupt):
        fit_policy(broken, share_of_digits)
    checkpoints = broken.checkpoints
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint-8", "checkpoint-16"}
    assert not list(checkpoints.rglob("training_args.bin"))
    resumed = fit_policy(job_of(model, tmp_path / "broken", method, **settings), share_of_digits)
    whole = fit_policy(job_of(model, tmp_path / "whole", method, **settings), share_of_digits)
    assert (resumed.resumed_from_step, whole.resumed_from_step, resumed.steps, whole.steps) == (4, 0, 5, 5)
    ours, theirs = read_adapter(tmp_path / "broken"), read_adapter(tmp_path / "whole")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-6
    assert [point["reward"] for point in resumed.metrics] == pytest.approx([point["reward"] for point in whole.metrics])
    assert not checkpoints.exists()


@BOTH
def test_the_curve_tells_what_is_learned_and_nothing_is_printed(model, tmp_path, method, capfd):
    seen = []
    job = job_of(model, tmp_path, method, max_steps=2, progress=lambda done, total: seen.append((done, total)),
                 reinforce={"kl": 0.05, "rewards": {"outcome": 1.0, "format": 0.5}})
    fit = fit_policy(job)
    points = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert points == list(fit.metrics)
    assert [point["step"] for point in points] == [1, 2]
    assert {"loss", "reward", "reward_outcome", "reward_format", "refused", "kl", "entropy", "clip_share",
            "completion_tokens", "cut_share", "grad_norm", "learning_rate"} <= set(points[0])
    assert points[0]["reward"] == pytest.approx(points[0]["reward_outcome"] + 0.5 * points[0]["reward_format"])
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert capfd.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "metrics.jsonl"]
    assert fit.trainable_parameters == sum(tensor.numel() for tensor in read_adapter(tmp_path).values())


@pytest.mark.parametrize(("settings", "message"), [
    ({"batch_size": 3}, r"2 x samples 4 are 8 answers .* 3 x accumulation 1 = 3 answers. Allowed .* 1, 2, 4, 8"),
    ({"accumulation": 3}, r"Lower training.accumulation"),
    ({"batch_size": 16}, r"= 16 answers. Allowed .* 1, 2, 4, 8\. Or change prompts or samples"),
])
def test_answers_that_make_no_whole_steps_are_refused_before_loading(tmp_path, settings, message):
    with pytest.raises(RecipeError, match=message):
        fit_policy(job_of("/nowhere", tmp_path, **settings), share_of_digits)


def test_more_processes_share_a_round(model, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert plan_groups(job_of(model, tmp_path, batch_size=4)) == Plan(4, 2, 4, 1, 2, 1, 2)
    with pytest.raises(RecipeError, match="on 2 processes = 16 answers"):
        plan_groups(job_of(model, tmp_path))


def test_rounds_follow_from_epochs(model, tmp_path):
    plan = plan_groups(job_of(model, tmp_path, max_steps=-1, epochs=3.0, train=short_rows(5), batch_size=2, accumulation=2))
    assert (plan.rounds, plan.slices, plan.updates, plan.steps) == (8, 4, 4, 32)


@pytest.mark.parametrize("rows", [1, 2, 5, 6])
def test_a_pass_shows_every_row_in_whole_groups(rows):
    plan = Plan(rounds=3, prompts=2, samples=3, slices=2, inner_epochs=2, accumulation=1)
    order = GroupOrder(rows, plan, seed=1)
    passes = []
    for number in (0, 1, 0):
        order.set_epoch(number)
        passes.append(list(order))
    assert passes[0] == passes[2]
    assert rows < 5 or passes[0] != passes[1]
    assert len(passes[0]) == len(order) == math.ceil(rows / 2) * 2 * 3 * 4
    assert set(passes[0]) == set(range(rows))
    for start in range(0, len(order), 24):
        block = passes[0][start : start + 24]
        assert block == block[:6] * 4
        assert [len(set(block[:3])), len(set(block[3:6]))] == [1, 1]


def test_prompts_longer_than_the_window_are_refused(tmp_path):
    short = make_tiny_model(tmp_path / "short", positions=64)
    with pytest.raises(ModelError, match=r"a prompt of \d+ tokens and an answer of 8 do not fit the model, which reads 64"):
        fit_policy(job_of(short, tmp_path / "run", train=[Example(tuple(make_rows(1)[0]["prompt"]), "x",
                                                                   {"question_id": "q0"})]), share_of_digits)


@BOTH
def test_what_is_not_finite_stops_the_run_and_names_the_rows(model, tmp_path, method):
    with pytest.raises(RunError, match=r"the reward is nan of an answer to row \d of train.jsonl"):
        fit_policy(job_of(model, tmp_path / "a", method), lambda rows, *_: [math.nan] * len(rows))
    for batch_size in (4, 8):
        job = job_of(model, tmp_path / f"b{batch_size}", method, lr=1e30, batch_size=batch_size, save_steps=1,
                     reinforce={"inner_epochs": 1})
        with pytest.raises(RunError, match=r"at step \d, on rows \d, \d of train.jsonl. Lower training.lr"):
            fit_policy(job, share_of_digits)
        assert not (job.folder / "adapter").exists()
