"""Traces: a span per request with its parts below it, in order, in the caller's trace; the package only when it is used."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from ragtune.errors import MissingPackage
from ragtune.server.telemetry import open_tracing

memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
TRACE = "0af7651916cd43dd8448eb211c80319c"


def spans_of(exporter: Any) -> dict[str, Any]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_and_its_parts_are_spans_of_the_trace_that_was_given() -> None:
    exporter = memory.InMemorySpanExporter()
    tracing = open_tracing(None, "ragtune-demo", exporter)
    assert tracing is not None
    span = tracing.begin("POST", {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    tracing.add_parts(span, {"search": 0.02, "prompt": 0.001, "generate": 0.5, "check": 0.002, "total": 0.523},
                      {"gen_ai.request.model": "demo-base", "gen_ai.usage.output_tokens": 7})
    tracing.end(span, "POST", "/v1/ask", 200, "req_1")
    spans = spans_of(exporter)
    assert set(spans) == {"search", "prompt", "generate", "check", "POST /v1/ask"}
    parent = spans["POST /v1/ask"]
    assert f"{parent.context.trace_id:032x}" == TRACE
    assert dict(parent.attributes) == {"http.request.method": "POST", "http.route": "/v1/ask",
                                       "http.response.status_code": 200, "ragtune.request_id": "req_1"}
    assert parent.resource.attributes["service.name"] == "ragtune-demo"
    parts = [spans[name] for name in ("search", "prompt", "generate", "check")]
    assert {part.parent.span_id for part in parts} == {parent.context.span_id}
    assert [round((part.end_time - part.start_time) / 1e6) for part in parts] == [20, 1, 500, 2]
    assert [part.end_time for part in parts[:-1]] == [part.start_time for part in parts[1:]]
    assert parts[2].attributes["gen_ai.usage.output_tokens"] == 7


def test_a_failure_is_marked_and_a_closed_book_answer_has_no_search() -> None:
    exporter = memory.InMemorySpanExporter()
    tracing = open_tracing(None, "x", exporter)
    assert tracing is not None
    span = tracing.begin("GET", {})
    tracing.add_parts(None, {"generate": 0.1}, {})
    tracing.end(span, "GET", "(none)", 500, "")
    spans = spans_of(exporter)
    assert set(spans) == {"generate", "GET (none)"}
    assert spans["GET (none)"].status.status_code.name == "ERROR"
    assert spans["generate"].parent is None


def test_without_an_endpoint_nothing_is_imported() -> None:
    code = ("import sys; from ragtune.server.telemetry import open_tracing; assert open_tracing(None, 'x') is None; "
            "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(MissingPackage, match=r"ragtune\[telemetry\]"):
        open_tracing("http://collector:4318", "x")


def test_the_endpoint_is_where_otlp_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    sent: list[str] = []
    monkeypatch.setattr(trace_exporter.OTLPSpanExporter, "__init__", lambda self, endpoint: sent.append(endpoint))
    monkeypatch.setattr(trace_exporter.OTLPSpanExporter, "shutdown", lambda self: None)
    for endpoint in ("http://collector:4318", "http://collector:4318/v1/traces"):
        tracing = open_tracing(endpoint, "x")
        assert tracing is not None
        tracing.close()
    assert sent == ["http://collector:4318/v1/traces"] * 2
