"""How a server fares, in figures that Prometheus collects. Every label has few values, whatever is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ragtune.server.service import Done
from ragtune.server.state import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
PROBLEMS = (
    ("number", r"^the number .* stands in no cited passage"),
    ("row", r"^the cited row "),
    ("quote", r"^the quote "),
    ("misquote", r"' was misquoted: "),
    ("calculation", r"^\d+ calculation result"),
    ("verdict", r"^the verdict was set right"),
    ("citation", r"^the (cited passage|citation|answer cites)|^no passage supports|citation was inferred"),
    ("search", r"^search: "),
)
"""What the check of an answer finds -> the pattern of its sentence; others count as 'other'."""


class Metrics:
    """The figures of one server. Methods may be called from any thread."""

    def __init__(self, state: State) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ragtune_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"ragtune_{name}", text, labels, buckets=buckets, registry=self.registry)

        self.requests = counter("http_requests", "Requests answered.", "route", "method", "status")
        self.request_seconds = histogram("http_request_seconds", "Seconds to the end of the response.", SECONDS, "route")
        self.part_seconds = histogram("answer_seconds", "Seconds of each part of an answer; 'generate' holds the wait for "
                                      "its turn.", SECONDS, "part")
        self.batch_sizes = histogram("batch_size", "Answers written together.", SIZES)
        self.batch_seconds = histogram("batch_seconds", "Seconds a batch took.", SECONDS)
        self.batch_errors = counter("batch_errors", "Batches that failed.")
        self.tokens = counter("tokens", "Tokens read and written.", "direction")
        self.answers = counter("answers", "Questions by their end.", "end")
        self.problems = counter("answer_problems", "What the check of answers found.", "kind")
        for end in ("answered", "refused", "cut", "cancelled", "failed"):
            self.answers.labels(end)
        for kind in (*(kind for kind, _ in PROBLEMS), "other"):
            self.problems.labels(kind)
        for direction in ("in", "out"):
            self.tokens.labels(direction)
        self.registry.register(_Now(state))

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request; ``route`` is the route's template, never the path that was asked."""
        self.requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def count_search(self, seconds: float) -> None:
        """Count a search."""
        self.part_seconds.labels("search").observe(seconds)

    def count_batch(self, size: int, seconds: float, error: BaseException | None) -> None:
        """Count a batch that was written."""
        self.batch_sizes.observe(size)
        self.batch_seconds.observe(seconds)
        if error is not None:
            self.batch_errors.inc()

    def count_answer(self, end: Done | BaseException) -> None:
        """Count a question that was answered or could not be."""
        if isinstance(end, BaseException):
            self.answers.labels("failed").inc()
            return
        for part in ("prompt", "generate", "check", "total"):
            if part in end.timings_s:
                self.part_seconds.labels(part).observe(end.timings_s[part])
        self.tokens.labels("in").inc(end.written.prompt_tokens)
        self.tokens.labels("out").inc(end.written.tokens)
        for problem in end.answer.problems:
            self.problems.labels(kind_of_problem(problem)).inc()
        self.answers.labels(end_of(end)).inc()

    def render(self) -> bytes:
        """Return all figures as text."""
        return generate_latest(self.registry)


def end_of(done: Done) -> str:
    """Return how a question ended."""
    if done.written.stop == "cancelled":
        return "cancelled"
    if done.answer.is_refusal:
        return "refused"
    return "cut" if done.written.stop == "length" else "answered"


def kind_of_problem(problem: str) -> str:
    """Return which of PROBLEMS a problem of an answer is, else 'other'."""
    return next((kind for kind, pattern in PROBLEMS if re.search(pattern, problem)), "other")


class _Now(Collector):
    """What is true when it is asked: queues, the index, jobs, and the counters that other parts keep."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        service, drain = self._state.service, self._state.drain
        manifest = service.index.manifest
        for name, text, value in (
            ("requests_in_flight", "Requests being answered.", drain.in_flight),
            ("draining", "1 where the server is stopping.", int(drain.is_on)),
            ("answers_waiting", "Questions whose answer waits to be written.", service.batcher.waiting),
            ("answers_writing", "Answers being written.", service.batcher.writing),
            ("searches_waiting", "Questions that wait to be searched for.", service.turns.waiting),
            ("searches_running", "Searches at work.", service.turns.running),
            ("index_chunks", "Chunks of the index.", int(manifest.get("chunks", 0))),
            ("index_documents", "Documents of the index.", len(service.index.store.documents)),
            ("models", "Models that can be asked.", len(service.models())),
        ):
            yield GaugeMetricFamily(f"ragtune_{name}", text, value=value)
        for name, counts in list(service.counters.items()):
            family = CounterMetricFamily(f"ragtune_{name}", f"{name.replace('_', ' ').capitalize()}, by kind.",
                                         labels=["kind"])
            for kind, count in list(counts.items()):
                family.add_metric([str(kind)], count)
            yield family
        count_states = getattr(self._state.jobs, "count_states", None)
        if count_states is not None:
            jobs = GaugeMetricFamily("ragtune_jobs", "Jobs by state.", labels=["state"])
            for state, count in count_states().items():
                jobs.add_metric([str(state)], count)
            yield jobs
