"""All jobs of an assistant in one table, written by the server, the worker and the jobs' own processes."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ragtune.server.database import Database, DatabaseError
from ragtune.server.jobs.record import OPEN, WAITING, Job, JobState

_TABLE = """
create table if not exists ragtune_jobs (
    id text primary key, recipe text not null, kind text not null, settings text not null, plan text not null,
    state text not null, task text not null default '', done bigint not null default 0, total bigint not null default 0,
    created double precision not null, started double precision not null default 0,
    ended double precision not null default 0, error text not null default '', result text not null default '{}',
    interruptions integer not null default 0, is_cancelling integer not null default 0, caller text not null default '',
    worker text not null default '', beat double precision not null default 0, version bigint not null default 0)
"""
_COLUMNS = ("id, kind, recipe, settings, state, task, done, total, created, started, ended, error, result, interruptions, "
            "is_cancelling, caller, version")


class JobStore:
    """The jobs of one assistant, by its recipe's name. What a method changes is on disk when it returns."""

    def __init__(self, database: Database, recipe: str) -> None:
        self._database, self.recipe = database, recipe
        with contextlib.suppress(DatabaseError):  # two that make it at the same moment: PostgreSQL tells one so
            database.change(_TABLE)
        database.change(_TABLE)

    def add(self, job: Job, plan: Mapping[str, Any]) -> None:
        """Take a job in; ``plan`` is what its process is told, the recipe among it."""
        self._database.change(
            "insert into ragtune_jobs (id, recipe, kind, settings, plan, state, created, caller) values (?,?,?,?,?,?,?,?) "
            "on conflict (id) do nothing",
            (job.id, self.recipe, job.kind, json.dumps(dict(job.settings)), json.dumps(dict(plan)), job.state, job.created,
             job.caller))

    def find(self, job_id: str) -> Job | None:
        """Return the job of this id."""
        rows = self._database.ask(f"select {_COLUMNS} from ragtune_jobs where id = ? and recipe = ?", (job_id, self.recipe))
        return _read(rows[0]) if rows else None

    def plan(self, job_id: str) -> dict[str, Any]:
        """Return what a job's process is told; empty for an unknown one."""
        rows = self._database.ask("select plan from ragtune_jobs where id = ? and recipe = ?", (job_id, self.recipe))
        plan: dict[str, Any] = json.loads(rows[0][0]) if rows else {}
        return plan

    def find_all(self, states: Sequence[JobState] = (), kind: str | None = None, limit: int = 1000) -> list[Job]:
        """Return jobs, the newest first: all, or those in these states and of this kind."""
        query, values = f"select {_COLUMNS} from ragtune_jobs where recipe = ?", [self.recipe]
        if states:
            query, values = f"{query} and state in ({_marks(states)})", [*values, *states]
        if kind is not None:
            query, values = f"{query} and kind = ?", [*values, kind]
        return [_read(row) for row in self._database.ask(f"{query} order by created desc, id limit {int(limit)}", values)]

    def count_states(self) -> dict[str, int]:
        """Return how many jobs are in each state there is a job in."""
        return {str(state): int(count) for state, count in self._database.ask(
            "select state, count(*) from ragtune_jobs where recipe = ? group by state", (self.recipe,))}

    def ended_since(self, moment: float) -> list[Job]:
        """Return the jobs that ended at this moment or later, the oldest first."""
        return [_read(row) for row in self._database.ask(
            f"select {_COLUMNS} from ragtune_jobs where recipe = ? and ended >= ? and ended > 0 order by ended", (
                self.recipe, moment))]

    def claim(self, job_id: str, worker: str) -> bool:
        """Take a waiting job to be run by this worker; False where it is not waiting (any more)."""
        now = time.time()
        return self._database.change(
            "update ragtune_jobs set state = 'running', worker = ?, beat = ?, started = ?, ended = 0, task = '', done = 0, "
            f"total = 0, error = '', version = version + 1 where id = ? and state in ({_marks(WAITING)})",
            (worker, now, now, job_id, *WAITING)) == 1

    def report(self, job_id: str, task: str, done: int, total: int) -> None:
        """Note how far a running job is."""
        self._database.change("update ragtune_jobs set task = ?, done = ?, total = ?, version = version + 1 "
                              "where id = ? and state = 'running'", (task, int(done), int(total), job_id))

    def finish(self, job_id: str, state: JobState, error: str = "", result: Mapping[str, Any] | None = None) -> bool:
        """Note how an open job ended; False where it had ended already."""
        return self._database.change(
            "update ragtune_jobs set state = ?, error = ?, result = ?, ended = ?, version = version + 1 "
            f"where id = ? and state in ({_marks(OPEN)})",
            (state, error, json.dumps(dict(result or {})), time.time(), job_id, *OPEN)) == 1

    def cancel(self, job_id: str) -> None:
        """Drop a waiting job; have the worker stop a running one."""
        self._database.change(
            "update ragtune_jobs set state = 'cancelled', ended = ?, version = version + 1 "
            f"where id = ? and state in ({_marks(WAITING)})", (time.time(), job_id, *WAITING))
        self._database.change("update ragtune_jobs set is_cancelling = 1, version = version + 1 "
                              "where id = ? and state = 'running'", (job_id,))

    def interrupt(self, job_id: str) -> bool:
        """Note that a running job was stopped before its end, without a fault of its own."""
        return self._database.change(
            "update ragtune_jobs set state = 'interrupted', interruptions = interruptions + 1, version = version + 1 "
            "where id = ? and state = 'running'", (job_id,)) == 1

    def beat(self, worker: str) -> None:
        """Say that this worker lives."""
        self._database.change("update ragtune_jobs set beat = ? where worker = ? and state = 'running'",
                              (time.time(), worker))

    def left_running(self, worker: str, patience_s: float) -> list[str]:
        """Return the running jobs of this worker's name, and those of others that were not heard of for so long."""
        return [job_id for job_id, in self._database.ask(
            "select id from ragtune_jobs where recipe = ? and state = 'running' and (worker = ? or beat < ?) "
            "order by created", (self.recipe, worker, time.time() - patience_s))]


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _read(row: Sequence[Any]) -> Job:
    names = [name.strip() for name in _COLUMNS.split(",")]
    values = dict(zip(names, row))
    values.update(settings=json.loads(values["settings"]), result=json.loads(values["result"]),
                  is_cancelling=bool(values["is_cancelling"]))
    return Job.from_dict(values)
