"""A service as it is opened, and those who watch it."""

from __future__ import annotations

import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from served_home import ANSWER, QUESTION, open_served

from ragtune.server.service import Asking, Done, Found, comparable_id


@pytest.mark.parametrize(("edits", "wanted"), [
    ({}, "i"), ({"added": [], "removed": []}, "i"), ({"added": ["/up/A.pdf"], "removed": []}, ""),
    ({"removed": ["B.pdf"]}, "")])
def test_a_server_starts_again_after_an_upload_with_the_run_of_before(edits: dict[str, Any], wanted: str) -> None:
    assert comparable_id(SimpleNamespace(id="i", manifest={"edits": edits})) == wanted  # type: ignore[arg-type]


class Failing:
    """A watcher that breaks where an answer ends."""

    def searched(self, *_: Any) -> None:
        pass

    def asked(self, *_: Any) -> Any:
        def end(event: Any) -> None:
            raise ZeroDivisionError

        return end


def test_a_watcher_that_breaks_keeps_nobody_from_their_answer(tmp_path: Path) -> None:
    service = open_served(tmp_path)
    service.watchers.append(Failing())
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    service.ask(Asking(QUESTION), heard.put)
    events = [heard.get(timeout=10)]
    while not isinstance(events[-1], (Done, BaseException)):
        events.append(heard.get(timeout=10))
    assert isinstance(events[0], Found)
    assert events[-1].answer.text == ANSWER
    assert service.close(5)
