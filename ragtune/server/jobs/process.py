"""The process of one job: told what to do by a line of JSON, it works, notes how far it is, and how it ended.

The line comes on its standard input, which stays open as long as the worker lives: when it ends, so does this process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from ragtune.errors import RagtuneError

EACH_S = 0.4
"""Least time between two notes of how far it is."""
NICE = 5
"""A job gives way to the questions that the server is asked."""
PROGRAM = ("import sys, json; sys.path[:] = json.loads(sys.argv[1]); sys.argv[1:] = sys.argv[2:]; "
           "from {module} import main; main()")
logger = logging.getLogger(__name__)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command of a new process with this one's import paths that calls ``main`` of a module.

    ``arguments`` are for those who read the list of processes.
    """
    paths = json.dumps([path or os.getcwd() for path in sys.path])
    return [sys.executable, "-c", PROGRAM.format(module=module), paths, *arguments]


def read_order() -> dict[str, Any]:
    """Return the line of JSON on standard input, and nothing of what follows it."""
    line = b""
    while not line.endswith(b"\n"):
        read = os.read(0, 1)
        if not read:
            raise SystemExit(1)
        line += read
    order: dict[str, Any] = json.loads(line)
    return order


def follow_parent(end: Any) -> None:
    """Call ``end`` when standard input ends, which is when the process at its other side does."""
    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        end()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> None:
    """Do the job that standard input names."""
    order = read_order()
    follow_parent(lambda: os.killpg(os.getpgrp(), signal.SIGKILL))  # a group of its own: its reading processes too
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("ragtune").setLevel(logging.INFO)
    from ragtune.server.database import Database
    from ragtune.server.jobs.store import JobStore

    store = JobStore(Database(order["database"], Path(order["file"])), order["recipe"])
    do_job(store, order["id"])


def _end(*_: Any) -> None:
    raise SystemExit(143)


def do_job(store: Any, job_id: str) -> None:
    """Do a job that is there and note how it ended."""
    from ragtune.recipe.load import check_recipe
    from ragtune.server.jobs.kinds import Order, find_kind

    job, plan = store.find(job_id), store.plan(job_id)
    logger.info("%s: %s %s", job_id, job.kind, dict(job.settings) or "")
    try:
        recipe = check_recipe(plan["recipe"], "the job's recipe")
        summary = find_kind(job.kind).run(recipe, Order.from_dict(plan), Reporter(store, job_id))
    except RagtuneError as error:
        logger.error("%s", error)
        store.finish(job_id, "failed", str(error))
    except MemoryError:
        store.finish(job_id, "failed", "the machine's memory is used up. Close what else runs, or make the job smaller.")
    except Exception as error:
        traceback.print_exc()
        store.finish(job_id, "failed", f"{type(error).__name__}: {str(error)[:500]}. Its log says more.")
    else:
        logger.info("done")
        store.finish(job_id, "done", result=json.loads(json.dumps(summary.to_dict(), default=str)))


class Reporter:
    """A Report that writes into the table of jobs, now and then, and each task's start into the log."""

    def __init__(self, store: Any, job_id: str) -> None:
        self._store, self._id = store, job_id
        self._lock = threading.Lock()
        self._task, self._at = "", 0.0

    def __call__(self, task: str, done: int, total: int) -> None:
        """Note how far a task is."""
        with self._lock:
            now = time.monotonic()
            if task == self._task and now - self._at < EACH_S and not (total and done >= total):
                return
            if task != self._task:
                logger.info("%s%s", task, f" ({total:,})" if total else "")
            self._task, self._at = task, now
            with contextlib.suppress(RagtuneError):  # how far it is matters less than that it goes on
                self._store.report(self._id, task, done, total)
