"""A question on its way, heard from asyncio: events in their order, an end in time, a slot that is freed when one goes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Union

from starlette.requests import Request

from ragtune.server.batching import Ticket
from ragtune.server.service import Asking, Done, Event, Service

Heard = Union[Event, None]
"""An event, or None where nothing was said for a while."""


class Gone(Exception):
    """The one who asked has gone; there is nobody to answer."""


class Listener:
    """One question. ``ask`` queues it; ``events`` yields what is said of it; ``cancel`` frees its slot."""

    def __init__(self, service: Service, asking: Asking) -> None:
        self._service, self._asking = service, asking
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self._ticket: Ticket | None = None
        self._is_cancelled = False
        self._deadline = time.monotonic() + service.recipe.server.timeout_s

    def _hear(self, event: Event | BaseException) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
            self._loop.call_soon_threadsafe(self._heard.put_nowait, event)

    async def ask(self) -> None:
        """Search and queue. Raises QuestionError, Busy, and TimeoutError where server.timeout_s is over before that."""
        def queue() -> None:
            ticket = self._service.ask(self._asking, self._hear)
            self._ticket = ticket
            if self._is_cancelled:  # while it was searched for
                ticket.cancel()

        try:  # one that waits for its turn is then never searched for, one that is being searched for is not written
            await asyncio.wait_for(self._service.turns.run(queue), max(0.001, self._deadline - time.monotonic()))
        except asyncio.TimeoutError as error:
            if time.monotonic() < self._deadline:
                raise  # the search's own
            raise self._too_late() from error

    def cancel(self) -> None:
        """No longer want it. Harmless where it is done."""
        self._is_cancelled = True
        if self._ticket is not None:
            self._ticket.cancel()

    def _too_late(self) -> TimeoutError:
        self.cancel()
        return TimeoutError(f"no answer within {self._service.recipe.server.timeout_s:g} s")

    async def events(self, quiet_s: float = 10.0) -> AsyncIterator[Heard]:
        """Yield Found, Pieces and Done; None after each ``quiet_s`` without. Raises what was said instead of Done, and
        TimeoutError where server.timeout_s is over."""
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise self._too_late()
            try:
                event = await asyncio.wait_for(self._heard.get(), min(left, quiet_s))
            except asyncio.TimeoutError:
                if quiet_s < left:
                    yield None
                continue
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, Done):
                return

    async def done(self, request: Request) -> Done:
        """Return the end. Raises as ``events``, and Gone where the one who asked goes before it."""
        gone = asyncio.ensure_future(_wait_until_gone(request))
        end = asyncio.ensure_future(self._end())
        try:
            await asyncio.wait({gone, end}, return_when=asyncio.FIRST_COMPLETED)
            if not end.done():
                raise Gone
            return end.result()
        finally:
            for task in (gone, end):
                task.cancel()
            self.cancel()

    async def _end(self) -> Done:
        await self.ask()
        async for event in self.events():
            if isinstance(event, Done):
                return event
        raise AssertionError("events end with Done")


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
