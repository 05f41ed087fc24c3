"""Searches take turns: as many at once as there are processors, some more wait, the rest are told to come again."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ragtune.server.batching import Busy

Result = TypeVar("Result")


class Turns:
    """Threads of their own for work that keeps a processor busy, and a queue before them that is not without end.

    The event loop's own threads stay free for the rest, and a thousand searches at once are neither a thousand threads nor
    an endless wait: beyond ``most`` that run and ``max_waiting`` that wait, ``run`` raises Busy.
    """

    def __init__(self, most: int | None = None, max_waiting: int = 64, name: str = "search") -> None:
        self.most = most or max(2, os.cpu_count() or 2)
        self.max_waiting = max_waiting
        self.running = 0
        self._pending = 0
        self._seconds = 0.05  # one took lately
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(self.most, thread_name_prefix=name)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return max(0, self._pending - self.running)

    async def run(self, function: Callable[..., Result], *values: Any) -> Result:
        """Return what the function returns, called in one of the threads, in the caller's context. Raises Busy.

        One whose caller is cancelled while it waits is never called.
        """
        with self._lock:
            if self._pending >= self.most + self.max_waiting:
                raise Busy(self.waiting, max(1.0, self._seconds * self._pending / self.most))
            self._pending += 1
        context = contextvars.copy_context()
        try:
            future: Future[Result] = self._threads.submit(context.run, self._timed, function, values)
        except RuntimeError as error:  # the threads were closed
            self._leave(None)
            raise Busy(self.waiting, 5.0) from error
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def _timed(self, function: Callable[..., Result], values: tuple[Any, ...]) -> Result:
        begun = time.perf_counter()
        with self._lock:
            self.running += 1
        try:
            return function(*values)
        finally:
            with self._lock:
                self.running -= 1
                self._seconds = 0.9 * self._seconds + 0.1 * (time.perf_counter() - begun)

    def _leave(self, _: Future[Any] | None) -> None:
        with self._lock:
            self._pending -= 1

    def close(self) -> None:
        """Take no more; what waits is dropped, what runs goes on."""
        self._threads.shutdown(wait=False, cancel_futures=True)
