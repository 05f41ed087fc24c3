"""The client of bridges.client for asyncio: the same methods, awaited.

Needs httpx: pip install 'ragtune[client]'.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import httpx

from ragtune.bridges import calls
from ragtune.bridges.calls import AskEvent, Changed, File, Health, ServedAnswer, StoredDocument, Where
from ragtune.bridges.wire import LOCAL, ApiError, Call, Endpoint, EventReader, Sent, Unreachable, api_error
from ragtune.errors import RagtuneError
from ragtune.records import Hit
from ragtune.server.jobs.record import Job

T = TypeVar("T")


class AsyncClient(Endpoint):
    """Asks a server; see bridges.client.Client. Use it as an async context manager, or ``close`` it."""

    def __init__(self, url: str = LOCAL, api_key: str | None = None, *, timeout_s: float = 120.0, retries: int = 2,
                 transport: httpx.AsyncBaseTransport | None = None) -> None:
        super().__init__(url, api_key, timeout_s, retries)
        self._http = httpx.AsyncClient(transport=transport, **self.settings())

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, question: str, *, model: str | None = None, k: int | None = None, where: Where = None,
                  max_tokens: int | None = None, temperature: float = 0.0, seed: int = 0) -> ServedAnswer:
        """Return the checked answer with its citations and passages. ``model`` is of ``models()``; None: the first."""
        call = calls.ask(question, model, k, where, max_tokens, temperature, seed, False)
        return await self._send(call, lambda told: calls.read_answer(question, told))

    async def ask_stream(self, question: str, *, model: str | None = None, k: int | None = None, where: Where = None,
                         max_tokens: int | None = None, temperature: float = 0.0, seed: int = 0) -> AsyncIterator[AskEvent]:
        """Yield Found (the passages), Drafts (unchecked pieces), at last the ServedAnswer. To leave it frees the slot."""
        call = calls.ask(question, model, k, where, max_tokens, temperature, seed, True)
        async with aclosing(self._stream(call)) as stream:
            async for sent in stream:
                event = calls.read_ask_event(question, sent)
                if event is not None:
                    yield event
                if isinstance(event, ServedAnswer):
                    return
        raise self.unreachable(call, "the stream ended before the answer")

    async def search(self, question: str, k: int | None = None, where: Where = None) -> list[Hit]:
        """Return the chunks that are found, best first."""
        return await self._send(calls.search(question, k, where), calls.read_hits)

    async def models(self) -> list[str]:
        """Return the ids of what can be asked; the first is the default."""
        return await self._send(calls.MODELS, calls.read_models)

    async def upload_documents(self, files: Sequence[File], metadata: Mapping[str, Any] | None = None, *,
                               may_replace: bool = False, is_indexed: bool = True) -> Changed:
        """Upload files (paths, or names with bytes). They are safe with the return, and found when its job is done.

        ``metadata`` holds columns for all files, or under a file's name for that one.
        """
        call = await asyncio.to_thread(calls.upload_documents, files, metadata, may_replace, is_indexed)
        return await self._send(call, calls.read_changed)

    async def list_documents(self, state: str | None = None, limit: int = 1000, offset: int = 0) -> list[StoredDocument]:
        """Return the documents by their names; ``state`` is indexed, waiting, unreadable or leaving."""
        return await self._send(calls.list_documents(state, limit, offset), calls.read_documents)

    async def delete_document(self, name: str) -> Changed:
        """Delete a document; it is found until the returned job is done."""
        return await self._send(calls.delete_document(name), calls.read_changed)

    async def submit_job(self, kind: str, settings: Mapping[str, Any] | None = None, *, name: str | None = None,
                         dataset: str | None = None, run: str | None = None) -> Job:
        """Queue a job: 'index', 'dataset', 'train' or 'evaluate'; ``settings`` are section.field -> value."""
        return await self._send(calls.submit_job(kind, settings, name, dataset, run), Job.from_dict)

    async def list_jobs(self, state: str | None = None, kind: str | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, the newest first."""
        return await self._send(calls.list_jobs(state, kind, limit), calls.read_jobs)

    async def show_job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return await self._send(calls.job(job_id), Job.from_dict)

    async def cancel_job(self, job_id: str) -> Job:
        """Drop a waiting job, stop a running one. Raises InvalidRequest (409) for one that has ended."""
        return await self._send(calls.job(job_id, method="DELETE"), Job.from_dict)

    async def read_job_log(self, job_id: str) -> str:
        """Return the end of a job's log."""
        return await self._send(calls.job(job_id, "/log"), str)

    async def follow_job(self, job_id: str) -> AsyncIterator[Job]:
        """Yield the job at each change, at last as it ended. A stream that breaks off (a server that starts anew, on which
        the job goes on) is taken up again."""
        call, broken = calls.job(job_id, "/events"), 0
        while True:
            try:
                async with aclosing(self._stream(call)) as stream:
                    async for sent in stream:
                        job, broken = calls.read_job_event(sent), 0
                        yield job
                        if job.has_ended:
                            return
                raise self.unreachable(call, "the stream broke off")
            except Unreachable as error:
                await asyncio.sleep(self.wait_after(call, broken, error))
                broken += 1

    async def wait_job(self, job_id: str) -> Job:
        """Wait until a job has ended and return it; look at its ``state`` and ``error``."""
        return [job async for job in self.follow_job(job_id)][-1]

    async def health(self) -> Health:
        """Return that the server lives, and its version."""
        return await self._send(calls.HEALTH, Health.from_dict)

    async def is_ready(self) -> bool:
        """Tell whether questions may be sent. Raises Unreachable where there is no server."""
        try:
            return await self._send(calls.READY, lambda told: bool(told["ready"]))
        except ApiError as error:
            if error.status == 503:
                return False
            raise

    async def _send(self, call: Call, read: Callable[[Any], T]) -> T:
        attempt = 0
        while True:
            try:
                try:
                    answer = await self._http.request(call.method, call.path, **call.arguments())
                except httpx.TransportError as error:
                    raise self.unreachable(call, error) from error
                return self.read(call, answer.status_code, answer.headers, answer.content, read)
            except RagtuneError as failure:
                await asyncio.sleep(self.wait_after(call, attempt, failure))
                attempt += 1

    async def _stream(self, call: Call) -> AsyncGenerator[Sent, None]:
        """Yield the events of a stream. To open it is tried again; what breaks off raises Unreachable."""
        attempt = 0
        while True:
            try:
                async with self._http.stream(call.method, call.path, **call.arguments()) as answer:
                    if answer.is_success:
                        reader = EventReader()
                        async for text in answer.aiter_text():
                            for sent in reader.add(text):
                                yield sent
                        return
                    failure: RagtuneError = api_error(answer.status_code, answer.headers, await answer.aread())
            except httpx.ConnectError as error:
                failure = self.unreachable(call, error)
            except httpx.TransportError as error:
                raise self.unreachable(call, error) from error
            await asyncio.sleep(self.wait_after(call, attempt, failure))
            attempt += 1
