"""The life of jobs, in real processes: queue, progress, end, error, cancel, and every kill on the way."""

from __future__ import annotations

import fcntl
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

from ragtune.errors import RecipeError, RunError
from ragtune.files import write_manifest
from ragtune.recipe.load import check_recipe, load_recipe
from ragtune.recipe.schema import Recipe
from ragtune.server.database import Database, DatabaseError
from ragtune.server.errors import Rejected
from ragtune.server.jobs import jobs as jobs_module
from ragtune.server.jobs import worker as worker_module
from ragtune.server.jobs.jobs import Jobs
from ragtune.server.jobs.kinds import (
    KINDS,
    Order,
    allowed_settings,
    check_dataset,
    find_kind,
    folder_of,
    free_folder,
    set_settings,
)
from ragtune.server.jobs.process import command
from ragtune.server.jobs.queue import open_queue
from ragtune.server.jobs.record import discard_partial, new_job
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


def test_a_job_outlives_a_database_that_is_away_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LOOK_S", 0.02)
    monkeypatch.setattr(worker_module, "AWAY_S", 0.02)
    worker = worker_module.Worker(tmp_path, "t", None, tmp_path / "jobs.sqlite")
    job, until, find = new_job("index", "t", {}, ""), time.monotonic() + 0.6, worker.store.find

    def find_later(job_id: str) -> Any:
        if time.monotonic() < until:
            raise DatabaseError("the database is away")
        return find(job_id)

    monkeypatch.setattr(worker.store, "find", find_later)
    monkeypatch.setattr(worker_module, "command", lambda *_: ["sleep", "0.2"])
    worker.store.add(job, {})
    worker.run(job.id)
    assert time.monotonic() >= until
    assert "exit code 0" in find(job.id).error, "it was not stopped, and how it ended is noted"


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


@pytest.mark.parametrize(("kind", "key", "value"), [
    ("train", "training.lr", float("inf")), ("train", "training.lr", float("nan")), ("train", "training.max_steps", 10**30),
    ("train", "training.target_modules", ["q_proj"] * 101), ("train", "training.target_modules", ["q" * 2001]),
    ("train", "training.target_modules", [float("-inf")]), ("dataset", "dataset.split_by", "a\0b"),
    ("dataset", "dataset.split_by", "\ud800"), ("evaluate", "evaluation.where", "((("),
    ("train", "training.method", "x" * 99), ("train", "training.lr", -1), ("train", "training.batch_size", None),
    ("evaluate", "evaluation.recall_at", 1e300)])
def test_what_no_job_could_use_is_refused_when_it_is_asked_for(tmp_path: Path, kind: str, key: str, value: Any) -> None:
    jobs = Jobs(SimpleNamespace(), recipe_of(tmp_path), tmp_path / "server")
    with pytest.raises(RecipeError, match=key.rpartition(".")[2]) as refused:
        jobs.submit(kind, {key: value})
    assert "ragtune recipe check" not in str(refused.value), "it is no recipe file of theirs"
    assert jobs.find_all() == []


def test_what_a_client_may_set_is_a_short_list(tmp_path: Path) -> None:
    """No file, no model, no other machine, and not the check that keeps a job from taking all memory."""
    allowed = {name: allowed_settings(kind) for name, kind in KINDS.items()}
    assert allowed["index"] == [], "an index built in another way would fit no run, and be undone by the next upload"
    sections = {key.split(".")[0] for keys in allowed.values() for key in keys}
    assert sections == {"dataset", "retrieval", "training", "evaluation"}
    assert not {"training.report_to", "training.check_memory", "training.reinforce.rewards"} & set(allowed["train"])
    for kind, key, value in (("train", "training.report_to", ["wandb"]), ("train", "training.check_memory", False),
                             ("index", "index.chunk_tokens", 40), ("evaluate", "k" * 10**6, 1)):
        with pytest.raises(RecipeError, match="cannot be set for a job") as refused:
            set_settings(recipe_of(tmp_path), find_kind(kind), {key: value})
        assert len(str(refused.value)) < 2000


def test_what_cannot_be_tuned_is_no_job(tmp_path: Path) -> None:
    jobs = Jobs(SimpleNamespace(), recipe_of(tmp_path), tmp_path / "server")
    with pytest.raises(RecipeError, match="ragtune adapt"):
        jobs.submit("train", {"training.method": "ra_dit_retriever"})
    recipe = jobs.recipe.model_copy(update={"generator": jobs.recipe.generator.model_copy(update={"model": "extractive"})})
    with pytest.raises(RecipeError, match="'extractive' cannot be tuned"):
        Jobs(SimpleNamespace(), recipe, tmp_path / "server").submit("train")


@pytest.mark.parametrize("name", ["base", "tuned", "reward", "2-closed-book", "../x", "x.partial", "", "X"])
def test_names_that_no_run_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="name"):
        folder_of(tmp_path / "run", name)


@pytest.mark.parametrize(("kind", "lacks"), [("dataset", "index"), ("train", "dataset"), ("evaluate", "dataset")])
def test_a_job_that_comes_too_early_names_the_job_to_start_first(kind: str, lacks: str, tmp_path: Path) -> None:
    recipe = load_recipe("demo", [f"work={tmp_path}"])
    order = Order(str(tmp_path / "server"), out=str(tmp_path / "out"))
    with pytest.raises(RunError, match=f"there is no {lacks} '{lacks}' yet. Start a job of kind '{lacks}'"):
        find_kind(kind).run(recipe, order, lambda *_: None)
    pairs = load_recipe("demo", [f"work={tmp_path}", "training.method=dpo"])
    if kind == "train":
        with pytest.raises(RunError, match="ragtune dataset pairs"):
            find_kind(kind).run(pairs, order, lambda *_: None)


def test_rows_of_another_index_are_not_tuned_on(tmp_path: Path) -> None:
    dataset, index = tmp_path / "dataset", tmp_path / "index"
    check_dataset(dataset, index)
    for folder in (dataset, index):
        folder.mkdir()
    for built, fits in (("i-2", True), ("i-1", True), ("", True), ("i-9", False)):
        write_manifest(dataset, "dataset", index_id=built)
        write_manifest(index, "index", id="i-2", grown_from=["i-1"])
        if fits:
            check_dataset(dataset, index)
        else:
            with pytest.raises(RunError, match=r"another index \(i-9\)"):
                check_dataset(dataset, index)


def test_what_a_cancelled_job_was_writing_is_removed_unless_another_writes_it(tmp_path: Path) -> None:
    partial, lock = tmp_path / "run-2.partial", tmp_path / ".run-2.lock"
    plan = {"out": str(tmp_path / "run-2")}
    discard_partial(plan)
    discard_partial({})
    assert list(tmp_path.iterdir()) == []
    (partial / "checkpoints").mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        discard_partial(plan)
        assert partial.is_dir()
    discard_partial(plan)
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_job_leaves_nothing_half_written(jobs: Jobs, tmp_path: Path) -> None:
    partial = tmp_path / "work" / "t" / "index.partial"
    for is_running in (True, False):
        set_steps(tmp_path, 5000)
        job = jobs.submit("index")
        wait_for(lambda job=job: jobs.find(job.id).done > 2)
        (partial / "vectors").mkdir(parents=True)
        if not is_running:
            jobs.close()
        jobs.cancel(job.id)
        assert end_of(jobs, job.id).state == "cancelled"
        assert not partial.exists()
        (tmp_path / "server" / "counted").unlink(missing_ok=True)


def test_a_job_is_done_when_what_it_made_is_served(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads 'done' may ask: the index is the new one, the model is listed."""
    taken: list[str] = []

    def take_in(job: Any) -> None:
        time.sleep(0.3)
        taken.append(job.id)

    monkeypatch.setattr(jobs, "take_in", take_in)
    job = jobs.submit("index")
    end_of(jobs, job.id)
    assert taken == [job.id]
    assert jobs.find_all()[0].state == "done"
    jobs.close()
    jobs.open()
    jobs.find(job.id)
    assert taken == [job.id], "once"


def test_an_upload_is_indexed_before_the_next_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MOST_OPEN", 2)
    jobs = Jobs(SimpleNamespace(), recipe_of(tmp_path), tmp_path / "server")
    first, second = jobs.submit("train"), jobs.submit("train")
    with pytest.raises(Rejected, match="2 jobs wait"):
        jobs.submit("train")
    index = jobs.submit_index()
    assert jobs._open()[1].waiting() == [index.id, first.id, second.id]


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
