"""Searches take turns: how many run, how many wait, who is told to come again, and what one that is gone leaves."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest

from ragtune.server.batching import Busy
from ragtune.server.turns import Turns


def test_a_thousand_at_once_are_a_few_threads_and_the_rest_is_told_at_once_to_come_again() -> None:
    turns, gate = Turns(2, max_waiting=5), threading.Event()
    most = 0

    def search(number: int) -> int:
        nonlocal most
        most = max(most, turns.running)
        assert gate.wait(10)
        return number

    async def ask() -> list[object]:
        asked = [asyncio.ensure_future(turns.run(search, number)) for number in range(1000)]
        begun = time.monotonic()
        while sum(one.done() for one in asked) < 993:
            await asyncio.sleep(0.005)
        refused_s = time.monotonic() - begun
        assert (turns.running, turns.waiting) == (2, 5)
        gate.set()
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert refused_s < 2
        return ends

    ends = asyncio.run(ask())
    assert ends[:7] == [0, 1, 2, 3, 4, 5, 6]
    assert all(isinstance(end, Busy) and end.retry_after_s >= 1 for end in ends[7:])
    assert most == 2
    assert (turns.running, turns.waiting) == (0, 0)


def test_one_whose_caller_goes_while_it_waits_is_never_called_and_frees_its_place() -> None:
    turns, gate, called = Turns(1, max_waiting=1), threading.Event(), []

    async def ask() -> None:
        first = asyncio.ensure_future(turns.run(gate.wait, 10))
        second = asyncio.ensure_future(turns.run(called.append, "second"))
        await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await turns.run(called.append, "too many")
        second.cancel()
        await asyncio.sleep(0.01)
        third = asyncio.ensure_future(turns.run(called.append, "third"))
        await asyncio.sleep(0.01)
        gate.set()
        await asyncio.gather(first, third)

    asyncio.run(ask())
    assert called == ["third"]


def test_the_callers_context_is_in_force_and_errors_come_back() -> None:
    turns, who = Turns(1), contextvars.ContextVar("who", default="nobody")

    async def ask() -> str:
        who.set("me")
        with pytest.raises(KeyError):
            await turns.run({}.__getitem__, "x")
        return await turns.run(who.get)

    assert asyncio.run(ask()) == "me"
    assert turns.waiting == 0


def test_after_close_nothing_is_taken() -> None:
    turns = Turns(1)
    turns.close()
    with pytest.raises(Busy):
        asyncio.run(turns.run(int))
    assert turns.waiting == 0
