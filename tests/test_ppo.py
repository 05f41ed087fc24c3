"""The PPO loop on a tiny Llama: it raises what is rewarded, resumes, saves what it learned, and stops at what is no number."""

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
from ragtune.records import Example, Message
from ragtune.training.actor import Actor
from ragtune.training.job import Job
from ragtune.training.methods import METHODS
from ragtune.training.ppo import count_rounds, fit_ppo
from ragtune.training.rollout import choose_rows, collate
from ragtune.training.rounds import weigh_answers

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
    from ragtune.training.ppo import prepare

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
    print(rewards)
    assert sum(rewards[-3:]) / 3 > 1.5 * sum(rewards[:2]) / 2
