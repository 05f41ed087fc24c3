"""A question heard from asyncio: its time is over wherever it waits, and whoever goes frees the place."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")

from ragtune.models.streaming import Wish
from ragtune.server.batching import Ticket
from ragtune.server.listening import Gone, Listener
from ragtune.server.service import Asking
from ragtune.server.turns import Turns


class Slow:
    """A service whose search ends when the gate opens."""

    def __init__(self, timeout_s: float) -> None:
        self.recipe = SimpleNamespace(server=SimpleNamespace(timeout_s=timeout_s))
        self.turns = Turns(1, max_waiting=2)
        self.gate, self.asked, self.tickets = threading.Event(), 0, []  # type: ignore[var-annotated]

    def ask(self, asking: Asking, on_event: Any) -> Ticket:
        self.asked += 1
        assert self.gate.wait(10)
        self.tickets.append(Ticket(Wish((), 1), lambda piece: None, lambda end: None))
        return self.tickets[-1]


def open_listener(service: Slow) -> Listener:
    return Listener(service, Asking("What?"))  # type: ignore[arg-type]


class Gate:
    """A request whose sender goes when told to."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.left.wait()
        return {"type": "http.disconnect"}


def test_a_search_that_takes_too_long_is_too_late_and_its_answer_is_not_written() -> None:
    service = Slow(0.05)

    async def ask() -> None:
        begun = time.monotonic()
        searched, waiting = open_listener(service), open_listener(service)
        ends = await asyncio.gather(searched.ask(), waiting.ask(), return_exceptions=True)
        assert [type(end) for end in ends] == [TimeoutError, TimeoutError]
        assert "no answer within 0.05 s" in str(ends[0])
        assert time.monotonic() - begun < 5
        service.gate.set()
        await service.turns.run(int)  # after the one that was being searched for

    asyncio.run(ask())
    assert service.asked == 1, "the one that waited is never searched for"
    assert [ticket.cancelled.is_set() for ticket in service.tickets] == [True]
    assert service.turns.waiting == 0


def test_one_who_goes_while_it_is_searched_for_is_not_written() -> None:
    service = Slow(10)

    async def ask() -> None:
        request = Gate()
        asked = asyncio.ensure_future(open_listener(service).done(request))  # type: ignore[arg-type]
        while not service.asked:
            await asyncio.sleep(0.005)
        request.left.set()
        with pytest.raises(Gone):
            await asked
        service.gate.set()
        await service.turns.run(int)

    asyncio.run(ask())
    assert [ticket.cancelled.is_set() for ticket in service.tickets] == [True]


def test_one_who_goes_while_it_waits_for_its_turn_is_never_searched_for() -> None:
    service = Slow(10)

    async def ask() -> None:
        first = asyncio.ensure_future(open_listener(service).ask())
        while not service.asked:
            await asyncio.sleep(0.005)
        request = Gate()
        second = asyncio.ensure_future(open_listener(service).done(request))  # type: ignore[arg-type]
        await asyncio.sleep(0.02)
        assert service.turns.waiting == 1
        request.left.set()
        with pytest.raises(Gone):
            await second
        await asyncio.sleep(0.02)
        assert service.turns.waiting == 0
        service.gate.set()
        await first

    asyncio.run(ask())
    assert service.asked == 1


def test_what_the_search_raises_is_raised() -> None:
    service = Slow(10)
    service.gate = None  # type: ignore[assignment]

    async def ask() -> None:
        with pytest.raises(AttributeError):
            await open_listener(service).ask()

    asyncio.run(ask())
