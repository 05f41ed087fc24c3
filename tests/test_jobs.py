"""The life of jobs, in real processes: queue, progress, end, error, cancel, and every kill on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("huey")
pytest.importorskip("fastapi")

from ragtune.errors import RecipeError
from ragtune.recipe.load import check_recipe
from ragtune.recipe.schema import Recipe
from ragtune.server.database import Database
from ragtune.server.errors import Rejected
from ragtune.server.jobs import jobs as jobs_module
from ragtune.server.jobs.jobs import Jobs
from ragtune.server.jobs.kinds import KINDS, allowed_settings, find_kind, free_folder, set_settings
from ragtune.server.jobs.process import command
from ragtune.server.jobs.queue import open_queue
from ragtune.server.jobs.record import new_job
from ragtune.server.jobs.store import JobStore

WAIT_S = 120.0  # a busy machine is no failure


def wait_for(what: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)
    return found


def recipe_of(folder: Path, **server: Any) -> Recipe:
    return check_recipe({"name": "t", "work": str(folder / "work"), "documents": {"folder": str(folder / "documents")},
                         "server": server}, "test")


def set_steps(folder: Path, steps: int, word: str = "count") -> None:
    (folder / "documents").mkdir(exist_ok=True)
    (folder / "documents" / "steps").write_text(f"{steps} {word}")


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Jobs that count, their server running."""
    monkeypatch.setattr(jobs_module, "WORKER", "job_fakes")
    monkeypatch.setattr(jobs_module, "LOOK_S", 0.05)
    set_steps(tmp_path, 3)
    made = Jobs(SimpleNamespace(), recipe_of(tmp_path), tmp_path / "server")
    made.taken = []
    made.take_in = made.taken.append
    made.open()
    yield made
    made.close()


def end_of(jobs: Jobs, job_id: str) -> Any:
    return wait_for(lambda: (job := jobs.find(job_id)).has_ended and job)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_job_runs_to_its_end_in_a_process_of_its_own(jobs: Jobs, tmp_path: Path) -> None:
    assert jobs.find_all() == []
    assert not (tmp_path / "server").exists()
    assert jobs.worker_pid is None
    job = jobs.submit("index", caller="ann")
    assert (job.state, job.caller) == ("queued", "ann")
    done = end_of(jobs, job.id)
    assert (done.state, done.error) == ("done", "")
    assert (done.task, done.done, done.total) == ("counting", 3, 3)
    assert done.result == {"steps": 3, "resumed_at": 0}
    assert done.created <= done.started <= done.ended
    assert int((tmp_path / "server" / "job.pid").read_text()) not in (os.getpid(), jobs.worker_pid)
    assert "counting" in jobs.log_path(job.id).read_text()
    wait_for(lambda: [each.id for each in jobs.taken] == [job.id])
    with pytest.raises(Rejected, match="has ended") as refused:
        jobs.cancel(job.id)
    assert refused.value.status == 409


def test_what_goes_wrong_is_said(jobs: Jobs, tmp_path: Path) -> None:
    said = {}
    for word in ("fail", "crash", "die"):
        set_steps(tmp_path, 3, word)
        said[word] = end_of(jobs, jobs.submit("index").id)
        assert said[word].state == "failed"
    assert said["fail"].error == "there is nothing to count. Write numbers."
    assert said["crash"].error == "ValueError: a fault of the program. Its log says more."
    assert "Traceback" in jobs.log_path(said["crash"].id).read_text()
    assert "killed (signal 9)" in said["die"].error
    set_steps(tmp_path, 1)
    assert end_of(jobs, jobs.submit("index").id).state == "done"


def test_cancelling_drops_the_waiting_and_stops_the_running(jobs: Jobs, tmp_path: Path) -> None:
    set_steps(tmp_path, 5000)
    first, second = jobs.submit("index"), jobs.submit("index")
    wait_for(lambda: jobs.find(first.id).done > 2)
    assert jobs.cancel(second.id).state == "cancelled"
    pid = int((tmp_path / "server" / "job.pid").read_text())
    assert jobs.cancel(first.id).is_cancelling
    stopped = end_of(jobs, first.id)
    assert (stopped.state, stopped.error) == ("cancelled", "")
    assert not is_alive(pid)
    set_steps(tmp_path, 5000, "deaf")  # one that does not listen is killed
    third = jobs.submit("index")
    wait_for(lambda: jobs.find(third.id).done > 2)
    jobs.cancel(third.id)
    assert end_of(jobs, third.id).state == "cancelled"
    assert jobs.find(second.id).started == 0


def test_the_worker_killed_the_job_goes_on(jobs: Jobs, tmp_path: Path) -> None:
    set_steps(tmp_path, 100)
    job = jobs.submit("index")
    wait_for(lambda: jobs.find(job.id).done > 5)
    worker, process = jobs.worker_pid, int((tmp_path / "server" / "job.pid").read_text())
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    done = end_of(jobs, job.id)
    assert (done.state, done.interruptions) == ("done", 1)
    assert done.result["resumed_at"] > 5
    assert not is_alive(process)
    assert jobs.worker_pid not in (None, worker)


def test_a_stop_in_order_keeps_the_job_for_the_next_start(jobs: Jobs, tmp_path: Path) -> None:
    set_steps(tmp_path, 100)
    job, next_one = jobs.submit("index"), jobs.submit("index")
    wait_for(lambda: jobs.find(job.id).done > 5)
    jobs.close()
    assert jobs.find(job.id).state == "interrupted"
    assert not is_alive(int((tmp_path / "server" / "job.pid").read_text()))
    jobs.open()
    assert end_of(jobs, job.id).result["resumed_at"] > 5
    assert end_of(jobs, next_one.id).state == "done"


def start_server(folder: Path, *arguments: str) -> tuple[subprocess.Popen[str], list[str]]:
    server = subprocess.Popen(command("job_server_fake", str(folder), *arguments), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    said = []
    while not said or said[-1] != "open":
        line = server.stdout.readline()
        assert line, "the server ended"
        said.append(line.strip())
    return server, said


def test_the_server_killed_everything_ends_and_goes_on_at_the_next_start(tmp_path: Path) -> None:
    set_steps(tmp_path, 150)
    server, said = start_server(tmp_path, "submit")
    try:
        looker = Jobs(SimpleNamespace(), recipe_of(tmp_path), tmp_path / "server")
        wait_for(lambda: looker.find(said[0]).done > 5)
        process = int((tmp_path / "server" / "job.pid").read_text())
        server.kill()
        server.wait()
        wait_for(lambda: not is_alive(process))
        assert looker.find(said[0]).state in ("interrupted", "running")
        queued = looker.submit("index")  # one that was taken in and never begun
        server, _ = start_server(tmp_path)
        done = end_of(looker, said[0])
        assert (done.state, done.interruptions) == ("done", 1)
        assert done.result["resumed_at"] > 5
        assert end_of(looker, queued.id).state == "done"
    finally:
        server.kill()
        server.wait()


# The table and the queue, without processes


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(Database(None, tmp_path / "jobs.sqlite"), "t")


def test_the_table_of_jobs(store: JobStore) -> None:
    first, second = new_job("index", "t", {}, ""), new_job("train", "t", {"training.r": 4}, "bob")
    store.add(first, {"out": "a"})
    store.add(second, {"out": "b"})
    store.add(first, {"out": "other"})
    assert {job.id for job in store.find_all()} == {first.id, second.id}
    assert store.find(second.id) == second
    assert store.plan(first.id) == {"out": "a"}
    assert [job.id for job in store.find_all(kind="train")] == [second.id]
    assert store.claim(first.id, "w")
    assert not store.claim(first.id, "w")
    store.report(first.id, "reading", 2, 5)
    running = store.find(first.id)
    assert running is not None
    assert (running.state, running.task, running.done, running.total) == ("running", "reading", 2, 5)
    assert running.version > first.version
    assert store.left_running("other", 60) == []
    assert store.left_running("w", 60) == store.left_running("other", -1) == [first.id]
    assert store.interrupt(first.id)
    assert store.claim(first.id, "w")
    assert store.finish(first.id, "done", result={"x": 1})
    assert not store.finish(first.id, "failed", "late")
    ended = store.find(first.id)
    assert ended is not None
    assert (ended.state, ended.interruptions, ended.result, ended.error) == ("done", 1, {"x": 1}, "")
    assert [job.id for job in store.ended_since(ended.ended)] == [first.id]
    assert JobStore(store._database, "another").find(first.id) is None


def test_messages_are_plain_json(tmp_path: Path) -> None:
    ran: list[str] = []
    queue = open_queue("t", None, tmp_path / "jobs.sqlite", ran.append)
    for job_id in ("a", "b"):
        queue.put(job_id)
    assert queue.waiting() == ["a", "b"]
    data = queue.huey.storage.enqueued_items()
    assert json.loads(bytes(data[0]))["args"] == ["a"]
    queue.huey.execute(queue.huey.dequeue())
    assert (ran, queue.waiting()) == (["a"], ["b"])


def test_what_was_left_is_queued_again_but_not_for_ever(tmp_path: Path, store: JobStore) -> None:
    from ragtune.server.jobs.worker import MOST_INTERRUPTIONS, Worker

    jobs = [new_job("index", "t", {}, "") for _ in range(3)]
    for job in jobs:
        store.add(job, {})
        store.claim(job.id, "gone")
    store.cancel(jobs[1].id)
    for _ in range(MOST_INTERRUPTIONS):
        store.interrupt(jobs[2].id)
        store.claim(jobs[2].id, "gone")
    worker = Worker(tmp_path, "t", None, tmp_path / "jobs.sqlite")
    worker.recover()
    worker.recover()
    states = [job.state for job in map(store.find, (job.id for job in jobs)) if job]
    assert states == ["interrupted", "cancelled", "failed"]
    assert worker.queue.waiting() == [jobs[0].id]


def test_settings_name_no_file_and_no_model(tmp_path: Path) -> None:
    recipe, train = recipe_of(tmp_path), find_kind("train")
    changed = set_settings(recipe, train, {"training.max_steps": 7, "training.method": "lora",
                                           "training.preference.beta": 0.2})
    assert (changed.training.max_steps, changed.training.method) == (7, "lora")
    for key, value in (("training.folder", "/etc"), ("training.start", "x"), ("generator.model", "x"), ("name", "x"),
                       ("documents.folder", "/"), ("training.deepspeed", "x"), ("server.database", "x"), ("", 1)):
        with pytest.raises(RecipeError, match="cannot be set for a job"):
            set_settings(recipe, train, {key: value})
    with pytest.raises(RecipeError, match="max_steps"):
        set_settings(recipe, train, {"training.max_steps": "many"})
    allowed = {name: allowed_settings(kind) for name, kind in KINDS.items()}
    assert not {key for keys in allowed.values() for key in keys
                if key.split(".")[-1] in ("folder", "questions", "embedder", "metadata", "judge", "adapter", "rerank")}


def test_a_run_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    place = tmp_path / "run"
    assert free_folder(place, set()) == place
    place.mkdir()
    assert free_folder(place, {str(tmp_path / "run-2")}) == tmp_path / "run-3"


def test_what_cannot_be_a_job(tmp_path: Path) -> None:
    jobs = Jobs(SimpleNamespace(), recipe_of(tmp_path), tmp_path / "server")
    with pytest.raises(RecipeError, match="no job of kind 'indx'.*Did you mean 'index'"):
        jobs.submit("indx")
    for names, status in (({"name": "x"}, 400), ({"dataset": "x"}, 400)):
        with pytest.raises(Rejected) as refused:
            jobs.submit("index", names=names)
        assert refused.value.status == status
    for names, error in (({"name": "../x"}, RecipeError), ({"dataset": "../x"}, Rejected)):
        with pytest.raises(error):
            jobs.submit("train", names=names)
    with pytest.raises(Rejected, match="no job 'x'") as unknown:
        jobs.find("x")
    assert unknown.value.status == 404
    first = jobs.submit_index("a")
    assert jobs.submit_index("b").id == first.id
    plans = [jobs._open()[0].plan(jobs.submit("train").id)["out"] for _ in range(2)]
    assert [Path(out).name for out in plans] == ["run", "run-2"]
    assert "server" not in jobs._open()[0].plan(first.id)["recipe"]


def test_whoever_is_told_the_end_finds_what_was_made(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_watch", lambda: None)  # which would look only a moment later
    job = jobs.submit("index")
    end_of(jobs, job.id)
    assert [each.id for each in jobs.taken] == [job.id]
    jobs.find(job.id)
    assert len(jobs.taken) == 1
