"""The routes of jobs: start one, watch it, read its log, stop it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Union

from fastapi import APIRouter, Depends, Query
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from ragtune.errors import RagtuneError, RecipeError
from ragtune.server.auth import Caller, identify_admin
from ragtune.server.draining import Drain
from ragtune.server.errors import Rejected, describe_errors
from ragtune.server.events import ALIVE, EventStream, frame
from ragtune.server.holdings import without_paths
from ragtune.server.jobs.jobs import Jobs
from ragtune.server.jobs.kinds import KINDS, allowed_settings, find_kind
from ragtune.server.jobs.record import Job, JobState
from ragtune.server.state import State

LOOK_S = 0.3
"""How often a job that somebody watches is looked at."""
ALIVE_S = 15.0
LOG_BYTES = 256 << 10
Admin = Annotated[Caller, Depends(identify_admin)]
Plain = Union[bool, int, float, str, None]
EVENTS = """event: progress
data: {"id": "job_5f0c3b6f1d1e4a90", "state": "running", "task": "embedding", "done": 320, "total": 1200, ...}

event: done
data: {"id": "job_5f0c3b6f1d1e4a90", "state": "done", "result": {...}, ...}

"""


class JobBody(BaseModel):
    """What is to be done."""

    model_config = ConfigDict(extra="forbid")
    kind: str = Field(examples=["train"], json_schema_extra={"enum": list(KINDS)}, description=f"One of {', '.join(KINDS)}.")
    settings: dict[str, Union[Plain, list[Plain]]] = Field(
        {}, examples=[{"training.max_steps": 100}], description="section.field of the recipe -> value, for this job alone. "
        "See GET /v1/jobs/kinds for those that may be set.")
    name: Union[str, None] = Field(None, examples=["second"], description="Name of what is made: KIND-NAME.")
    dataset: Union[str, None] = Field(None, examples=["dataset"], description="Dataset that is read: of GET /v1/datasets.")
    run: Union[str, None] = Field(None, examples=["run-second"], description="Run that is measured: of GET /v1/runs.")


class JobAnswer(BaseModel):
    """A job: what it does, how far it is, how it ended. Times are seconds since 1970, 0 for what has not been."""

    id: str
    object: str = "job"
    kind: str
    recipe: str
    settings: dict[str, Any]
    state: JobState
    task: str
    done: int
    total: int
    created: float
    started: float
    ended: float
    error: str
    result: dict[str, Any]
    interruptions: int = Field(description="How often the server stopped while it ran; it goes on when the server is back.")
    is_cancelling: bool
    caller: str
    version: int


class JobList(BaseModel):
    """Jobs, the newest first."""

    object: str = "list"
    data: list[JobAnswer]


class KindAnswer(BaseModel):
    """A kind of job."""

    kind: str
    description: str
    settings: list[str]
    takes: list[str]


class KindList(BaseModel):
    """All kinds of jobs."""

    object: str = "list"
    data: list[KindAnswer]


def answer_of(job: Job) -> JobAnswer:
    """Return a job as it is told; of places on the server's disk their names alone, by which other requests know them."""
    told = job.to_dict()
    result = dict(told["result"])
    if "folder" in result:
        result["folder"] = Path(str(result["folder"])).name
    if "unreadable" in result:
        result["unreadable"] = [[Path(str(path)).name, without_paths(str(reason))] for path, reason in result["unreadable"]]
    return JobAnswer(**{**told, "result": result})


def routes(state: State) -> APIRouter:
    """Return the routes; the jobs begin and end with the server."""
    jobs = open_jobs(state)
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @router.post("", summary="Start a job", status_code=202, response_model=JobAnswer,
                 responses=describe_errors(400, 401, 403, 404, 409))
    def start_job(body: JobBody, caller: Admin) -> JobAnswer:
        """It is queued; one runs at a time, in a process of its own. Follow it at `/v1/jobs/{id}/events`, or ask for it."""
        try:
            find_kind(body.kind)
        except RecipeError as error:
            raise Rejected(400, str(error), param="kind") from None
        names = {name: value for name in ("name", "dataset", "run") if (value := getattr(body, name)) is not None}
        try:
            return answer_of(jobs.submit(body.kind, body.settings, caller.name, names))
        except RecipeError as error:
            raise Rejected(400, str(error), param="settings") from None

    @router.get("", summary="List the jobs", response_model=JobList, responses=describe_errors(400, 401, 403))
    def list_jobs(
        caller: Admin,
        state: Annotated[Union[JobState, None], Query(description="Only those in this state.")] = None,
        kind: Annotated[Union[str, None], Query(description="Only those of this kind.", max_length=40)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> JobList:
        """The newest first, those that have ended too."""
        kind = kind.replace("\0", "") if kind else None
        return JobList(data=[answer_of(job) for job in jobs.find_all((state,) if state else (), kind, limit)])

    @router.get("/kinds", summary="List the kinds of jobs", response_model=KindList, responses=describe_errors(401, 403))
    def list_kinds(caller: Admin) -> KindList:
        """What each does, which settings of the recipe may be set for it, and which names it takes."""
        return KindList(data=[KindAnswer(kind=kind.name, description=kind.description, settings=allowed_settings(kind),
                                         takes=list(kind.takes)) for kind in KINDS.values()])

    @router.get("/{job_id}", summary="Show a job", response_model=JobAnswer, responses=describe_errors(400, 401, 403, 404))
    def show_job(job_id: str, caller: Admin) -> JobAnswer:
        """How far it is, or how it ended."""
        return answer_of(jobs.find(job_id.replace("\0", "")))

    @router.delete("/{job_id}", summary="Cancel a job", status_code=202, response_model=JobAnswer,
                   responses=describe_errors(400, 401, 403, 404, 409))
    def cancel_job(job_id: str, caller: Admin) -> JobAnswer:
        """A waiting one is dropped; one that runs is stopped, and nothing half-written is left. It stays in the list."""
        return answer_of(jobs.cancel(job_id.replace("\0", "")))

    @router.get("/{job_id}/log", summary="Read a job's log", response_class=PlainTextResponse,
                responses=describe_errors(400, 401, 403, 404))
    def read_log(job_id: str, caller: Admin) -> PlainTextResponse:
        """The last 256 KiB of what its process wrote; empty until it has begun."""
        path = jobs.log_path(job_id.replace("\0", ""))
        if not path.is_file():
            return PlainTextResponse("")
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return PlainTextResponse(file.read(LOG_BYTES).decode("utf-8", errors="replace"))

    @router.get("/{job_id}/events", summary="Follow a job", response_class=EventStream, status_code=200, responses={
        200: {"description": "Server-sent events: `progress` with the job each time it changes, at last one named by "
                             "its state: `done`, `failed` or `cancelled`.",
              "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENTS}}},
        **describe_errors(400, 401, 403, 404)})
    async def watch_job(job_id: str, caller: Admin) -> EventStream:
        """One event each time it changes, and an end with the job: reading to the end is waiting for it."""
        first = await asyncio.to_thread(jobs.find, job_id.replace("\0", ""))
        return EventStream(_follow(jobs, first, state.drain))

    return router


def open_jobs(state: State) -> Jobs:
    """Return the jobs of a server, made at the first call; they begin and end with it."""
    if state.jobs is None:
        state.jobs = Jobs(state.service, state.recipe, state.folder)
        state.on_open.append(state.jobs.open)
        state.on_close.append(state.jobs.close)
    jobs: Jobs = state.jobs
    return jobs


async def _follow(jobs: Jobs, job: Job, drain: Drain) -> AsyncIterator[str]:
    """Yield an event for each change of a job until it has ended, or the server stops."""
    loop, version = asyncio.get_running_loop(), -1
    said = loop.time()
    while True:
        if job.version != version:
            version, said = job.version, loop.time()
            yield frame(answer_of(job).model_dump(mode="json"), job.state if job.has_ended else "progress")
        if job.has_ended or drain.is_on:
            return
        if loop.time() - said > ALIVE_S:
            said = loop.time()
            yield ALIVE
        await asyncio.sleep(LOOK_S)
        try:
            job = await asyncio.to_thread(jobs.find, job.id)
        except RagtuneError as error:
            yield frame({"error": {"message": str(error)}}, "error")
            return
