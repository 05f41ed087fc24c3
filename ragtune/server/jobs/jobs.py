"""The server's side of its jobs: taking them in, stopping them, keeping a worker alive, and serving what they made."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragtune.answering.prompt import prompt_hash
from ragtune.errors import RagtuneError
from ragtune.models.language import UNTUNABLE
from ragtune.models.remote import is_remote
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.index import Index
from ragtune.server.database import Database
from ragtune.server.errors import Rejected
from ragtune.server.jobs.kinds import Kind, check_trainable, find_kind, folder_of, free_folder, set_settings
from ragtune.server.jobs.process import command
from ragtune.server.jobs.queue import JobQueue, open_queue
from ragtune.server.jobs.record import OPEN, Job, JobState, discard_partial, log_path, new_job
from ragtune.server.jobs.store import JobStore
from ragtune.server.runs import name_run
from ragtune.server.service import Service
from ragtune.training.run import check_run_fits, open_run

FILE = "jobs.sqlite"
WORKER = "ragtune.server.jobs.worker"
LOOK_S = 0.5
"""How often it is looked whether a job has ended."""
MOST_OPEN = 100
"""Jobs that may wait."""
SKEW_S = 30.0
"""How far clocks of machines with one database may differ."""
logger = logging.getLogger(__name__)


class Jobs:
    """The jobs of one server. Nothing is written and no process started before there is a first job; any thread may ask."""

    def __init__(self, service: Service, recipe: Recipe, folder: Path) -> None:
        self.service, self.recipe, self.folder = service, recipe, folder
        self._file = folder / FILE
        self._lock = threading.RLock()
        self._opened: tuple[JobStore, JobQueue] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._closing = threading.Event()
        self._is_serving = False
        self._since = 0.0
        self._seen: set[str] = set()
        self._taking = threading.Lock()

    def open(self) -> None:
        """Go on with the jobs there are. Called when the server starts."""
        self._closing.clear()
        self._is_serving = True
        if self._file.is_file() or self.recipe.server.database:
            self._run_worker()

    def close(self) -> None:
        """Stop the worker; a job that runs is gone on with at the next start."""
        self._is_serving = False
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join(LOOK_S + 5)
        with self._lock:
            worker, self._worker, self._watcher = self._worker, None, None
        if worker is not None:
            worker.terminate()
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            if worker.stdin is not None:
                with contextlib.suppress(OSError):
                    worker.stdin.close()

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker, None where none runs."""
        worker = self._worker
        return worker.pid if worker is not None and worker.poll() is None else None

    def is_alive(self) -> bool:
        """Tell whether jobs are worked on, or would be if there were any; a worker that died is soon there again."""
        return not self._is_serving or self._watcher is None or self._watcher.is_alive()

    def count_states(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        return self._open()[0].count_states() if self._exist() else {}

    def submit(self, kind_name: str, settings: Mapping[str, Any] | None = None, caller: str = "",
               names: Mapping[str, str] | None = None) -> Job:
        """Queue a job and return it; it is on disk then. ``names`` are those of what it writes ('name') and reads.

        Raises RecipeError for an unknown kind, setting or name, Rejected (409) where too many wait.
        """
        kind, settings = find_kind(kind_name), dict(settings or {})
        recipe = set_settings(self.recipe, kind, settings)
        with self._lock:
            store, queue = self._open()
            waiting = store.find_all(OPEN)
            if len(waiting) >= MOST_OPEN and kind.name != "index":  # an upload that was taken in is to be indexed
                raise Rejected(409, f"{len(waiting)} jobs wait. Cancel some, or come again when they are done.",
                               code="too_many_jobs")
            plan = self._plan(kind, recipe, dict(names or {}), {store.plan(job.id).get("out", "") for job in waiting})
            if kind.name == "train":
                check_trainable(recipe)
            job = new_job(kind.name, self.recipe.name, {**settings, **(names or {})}, caller)
            store.add(job, plan)
            queue.put(job.id, kind.name)
            self._run_worker()
        return job

    def submit_index(self, caller: str = "") -> Job:
        """Queue a job that brings the index in line with the documents; one that waits already will do."""
        with self._lock:
            store, _ = self._open()
            waiting = [job for job in store.find_all(("queued", "interrupted"), "index") if not job.settings]
            return waiting[-1] if waiting else self.submit("index", caller=caller)

    def find(self, job_id: str) -> Job:
        """Return a job; what it made is served when it is said to be done. Raises Rejected (404) where there is none of this
        id."""
        job = self._open()[0].find(job_id) if self._exist() else None
        if job is None:
            raise Rejected(404, f"there is no job '{job_id[:80]}'. See GET /v1/jobs.", code="job_not_found")
        self._take_in_once(job)
        return job

    def find_all(self, states: tuple[JobState, ...] = (), kind: str | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, the newest first."""
        found = self._open()[0].find_all(states, kind, limit) if self._exist() else []
        for job in found:
            self._take_in_once(job)
        return found

    def cancel(self, job_id: str) -> Job:
        """Drop a waiting job, stop a running one. Raises Rejected: 404 for none, 409 for one that has ended."""
        job = self.find(job_id)
        if not job.has_ended:
            self._open()[0].cancel(job_id)
            after = self.find(job_id)
            if after.state == "cancelled" and job.interruptions:
                discard_partial(self._open()[0].plan(job_id))
            if after.state == "cancelled" or after.is_cancelling:
                return after
            job = after
        raise Rejected(409, f"the job has ended ({job.state}).", code="job_ended")

    def log_path(self, job_id: str) -> Path:
        """Return the file of a job's log, which may not be there yet."""
        return log_path(self.folder, self.find(job_id).id)

    def _exist(self) -> bool:
        """Tell whether there may be jobs: looking at them is no reason to make a file."""
        return self._opened is not None or self._file.is_file() or self.recipe.server.database is not None

    def _open(self) -> tuple[JobStore, JobQueue]:
        with self._lock:
            if self._opened is None:
                url = self.recipe.server.database
                store = JobStore(Database(url, self._file), self.recipe.name)
                self._opened = store, open_queue(self.recipe.name, url, self._file)
            return self._opened

    def _plan(self, kind: Kind, recipe: Recipe, names: dict[str, str], taken: set[str]) -> dict[str, Any]:
        """Return what a job's process is told."""
        for name in names:
            if name not in kind.takes:
                allowed = f"Allowed: {', '.join(kind.takes)}." if kind.takes else "Leave it out."
                raise Rejected(400, f"a job of kind '{kind.name}' takes no '{name}'. {allowed}", param=name)
        place = kind.place(recipe)
        if "name" in names:
            out = folder_of(place, names["name"])
        else:
            out = free_folder(place, taken) if kind.name == "train" else place
        if kind.name == "train" and out.exists():
            raise Rejected(409, f"there is a run '{out.name}' already. Choose another name, or name none.", param="name",
                           code="run_exists")
        plan = {"recipe": recipe.model_dump(mode="json", exclude={"server"}), "folder": str(self.folder), "out": str(out)}
        for name in ("dataset", "run"):
            if name in names:
                plan[name] = str(self._find_folder(name, names[name]))
        return plan

    def _find_folder(self, kind: str, name: str) -> Path:
        """Return the dataset or run folder of this name, as GET /v1/datasets and /v1/runs list them."""
        from ragtune.server.shelf import find_folder

        return find_folder(self.recipe, kind, name)

    def _run_worker(self) -> None:
        """Have a worker running, and somebody who looks after it, while the server does."""
        with self._lock:
            if self._is_serving and self._watcher is None:
                self._since = time.time()
                self._seen = {job.id for job in self._open()[0].ended_since(self._since - SKEW_S)}
                self._start_worker()
                self._watcher = threading.Thread(target=self._watch, name="jobs", daemon=True)
                self._watcher.start()

    def _start_worker(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        worker = subprocess.Popen(command(WORKER), stdin=subprocess.PIPE, start_new_session=True)
        order = {"folder": str(self.folder), "recipe": self.recipe.name, "database": self.recipe.server.database,
                 "file": str(self._file)}
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(json.dumps(order).encode() + b"\n")
            worker.stdin.flush()
        self._worker = worker

    def _watch(self) -> None:
        """Look after the worker, and serve what jobs have made, until the server stops."""
        since, fails, started = self._since, 0, time.monotonic()
        store = self._open()[0]
        while not self._closing.wait(LOOK_S):
            if self._worker is not None and self._worker.poll() is not None:
                fails = fails + 1 if time.monotonic() - started < 60 else 1
                logger.warning("the worker of the jobs ended (%s); another is started", self._worker.returncode)
                if self._closing.wait(min(30.0, 0.2 * 2**fails)):
                    break
                self._start_worker()
                started = time.monotonic()
            try:
                for job in store.ended_since(since - SKEW_S):
                    since = max(since, job.ended)
                    self._take_in_once(job)
            except RagtuneError as error:
                logger.warning("%s", error)

    def _take_in_once(self, job: Job) -> None:
        """Take in a job that has ended since this server began, whoever sees that first; others wait until it is done."""
        if not job.has_ended or job.id in self._seen or self._watcher is None or job.ended < self._since - SKEW_S:
            return
        with self._taking:
            if job.id not in self._seen:
                self.take_in(job)
                self._seen.add(job.id)

    def take_in(self, job: Job) -> None:
        """Serve what a job that has ended made: the index as it is now, a new adapter."""
        logger.info("%s (%s): %s%s", job.id, job.kind, job.state, f", {job.error}" if job.error else "")
        if job.state != "done":
            return
        try:
            if job.kind == "index" and is_stale(self.service.index):
                self.service.reload_index()
                with contextlib.suppress(Exception):  # what search opens when first used
                    self.service.warm()
            elif job.kind == "train":
                self._add_adapter(Path(str(job.result["folder"])))
        except Exception:
            logger.exception("what %s made cannot be served", job.id)

    def _add_adapter(self, folder: Path) -> None:
        if is_remote(self.recipe.generator.model) or self.recipe.generator.model in UNTUNABLE or folder.name == "run-reward":
            return
        run = open_run(folder)
        fingerprint = str(getattr(self.service.generator, "fingerprint", ""))
        index = self.service.index
        warning = check_run_fits(run, index.id, prompt_hash(self.recipe.answering.names_rows), fingerprint,
                                 grown_from=index.grown_from)
        if warning:
            logger.warning("%s", warning)
        self.service.add_adapter(name_run(folder), run.adapter, str(run.manifest.get("index_id") or ""))


def is_stale(index: Index) -> bool:
    """Tell whether another index stands in the folder by now, or one that lists other files that could not be read."""
    manifest = json.loads((index.folder / "manifest.json").read_text(encoding="utf-8"))
    return bool(manifest.get("manifest_sha256") != index.manifest.get("manifest_sha256"))
