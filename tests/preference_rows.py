"""Pairs and labels for the tests of preference tuning, and log probabilities worked out one sequence at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_model import make_rows

from ragtune.datasets.prefer import build_labels
from ragtune.models.chat import Chat
from ragtune.recipe.schema import Generator, Training
from ragtune.records import Message, Pair
from ragtune.training.job import Fit, Job
from ragtune.training.methods import METHODS, Method


def make_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Return pairs about small tables: the right amount against a refusal or another amount."""
    pairs = []
    for number, row in enumerate(make_rows(count, seed)):
        good = row["completion"][0]["content"]
        bad = "Not found in the documents." if number % 2 else good.replace("1", "7").replace("2", "3") + " 9"
        pairs.append(Pair(tuple(row["prompt"]), good, bad, {"question_id": f"q{number}"}))
    return pairs


def make_job(
    model: Path, folder: Path, method: str, train: Sequence[Any], test: Sequence[Any] = (), start: Path | None = None,
    callbacks: Sequence[Any] = (), other: Method | None = None, **training: Any,
) -> Job:
    """Return a job of a few steps in a new folder; pairs become labels where the method takes these."""
    folder.mkdir(parents=True, exist_ok=True)
    if method == "kto":
        train, test = (build_labels(side) if all(isinstance(row, Pair) for row in side) else side for side in (train, test))
    settings = {"lr": 5e-3, "max_steps": 9, "batch_size": 8, "save_steps": 4, "warmup_share": 0.0, **training}
    generator = Generator(model=str(model), device="cpu", max_prompt_tokens=420, max_new_tokens=96)
    return Job(generator, Training(method=method, **settings), other or METHODS[method], train, test, folder, None,
               callbacks, start=start)


def fit(*arguments: Any, **named: Any) -> Fit:
    """Make the job and run its method."""
    job = make_job(*arguments, **named)
    return job.method.fit(job)


def completion_logps(model: Any, chat: Chat, prompt: Sequence[Message], completion: str) -> Any:
    """Return the log probabilities (nats) of a completion's tokens, of one sequence without padding, in float32."""
    import torch

    before, after = chat.encode_example(prompt, completion)
    logits = model(input_ids=torch.tensor([before + after])).logits[0, -len(after) - 1 : -1].float()
    return logits.log_softmax(-1).gather(1, torch.tensor(after)[:, None])[:, 0]


def read_adapter(folder: Path) -> Any:
    """Return the tensors of the adapter of a run folder."""
    from safetensors.torch import load_file

    return load_file(str(folder / "adapter" / "adapter_model.safetensors"))


def stop_at(step: int) -> Any:
    """Return a callback that kills the run after a step."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                raise KeyboardInterrupt

    return Stop()
