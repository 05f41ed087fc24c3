"""Two processes on one CPU tune the same adapter as one with the same rows a step; who writes, who has which GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_model import make_dataset, make_tiny_model

from ragtune.cli.launching import SETTINGS
from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.errors import ModelError, RunError
from ragtune.models.processes import building_together, is_main, is_sharded, local_rank, rank, world_size
from ragtune.models.weights import choose_device
from ragtune.recipe.load import load_recipe
from ragtune.stages.train import run_train
from ragtune.training.run import open_run

ROOT = Path(__file__).parent.parent
SCRIPT = """
import sys
import ragtune.models.weights, ragtune.training.arguments
ragtune.models.weights.has_fast_bfloat16 = ragtune.training.arguments.has_fast_bfloat16 = lambda: False  # float32 throughout
from ragtune.cli.main import ragtune
from ragtune.recipe.load import load_recipe
from ragtune.stages.train import run_train
from transformers import TrainerCallback
class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            raise KeyboardInterrupt
try:
    run_train(load_recipe(sys.argv[2]), callbacks=[Stop()])
except KeyboardInterrupt:
    ragtune.main(["train", *sys.argv[1:]])
"""


def write_recipe(work, name, batch_size, accumulation):
    recipe = {
        "name": name, "work": str(work), "dataset": {"folder": str(work / "dataset")},
        "generator": {"model": str(work / "tiny"), "device": "cpu", "max_new_tokens": 16},
        "training": {"method": "lora", "lr": 5e-3, "epochs": 1, "batch_size": batch_size, "accumulation": accumulation,
                     "save_steps": 2, "warmup_share": 0.0, "eval_rows": 0},
    }
    (work / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return work / f"{name}.yaml"


def launch(work, recipe, processes):
    """Start ragtune train in several processes as torchrun does, stopped at step 3 and begun again; return what it was."""
    (work / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
               str(work / "train.py"), "--recipe", str(recipe), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=500,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


def read_adapter(folder):
    from safetensors.torch import load_file

    return load_file(str(folder / "adapter" / "adapter_model.safetensors"))


def test_two_processes_stopped_and_resumed_tune_the_adapter_that_one_does(tmp_path, monkeypatch):
    """48 rows are 6 steps of 8: two batches of 4 in one process, two of 2 in each of two, which are stopped and go on."""
    make_tiny_model(tmp_path / "tiny")
    make_dataset(tmp_path / "dataset", train=48, test=4)
    one, two = write_recipe(tmp_path, "one", 4, 2), write_recipe(tmp_path, "two", 2, 2)
    for module in ("models.weights", "training.arguments"):
        monkeypatch.setattr(f"ragtune.{module}.has_fast_bfloat16", lambda: False)
    run_train(load_recipe(str(one)))
    done = launch(tmp_path, two, 2)
    assert done.returncode == 0, done.stderr[-2000:]
    printed = json.loads(done.stdout)  # the second process prints nothing
    assert (printed["steps"], printed["rows"], printed["resumed_from_step"]) == (6, 48, 2)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["run"]
    alone, together = open_run(tmp_path / "one" / "run"), open_run(tmp_path / "two" / "run")
    losses = [[point["loss"] for point in run.metrics if "loss" in point] for run in (alone, together)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert losses[0][-1] < losses[0][0] - 0.5
    ours, theirs = read_adapter(alone.folder), read_adapter(together.folder)
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4
    assert max(float(tensor.abs().max()) for name, tensor in ours.items() if "lora_B" in name) > 5e-3


def test_who_is_who(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (world_size(), rank(), local_rank(), is_main(), is_sharded()) == (1, 0, 0, True, False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # a cluster's own variable, in a process that nobody launched
    assert (world_size(), is_main()) == (1, True)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (world_size(), rank(), local_rank(), is_main()) == (4, 3, 1, False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert is_sharded()


def test_a_loop_of_our_own_is_refused_in_several(tmp_path, monkeypatch):
    make_tiny_model(tmp_path / "tiny")
    make_dataset(tmp_path / "dataset", train=4, test=2)
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="ppo runs in one process, and 2 were launched"):
        run_train(load_recipe(str(write_recipe(tmp_path, "one", 4, 2)), ("training.method=ppo",)))
    assert not (tmp_path / "one").exists()


def test_each_process_takes_its_own_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert [choose_device(name) for name in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda:0", "cuda:0", "cuda:1", "cpu"]
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert [choose_device(name) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    with pytest.raises(ModelError, match="2 processes were launched, each of which has a GPU of its own"):
        choose_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "5")
    with pytest.raises(ModelError, match="offers 2 CUDA devices"):
        choose_device("cuda")


def test_one_process_builds_as_ever(tmp_path, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with building_together(tmp_path / "run", "cpu") as folder:
        (folder / "manifest.json").write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_shipped_settings_are_read_by_those_they_are_for(tmp_path, capsys):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils import DistributedType
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    assert run_guarded(ragtune, ["launch-settings", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(SETTINGS)
    kinds = {"ddp.yaml": DistributedType.MULTI_GPU, "fsdp2.yaml": DistributedType.FSDP,
             "zero3.yaml": DistributedType.DEEPSPEED}
    known = {action.dest for action in launch_command_parser()._actions}
    for name, kind in kinds.items():
        config = load_config_from_file(str(tmp_path / name))
        assert (config.distributed_type, config.num_processes) == (kind, 2)
        assert set(config.fsdp_config) <= known  # what accelerate launch does not know it drops without a word
    fsdp = load_config_from_file(str(tmp_path / "fsdp2.yaml")).fsdp_config
    assert (fsdp["fsdp_version"], fsdp["fsdp_reshard_after_forward"]) == (2, True)
    assert load_config_from_file(str(tmp_path / "zero3.yaml")).deepspeed_config["deepspeed_config_file"] == "zero3.json"
    zero = HfDeepSpeedConfig(str(tmp_path / "zero3.json"))
    assert zero.is_zero3()
    assert not zero.is_offload()
    capsys.readouterr()
    assert run_guarded(ragtune, ["launch-settings", "--out", str(tmp_path)]) == 1
    assert "is there already, and is not written over" in capsys.readouterr().err
