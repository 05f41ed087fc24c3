"""Run folders: opened whole or not at all, and used only where they fit."""

from __future__ import annotations

import pytest

from ragtune.errors import RunError
from ragtune.files import building_folder, write_jsonl, write_manifest
from ragtune.training.run import Run, check_run_fits, open_run


@pytest.fixture
def folder(tmp_path):
    with building_folder(tmp_path / "run") as partial:
        (partial / "adapter").mkdir()
        (partial / "adapter" / "adapter_config.json").write_text("{}")
        (partial / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
        write_jsonl(partial / "metrics.jsonl", [{"step": 1, "loss": 2.0}])
        write_manifest(partial, "run", id="run-1", base_model="bundled", base_fingerprint="base-1", prompt_hash="prompt-1",
                       index_id="index-1")
    return tmp_path / "run"


def test_a_run_opens_with_its_curve_and_adapter(folder):
    run = open_run(folder)
    assert run.id == "run-1"
    assert run.adapter == folder / "adapter"
    assert run.metrics == ({"step": 1, "loss": 2.0},)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "adapter" / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
        (lambda f: (f / "adapter" / "adapter_model.safetensors").write_bytes(b"other w"), "is not what the manifest says"),
        (lambda f: (f / "metrics.jsonl").write_text(""), "is not what the manifest says"),
        (lambda f: (f / "manifest.json").write_text("{"), "damaged"),
        (lambda f: (f / "manifest.json").write_text('{"kind": "index"}'), "of kind 'index', wanted 'run'"),
        (lambda f: (f / "manifest.json").unlink(), "has no manifest.json"),
        (lambda f: write_manifest(f, "run", format=99), "has format 99"),
    ],
)
def test_a_damaged_run_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(RunError, match=message) as error:
        open_run(folder)
    assert "ragtune train" in str(error.value)


def test_a_missing_adapter_is_named_even_where_the_manifest_lost_it_too(folder):
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    write_manifest(folder, "run")
    with pytest.raises(RunError, match=r"adapter_model\.safetensors is missing"):
        open_run(folder)


def test_a_missing_run_says_how_to_make_one(tmp_path):
    with pytest.raises(RunError, match=r"no run folder at .*ragtune train"):
        open_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("used", "allowed", "message"),
    [
        (("index-1", "prompt-1", "base-1"), False, None),
        (("", "", ""), False, None),
        (("index-2", "prompt-1", "base-1"), False, "index index-1 and is used with index index-2.*--allow-mismatch"),
        (("index-1", "prompt-2", "base-1"), False, "prompt prompt-1 and is used with prompt prompt-2.*--allow-mismatch"),
        (("index-2", "prompt-2", "base-1"), False, "prompt-2; it was tuned with index index-1"),
        (("index-2", "prompt-2", "base-1"), True, None),
        (("index-1", "prompt-1", "base-2"), False, "base model base-1 and is used with base model base-2.*'bundled'"),
        (("index-1", "prompt-1", "base-2"), True, "base model base-1"),
    ],
)
def test_a_run_is_used_only_where_it_fits(folder, used, allowed, message):
    run = open_run(folder)
    if message is None:
        check_run_fits(run, *used, allow_mismatch=allowed)
    else:
        with pytest.raises(RunError, match=message):
            check_run_fits(run, *used, allow_mismatch=allowed)


def test_a_run_that_names_no_index_fits_any(tmp_path):
    check_run_fits(Run(tmp_path, "r", {"prompt_hash": "p"}, ()), "index-9", "p", "base")
