"""A served assistant in little: six reports of a page, the extractive reader or a scripted one, uvicorn on a free port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tiny_home import COMPANIES, ITEMS

from ragtune.models.streaming import Say, Wish, Written
from ragtune.recipe.load import check_recipe
from ragtune.recipe.places import index_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Message
from ragtune.retrieval.search import open_searcher
from ragtune.server.service import Service
from ragtune.stages.index import run_index


def make_documents(home: Path) -> Path:
    """Write the reports of tiny_home and index them; return the folder."""
    (home / "documents").mkdir()
    for number, company in enumerate(COMPANIES):
        lines = [f"{item} $ {amount + 137 * number:,} $ {amount + 137 * number - 310:,}" for item, amount in ITEMS]
        (home / "documents" / f"{company.upper()}_2021_10K.md").write_text("\n".join(
            [f"# {company} Corp annual report", "", "Consolidated Statements of Income", "(in millions)", "2021 2020",
             *lines, ""]))
    run_index(served_recipe(home))
    return home


def served_recipe(home: Path, generator: str = "extractive", **sections: Any) -> Recipe:
    """Return the recipe of such a folder."""
    return check_recipe({"name": "t", "work": str(home / "work"), "index": {"embedder": "hash"},
                         "documents": {"folder": str(home / "documents"), "workers": 1},
                         "generator": {"model": generator}, **sections}, "test")


def questions() -> list[str]:
    """Return questions that the reports answer, no two alike."""
    return [f"What were {item.lower()} of {company} in fiscal {year}?" for company in COMPANIES for item, _ in ITEMS
            for year in (2021, 2020)]


class Scripted:
    """A generator that writes a given completion word by word, a word whenever ``gate`` is open."""

    name, context_tokens = "scripted", 4000

    def __init__(self, text: str = "Net sales 2021: 4,210 [1]\nAnswer: $4,210 million") -> None:
        self.text = text
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.ends: list[str] = []
        self.error: BaseException | None = None

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message["content"].split()) for message in messages)

    def stream(self, wishes: Sequence[Wish], say: Say) -> list[Written]:
        self.begun.set()
        if self.error:
            raise self.error
        written = []
        for place, wish in enumerate(wishes):
            words = [word + end for line in self.text.splitlines(keepends=True)
                     for word, end in zip(line.split(" "), [" "] * line.count(" ") + [""])]
            said, end = "", "stop" if len(words) <= wish.max_new_tokens else "length"
            for word in words[: wish.max_new_tokens]:
                while not self.gate.wait(0.02):
                    if not say(place, ""):
                        break
                if not say(place, word):
                    end = "cancelled"
                    break
                said += word
            self.ends.append(end)
            written.append(Written(said, self.count_tokens(wish.messages), len(said.split()), end))  # type: ignore[arg-type]
        return written


def open_scripted(home: Path, generator: Scripted, **sections: Any) -> Service:
    """Return a service over the reports that writes what is scripted."""
    recipe = served_recipe(home, "echo", **sections)
    return Service(recipe, open_searcher(index_folder(recipe), recipe.retrieval), generator, {})


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application on a free port of this machine; yield its URL."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does so only for sockets of proto 6
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def wait_for(holds: Any, seconds: float = 20.0) -> None:
    """Wait until something holds. Raises AssertionError where it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.01)
