"""A client of a ragtune server: its calls as methods, its answers as records. bridges.async_client has the same for asyncio.

Needs httpx: pip install 'ragtune[client]'.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

import httpx

from ragtune.bridges import calls
from ragtune.bridges.calls import AskEvent, Changed, File, Health, ServedAnswer, StoredDocument, Where
from ragtune.bridges.wire import LOCAL, ApiError, Call, Endpoint, EventReader, Sent, Unreachable, api_error
from ragtune.errors import RagtuneError
from ragtune.records import Hit
from ragtune.server.jobs.record import Job

T = TypeVar("T")


class Client(Endpoint):
    """Asks a server; threads may share one. Use it as a context manager, or ``close`` it.

    ``api_key`` None takes RAGTUNE_API_KEY. Calls that do no harm twice are made again, up to ``retries`` times, when the
    server is busy (429, 503: after its Retry-After) or cannot be reached. Every call raises one of ApiError's kinds
    (bridges.wire: InvalidRequest, NotAllowed, NotFound, TooBusy, ServerFault) or Unreachable.
    """

    def __init__(self, url: str = LOCAL, api_key: str | None = None, *, timeout_s: float = 120.0, retries: int = 2,
                 transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(url, api_key, timeout_s, retries)
        self._http = httpx.Client(transport=transport, **self.settings())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, question: str, *, model: str | None = None, k: int | None = None, where: Where = None,
            max_tokens: int | None = None, temperature: float = 0.0, seed: int = 0) -> ServedAnswer:
        """Return the checked answer with its citations and passages. ``model`` is of ``models()``; None: the first."""
        call = calls.ask(question, model, k, where, max_tokens, temperature, seed, False)
        return self._send(call, lambda told: calls.read_answer(question, told))

    def ask_stream(self, question: str, *, model: str | None = None, k: int | None = None, where: Where = None,
                   max_tokens: int | None = None, temperature: float = 0.0, seed: int = 0) -> Iterator[AskEvent]:
        """Yield Found (the passages), Drafts (unchecked pieces), at last the ServedAnswer. To leave it frees the slot."""
        call = calls.ask(question, model, k, where, max_tokens, temperature, seed, True)
        with closing(self._stream(call)) as stream:
            for sent in stream:
                event = calls.read_ask_event(question, sent)
                if event is not None:
                    yield event
                if isinstance(event, ServedAnswer):
                    return
        raise self.unreachable(call, "the stream ended before the answer")

    def search(self, question: str, k: int | None = None, where: Where = None) -> list[Hit]:
        """Return the chunks that are found, best first."""
        return self._send(calls.search(question, k, where), calls.read_hits)

    def models(self) -> list[str]:
        """Return the ids of what can be asked; the first is the default."""
        return self._send(calls.MODELS, calls.read_models)

    def upload_documents(self, files: Sequence[File], metadata: Mapping[str, Any] | None = None, *,
                         may_replace: bool = False, is_indexed: bool = True) -> Changed:
        """Upload files (paths, or names with bytes). They are safe with the return, and found when its job is done.

        ``metadata`` holds columns for all files, or under a file's name for that one.
        """
        return self._send(calls.upload_documents(files, metadata, may_replace, is_indexed), calls.read_changed)

    def list_documents(self, state: str | None = None, limit: int = 1000, offset: int = 0) -> list[StoredDocument]:
        """Return the documents by their names; ``state`` is indexed, waiting, unreadable or leaving."""
        return self._send(calls.list_documents(state, limit, offset), calls.read_documents)

    def delete_document(self, name: str) -> Changed:
        """Delete a document; it is found until the returned job is done."""
        return self._send(calls.delete_document(name), calls.read_changed)

    def submit_job(self, kind: str, settings: Mapping[str, Any] | None = None, *, name: str | None = None,
                   dataset: str | None = None, run: str | None = None) -> Job:
        """Queue a job: 'index', 'dataset', 'train' or 'evaluate'; ``settings`` are section.field -> value."""
        return self._send(calls.submit_job(kind, settings, name, dataset, run), Job.from_dict)

    def list_jobs(self, state: str | None = None, kind: str | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, the newest first."""
        return self._send(calls.list_jobs(state, kind, limit), calls.read_jobs)

    def show_job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return self._send(calls.job(job_id), Job.from_dict)

    def cancel_job(self, job_id: str) -> Job:
        """Drop a waiting job, stop a running one. Raises InvalidRequest (409) for one that has ended."""
        return self._send(calls.job(job_id, method="DELETE"), Job.from_dict)

    def read_job_log(self, job_id: str) -> str:
        """Return the end of a job's log."""
        return self._send(calls.job(job_id, "/log"), str)

    def follow_job(self, job_id: str) -> Iterator[Job]:
        """Yield the job at each change, at last as it ended. A stream that breaks off (a server that starts anew, on which
        the job goes on) is taken up again."""
        call, broken = calls.job(job_id, "/events"), 0
        while True:
            try:
                with closing(self._stream(call)) as stream:
                    for sent in stream:
                        job, broken = calls.read_job_event(sent), 0
                        yield job
                        if job.has_ended:
                            return
                raise self.unreachable(call, "the stream broke off")
            except Unreachable as error:
                time.sleep(self.wait_after(call, broken, error))
                broken += 1

    def wait_job(self, job_id: str) -> Job:
        """Wait until a job has ended and return it; look at its ``state`` and ``error``."""
        return [*self.follow_job(job_id)][-1]

    def health(self) -> Health:
        """Return that the server lives, and its version."""
        return self._send(calls.HEALTH, Health.from_dict)

    def is_ready(self) -> bool:
        """Tell whether questions may be sent. Raises Unreachable where there is no server."""
        try:
            return self._send(calls.READY, lambda told: bool(told["ready"]))
        except ApiError as error:
            if error.status == 503:
                return False
            raise

    def _send(self, call: Call, read: Callable[[Any], T]) -> T:
        attempt = 0
        while True:
            try:
                try:
                    answer = self._http.request(call.method, call.path, **call.arguments())
                except httpx.TransportError as error:
                    raise self.unreachable(call, error) from error
                return self.read(call, answer.status_code, answer.headers, answer.content, read)
            except RagtuneError as failure:
                time.sleep(self.wait_after(call, attempt, failure))
                attempt += 1

    def _stream(self, call: Call) -> Generator[Sent, None, None]:
        """Yield the events of a stream. To open it is tried again; what breaks off raises Unreachable."""
        attempt = 0
        while True:
            try:
                with self._http.stream(call.method, call.path, **call.arguments()) as answer:
                    if answer.is_success:
                        reader = EventReader()
                        for text in answer.iter_text():
                            yield from reader.add(text)
                        return
                    failure: RagtuneError = api_error(answer.status_code, answer.headers, answer.read())
            except httpx.ConnectError as error:
                failure = self.unreachable(call, error)
            except httpx.TransportError as error:
                raise self.unreachable(call, error) from error
            time.sleep(self.wait_after(call, attempt, failure))
            attempt += 1
