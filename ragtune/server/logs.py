"""The log of a server: a JSON object per line, one line per request, without questions, keys or documents."""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import IO, Any

from ragtune.files import hide_passwords

REQUESTS = "ragtune.server.requests"
"""The logger of the line that each request gets."""
_SECRET = re.compile(r"(?i)(\bBearer\s+|\b(?:api[-_ ]?key|password|token)\b[\"']?\s*[:=]\s*[\"']?)[^\s\"',;}]+"
                     r"|\b(?:sk|rt|rag|ragtune)[-_][A-Za-z0-9_-]{12,}|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
_QUIET = ("ragtune", "uvicorn.error", "uvicorn.access", "httpx", "httpcore", "openai", "huey")
"""Loggers whose own information is left out; their warnings are not."""

_request: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("ragtune_request", default=None)


@contextlib.contextmanager
def bound_request(request_id: str) -> Iterator[dict[str, Any]]:
    """Yield what is noted of a request while it is in force: in its task, and the threads and tasks it starts."""
    notes: dict[str, Any] = {"request_id": request_id}
    token = _request.set(notes)
    try:
        yield notes
    finally:
        _request.reset(token)


def noted() -> dict[str, Any] | None:
    """Return what is noted of the request in force, to be added to from other threads; None outside of requests."""
    return _request.get()


def note(**values: Any) -> None:
    """Note what the line of the request in force is to say: names, counts and seconds, never what was asked.

    ``question`` is kept apart: it stands in no line unless server.log_questions is set, and is cut out of all others.
    """
    notes = _request.get()
    if notes is not None:
        notes.update(values)


class JsonLines(logging.Formatter):
    """Log records as JSON objects of time, level, logger, request id, message and what ``extra={"fields": ...}`` holds."""

    def __init__(self, has_questions: bool = False) -> None:
        super().__init__()
        self._has_questions = has_questions

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        notes = _request.get() or {}
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(), "logger": record.name}
        if notes.get("request_id"):
            line["request_id"] = notes["request_id"]
        line["message"] = self._clean(record.getMessage(), notes)
        line.update(getattr(record, "fields", {}))
        if self._has_questions and record.name == REQUESTS and notes.get("question"):
            line["question"] = notes["question"]
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = self._clean("".join(traceback.format_exception(*record.exc_info)), notes)
        return json.dumps(line, ensure_ascii=False, default=str)

    def _clean(self, text: str, notes: dict[str, Any]) -> str:
        """Return the text without secrets, and without the question where it is not to be logged."""
        question = notes.get("question")
        if question and not self._has_questions:
            for form in {question, repr(question)[1:-1], json.dumps(question)[1:-1]}:
                text = text.replace(form, "[question]")
        return _SECRET.sub(lambda match: f"{match[1] or ''}[hidden]", str(hide_passwords(text)))


def install_logs(has_questions: bool = False, stream: IO[str] | None = None, level: int = logging.INFO) -> logging.Handler:
    """Let this process log in JSON lines, on stderr where no stream is given; return the handler.

    For the process that serves alone: a library sets no handlers. Requests and the server's own life are logged from
    ``level`` on, everything else from warnings on.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(has_questions))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("ragtune.server").setLevel(level)
    return handler


def log_request(notes: dict[str, Any], **fields: Any) -> None:
    """Write the line of a request: what is given, then what was noted, by names in a fixed order."""
    notes = dict(notes)  # a question that was given up notes its end meanwhile, from the thread that writes
    told = {name: value for name, value in notes.items() if name not in ("request_id", "question") and value is not None}
    status = int(fields.get("status", 0))
    level = logging.ERROR if status >= 500 and status != 503 else logging.INFO
    logging.getLogger(REQUESTS).log(level, "%s %s %s", fields.get("method"), fields.get("route"), status,
                                    extra={"fields": {**fields, **told}})
