"""How the client speaks HTTP: errors as exceptions, when to try again and after how long, and server-sent events."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ragtune.errors import RagtuneError

T = TypeVar("T")
KEY_NAME = "RAGTUNE_API_KEY"
LOCAL = "http://127.0.0.1:8000"
"""Where `ragtune serve` listens by default."""
TRIED_AGAIN = (429, 503)
"""Statuses after which a call that changes nothing by being made twice is made again."""
LONGEST_WAIT_S = 60.0
"""A server that says to come again later than this is not waited for."""


class ApiError(RagtuneError):
    """The server answered with an error: its HTTP ``status``, its ``code`` (a word for programs), the ``param`` it is about,
    each '' where there is none, and the ``request_id`` under which the server's log says more."""

    def __init__(self, message: str, status: int, code: str = "", request_id: str = "", param: str = "",
                 retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.request_id, self.param = status, code, request_id, param
        self.retry_after_s = retry_after_s


class InvalidRequest(ApiError):
    """Something in the request is wrong (400, 409, 413, 415, 422): the message says what is allowed."""


class NotAllowed(ApiError):
    """No API key, not one of this server, or one that may not do this (401, 403)."""


class NotFound(ApiError):
    """There is no such model, document, job or route (404)."""


class TooBusy(ApiError):
    """The server takes no more now, or this key has no more (429, 503); ``retry_after_s`` says when to come again."""


class ServerFault(ApiError):
    """The server's own fault (5xx)."""


class Unreachable(RagtuneError):
    """No server answers there, or it answered too late."""


def api_error(status: int, headers: Mapping[str, str], body: bytes | str) -> ApiError:
    """Return the exception for an error's answer, also for one that is not ragtune's JSON (a proxy's page)."""
    try:
        told = json.loads(body)
        detail = told["error"] if isinstance(told, dict) and isinstance(told.get("error"), dict) else {}
    except ValueError:
        detail = {}
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    message = str(detail.get("message") or text.strip()[:300] or f"HTTP status {status}")
    kind = _kind_of(status)
    return kind(message, status, str(detail.get("code") or ""),
                str(detail.get("request_id") or headers.get("x-request-id", "")), str(detail.get("param") or ""),
                read_retry_after(headers))


def _kind_of(status: int) -> type[ApiError]:
    if status in TRIED_AGAIN:
        return TooBusy
    if status in (401, 403):
        return NotAllowed
    if status == 404:
        return NotFound
    return ServerFault if status >= 500 else InvalidRequest


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After names; None where there is none, or a date."""
    said = headers.get("retry-after", "").strip()
    return float(said) if said.isascii() and said.isdigit() else None


def wait_before(attempt: int, retry_after_s: float | None) -> float:
    """Return the seconds to wait after an attempt, counted from 0: what the server said, else 0.5, 1, 2 ..."""
    return 0.5 * 2.0**attempt if retry_after_s is None else retry_after_s


@dataclass(frozen=True)
class Call:
    """One request. ``is_idempotent`` says that making it twice does no harm, so that it may be tried again."""

    method: str
    path: str
    json: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[tuple[str, tuple[str, bytes]], ...] = ()
    form: Mapping[str, str] = field(default_factory=dict)
    is_idempotent: bool = True

    def arguments(self) -> dict[str, Any]:
        """Return what httpx is told of the body and the query."""
        told: dict[str, Any] = {"params": {key: value for key, value in self.params.items() if value is not None}}
        if self.json is not None:
            told["json"] = {key: value for key, value in self.json.items() if value is not None}
        if self.files:
            told |= {"files": list(self.files), "data": dict(self.form)}
        return told


class Endpoint:
    """Where a server is, who asks it, how long is waited and how often tried again."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float, retries: int) -> None:
        self.url = url.rstrip("/")
        self.timeout_s, self.retries = timeout_s, retries
        self._key = api_key if api_key is not None else os.environ.get(KEY_NAME, "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"  # not the key

    def settings(self) -> dict[str, Any]:
        """Return what an httpx client is made with; redirects are not followed, so that a key is not carried elsewhere."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return {"base_url": self.url, "headers": {**headers, "User-Agent": "ragtune"}, "timeout": self.timeout_s}

    def unreachable(self, call: Call, error: Exception | str) -> Unreachable:
        """Return the error for a server that does not answer."""
        why = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else error
        return Unreachable(f"{self.url} did not answer {call.method} {call.path} ({why}). Is it there (ragtune serve)? It "
                           f"is waited for up to {self.timeout_s:g} s (timeout_s).")

    def wait_after(self, call: Call, attempt: int, failure: RagtuneError) -> float:
        """Return the seconds after which a call that failed is made again. Raises the failure where it is not."""
        is_passing = isinstance(failure, (TooBusy, Unreachable))
        wait_s = wait_before(attempt, getattr(failure, "retry_after_s", None))
        if not is_passing or not call.is_idempotent or attempt >= self.retries or wait_s > LONGEST_WAIT_S:
            raise failure
        return wait_s

    def read(self, call: Call, status: int, headers: Mapping[str, str], body: bytes, read: Callable[[Any], T]) -> T:
        """Return what an answer says. Raises ApiError, also for what is no answer of ragtune's."""
        if not 200 <= status < 300:
            raise api_error(status, headers, body)
        try:
            is_json = headers.get("content-type", "").startswith("application/json")
            return read(json.loads(body) if is_json else body.decode("utf-8"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ServerFault(f"{self.url} answered {call.method} {call.path} with what no ragtune server of this version "
                              f"says ({type(error).__name__}: {error}). Check the address and both versions.", status,
                              "unexpected_answer", headers.get("x-request-id", "")) from error


@dataclass(frozen=True)
class Sent:
    """One server-sent event: its name ('message' where it has none) and its data."""

    name: str
    data: str

class EventReader:
    """The text of a stream, in any pieces, as events, by the rules of the HTML standard; comments and ids are passed over.

    Only line feeds end a line: other characters that Python takes for line ends (U+2028, U+0085) may stand in a passage.
    """

    def __init__(self) -> None:
        self._name, self._rest = "", ""
        self._data: list[str] = []

    def add(self, text: str) -> list[Sent]:
        """Take a piece of text; return the events that it ends."""
        *lines, self._rest = (self._rest + text).split("\n")
        return [event for line in lines if (event := self._take(line.removesuffix("\r"))) is not None]

    def _take(self, line: str) -> Sent | None:
        if not line:
            name, data = self._name, self._data
            self._name, self._data = "", []
            return Sent(name or "message", "\n".join(data)) if data else None
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "data":
            self._data.append(value)
        elif key == "event":
            self._name = value
        return None


STATUSES = {"invalid_request_error": 400, "authentication_error": 401, "permission_error": 403, "not_found_error": 404,
            "conflict_error": 409, "rate_limit_error": 429, "overloaded_error": 503, "timeout_error": 504}
"""The HTTP status that an error within a stream would have had, by its type."""


def stream_error(data: str) -> ApiError:
    """Return the exception for an error that came as an event, after the answer had begun."""
    try:
        kind = json.loads(data)["error"].get("type", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        kind = ""
    return api_error(STATUSES.get(kind, 500), {}, data)
