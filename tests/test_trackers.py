"""Trackers write on this machine, beside the run, and are refused by name where they are not installed."""

from __future__ import annotations

import os
import sys

import pytest
from tiny_model import make_dataset, make_tiny_model

from ragtune.errors import MissingPackage
from ragtune.recipe.load import check_recipe
from ragtune.recipe.schema import Generator, Training
from ragtune.stages.train import run_train
from ragtune.training import trackers
from ragtune.training.job import Job
from ragtune.training.methods import METHODS
from ragtune.training.run import open_run


def job_for(folder, *names, **training):
    return Job(Generator(), Training(report_to=names, **training), METHODS["lora"], [], [], folder / "run.partial")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(trackers, "_set_here", {})


def test_tensorboard_has_the_curve_of_the_run(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = check_recipe(
        {"name": "t", "work": str(tmp_path),
         "generator": {"model": str(make_tiny_model(tmp_path / "tiny")), "max_new_tokens": 16, "device": "cpu"},
         "training": {"method": "lora", "max_steps": 4, "warmup_share": 0.0, "report_to": ["tensorboard"]}}, "test")
    summary = run_train(recipe, dataset=make_dataset(tmp_path / "dataset"))
    place = tmp_path / "t" / "tracking" / "tensorboard"
    run, = place.iterdir()
    assert run.name.startswith("lora-")
    events = EventAccumulator(str(run))
    events.Reload()
    curve = open_run(tmp_path / "t" / "run").metrics
    assert {(e.step, round(e.value, 4)) for e in events.Scalars("train/loss")} == {
        (p["step"], round(p["loss"], 4)) for p in curve if "loss" in p}
    assert [e.step for e in events.Scalars("eval/loss")] == [step for step, _ in summary.eval_losses]
    assert sorted(path.name for path in (tmp_path / "t" / "run").iterdir()) == [
        "README.md", "adapter", "curve.svg", "manifest.json", "metrics.jsonl"]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_its_pip_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingPackage, match=rf"names {name}, .*pip install 'ragtune\[{name}\]'"):
        trackers.open_trackers(job_for(tmp_path, name))


def test_all_write_beside_the_run_and_offline_but_the_users_own_settings_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    os.environ["WANDB_MODE"] = "online"
    names = ["tensorboard", "mlflow", "wandb", "trackio"]
    assert trackers.open_trackers(job_for(tmp_path, *names)) == names
    place = tmp_path / "tracking"
    assert os.environ["TENSORBOARD_LOGGING_DIR"].startswith(str(place / "tensorboard"))
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{place / 'mlflow' / 'mlflow.db'}"
    assert (os.environ["WANDB_DIR"], os.environ["TRACKIO_DIR"]) == (str(place / "wandb"), str(place / "trackio"))
    assert os.environ["WANDB_MODE"] == "online"
    trackers.open_trackers(job_for(tmp_path / "other", "trackio"))
    assert os.environ["TRACKIO_DIR"] == str(tmp_path / "other" / "tracking" / "trackio")
    del os.environ["WANDB_MODE"]
    trackers.open_trackers(job_for(tmp_path, "wandb"))
    assert os.environ["WANDB_MODE"] == "offline"


def test_none_are_imported_where_none_is_asked_for(tmp_path):
    assert trackers.open_trackers(job_for(tmp_path)) == []
    assert not (tmp_path / "tracking").exists()
    assert not {"mlflow", "wandb", "trackio"} & set(sys.modules)


def test_a_runs_name_goes_with_its_settings(tmp_path):
    name = trackers.run_name(job_for(tmp_path, lr=0.1))
    assert name == trackers.run_name(job_for(tmp_path / "elsewhere", lr=0.1))
    assert name != trackers.run_name(job_for(tmp_path, lr=0.2))
