"""What is turned away before any route sees it: hosts, origins, rates, sizes; and what a browser is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from ragtune.recipe.schema import Recipe, Server
from ragtune.server import limits
from ragtune.server.auth import Gate
from ragtune.server.draining import Drain, open_server
from ragtune.server.errors import install_errors
from ragtune.server.keys import Keys, open_keys
from ragtune.server.limits import Buckets, Shield, host_of, is_public, protect
from ragtune.server.patience import PAUSE_S, allowed_seconds, patient_protocol
from ragtune.server.state import State


def make_app(tmp_path: Path, **server: Any) -> tuple[FastAPI, Keys, Any]:
    recipe = Recipe(server=Server(**server))
    keys = open_keys(recipe, tmp_path)
    state = State(None, recipe, tmp_path, keys=Gate(recipe.server, keys))  # type: ignore[arg-type]
    app = FastAPI()
    app.state.ragtune = state
    counts = protect(app, state)
    install_errors(app)

    @app.post("/v1/echo")
    @app.post("/v1/documents")
    async def echo(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/v1/json")
    def read(body: dict[str, Any]) -> dict[str, Any]:
        return body

    @app.get("/v1/thing")
    @app.get("/health")
    def thing() -> dict[str, str]:
        return {"thing": "here"}

    return app, keys, counts


def send(app: FastAPI, *requests: tuple[str, str, dict[str, Any]], client: str = "127.0.0.1") -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as opened:
            return [await opened.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(ask())


async def chunked(size: int, part: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, size, part):
        yield b"x" * min(part, size - start)


def test_buckets_refill_and_say_when_to_come_again() -> None:
    now = [0.0]
    buckets = Buckets(6, lambda: now[0])
    assert [buckets.take("a") for _ in range(6)] == [0.0] * 6
    assert buckets.take("a") == pytest.approx(10.0)
    assert buckets.take("b") == 0.0
    now[0] = 9.9
    assert buckets.take("a") == pytest.approx(0.1)
    now[0] = 10.0
    assert buckets.take("a") == 0.0
    now[0] = 10_000.0
    assert [buckets.take("a") for _ in range(7)][-1] == pytest.approx(10.0), "no more is saved than a minute's"
    assert Buckets(0).take("a") == 0.0
    buckets.most = 3
    for name in "cdefg":
        buckets.take(name)
    assert len(buckets._left) <= 3 + 1


def test_too_many_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    app, keys, counts = make_app(tmp_path, requests_per_minute=3)
    answers = send(app, *[("GET", "/v1/thing", {})] * 4, ("GET", "/health", {}))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 200]
    assert int(answers[3].headers["retry-after"]) in (19, 20)
    assert answers[3].json()["error"]["code"] == "rate_limit_exceeded"
    assert counts == Counter(rate_limit_exceeded=1)
    one, two = ({"headers": {"x-api-key": keys.add(name)}} for name in ("one", "two"))
    answers = send(app, *[("GET", "/v1/thing", one)] * 4, ("GET", "/v1/thing", two))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 200], "each key by itself"


def test_wrong_keys_are_not_looked_up_for_ever(tmp_path: Path) -> None:
    app, keys, _ = make_app(tmp_path)
    good = {"headers": {"x-api-key": keys.add("one")}}
    wrong = {"headers": {"x-api-key": "rt-" + "A" * 43}}
    answers = send(app, *[("GET", "/v1/thing", wrong)] * 32, ("GET", "/v1/thing", good))
    assert [answer.status_code for answer in answers] == [401] * 30 + [429] * 2 + [200]


@pytest.mark.parametrize("path", ["/v1/echo", "/v1/json"])
def test_bodies_that_are_too_large_are_not_read(tmp_path: Path, path: str) -> None:
    app, _, counts = make_app(tmp_path, max_body_mb=1)
    limit = 1 << 20
    answers = send(
        app,
        ("POST", path, {"content": b"x" * (limit + 1)}),
        ("POST", path, {"content": chunked(limit + 1)}),
        ("POST", path, {"content": chunked(30 * limit)}),
        ("POST", path, {"content": b"{}", "headers": {"content-length": "99999999999"}}),
        ("POST", path, {"content": b"{}", "headers": {"content-length": "-1"}}),
        ("POST", path, {"content": b"{}", "headers": {"content-length": "2e1"}}),
    )
    assert [answer.status_code for answer in answers] == [413, 413, 413, 413, 400, 400]
    assert all(answer.json()["error"]["message"] for answer in answers)
    assert answers[1].json()["error"]["request_id"] == answers[1].headers["x-request-id"]
    assert counts["request_too_large"] == 4
    fine = send(app, ("POST", "/v1/echo", {"content": b"x" * limit}), ("POST", "/v1/echo", {"content": chunked(limit)}))
    assert [answer.json() for answer in fine] == [{"bytes": limit}] * 2


def test_uploads_may_be_larger_and_nothing_else(tmp_path: Path) -> None:
    app, _, _ = make_app(tmp_path, max_body_mb=1, max_upload_mb=3)
    sizes = [2 << 20, 3 << 20, 4 << 20]
    answers = send(
        app,
        *[("POST", "/v1/documents", {"content": chunked(size)}) for size in sizes],
        ("POST", "/v1/echo", {"content": chunked(sizes[0])}),
        ("GET", "/v1/documents", {"content": chunked(sizes[0])}),
    )
    assert [answer.status_code for answer in answers] == [200, 200, 413, 413, 405]


def test_an_open_server_answers_no_page_of_somewhere_else(tmp_path: Path) -> None:
    app, keys, counts = make_app(tmp_path, cors_origins=("https://app.example",))

    def ask(method: str = "POST", **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return send(app, (method, "/v1/echo" if method == "POST" else "/v1/thing", {"headers": named}))[0].status_code

    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "evil.example:80@127.0.0.1",
        "",
        "[::2]",
    ):
        assert ask("GET", host=host) == 403, host
    for host in ("localhost", "localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST."):
        assert ask("GET", host=host) == 200, host
    assert counts["foreign_host"] == 6
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost.evil.example"):
        assert ask(origin=origin) == 403, origin
        assert ask("GET", origin=origin) == 200, "a page cannot read what it gets without CORS"
    assert ask(origin="http://127.0.0.1:8000") == 200
    assert ask(origin="https://app.example") == 200
    assert ask(sec_fetch_site="cross-site") == 403
    assert ask(sec_fetch_site="same-origin") == 200
    assert ask() == 200, "clients that are no browsers"
    key = keys.add("one")
    assert ask("GET", host="public.example", x_api_key=key) == 200, "a key says who asks"


def test_others_than_this_machine_are_told_nothing_without_keys(tmp_path: Path) -> None:
    app, _, _ = make_app(tmp_path, host="0.0.0.0")
    answers = send(app, ("GET", "/v1/thing", {}), ("GET", "/health", {}), client="10.0.0.9")
    assert [answer.status_code for answer in answers] == [401, 200]


def test_other_origins_are_let_in_by_name_alone(tmp_path: Path) -> None:
    preflight = {
        "headers": {
            "origin": "https://app.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
    }
    closed, _, _ = make_app(tmp_path / "closed")
    answer = send(closed, ("OPTIONS", "/v1/echo", preflight))[0]
    assert not [name for name in answer.headers if name.startswith("access-control")]
    app, keys, _ = make_app(tmp_path, cors_origins=("https://app.example",))
    keys.add("one")
    answer, refused = send(
        app, ("OPTIONS", "/v1/echo", preflight), ("GET", "/v1/thing", {"headers": {"origin": "https://app.example"}})
    )
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert "access-control-allow-credentials" not in answer.headers
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://app.example")
    other = send(app, ("GET", "/v1/thing", {"headers": {"origin": "https://evil.example"}}))[0]
    assert "access-control-allow-origin" not in other.headers


def test_every_answer_tells_browsers_what_not_to_do(tmp_path: Path) -> None:
    app, _, _ = make_app(tmp_path)
    for answer in send(
        app,
        ("GET", "/v1/thing", {}),
        ("GET", "/nothing", {}),
        ("GET", "/docs", {}),
        ("GET", "/v1/thing", {"headers": {"host": "evil.example"}}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "object-src 'none'" in answer.headers["content-security-policy"] or answer.url.path == "/docs"
    assert send(app, ("GET", "/v1/thing", {}))[0].headers["cache-control"] == "no-store"


async def trickled(parts: int, seconds: float) -> AsyncIterator[bytes]:
    for _ in range(parts):
        await asyncio.sleep(seconds)
        yield b" "


def test_bodies_that_come_too_slowly_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, _, counts = make_app(tmp_path)
    monkeypatch.setattr(limits, "PAUSE_S", 0.1)
    monkeypatch.setattr(limits, "allowed_seconds", lambda size: 0.3)
    paused, slow, fine = (
        send(app, ("POST", path, {"content": trickled(parts, seconds)}))[0]
        for path, parts, seconds in (("/v1/echo", 2, 0.4), ("/v1/json", 50, 0.02), ("/v1/echo", 5, 0.01))
    )
    assert [answer.status_code for answer in (paused, slow, fine)] == [408, 408, 200]
    assert paused.json()["error"]["code"] == "request_timeout"
    assert paused.headers["connection"] == "close"
    assert counts["request_timeout"] == 2
    assert allowed_seconds(0) == PAUSE_S < allowed_seconds(1 << 20) < 100


def test_connections_that_say_nothing_or_little_are_closed(tmp_path: Path) -> None:
    app, _, _ = make_app(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    server = open_server(app, Drain(), "127.0.0.1", 0, http=patient_protocol(0.3))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()

    def talk(parts: list[bytes], pause_s: float = 0.0) -> tuple[bytes, float]:
        begun = time.monotonic()
        with socket.create_connection(listener.getsockname()) as connection:
            connection.settimeout(5)
            said = b""
            with contextlib.suppress(OSError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause_s)
                while block := connection.recv(4096):
                    said += block
        return said, time.monotonic() - begun

    ask = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    try:
        for parts, pause_s in (([], 0.0), ([b"GET /hea"], 0.0), ([ask[place : place + 1] for place in range(30)], 0.05)):
            said, seconds = talk(parts, pause_s)
            assert said == b""
            assert 0.2 < seconds < 3
        said, _ = talk([ask + b"Connection: close\r\n\r\n"])
        assert b"200 OK" in said
        said, seconds = talk([ask + b"\r\n", b"GET /hea"], 0.5)
        assert b"200 OK" in said, "what was asked in time is answered"
        assert seconds < 4, "and the connection is closed although something was said after it"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.mark.parametrize(
    ("header", "host"), [("a.b:80", "a.b"), ("[::1]:8000", "[::1]"), ("A.B", "a.b"), ("a@b", "a@b"), ("", "")]
)
def test_hosts(header: str, host: str) -> None:
    assert host_of(header) == host


def test_public_paths() -> None:
    assert all(map(is_public, ("/", "/health", "/ready", "/static/app.js", "/openapi.json")))
    assert not any(map(is_public, ("/v1/models", "/metrics", "/static/../v1/models", "/staticx", "/health/x", "//health")))


def test_there_are_no_websockets(tmp_path: Path) -> None:
    sent: list[Any] = []

    async def keep(message: Any) -> None:
        sent.append(message)

    gate = Gate(Server(), open_keys(Recipe(), tmp_path))
    asyncio.run(Shield(None, gate, Counter())({"type": "websocket"}, None, keep))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_database_of_keys_that_hangs_holds_up_only_those_it_must_tell_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, keys, _ = make_app(tmp_path)
    answers, entries = threading.Event(), keys.entries

    def hang() -> Any:
        assert answers.wait(10)
        return entries()

    monkeypatch.setattr(keys, "entries", hang)
    monkeypatch.setattr(Keys, "is_remote", True)

    async def ask() -> None:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as opened:
            told = asyncio.ensure_future(opened.get("/v1/thing"))
            await asyncio.sleep(0.01)
            assert (await opened.get("/health")).status_code == 200
            assert not told.done()
            answers.set()
            assert (await told).status_code == 200

    asyncio.run(ask())
