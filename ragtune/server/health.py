"""Whether a server lives, is ready for requests, and how it fares: /health, /ready, /metrics."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from ragtune import __version__
from ragtune.answering.prompt import render_prompt
from ragtune.models.streaming import Wish
from ragtune.server.auth import identify
from ragtune.server.batching import Busy, write_now
from ragtune.server.errors import Rejected, describe_errors
from ragtune.server.metrics import CONTENT_TYPE
from ragtune.server.service import Service
from ragtune.server.state import State

logger = logging.getLogger(__name__)
PATHS = ("/health", "/ready", "/metrics")
"""Answered while the server drains, too."""
FREE_BYTES = 64 << 20
"""With less room on its disk a server is not ready: uploads, jobs and feedback could not be kept."""
FRESH_S = 1.0
"""How long what was found is taken to hold."""


class Health(BaseModel):
    """The server lives."""

    status: str = "alive"
    version: str = __version__


class Readiness(BaseModel):
    """What must hold before requests are sent here."""

    ready: bool
    missing: dict[str, str] = Field({}, examples=[{"engine": "the model has not answered yet"}],
                                    description="What is not there -> why.")


class Pulse:
    """Whether the engine answers: one token is asked for when the server starts, and again after a batch that failed."""

    def __init__(self, service: Service, again_s: float = 15.0) -> None:
        self._service, self._again_s = service, again_s
        self._problem: str | None = "the model has not answered yet"
        self._asked = 0.0
        self._lock = threading.Lock()

    def heard(self, size: int, seconds: float, error: BaseException | None) -> None:
        """Take note of a batch that was written, or could not be."""
        self._problem = None if error is None else f"the model's last batch failed ({type(error).__name__})"

    @property
    def problem(self) -> str | None:
        """Why the engine cannot be counted on, None where it can; it is asked anew now and then where it could not."""
        batcher = self._service.batcher
        if not batcher.is_alive:
            return "the thread that writes answers has ended"
        if batcher.writing_s > 2 * self._service.recipe.server.timeout_s:
            return f"the model has been writing one batch for {batcher.writing_s:.0f} s"
        if self._problem is not None:
            self.ask()
        return self._problem

    def ask(self) -> None:
        """Ask the engine for one token, in a thread of its own, unless that was done a moment ago."""
        with self._lock:
            if self._asked and time.monotonic() - self._asked < self._again_s:
                return
            self._asked = time.monotonic()
        threading.Thread(target=self._ask, name="pulse", daemon=True).start()

    def _ask(self) -> None:
        try:
            write_now(self._service.batcher, Wish(render_prompt("Are you there?", ()), 1))
        except Busy:  # others ask it at this moment, and what comes of that is heard
            pass
        except Exception as error:
            logger.warning("the model does not answer: %s: %s", type(error).__name__, error)
            return
        with contextlib.suppress(Exception):  # whoever asks first does not wait for what search opens when first used
            self._service.warm()


class Probe:
    """Finds what a server lacks. ``checks`` are named and return why not, or None; other parts add theirs."""

    def __init__(self, state: State, pulse: Pulse) -> None:
        self._state = state
        self.checks: dict[str, Callable[[], str | None]] = {
            "index": lambda: check_index(state.service), "engine": lambda: pulse.problem,
            "disk": lambda: check_disk(state.folder), "worker": lambda: check_worker(state.jobs)}
        self._found: tuple[float, dict[str, str]] = (0.0, {})
        self._lock = threading.Lock()

    def missing(self) -> dict[str, str]:
        """Return what is missing -> why; what was found a moment ago is not looked for again."""
        if self._state.drain.is_on:
            return {"server": "it is stopping"}
        with self._lock:
            looked, found = self._found
            if looked and time.monotonic() - looked < FRESH_S:
                return found
            found = {name: why for name, check in self.checks.items() if (why := _try(name, check)) is not None}
            self._found = (time.monotonic(), found)
            return found


def _try(name: str, check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except Exception as error:
        logger.warning("the check of the %s failed: %s: %s", name, type(error).__name__, error)
        return f"its check failed ({type(error).__name__})"


def check_index(service: Service) -> str | None:
    """Return why the index cannot be searched, None where it can."""
    if not (service.index.folder / "manifest.json").is_file():
        return "its folder is gone"
    return None if int(service.index.manifest.get("chunks", 0)) else "it holds no chunk"


def check_disk(folder: Path) -> str | None:
    """Return why nothing can be written where a server keeps its files, None where it can; no file is left."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < FREE_BYTES:
        return f"{free >> 20} MiB are left, {FREE_BYTES >> 20} are needed"
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"1")
    except OSError as error:
        return f"nothing can be written ({error.strerror})"
    return None


def check_worker(jobs: Any) -> str | None:
    """Return why jobs are not worked on, None where they are, or the server has none."""
    is_alive = getattr(jobs, "is_alive", True)
    return None if (is_alive() if callable(is_alive) else is_alive) else "the worker of the jobs has ended"


def routes(state: State) -> APIRouter:
    """Return the routes that supervisors, load balancers and Prometheus ask."""
    router = APIRouter(tags=["operations"])
    exposed = state.recipe.server.metrics
    asker = Depends(identify if exposed == "admin" else _anybody)

    @router.get("/health", summary="Whether the server lives", response_model=Health)
    async def health() -> Health:
        """Answered without a key and without a look at anything: where it fails, start the server anew."""
        return Health()

    @router.get("/ready", summary="Whether requests may be sent here", response_model=Readiness,
                responses={503: {"model": Readiness, "description": "Not now; `missing` says why."}})
    def ready() -> Response:
        """503 while the index, the engine, the worker or the disk is missing, and from the moment the server stops."""
        missing = state.probe.missing()
        found = Readiness(ready=not missing, missing=missing)
        return JSONResponse(found.model_dump(), 503 if missing else 200, {"Retry-After": "5"} if missing else None)

    @router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse,
                responses=describe_errors(401, 403, 404), include_in_schema=exposed != "off")
    def metrics(caller: Any = asker) -> Response:
        """As `server.metrics` says: for keys of administrators, for anybody, or not at all."""
        if exposed == "off":
            raise Rejected(404, "there are no metrics here: server.metrics is off.")
        if caller is not None and not caller.is_admin:
            raise Rejected(403, "metrics are for keys of administrators. Or set server.metrics: open", code="not_admin")
        return Response(state.metrics.render(), media_type=CONTENT_TYPE)

    return router


def _anybody() -> None:
    return None
