"""What is turned away before a route sees it: foreign hosts and origins, requests without a key, too many, too large."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragtune.server.auth import CALLER, Gate, is_own_name, open_gate
from ragtune.server.errors import Rejected, error_body
from ragtune.server.patience import PAUSE_S, allowed_seconds
from ragtune.server.state import State

PUBLIC = frozenset(("/", "/health", "/ready", "/favicon.ico", "/docs", "/openapi.json"))
"""What is answered without a key: whether the server lives, the web page itself (not what it asks) and the documentation."""
PUBLIC_FOLDERS = ("/static/", "/docs/", "/reports/")
"""Where the web page's own files lie, those of the documentation, and reports, whose addresses hold for an hour and are
their own keys."""
UPLOADS = re.compile(r"/v1/documents(/|$)")
"""Paths whose requests may be as large as server.max_upload_mb says."""
FAILURES_A_MINUTE = 30
"""So many wrong keys of one address are looked up a minute."""
HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-origin", "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
                               "form-action 'self'; frame-ancestors 'self'",
}
"""Set on every response that does not set them itself."""
_MIB = 1 << 20


class Buckets:
    """Token buckets by name: so many requests at once as a minute may have, then one each time another is earned."""

    most = 10_000
    """So many names are remembered; the ones used longest ago are forgotten, as if they had not asked for a while."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Take one; return 0, or after how many seconds to come again. Nothing is taken then."""
        if not self.per_minute:
            return 0.0
        with self._lock:
            now = self._clock()
            left, then = self._left.pop(name, (float(self.per_minute), now))
            left = min(float(self.per_minute), left + (now - then) * self.per_minute / 60)
            self._left[name] = (left - 1 if left >= 1 else left, now)  # at the end: the first one is the one unused longest
            if len(self._left) > self.most:
                del self._left[next(iter(self._left))]
            return 0.0 if left >= 1 else (1 - left) * 60 / self.per_minute


class Shield:
    """ASGI middleware before all routes. What it turns away is counted in ``counts`` by reason."""

    def __init__(self, app: ASGIApp, gate: Gate, counts: Counter[str]) -> None:
        self.app, self.gate, self.counts = app, gate, counts
        self.server = gate.server
        self.requests = Buckets(self.server.requests_per_minute)
        self.failures = Buckets(FAILURES_A_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})  # there is none here
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = Body(receive, _with_headers(send, scope["path"]), self._most_bytes(scope))
        try:
            if scope["path"] != "/health":  # which tells whether the server lives, not whether its database does
                await self.check(scope, headers)
            body.check_length(headers)
        except Rejected as error:
            return await self.answer(scope, error, body.send)
        try:
            await self.app(scope, body.receive, body.guarded_send)
        except Exception:
            if body.fault is None:
                raise
        if body.fault is not None and not body.has_begun:
            await self.answer(scope, body.fault, body.send)

    async def check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Check where a request comes from and who asks. Raises Rejected."""
        def look() -> None:
            self.check_source(scope["method"], headers)
            self.check_caller(scope, headers)

        # A file of keys is looked at in microseconds; a database elsewhere may take seconds, and all others would wait.
        await asyncio.to_thread(look) if self.gate.keys.is_remote else look()

    async def answer(self, scope: Scope, error: Rejected, send: Send) -> None:
        """Answer with an error."""
        self.counts[error.code or "other"] += 1
        response = JSONResponse(error_body(scope, error.status, str(error), error.param, error.code), error.status,
                                error.headers)

        async def nothing() -> Message:
            return {"type": "http.disconnect"}

        await response(scope, nothing, send)

    def check_source(self, method: str, headers: Mapping[str, str]) -> None:
        """Raise Rejected for what a web page of somewhere else sends through a browser on this machine.

        An open server knows who asks by their being on this machine, and so is every page in a browser there: a name that
        was made to point here (DNS rebinding) shows in the Host header, a form of another site in the Origin header.
        """
        if self.gate.needs_key:
            return
        host = host_of(headers.get("host", ""))
        if is_own_name(self.server.host) and not (is_own_name(host) or host == self.server.host.lower()):
            raise Rejected(403, f"this server answers to the names of its own machine, found Host '{host[:80]}'. Ask "
                                f"http://{self.server.host}; behind a proxy let keys say who asks: ragtune keys add NAME",
                           code="foreign_host")
        origin = headers.get("origin")
        is_other = origin is not None and origin not in self.server.cors_origins and (
            urlsplit(origin).netloc.lower() != headers.get("host", "").lower())
        is_cross = headers.get("sec-fetch-site") in ("cross-site", "same-site") and origin not in self.server.cors_origins
        if method not in ("GET", "HEAD", "OPTIONS") and (is_other or is_cross):
            raise Rejected(403, "a page of another origin may change nothing here. Name it in server.cors_origins where it "
                                "should.", code="foreign_origin")

    def check_caller(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Put who asks into the scope. Raises Rejected (401, 429)."""
        address = scope["client"][0] if scope.get("client") else None
        is_open = is_public(scope["path"]) or (scope["path"] == "/metrics" and self.server.metrics == "open")
        if scope["method"] == "OPTIONS" or (scope["method"] in ("GET", "HEAD") and is_open):
            return
        try:
            caller = self.gate.identify(headers, address)
        except Rejected:
            self.wait(self.failures.take(f"{address}"), "too many requests without a key that holds")
            raise
        scope[CALLER] = caller
        name = f"key {caller.name}" if self.gate.needs_key else f"address {address}"
        self.wait(self.requests.take(name), f"more than {self.server.requests_per_minute} requests a minute")

    def wait(self, seconds: float, why: str) -> None:
        """Raise Rejected (429) where somebody is to come again later."""
        if seconds > 0:
            again = max(1, math.ceil(seconds))
            raise Rejected(429, f"{why}. Come again in {again} s.", code="rate_limit_exceeded",
                           headers={"Retry-After": str(again)})

    def _most_bytes(self, scope: Scope) -> int:
        is_upload = scope["method"] in ("POST", "PUT") and UPLOADS.match(scope["path"])
        return (self.server.max_upload_mb * _MIB + _MIB // 16) if is_upload else self.server.max_body_mb * _MIB


class Body:
    """A request's body that is counted and timed while it is read, whatever its headers say of its length.

    ``fault`` is what is wrong with it, once something is.
    """

    def __init__(self, receive: Receive, send: Send, most_bytes: int) -> None:
        self._receive, self.send, self.most_bytes = receive, send, most_bytes
        self._seen, self._begun = 0, 0.0
        self._is_whole = self.has_begun = False
        self.fault: Rejected | None = None

    def check_length(self, headers: Mapping[str, str]) -> None:
        """Raise Rejected (413) where the headers say already that it is too large, or (400) where they are nonsense."""
        length = headers.get("content-length")
        if length is None:
            return
        if not re.fullmatch(r"\d{1,18}", length):
            raise Rejected(400, "the header Content-Length is no number of bytes.", code="bad_length")
        if int(length) > self.most_bytes:
            raise self.too_large()

    def too_large(self) -> Rejected:
        """Return the error for a body that is too large."""
        return Rejected(413, f"the request is larger than {self.most_bytes // _MIB} MiB. Send less at once, or raise "
                             "server.max_body_mb or, for uploads, server.max_upload_mb.", code="request_too_large")

    async def receive(self) -> Message:
        """Return the next message. Raises Rejected once more was sent than is taken, or it comes too slowly."""
        if self._is_whole:  # what is waited for is that the asker goes
            return await self._receive()
        self._begun = self._begun or time.monotonic()
        left = self._begun + allowed_seconds(self._seen) - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(left, PAUSE_S)))
        except asyncio.TimeoutError:
            self.fault = Rejected(408, "the request's body came too slowly. Send it again.", code="request_timeout",
                                  headers={"Connection": "close"})
            raise self.fault from None
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
            if self._seen > self.most_bytes:
                self.fault = self.too_large()
                raise self.fault
        return message

    async def guarded_send(self, message: Message) -> None:
        """Send what the application answers, but nothing of an answer begun after its body was refused: that is ours."""
        if self.fault is not None and not self.has_begun:
            return
        self.has_begun = True
        await self.send(message)


def _with_headers(send: Send, path: str) -> Send:
    """Return a send that adds the headers which keep a browser from being used against its user."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            given: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()
                     if name.lower().encode() not in names]
            if path.startswith("/v1/") and b"cache-control" not in names:
                added.append((b"cache-control", b"no-store"))
            message = {**message, "headers": given + added}
        await send(message)

    return send_with_headers


def host_of(header: str) -> str:
    """Return the name in a Host header, without its port."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^:\s/@\[\]]+)(?::\d{1,5})?", header.strip())
    return match[1].lower() if match else header.strip().lower()


def is_public(path: str) -> bool:
    """Tell whether a path is answered without a key."""
    return path in PUBLIC or (path.startswith(PUBLIC_FOLDERS) and ".." not in path)


def protect(app: FastAPI, state: State) -> Mapping[str, Any]:
    """Put the shield before an application's routes, and what other origins may before that; return its counts.

    To be called before ``install_errors``, whose request ids are then in its answers too.
    """
    counts: Counter[str] = Counter()
    gate = open_gate(state)
    app.add_middleware(Shield, gate=gate, counts=counts)
    if gate.server.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(gate.server.cors_origins), allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", "X-Request-Id"],
            expose_headers=["X-Request-Id", "Retry-After"])
    return counts
