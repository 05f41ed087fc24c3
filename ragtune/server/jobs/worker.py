"""The worker: a process of the server that takes jobs from the queue and runs each in a process of its own.

There is one of a server's folder at a time. It ends with the server; what ran is noted as interrupted, and stands in the
queue again when the next one starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ragtune.server.database import Database, DatabaseError
from ragtune.server.jobs.process import command, follow_parent, read_order
from ragtune.server.jobs.queue import JobQueue, open_queue
from ragtune.server.jobs.record import WAITING, discard_partial, log_path
from ragtune.server.jobs.store import JobStore

PROCESS = "ragtune.server.jobs.process"
LOOK_S = 0.2
"""How often it is looked whether a process has ended or is to be stopped."""
BEAT_S = 5.0
PATIENCE_S = 60.0
"""A job of another machine's worker that was not heard of for so long is taken to be interrupted."""
AWAY_S = 2.0
"""How long a database that is away is waited for before it is asked again."""
GRACE_S = 10.0
"""Seconds a job gets to end in order when it is stopped."""
MOST_INTERRUPTIONS = 3
"""A job that was running so often when the server died may be why it died."""
logger = logging.getLogger(__name__)


def main() -> None:
    """Run jobs until the server ends, or says so by SIGTERM."""
    order = read_order()
    follow_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s jobs: %(message)s", stream=sys.stderr)
    folder = Path(order["folder"])
    with hold_lock(folder / "jobs" / ".worker.lock"):
        Worker(folder, order["recipe"], order["database"], Path(order["file"])).work()


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Wait until no other process holds this lock, then hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Worker:
    """Takes the jobs of one assistant, one after the other."""

    def __init__(self, folder: Path, recipe: str, database: str | None, file: Path) -> None:
        self.folder, self.recipe, self.database, self.file = folder, recipe, database, file
        self.name = f"{socket.gethostname()}:{folder.resolve()}"
        self.store = JobStore(Database(database, file), recipe)
        self.queue: JobQueue = open_queue(recipe, database, file, self.run)
        self._closing = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    def work(self) -> None:
        """Run jobs until a signal ends it."""
        self.recover()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        consumer = self.queue.huey.create_consumer(workers=1, periodic=False, initial_delay=0.05, backoff=1.3, max_delay=0.5,
                                                   scheduler_interval=60)
        consumer.run()  # until SIGTERM
        self._closing.set()
        self._idle.wait(GRACE_S + 5)

    def recover(self) -> None:
        """Put what a worker that is no more left running, and what waits without being queued, into the queue."""
        # Of this name, and of a file in the folder, there is no other worker: what runs was left so.
        self._recover(self.name, PATIENCE_S if self.database else 0.0)

    def _recover(self, name: str, patience_s: float) -> None:
        for job_id in self.store.left_running(name, patience_s):
            self._put_back(job_id)
        queued = set(self.queue.waiting())
        for job in reversed(self.store.find_all(WAITING)):
            if job.id not in queued:
                self.queue.put(job.id, job.kind, is_begun=job.state == "interrupted")

    def _put_back(self, job_id: str) -> None:
        job = self.store.find(job_id)
        if job is None:
            return
        if job.is_cancelling:
            self._drop(job_id)
        elif job.interruptions >= MOST_INTERRUPTIONS:
            self.store.finish(job_id, "failed", f"the server ended {job.interruptions + 1} times while it ran, perhaps for "
                                                "want of memory. Make it smaller, or look into its log.")
        else:
            self.store.interrupt(job_id)

    def _beat(self) -> None:
        while not self._closing.wait(BEAT_S):
            try:
                self.store.beat(self.name)
                if self.database:  # another machine's worker may be gone
                    self._recover("", PATIENCE_S)
            except Exception as error:  # the database is away for a while
                logger.warning("%s", error)

    def run(self, job_id: str) -> None:
        """Run one job to its end; what stands in the queue twice, or was cancelled there, is passed over."""
        self._idle.clear()
        try:
            if self._closing.is_set() or not self.store.claim(job_id, self.name):
                return
            with self._open_log(job_id) as log:
                code = self._watch(job_id, self._start(job_id, log))
            while True:
                try:
                    self._settle(job_id, code)
                    break
                except DatabaseError as error:  # else it would be said to run for as long as this worker lives
                    logger.warning("%s", error)
                    if self._closing.wait(AWAY_S):
                        break
        except Exception as error:
            logger.exception("%s", job_id)
            self.store.finish(job_id, "failed", f"its process could not be run: {error}")
        finally:
            self._idle.set()

    @contextlib.contextmanager
    def _open_log(self, job_id: str) -> Iterator[IO[bytes]]:
        """Open a job's log and hold it: its processes inherit the lock, so that a later start waits for the last one."""
        path = log_path(self.folder, job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            until = time.monotonic() + GRACE_S + 5
            while True:
                try:
                    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise RuntimeError("a process of its last start is still there") from None
                    time.sleep(LOOK_S)
            yield log

    def _start(self, job_id: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command(PROCESS, job_id), stdin=subprocess.PIPE, stdout=log,
                                   stderr=log, start_new_session=True)
        order = {"id": job_id, "recipe": self.recipe, "database": self.database, "file": str(self.file)}
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        return process

    def _watch(self, job_id: str, process: subprocess.Popen[bytes]) -> int:
        """Wait until a job's process has ended, and end it where that is wanted; return its exit code."""
        while process.poll() is None and not self._closing.wait(LOOK_S):
            try:
                job = self.store.find(job_id)
            except DatabaseError as error:  # it is away for a while; the job does without it
                logger.warning("%s", error)
                continue
            if job is None or job.is_cancelling:
                break
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # with all it started
        code = process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        return code

    def _drop(self, job_id: str) -> None:
        """Note that a job was cancelled, once nothing half-written is left of it."""
        discard_partial(self.store.plan(job_id))
        self.store.finish(job_id, "cancelled")

    def _settle(self, job_id: str, code: int) -> None:
        """Note how a job ended whose process did not do so itself."""
        job = self.store.find(job_id)
        if job is None or job.state != "running":
            return
        if job.is_cancelling:
            self._drop(job_id)
        elif self._closing.is_set():
            self.store.interrupt(job_id)
        else:
            self.store.finish(job_id, "failed", describe_exit(code))


def describe_exit(code: int) -> str:
    """Return what is said of a job whose process ended without a word."""
    if code == -signal.SIGKILL:
        return ("its process was killed (signal 9), as the system does when memory is used up. Make the job smaller, or run "
                "it where there is more memory.")
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"its process ended without a word ({how}). Its log may say more."
