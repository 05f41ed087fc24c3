"""Two processes on one CPU tune the same adapter as one with the same rows a step; who writes, who has which GPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_model import make_dataset, make_tiny_model

from ragtune.errors import ModelError
from ragtune.models.processes import is_main, local_rank, rank, world_size
from ragtune.models.weights import choose_device
from ragtune.recipe.load import load_recipe
from ragtune.stages.train import run_train
from ragtune.training.run import open_run

ROOT = Path(__file__).parent.parent
STEPS = 6


def write_recipe(work, name, batch_size, **training):
    recipe = {
        "name": name, "work": str(work), "dataset": {"folder": str(work / "dataset")},
        "generator": {"model": str(work / "tiny"), "device": "cpu", "max_new_tokens": 16},
        "training": {"method": "lora", "lr": 1e-3, "max_steps": STEPS, "batch_size": batch_size, "save_steps": 2,
                     "warmup_share": 0.0, "eval_rows": 0, **training},
    }
    (work / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return work / f"{name}.yaml"


def launch(recipe, *more, processes=2):
    """Start ragtune train as torchrun does, and return the finished process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m",
               "ragtune.cli.main", "train", "--recipe", str(recipe), "--json", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


def read_adapter(folder):
    from safetensors.torch import load_file

    return load_file(str(folder / "adapter" / "adapter_model.safetensors"))


def test_two_processes_tune_the_adapter_that_one_does(tmp_path):
    make_tiny_model(tmp_path / "tiny")
    make_dataset(tmp_path / "dataset", train=32, test=8)
    run_train(load_recipe(str(write_recipe(tmp_path, "one", 8))))
    done = launch(write_recipe(tmp_path, "two", 4))
    assert done.returncode == 0, done.stderr[-2000:]
    printed = json.loads(done.stdout)  # the second process prints nothing
    assert (printed["steps"], printed["rows"]) == (STEPS, 32)
    one, two = (open_run(tmp_path / name / "run") for name in ("one", "two"))
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["run"]
    losses = [[point["loss"] for point in run.metrics if "loss" in point] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    assert losses[0][-1] < losses[0][0] - 0.2
    ours, theirs = read_adapter(one.folder), read_adapter(two.folder)
    assert ours.keys() == theirs.keys()
    moved = sum(float(ours[name].square().sum()) for name in ours if "lora_B" in name) ** 0.5
    apart = sum(float((ours[name] - theirs[name]).square().sum()) for name in ours) ** 0.5
    assert apart < 0.05 * moved
