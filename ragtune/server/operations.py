"""What an operator sees of every request: its log line, its figures, its trace; and that none is taken while it stops."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragtune.records import Trace
from ragtune.server.auth import CALLER
from ragtune.server.errors import error_response, request_id
from ragtune.server.health import PATHS, Probe, Pulse
from ragtune.server.logs import log_request, note, noted
from ragtune.server.metrics import Metrics, end_of
from ragtune.server.service import Asking, Done
from ragtune.server.state import State
from ragtune.server.telemetry import PARTS, Tracing, open_tracing

logger = logging.getLogger(__name__)
SPAN = "ragtune_span"
"""Where a request's span stands among its notes."""


def install_operations(app: FastAPI, state: State, exporter: Any = None) -> None:
    """Let an application count, log and trace its requests, and refuse new ones while ``state.drain`` is on.

    To be called before ``install_errors``, which gives requests their ids. ``exporter`` stands in for the one that
    server.telemetry names. Raises MissingPackage.
    """
    service = state.service
    state.metrics = metrics = Metrics(state)
    tracing = open_tracing(state.recipe.server.telemetry, f"ragtune-{state.recipe.name}", exporter)
    pulse = Pulse(service)
    state.probe = Probe(state, pulse)
    service.batcher.listeners += [metrics.count_batch, pulse.heard]
    service.watchers.append(Watcher(metrics, tracing))
    state.on_open.append(pulse.ask)
    if tracing is not None:
        state.on_close.append(tracing.close)
    app.add_middleware(Observed, state=state, metrics=metrics, tracing=tracing)


class Watcher:
    """Hears of every search and every question, and notes, counts and traces it."""

    def __init__(self, metrics: Metrics, tracing: Tracing | None) -> None:
        self._metrics, self._tracing = metrics, tracing

    def searched(self, question: str, hits: int, seconds: float, trace: Trace) -> None:
        """Take note of a search."""
        self._metrics.count_search(seconds)
        note(question=question, hits=hits, search_ms=round(1000 * seconds, 2), is_fallback=trace.is_fallback or None)

    def asked(self, asking: Asking, model: str) -> Callable[[Done | BaseException], None]:
        """Take note of a question, and return what hears how it ends, from whatever thread."""
        notes = noted()
        span = None if notes is None else notes.get(SPAN)
        note(question=asking.question, model=model)

        def end(event: Done | BaseException) -> None:
            self._metrics.count_answer(event)
            if notes is not None:
                notes.update(describe_end(event))
            if self._tracing is not None and isinstance(event, Done):
                self._tracing.add_parts(span, event.timings_s, {
                    "gen_ai.request.model": model, "gen_ai.usage.input_tokens": event.written.prompt_tokens,
                    "gen_ai.usage.output_tokens": event.written.tokens})

        return end


def describe_end(event: Done | BaseException) -> dict[str, Any]:
    """Return what a log line says of a question's end: counts and milliseconds, no words."""
    if isinstance(event, BaseException):
        return {"end": "failed", "error": type(event).__name__}
    answer, written = event.answer, event.written
    return {"end": end_of(event), "passages": len(answer.passages), "citations": len(answer.citations),
            "problems": len(answer.problems), "tokens_in": written.prompt_tokens, "tokens_out": written.tokens,
            **{f"{part}_ms": round(1000 * event.timings_s[part], 2) for part in PARTS if part in event.timings_s}}


class Observed:
    """ASGI middleware around every request."""

    def __init__(self, app: ASGIApp, state: State, metrics: Metrics, tracing: Tracing | None) -> None:
        self.app, self._state, self._metrics, self._tracing = app, state, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and watch it to the end of its response."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, drain = time.perf_counter(), self._state.drain
        is_watch = scope["path"] in PATHS
        status, is_whole = 0, False

        async def watched(message: Message) -> None:
            nonlocal status, is_whole
            if message["type"] == "http.response.start":
                status = int(message["status"])
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                is_whole = True
            await send(message)

        span = self._begin_span(scope) if self._tracing is not None and not is_watch else None
        notes = noted() or {}
        notes[SPAN] = span
        is_counted = not is_watch and drain.enter()
        try:
            if is_counted or is_watch:
                await self.app(scope, receive, watched)
            else:
                await self._refuse(scope, receive, watched)
        except BaseException:
            status = status or 500  # the answer is written further out
            raise
        finally:
            if is_counted:
                drain.leave()
            self._end(scope, notes, span, status, is_whole, time.perf_counter() - begun)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        from fastapi import Request

        wait_s = max(1, round(self._state.drain.left_s))
        response = error_response(Request(scope), 503, "the server is stopping. Ask again in a moment, or another one.",
                                  code="stopping", headers={"Retry-After": str(wait_s), "Connection": "close"})
        await response(scope, receive, send)

    def _begin_span(self, scope: Scope) -> Any:
        assert self._tracing is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
                   if name in (b"traceparent", b"tracestate")}
        return self._tracing.begin(scope["method"], headers)

    def _end(self, scope: Scope, notes: dict[str, Any], span: Any, status: int, is_whole: bool, seconds: float) -> None:
        route = template_of(scope)
        notes.pop(SPAN)
        self._metrics.count_request(route, scope["method"], status, seconds)
        if span is not None and self._tracing is not None:
            self._tracing.end(span, scope["method"], route, status, request_id(scope))
        if scope["path"] in PATHS and status < 500:
            return  # a line every few seconds, from every supervisor, says nothing
        caller = getattr(scope.get(CALLER), "name", None)
        log_request(notes, **({"caller": caller} if caller else {}), method=scope["method"], route=route, status=status,
                    ms=round(1000 * seconds, 1), **({} if is_whole or not status else {"gone": True}))


def template_of(scope: Scope) -> str:
    """Return the template of the route that a request went to, such as ``/v1/jobs/{job}``; '(none)' where there is none."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return str(path) if path else "(none)"
