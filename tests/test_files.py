"""Folders are written whole or not at all, and damage is noticed."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune import files
from ragtune.errors import RunError
from ragtune.files import building_folder, read_jsonl, read_manifest, recover_folder, write_jsonl, write_manifest
from ragtune.records import Answer, Chunk, Citation, Evidence, Hit, Question


def build(target, text="new", **options):
    with building_folder(target, **options) as folder:
        (folder / "part.txt").write_text(text)
        write_manifest(folder, "index", note="x")


def test_folder_is_replaced_whole(tmp_path):
    build(tmp_path / "a", "old")
    build(tmp_path / "a", "new")
    assert (tmp_path / "a/part.txt").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["a"]
    assert read_manifest(tmp_path / "a", "index")["note"] == "x"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_failure_leaves_the_old_folder(tmp_path, error):
    build(tmp_path / "a", "old")
    with pytest.raises(type(error)), building_folder(tmp_path / "a") as folder:
        (folder / "part.txt").write_text("half")
        raise error
    assert (tmp_path / "a/part.txt").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_full_disk_says_so_and_leaves_nothing(tmp_path):
    with pytest.raises(RunError, match="disk is full"), building_folder(tmp_path / "a", keep_partial=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_kept_partial_is_found_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), building_folder(tmp_path / "a", keep_partial=True) as folder:
        (folder / "checkpoint").write_text("1")
        raise KeyboardInterrupt
    with building_folder(tmp_path / "a", keep_partial=True) as folder:
        assert (folder / "checkpoint").read_text() == "1"


def test_kill_between_the_renames_is_mended(tmp_path):
    build(tmp_path / "a", "old")
    os.rename(tmp_path / "a", tmp_path / "a.old")
    recover_folder(tmp_path / "a")
    assert (tmp_path / "a/part.txt").read_text() == "old"


def test_killed_builder_leaves_the_old_folder_and_no_lock(tmp_path):
    build(tmp_path / "a", "old")
    code = (
        "import sys, time; from pathlib import Path; from ragtune.files import building_folder\n"
        "with building_folder(Path(sys.argv[1])) as f:\n"
        "    (f / 'part.txt').write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    with pytest.raises(RunError, match="being written by another"):
        build(tmp_path / "a")
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(0.05)
    assert (tmp_path / "a/part.txt").read_text() == "old"
    build(tmp_path / "a", "new")
    assert (tmp_path / "a/part.txt").read_text() == "new"


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_text("x")
    with pytest.raises(RunError, match="not a folder of ragtune"):
        build(tmp_path / "photos")
    assert (tmp_path / "photos/cat.jpg").exists()


def test_damage_is_noticed(tmp_path):
    build(tmp_path / "a")
    (tmp_path / "a/part.txt").write_text("nev")
    with pytest.raises(RunError, match=r"part.txt is not what the manifest says"):
        read_manifest(tmp_path / "a", "index")
    (tmp_path / "a/part.txt").unlink()
    with pytest.raises(RunError, match="part.txt is missing"):
        read_manifest(tmp_path / "a", "index")
    (tmp_path / "a/manifest.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        read_manifest(tmp_path / "a", "index")
    with pytest.raises(RunError, match="no run folder"):
        read_manifest(tmp_path / "b", "run")


def test_other_kind_and_format_are_refused(tmp_path):
    build(tmp_path / "a")
    with pytest.raises(RunError, match="of kind 'index', wanted 'run'"):
        read_manifest(tmp_path / "a", "run")
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    (tmp_path / "a/manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(RunError, match="format 99"):
        read_manifest(tmp_path / "a", "index")


def test_files_hashed_by_several_threads_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_FEW_BYTES", 0)
    with building_folder(tmp_path / "a") as folder:
        for number in range(20):
            (folder / f"{number:02}.bin").write_bytes(bytes([number]) * (1 << (number % 5 + 10)))
        write_manifest(folder, "index")
    manifest = read_manifest(tmp_path / "a", "index")
    assert {name: facts["sha256"] for name, facts in manifest["files"].items()} == {
        name: files.hash_file(tmp_path / "a" / name) for name in manifest["files"]}
    for name, data in (("13.bin", b"\x0c" + b"\x0d" * ((1 << 13) - 1)), ("07.bin", b"short")):
        (tmp_path / "a" / name).write_bytes(data)
        with pytest.raises(RunError, match=f"damaged: {name} is not what"):
            read_manifest(tmp_path / "a", "index")


def test_bad_lines_are_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n\nnot json\n')
    with pytest.raises(RunError, match=r"x.jsonl:3: not JSON"):
        list(read_jsonl(tmp_path / "x.jsonl"))
    (tmp_path / "x.jsonl").write_text("[1]\n")
    with pytest.raises(RunError, match="found list"):
        list(read_jsonl(tmp_path / "x.jsonl"))


@given(st.text(max_size=50), st.text(min_size=1), st.integers(1, 10**6))
def test_records_survive_json(tmp_path_factory, text, name, page):
    chunk = Chunk("c", "d", name, text, page, page, 0, len(text), {"fiscal_year": 2021})
    records = [
        Hit(chunk, 0.5, 1, "dense"),
        Question("q", text, name, (Evidence(name, page, text),)),
        Answer(text, name, (Citation(1, name, page, "c", 0, 1, text),), timings_s={"search": 0.1}),
    ]
    path = tmp_path_factory.mktemp("r") / "r.jsonl"
    write_jsonl(path, (r.to_dict() for r in records))
    assert [type(r).from_dict(row) for r, (_, row) in zip(records, read_jsonl(path))] == records
