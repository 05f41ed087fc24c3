"""Micro-batches: requests that wait at the same time are written together, each speaking to its own listener."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ragtune.errors import ModelError, RagtuneError
from ragtune.models.streaming import Streamer, Wish, Written

logger = logging.getLogger(__name__)


class Busy(RagtuneError):
    """More requests wait than the server takes; ``retry_after_s`` says when to come again."""

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(f"{waiting} requests are waiting, which is as many as this server takes. Come again in "
                         f"{retry_after_s:.0f} s, or raise server.max_waiting.")
        self.retry_after_s = retry_after_s


@dataclass
class Ticket:
    """One request on its way. ``on_piece`` and ``on_end`` are called from the writing thread and must not block.

    ``on_end`` gets what was written, or the error.
    """

    wish: Wish
    on_piece: Callable[[str], None]
    on_end: Callable[[Written | BaseException], None]
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """No longer want it: a waiting one is dropped, a written one ends at its next token."""
        self.cancelled.set()


class Batcher:
    """A thread that takes what waits, by sampling and adapter alike, and has the engine write it in one batch; of an engine
    that waits for others, like a provider's, ``writers`` threads.

    A batch takes at most ``max_batch`` requests and waits ``wait_s`` for company; beyond ``max_waiting`` requests in the
    queue ``submit`` raises Busy. Requests are served in their order, save that those alike go together. ``listeners`` are
    called, in the writing thread, with the size of each batch, the seconds it took and its error or None.
    """

    def __init__(self, engine: Streamer, max_batch: int, max_waiting: int, wait_s: float = 0.005,
                 writers: int = 1) -> None:
        self.engine = engine
        self._max_batch, self._max_waiting, self._wait_s = max_batch, max_waiting, wait_s
        self._waiting: list[Ticket] = []
        self._writing: list[Ticket] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._seconds = 0.5  # a batch took lately
        self._begun: list[float] = []
        self.listeners: list[Callable[[int, float, BaseException | None], None]] = []
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()
        self._others = [threading.Thread(target=self._run, name=f"writer {n}", daemon=True) for n in range(2, writers + 1)]
        for other in self._others:
            other.start()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def writing(self) -> int:
        """How many are being written."""
        return len(self._writing)

    @property
    def is_alive(self) -> bool:
        """Whether the writing thread lives."""
        return self._thread.is_alive()

    @property
    def writing_s(self) -> float:
        """For how many seconds the oldest batch at hand has been written; 0 where there is none."""
        now = time.perf_counter()
        return now - min(self._begun, default=now)

    def check_room(self) -> None:
        """Raise Busy where ``submit`` would: before work is done for a request that cannot be queued."""
        with self._changed:
            waiting = sum(not ticket.cancelled.is_set() for ticket in self._waiting)  # who has gone takes no place
            if self._is_closed or waiting >= self._max_waiting:
                batches = 1 + waiting / self._max_batch
                raise Busy(waiting, max(1.0, batches * self._seconds))

    def submit(self, ticket: Ticket) -> Ticket:
        """Queue a request. Raises Busy where the queue is full or the server is closing."""
        with self._changed:
            self.check_room()
            self._waiting.append(ticket)
            self._changed.notify_all()
        return ticket

    def close(self, drain_s: float = 30.0) -> bool:
        """Take no more, finish what waits and return whether all of it was within ``drain_s``; the rest is cancelled."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if not self._join(drain_s):
            with self._changed:
                left = [*self._waiting, *self._writing]
            for ticket in left:
                ticket.cancel()
            self._join(5.0)
            return not left
        return True

    def _join(self, seconds: float) -> bool:
        """Wait for the threads to end; return whether they have."""
        deadline = time.monotonic() + seconds
        for thread in (self._thread, *self._others):
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in (self._thread, *self._others))

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            if batch:
                self._write(batch)

    def _take(self) -> list[Ticket] | None:
        """Return the next batch, None when closed and done."""
        with self._changed:
            while not self._waiting:
                if self._is_closed:
                    return None
                self._changed.wait()
            if len(self._waiting) < self._max_batch and not self._is_closed:
                self._changed.wait_for(lambda: len(self._waiting) >= self._max_batch or self._is_closed, self._wait_s)
            gone = [ticket for ticket in self._waiting if ticket.cancelled.is_set()]
            self._waiting = [ticket for ticket in self._waiting if all(ticket is not other for other in gone)]
            batch: list[Ticket] = []
            if self._waiting:
                first = self._waiting[0].wish
                alike = [t for t in self._waiting if (t.wish.adapter, t.wish.sampling) == (first.adapter, first.sampling)]
                batch = alike[: 1 if first.is_seeded else self._max_batch]
                self._waiting = [ticket for ticket in self._waiting if all(ticket is not other for other in batch)]
            self._writing = [*self._writing, *batch]
        for ticket in gone:  # with the lock let go: whoever is told may ask, and nobody waits for it
            _tell(ticket, Written("", 0, 0, "cancelled"))
        return batch

    def _write(self, batch: list[Ticket]) -> None:
        begun = time.perf_counter()
        self._begun.append(begun)
        failed: BaseException | None = None

        def say(place: int, piece: str) -> bool:
            if piece:
                with contextlib.suppress(Exception):
                    batch[place].on_piece(piece)
            return not batch[place].cancelled.is_set()

        try:
            written: list[Written | BaseException] = list(self.engine.stream([ticket.wish for ticket in batch], say))
            if len(written) != len(batch):  # else some would wait until their time is over
                raise ModelError(f"the engine wrote {len(written)} texts of {len(batch)} that were asked for")
        except BaseException as error:  # one bad batch must not end the server
            if not isinstance(error, RagtuneError):
                logger.exception("a batch of %d failed", len(batch))
            written, failed = [error] * len(batch), error
        took = time.perf_counter() - begun
        self._seconds = 0.7 * self._seconds + 0.3 * took
        with self._changed:
            self._writing = [ticket for ticket in self._writing if all(ticket is not other for other in batch)]
            self._begun.remove(begun)
        for listener in self.listeners:
            with contextlib.suppress(Exception):
                listener(len(batch), took, failed)
        for ticket, each in zip(batch, written):
            _tell(ticket, each)


def _tell(ticket: Ticket, end: Written | BaseException) -> None:
    with contextlib.suppress(Exception):
        ticket.on_end(end)


def write_now(batcher: Batcher, wish: Wish, timeout_s: float = 600.0) -> Written:
    """Return one completion, whole. Raises what writing it raised, Busy, TimeoutError."""
    ends: queue.SimpleQueue[Written | BaseException] = queue.SimpleQueue()
    ticket = batcher.submit(Ticket(wish, lambda piece: None, ends.put))
    try:
        end = ends.get(timeout=timeout_s)
    except queue.Empty:
        ticket.cancel()
        raise TimeoutError(f"no answer within {timeout_s:.0f} s") from None
    if isinstance(end, BaseException):
        raise end
    return end
