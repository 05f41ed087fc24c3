"""Server-sent events: how they are written on the wire, and a response that knows when its reader has gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

DONE = "data: [DONE]\n\n"
"""What ends a stream of OpenAI's."""
ALIVE = ": still here\n\n"
"""A comment, which clients pass over and which keeps proxies from closing a silent stream."""


def frame(data: Any, event: str = "") -> str:
    """Return one event; its name goes before its data where it has one."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    lines = "".join(f"data: {line}\n" for line in text.split("\n"))
    return (f"event: {event}\n" if event else "") + lines + "\n"


class EventStream(StreamingResponse):
    """Events as they come. ``on_end`` is called once when the last was sent, or the reader has gone."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], on_end: Callable[[], None] = lambda: None) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()
