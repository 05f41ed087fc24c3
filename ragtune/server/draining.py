"""An orderly end: at the first signal no new requests, those on their way finish in time; a second signal ends at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)
TICK_S = 0.05
CLOSING_S = 5.0
"""What connections get to close once no request is left, or time is over."""


@dataclass
class Drain:
    """Whether a server is stopping and how many requests it still answers; any thread may ask."""

    seconds: float = 30.0
    in_flight: int = 0
    begun: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_on(self) -> bool:
        """Whether no new request is taken."""
        return self.begun is not None

    @property
    def left_s(self) -> float:
        """Seconds that requests on their way still get; all of them while the server does not stop."""
        return self.seconds if self.begun is None else max(0.0, self.begun + self.seconds - time.monotonic())

    def begin(self) -> None:
        """Take no more requests from now on."""
        if self.begun is None:
            self.begun = time.monotonic()

    def enter(self) -> bool:
        """Count a request in; False where none is taken any more."""
        with self._lock:
            if self.is_on:
                return False
            self.in_flight += 1
            return True

    def leave(self) -> None:
        """Count a request out."""
        with self._lock:
            self.in_flight -= 1


def run_server(app: Any, drain: Drain, host: str, port: int, sockets: Any = None, **settings: Any) -> int:
    """Serve an application until a signal ends it, and return the exit code: 0 after an orderly end.

    The first SIGTERM or SIGINT begins the drain: the sockets stay open so that whoever comes is told to go elsewhere (503),
    and once the last request is answered, or ``drain.seconds`` are over, connections and the application are closed. A
    second signal ends the process at once, with 128 + its number. ``settings`` are uvicorn's.
    """
    server = open_server(app, drain, host, port, **settings)
    server.run(sockets=sockets)
    return 0 if server.started else 3


def open_server(app: Any, drain: Drain, host: str, port: int, **settings: Any) -> Any:
    """Return uvicorn's server, draining as ``run_server`` says; nothing listens yet."""
    import uvicorn

    from ragtune.server.patience import patient_protocol

    class DrainingServer(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if drain.is_on:
                os._exit(128 + sig)  # threads that search or write would hold up every other way to end
            logger.info("%s: %d requests on their way are finished within %g s", signal.Signals(sig).name, drain.in_flight,
                        drain.seconds)
            drain.begin()

        async def on_tick(self, counter: int) -> bool:
            """uvicorn's pulse, ten times a second: the server goes on until the drain is over."""
            if drain.is_on:
                while drain.in_flight and drain.left_s:
                    await asyncio.sleep(TICK_S)
                if drain.in_flight:
                    logger.warning("%d requests were not finished within %g s and are ended", drain.in_flight, drain.seconds)
                self.should_exit = True
            return await super().on_tick(counter)

    settings = {"log_config": None, "access_log": False, "server_header": False, "timeout_keep_alive": 30,
                "timeout_graceful_shutdown": round(CLOSING_S), "http": patient_protocol(), **settings}
    return DrainingServer(uvicorn.Config(app, host=host, port=port, **settings))
