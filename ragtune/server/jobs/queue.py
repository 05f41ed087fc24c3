"""The queue that jobs wait in: huey's, in SQLite or PostgreSQL, with messages that are plain JSON and name a job only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import MissingPackage

if TYPE_CHECKING:
    from huey import Huey

TASK = "run_job"


class JobQueue:
    """Job ids in their order. One that is lost, or there twice, does no harm: the table of jobs says what is waiting."""

    def __init__(self, huey: Huey, run: Callable[[str], None]) -> None:
        self.huey = huey

        def run_job(job_id: str) -> None:
            run(job_id)

        self._task = huey.task(name=TASK)(run_job)

    def put(self, job_id: str, kind: str = "", is_begun: bool = False) -> None:
        """Queue a job: what was begun goes first, then indexing, for an upload does not wait for days of training."""
        self._task(job_id, priority=2 if is_begun else int(kind == "index"))

    def waiting(self) -> list[str]:
        """Return the ids that are queued, the next one first."""
        return [str(task.args[0]) for task in self.huey.pending()]


def open_queue(recipe: str, url: str | None, file: Path, run: Callable[[str], None] = lambda job_id: None) -> JobQueue:
    """Return the queue of an assistant, by its recipe's name; ``run`` is what a worker does with a job's id.

    It lies in the PostgreSQL database at ``url``, or in the SQLite ``file``. Raises MissingPackage where huey, or psycopg
    for a URL, is not installed.
    """
    try:
        from huey import PostgresHuey, SqliteHuey
        from huey.exceptions import ConfigurationError
    except ImportError:
        raise MissingPackage("jobs need the package huey. Do: pip install 'ragtune[server]'") from None
    common: dict[str, Any] = {"results": False, "serializer": _plain_serializer()}
    name = f"ragtune-{recipe}"
    if url is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        return JobQueue(SqliteHuey(name, filename=str(file), fsync=True, timeout=20, strict_fifo=True, **common), run)
    try:
        return JobQueue(PostgresHuey(name, dsn=url, table_prefix="ragtune_queue", **common), run)
    except ConfigurationError:
        raise MissingPackage("server.database names PostgreSQL, which needs psycopg. Do: pip install 'ragtune[postgres]'"
                             ) from None


def _plain_serializer() -> Any:
    """Return a serializer of huey that writes JSON: its own pickles, and what is unpickled may run code."""
    from huey.registry import Message
    from huey.serializer import Serializer

    class PlainSerializer(Serializer):  # type: ignore[misc]
        """A message's id, task, arguments and how often it is tried; ragtune uses nothing else of huey."""

        def _serialize(self, data: Any) -> bytes:
            plain = {"id": data.id, "name": data.name, "args": list(data.args), "retries": data.retries}
            return json.dumps(plain).encode()

        def _deserialize(self, data: Any) -> Any:
            plain = json.loads(bytes(data))
            return Message(str(plain["id"]), str(plain["name"]), retries=int(plain["retries"]), retry_delay=0,
                           args=tuple(plain["args"]), kwargs={})

    return PlainSerializer()
