"""Traces for OpenTelemetry (extra `telemetry`): a span per request, below it search, prompt, generate and check."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from ragtune import __version__
from ragtune.errors import MissingPackage

logger = logging.getLogger(__name__)
PARTS = ("search", "prompt", "generate", "check")
"""The parts of an answer, in their order in time."""


class Tracing:
    """Writes spans. One per server; it sets nothing for the whole process."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("ragtune", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, headers: Mapping[str, str]) -> Any:
        """Return the span of a request; it belongs to the trace that its header ``traceparent`` names."""
        from opentelemetry.trace import SpanKind

        return self._tracer.start_span(method, context=self._propagator.extract(dict(headers)), kind=SpanKind.SERVER,
                                       attributes={"http.request.method": method})

    def end(self, span: Any, method: str, route: str, status: int, request_id: str) -> None:
        """End a request's span."""
        from opentelemetry.trace import Status, StatusCode

        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status, "ragtune.request_id": request_id})
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def add_parts(self, parent: Any, timings_s: Mapping[str, float], attributes: Mapping[str, Any]) -> None:
        """Write the spans of an answer that was just finished, from what its parts took one after the other."""
        from opentelemetry.trace import set_span_in_context

        context = None if parent is None else set_span_in_context(parent)
        begun = time.time_ns() - _ns(sum(timings_s.get(part, 0.0) for part in PARTS))
        for part in PARTS:
            if part in timings_s:
                span = self._tracer.start_span(part, context=context, start_time=begun)
                if part == "generate":
                    span.set_attributes(dict(attributes))
                begun += _ns(timings_s[part])
                span.end(begun)

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()


def open_tracing(endpoint: str | None, service: str, exporter: Any = None) -> Tracing | None:
    """Return what writes traces to an OTLP endpoint (``http://collector:4318``), None where there is no endpoint.

    ``exporter`` stands in for the one over HTTP. Raises MissingPackage where the extra is not installed.
    """
    if not endpoint and exporter is None:
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise MissingPackage("server.telemetry is set, and OpenTelemetry is not installed. "
                             "Do: pip install 'ragtune[telemetry]'") from error
    # Without an id of the process and the machine's name: the id that OpenTelemetry makes is enough to tell servers apart.
    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.version": __version__}))
    if exporter is None:
        address = f"{str(endpoint).rstrip('/')}/v1/traces" if not str(endpoint).endswith("/v1/traces") else str(endpoint)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(address)))
    else:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
