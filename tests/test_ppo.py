"""The PPO loop on a tiny Llama: it raises what is rewarded, resumes, saves what it learned, stops at what is no number."""

from __future__ import annotations

import dataclasses
import math

import pytest
from tiny_model import make_adapter, make_tiny_model

from ragtune.errors import ModelError, RunError
from ragtune.models.chat import load_chat
from ragtune.models.language import open_generator
from ragtune.models.weights import load_4bit, load_base
from ragtune.recipe.schema import Generator, Reinforce, Training
from ragtune.records import Example, Message, Question
from ragtune.training.job import Job
from ragtune.training.methods import METHODS
from ragtune.training.reinforcement.actor import Actor
from ragtune.training.reinforcement.ppo import count_rounds, fit_ppo
from ragtune.training.reinforcement.rollout import choose_rows, collate
from ragtune.training.reinforcement.rounds import weigh_answers
from ragtune.training.weights.tunable import prepare

ROWS = [Example((Message(role="user", content=f"Question {n}{'?' * (n % 3)}"),), "", {"question_id": f"q{n}"})
        for n in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def job_for(model, folder, *, method="ppo", rows=ROWS, start=None, callbacks=(), progress=None, is_4bit=False, **training):
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"samples": 4, "prompts": 4, "kl": 0.01, **training.pop("reinforce", {})}
    values = {"batch_size": 8, "lr": 5e-3, "r": 4, "warmup_share": 0.0, "max_steps": 4, "save_steps": 2, **training}
    return Job(Generator(model=str(model), device="cpu", max_prompt_tokens=64, max_new_tokens=5, batch_size=64),
               Training(method=method, reinforce=Reinforce(**settings), **values),
               dataclasses.replace(METHODS[method], is_4bit=is_4bit), rows, [], folder, progress, callbacks, {}, start)


def share_of_digits(examples, completions, finished):
    """Return how much of each completion is digits."""
    return [sum(letter.isdigit() for letter in text) / max(1, len(text)) for text in completions]


def actor_of(job):
    base = load_4bit(job.generator) if job.method.is_4bit else load_base(job.generator)
    return Actor(prepare(base, job, 4), load_chat(job.generator), job.generator, job.training, job.start is not None)


def draw(actor, count=2):
    import torch

    torch.manual_seed(0)
    return actor.draw([(row, tuple(actor.chat.encode_prompt(ROWS[row].prompt))) for row in range(3) for _ in range(count)])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_rewarded_is_said_more(model, tmp_path, seed):
    job = job_for(model, tmp_path, seed=seed, max_steps=12, batch_size=32, lr=1e-2,
                  reinforce={"samples": 16, "prompts": 4, "kl": 0.0})
    fit = fit_ppo(job, share_of_digits)
    rewards = [point["reward"] for point in fit.metrics]
    assert sum(rewards[-3:]) / 3 > 1.5 * sum(rewards[:2]) / 2


def test_the_disabled_adapter_gives_exactly_the_bases_log_probabilities(model, tmp_path):
    import torch

    job = job_for(model, tmp_path)
    actor, base = actor_of(job), load_base(job.generator)
    assert actor.reference.is_base
    answers = draw(actor)
    with torch.no_grad():
        for name, parameter in actor.tuned.items():
            if "lora_B" in name:
                parameter.add_(0.05)
        batch, tuned = actor.read(answers)
        held = actor.read_reference(answers)
        positions = (batch.attention.cumsum(dim=1) - 1).clamp(min=0)
        logits = base(input_ids=batch.ids, attention_mask=batch.attention, position_ids=positions).logits
        width = batch.completion.shape[1]
        wanted = logits[:, -width - 1 : -1].log_softmax(dim=-1).gather(2, batch.completion.unsqueeze(2)).squeeze(2)
    counts = batch.mask.bool()
    assert (held - wanted)[counts].abs().max() < 1e-5
    assert (tuned.logps - wanted)[counts].abs().max() > 0.01
    with torch.no_grad(), actor.model.disable_adapter():
        assert torch.equal(actor.read(answers)[1].logps, held)
    assert not torch.equal(held, tuned.logps), "the adapter is on again"


@pytest.mark.parametrize("weights", ["adapter", "full", "pissa", "bottleneck"])
def test_a_start_is_held_as_a_frozen_copy(model, tmp_path, weights):
    """Of an adapter tuned further the reference is that adapter, not the base; of all weights it is the weights as they
    were, and of PiSSA its start, for the base without it is no longer the base."""
    import torch

    start = make_adapter(tmp_path / "start", model) if weights == "adapter" else None
    job = job_for(model, tmp_path / "run", start=start, weights=None if weights == "adapter" else weights)
    actor = actor_of(job)
    assert not actor.reference.is_base
    answers = draw(actor)
    with torch.no_grad():
        before = actor.read(answers)[1].logps
        assert torch.equal(actor.read_reference(answers), before)
        for parameter in actor.tuned.values():
            parameter.add_(0.02)
        moved = actor.read(answers)[1].logps
        assert torch.equal(actor.read_reference(answers), before)
        assert torch.equal(actor.read(answers)[1].logps, moved)
        assert (moved - before).abs().max() > 0.01


def test_log_probabilities_are_those_the_answers_were_drawn_with(model, tmp_path):
    """Padding on either side changes nothing, and at a temperature the mean of -log p is the entropy at that temperature."""
    import torch

    job = job_for(model, tmp_path, reinforce={"temperature": 0.7})
    actor = actor_of(job)
    answers = draw(actor, count=64)
    with torch.no_grad():
        batch, together = actor.read(answers, with_entropy=True)
        alone = actor.read([answers[-1]])[1].logps
    assert batch.ids.shape[1] == max(len(a.prompt) for a in answers) + max(len(a.completion) for a in answers)
    assert (together.logps[-1, : alone.shape[1]] - alone[0]).abs().max() < 1e-4
    counts = batch.mask.bool()
    assert float(-together.logps[counts].mean()) == pytest.approx(float(together.entropy[counts].mean()), abs=0.15)
    assert not together.values.any(), "the value head begins at 0"


def test_an_answer_ends_with_its_stop_token(model, tmp_path):
    actor = actor_of(job_for(model, tmp_path))
    answers = draw(actor, count=150)
    stops = set(actor.chat.stop_ids)
    assert {answer.ended for answer in answers} == {True, False}
    for answer in answers:
        assert 1 <= len(answer.completion) <= 5
        assert (answer.completion[-1] in stops) is answer.ended
        assert not stops & set(answer.completion[:-1])
        assert answer.ended or len(answer.completion) == 5


def test_a_round_puts_each_answers_reward_on_its_tokens(model, tmp_path):
    job = job_for(model, tmp_path, reinforce={"kl": 0.5, "gamma": 1.0, "gae_lambda": 1.0})
    actor = actor_of(job)
    answers = draw(actor)
    scores = [float(place) for place in range(len(answers))]
    drawn = weigh_answers(actor, answers, scores, job.training)
    for row, (answer, score) in enumerate(zip(answers, scores)):
        length = len(answer.completion)
        assert drawn.mask[row].sum() == length
        assert drawn.returns[row, :length].tolist() == pytest.approx([score] * length, abs=1e-4), "at the start kl is 0"
        assert not drawn.advantages[row, length:].any()
    counts = drawn.mask.bool()
    assert float(drawn.advantages[counts].mean()) == pytest.approx(0, abs=1e-5)
    assert float(drawn.advantages[counts].std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert drawn.metrics["reward"] == pytest.approx(2.5)
    assert drawn.metrics["kl"] == pytest.approx(0, abs=1e-5)


def test_after_drawing_4bit_weights_gradients_still_reach_every_layer(model, tmp_path):
    """bitsandbytes repacks 4-bit weights at a forward in eval mode on some CPUs, after which gradients are lost or wrong."""
    import torch

    actor = actor_of(job_for(model, tmp_path, is_4bit=True))
    torch.manual_seed(1)
    for name, parameter in actor.tuned.items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    fixed = draw(actor)

    def gradients():
        actor.model.zero_grad()
        batch, reading = actor.read(fixed)
        (reading.logps * batch.mask).sum().backward()
        return {name: parameter.grad.clone() for name, parameter in actor.tuned.items()}

    after = gradients()
    fresh = actor_of(job_for(model, tmp_path, is_4bit=True))
    for name, parameter in fresh.tuned.items():
        parameter.data.copy_(actor.tuned[name].data)
    actor = fresh
    before = gradients()
    for name, gradient in after.items():
        assert gradient.abs().max() > 1e-5, name
        assert torch.allclose(gradient, before[name], rtol=1e-3, atol=1e-4), name


class StopAt:
    """A callback that breaks a run off after a step, as a kill would."""

    def __new__(cls, step):
        from transformers import TrainerCallback

        class Stop(TrainerCallback):
            def on_step_end(self, args, state, control, **_):
                if state.global_step == step:
                    raise KeyboardInterrupt

        return Stop()


def read_adapter(folder):
    from safetensors.torch import load_file

    return load_file(str(folder / "adapter" / "adapter_model.safetensors"))


def test_a_broken_run_goes_on_and_ends_like_an_unbroken_one(model, tmp_path):
    settings = {"max_steps": 5, "dropout": 0.1, "accumulation": 2, "batch_size": 4}
    with pytest.raises(KeyboardInterrupt):
        fit_ppo(job_for(model, tmp_path / "broken", callbacks=[StopAt(3)], **settings), share_of_digits)
    left = sorted(path.name for path in (tmp_path / "broken").rglob("*") if path.is_file())
    assert left == ["complete", "head.safetensors", "metrics.jsonl", "optimizer.safetensors", "state.json",
                    "tuned.safetensors"]
    seen = []
    resumed = fit_ppo(job_for(model, tmp_path / "broken", progress=lambda *done: seen.append(done), **settings),
                      share_of_digits)
    whole = fit_ppo(job_for(model, tmp_path / "whole", **settings), share_of_digits)
    assert (resumed.resumed_from_step, whole.resumed_from_step) == (2, 0)
    assert seen == [(2, 5), (3, 5), (4, 5), (5, 5)]
    assert resumed.steps == whole.steps == 5
    ours, theirs = read_adapter(tmp_path / "broken"), read_adapter(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-6
    assert any(float(ours[name].abs().max()) > 1e-3 for name in ours if "lora_B" in name)
    for one, other in zip(resumed.metrics, whole.metrics, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert not list(tmp_path.rglob("checkpoints"))


def test_what_was_learned_is_saved_and_answers_alike(model, tmp_path):
    import json

    import torch

    job = job_for(model, tmp_path, max_steps=3, lr=2e-2, progress=None)
    fit = fit_ppo(job, share_of_digits)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(fit.metrics)
    assert [point["step"] for point in lines] == [1, 2, 3]
    assert {"reward", "kl", "entropy", "clip_share", "policy_loss", "value_loss", "explained_variance", "completion_tokens",
            "learning_rate", "loss", "cut_share", "reward_std"} <= set(lines[0])
    assert all(math.isfinite(value) for point in lines for value in point.values())
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5) != lines[-1]["kl"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "adapter_config.json", "adapter_model.safetensors", "metrics.jsonl"]
    first, again = (open_generator(job.generator, adapter=tmp_path / "adapter") for _ in range(2))
    prompt = list(ROWS[0].prompt)
    assert torch.equal(first.logits(prompt), again.logits(prompt))
    with first.without_adapter():
        assert (first.logits(prompt) - again.logits(prompt)).abs().max() > 0.01
    assert fit.trainable_parameters == sum(tensor.numel() for tensor in read_adapter(tmp_path).values())


def test_a_reward_or_loss_that_is_no_number_names_step_and_rows(model, tmp_path, monkeypatch):
    calls = []

    def breaking(examples, completions, finished):
        calls.append(len(completions))
        return [math.nan if len(calls) == 3 and place == 4 else 1.0 for place in range(len(completions))]

    with pytest.raises(RunError, match=r"the reward is nan at step 3, of an answer to row \d of train.jsonl"):
        fit_ppo(job_for(model, tmp_path / "reward"), breaking)
    assert (tmp_path / "reward" / "checkpoints" / "checkpoint-2" / "complete").is_file()
    from ragtune.training.reinforcement import rounds

    monkeypatch.setattr(rounds, "value_losses", lambda values, *_: values * math.nan)
    with pytest.raises(RunError, match=r"the loss is nan at step 1, on answers to the rows \d.* of train.jsonl. Lower "):
        fit_ppo(job_for(model, tmp_path / "loss"), share_of_digits)


def test_a_run_of_other_weights_does_not_take_the_checkpoint(model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit_ppo(job_for(model, tmp_path, callbacks=[StopAt(2)]), share_of_digits)
    with pytest.raises(RunError, match="was made while other weights were tuned"):
        fit_ppo(job_for(model, tmp_path, r=8), share_of_digits)
    (tmp_path / "checkpoints" / "checkpoint-2" / "optimizer.safetensors").write_bytes(b"junk")
    with pytest.raises(RunError, match="checkpoint-2 is damaged"):
        fit_ppo(job_for(model, tmp_path), share_of_digits)


def test_a_prompt_that_leaves_no_room_is_named(model, tmp_path):
    long = [Example((Message(role="user", content="word " * 2100),), "")]
    with pytest.raises(ModelError, match=r"a prompt of \d+ tokens and an answer of 5 do not fit the model, which reads 2"):
        fit_ppo(job_for(model, tmp_path, rows=long), share_of_digits)


def test_the_means_of_a_reward_stand_in_the_curve_and_listeners_may_stop_it(model, tmp_path):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):
            assert model is not None
            assert not model.training
            control.should_training_stop = state.global_step == 2

    class Parts:
        means = {"outcome": 0.5, "refused": 0.25}

        def __call__(self, examples, completions, finished):
            assert len(examples) == len(completions) == len(finished) == 16
            assert {example.provenance["question_id"] for example in examples} <= {f"q{n}" for n in range(6)}
            return [1.0] * len(completions)

    fit = fit_ppo(job_for(model, tmp_path, callbacks=[Stop()]), Parts())
    assert fit.steps == 2
    assert (fit.metrics[-1]["reward_outcome"], fit.metrics[-1]["refused"]) == (0.5, 0.25)


def test_rounds_are_counted_and_their_rows_drawn_pass_by_pass(model, tmp_path):
    assert count_rounds(job_for(model, tmp_path, max_steps=-1, epochs=2.0)) == 3  # 2 passes of 6 rows, 4 prompts a round
    assert count_rounds(job_for(model, tmp_path)) == 4
    passes = [row for step in range(3) for row in choose_rows(6, 4, step, seed=1)]
    assert sorted(passes[:6]) == sorted(passes[6:]) == list(range(6))
    assert passes[:6] != passes[6:]
    assert choose_rows(6, 4, 1, seed=1) == passes[4:8] != choose_rows(6, 4, 1, seed=2)
    assert sorted(choose_rows(2, 5, 0, seed=0)) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]), "more prompts than rows: asked again"


def test_the_model_is_not_pushed_far_from_the_one_that_drew(model, tmp_path):
    """Far too high a learning rate: the passes over a round end early, after the update that went beyond clip^2."""
    job = job_for(model, tmp_path, lr=0.5, max_steps=1, batch_size=4, reinforce={"inner_epochs": 4})
    fit = fit_ppo(job, share_of_digits)
    assert 1 <= fit.metrics[0]["updates"] < 4 * 4


def test_batches_keep_prompts_left_and_completions_right(model, tmp_path):
    actor = actor_of(job_for(model, tmp_path))
    answers = draw(actor)
    batch = collate(answers, 0, "cpu")
    before = batch.ids.shape[1] - batch.completion.shape[1]
    for row, answer in enumerate(answers):
        kept = batch.ids[row][batch.attention[row].bool()].tolist()
        assert kept == [*answer.prompt, *answer.completion]
        assert batch.ids[row, before - 1] == answer.prompt[-1]
        assert batch.completion[row, : len(answer.completion)].tolist() == list(answer.completion)
        assert batch.mask[row].tolist() == [float(column < len(answer.completion)) for column in range(batch.mask.shape[1])]


@pytest.mark.parametrize("weights", ["adalora", "prompt_tuning", "prefix_tuning"])
def test_other_weights_are_tuned_and_read_as_they_draw(model, tmp_path, weights):
    import torch

    job = job_for(model, tmp_path, weights=weights, max_steps=4, batch_size=16, r=2)
    actor = actor_of(job)
    answers = draw(actor, count=64)
    with torch.no_grad():
        batch, reading = actor.read(answers, with_entropy=True)
    counts = batch.mask.bool()
    assert float(-reading.logps[counts].mean()) == pytest.approx(float(reading.entropy[counts].mean()), abs=0.2)
    fit = fit_ppo(job, share_of_digits)
    assert fit.steps == 4
    assert fit.metrics[-1]["grad_norm"] > 0
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_held_out_accuracy_ends_a_run_that_does_not_gain(model, tmp_path):
    question = Question("q0", "Question 0", "4,210")
    held = [dataclasses.replace(ROWS[0], completion="Answer: 4,210 [1]")]
    job = job_for(model, tmp_path, max_steps=6, stop_patience=1, stop_steps=1, stop_questions=4)
    fit = fit_ppo(dataclasses.replace(job, held_out=held, questions={"q0": question}), share_of_digits)
    assert fit.steps == 2
    assert [point["accuracy"] for point in fit.metrics] == [0.0, 0.0]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
