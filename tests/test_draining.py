"""The end of a server, by real signals to a real process: what was begun is finished, and the exit code tells it."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
APP = """
import asyncio, socket, sys
from ragtune.server.draining import Drain, run_server

drain = Drain(float(sys.argv[1]))

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        print("closed", flush=True)
        return await send({"type": "lifespan.shutdown.complete"})
    is_taken = drain.enter()
    await send({"type": "http.response.start", "status": 200 if is_taken else 503, "headers": []})
    try:
        for _ in range(int(scope["path"][1:]) if is_taken else 0):
            await send({"type": "http.response.body", "body": b"more ", "more_body": True})
            await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"end"})
    finally:
        if is_taken:
            drain.leave()

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.exit(run_server(app, drain, "127.0.0.1", 0, sockets=[listener]))
"""


@contextlib.contextmanager
def running(drain_s: float) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen([sys.executable, "-c", APP, str(drain_s)], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            wait_for(lambda: fetch(port, 0).endswith("end"))
            yield process, port
        finally:
            process.kill()


def wait_for(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def fetch(port: int, pieces: int) -> str:
    """Return all that is sent for one request, as it stands on the wire."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"GET /{pieces} HTTP/1.0\r\n\r\n".encode())
        said = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(4096):
                said += piece
        return said.decode()


class Stream:
    """A response of many pieces on its way; begun when this is made."""

    def __init__(self, port: int, pieces: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.connection.sendall(f"GET /{pieces} HTTP/1.0\r\n\r\n".encode())
        self.said = self.connection.recv(4096).decode()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := self.connection.recv(4096):
                self.said += piece.decode()

    def end(self) -> str:
        self.thread.join(60)
        self.connection.close()
        return self.said


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_streams_are_finished_newcomers_sent_away_and_the_exit_code_is_0(by: signal.Signals) -> None:
    with running(30) as (process, port):
        stream = Stream(port, 20)
        process.send_signal(by)
        wait_for(lambda: " 503 " in fetch(port, 0).split("\r\n")[0])
        assert process.poll() is None
        assert stream.end().count("more ") == 20
        assert stream.said.endswith("end")
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert "closed" in process.stdout.read()


def test_what_takes_longer_than_the_drain_is_ended() -> None:
    with running(0.3) as (process, port):
        stream = Stream(port, 1000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not stream.end().endswith("end")


def test_a_second_signal_ends_it_at_once() -> None:
    with running(60) as (process, port):
        stream = Stream(port, 1000)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: " 503 " in fetch(port, 0).split("\r\n")[0])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        stream.end()


def test_an_idle_server_ends_at_once() -> None:
    with running(60) as (process, _):
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert time.monotonic() - begun < 20
