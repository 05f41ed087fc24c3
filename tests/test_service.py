"""A service and those who watch it."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

from served_home import ANSWER, QUESTION, open_served

from ragtune.server.service import Asking, Done, Found


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
