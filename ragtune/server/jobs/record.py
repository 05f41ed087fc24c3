"""A job: what is to be done, how far it is, how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ragtune.records import Record

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
WAITING: tuple[JobState, ...] = ("queued", "interrupted")
"""States of what stands in the queue; interrupted is what ran when the server stopped, and goes on when it is back."""
OPEN: tuple[JobState, ...] = ("queued", "running", "interrupted")
ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Job(Record):
    """One job. ``task``, ``done`` and ``total`` say how far it is (total 0 where it is not known); times are seconds since
    1970, 0 for what has not been. ``recipe`` is the name of the assistant, ``settings`` what was set on top of its recipe.
    ``version`` grows with every change of the record."""

    id: str
    kind: str
    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: JobState = "queued"
    task: str = ""
    done: int = 0
    total: int = 0
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    error: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    interruptions: int = 0
    is_cancelling: bool = False
    caller: str = ""
    version: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in ENDED


def new_job(kind: str, recipe: str, settings: Mapping[str, Any], caller: str) -> Job:
    """Return a job to be queued, its id unlike any other."""
    return Job(f"job_{secrets.token_hex(8)}", kind, recipe, dict(settings), created=round(time.time(), 3), caller=caller)


def discard_partial(plan: Mapping[str, Any]) -> None:
    """Remove what a job that was cancelled left of the folder it was writing, unless another process writes it now."""
    if not plan.get("out"):
        return
    target = Path(str(plan["out"]))
    lock = target.with_name(f".{target.name}.lock")
    if not target.with_name(f"{target.name}.partial").exists() and not lock.exists():
        return
    with contextlib.suppress(OSError), lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(target.with_name(f"{target.name}.partial"), ignore_errors=True)
        lock.unlink(missing_ok=True)


def log_path(folder: Path, job_id: str) -> Path:
    """Return where a job of a server's folder writes what it says."""
    return folder / "jobs" / f"{job_id}.log"
