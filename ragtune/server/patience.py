"""How long is waited for a request: for its head by the connection, for its body by the shield (server.limits).

uvicorn waits for ever, so that a few thousand connections that say a letter a minute would keep everybody else out.
"""

from __future__ import annotations

import asyncio
from typing import Any

HEAD_S = 20.0
"""Seconds from a connection's beginning, or from the first byte after an answer, until the head of a request is there."""
PAUSE_S = 30.0
"""Seconds without a byte of a body."""
BYTES_A_SECOND = 32 << 10
"""So fast a body has to come on the whole, PAUSE_S aside; it is half a megabit."""


def allowed_seconds(size: int) -> float:
    """Return how many seconds a body may take of which so many bytes have come."""
    return PAUSE_S + size / BYTES_A_SECOND


def patient_protocol(head_s: float = HEAD_S) -> type[Any]:
    """Return uvicorn's HTTP protocol, httptools' or h11's, with an end to its patience."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Patient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        """Closes a connection on which no request comes to be."""

        _until: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_answering():
                self._wait_no_more()
            elif self._until is None and not self.transport.is_closing():
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait_no_more()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait_no_more()  # from here uvicorn's timeout_keep_alive counts, until the next byte

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            self._until = asyncio.get_running_loop().call_later(head_s, self._end)

        def _wait_no_more(self) -> None:
            if self._until is not None:
                self._until.cancel()
                self._until = None

        def _end(self) -> None:
            self._until = None
            if not self._is_answering() and not self.transport.is_closing():
                self.transport.close()

    return Patient
