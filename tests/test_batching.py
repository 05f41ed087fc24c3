"""Micro-batches: who goes together, who is told to come again, who is dropped, what an error or a close leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ragtune.errors import ModelError
from ragtune.models.streaming import Say, Wish, Written
from ragtune.records import Message
from ragtune.seams import Sampling
from ragtune.server.batching import Batcher, Busy, Ticket, write_now


class Engine:
    """Writes what it was asked, letter by letter, when the gate is open."""

    name, context_tokens = "letters", 1000

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[str]] = []
        self.error: BaseException | None = None

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(messages[-1]["content"])

    def stream(self, wishes: Sequence[Wish], say: Say) -> list[Written]:
        self.batches.append([wish.messages[-1]["content"] for wish in wishes])
        assert self.gate.wait(10)
        if self.error:
            raise self.error
        texts, ends = [""] * len(wishes), ["stop"] * len(wishes)
        for step in range(max(len(asked) for asked in self.batches[-1])):
            for place, asked in enumerate(self.batches[-1]):
                if step < len(asked) and ends[place] == "stop":
                    texts[place] += asked[step]
                    ends[place] = "stop" if say(place, asked[step]) else "cancelled"
        return [Written(text, 1, len(text), end) for text, end in zip(texts, ends)]  # type: ignore[arg-type]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def batcher(engine: Engine) -> Iterator[Batcher]:
    made = Batcher(engine, max_batch=3, max_waiting=5, wait_s=0.001)
    yield made
    engine.gate.set()
    made.close(5)


class Asker:
    """Asks and remembers what came back."""

    def __init__(self, batcher: Batcher, text: str, **wish: Any) -> None:
        self.pieces: list[str] = []
        self.end: Any = None
        self.ended = threading.Event()
        asked = Wish([Message(role="user", content=text)], 9, **wish)
        self.ticket = batcher.submit(Ticket(asked, self.pieces.append, self._end))

    def _end(self, end: Any) -> None:
        self.end = end
        self.ended.set()

    def wait(self) -> Any:
        assert self.ended.wait(10)
        return self.end


def wait_until(batcher: Batcher, writing: int) -> None:
    for _ in range(1000):
        if batcher.writing == writing:
            return
        threading.Event().wait(0.005)
    raise AssertionError(f"{batcher.writing} are written, not {writing}")


def test_those_alike_go_together_in_their_order_and_each_hears_its_own(engine: Engine, batcher: Batcher) -> None:
    first = Asker(batcher, "first")
    wait_until(batcher, 1)
    drawn = Sampling(temperature=1.0)
    others = [Asker(batcher, "a"), Asker(batcher, "drawn", sampling=drawn), Asker(batcher, "bb"),
              Asker(batcher, "tuned", adapter=Path("run")), Asker(batcher, "ccc")]
    engine.gate.set()
    assert [asker.wait().text for asker in [first, *others]] == ["first", "a", "drawn", "bb", "tuned", "ccc"]
    assert engine.batches == [["first"], ["a", "bb", "ccc"], ["drawn"], ["tuned"]]
    assert ["".join(asker.pieces) for asker in others] == ["a", "drawn", "bb", "tuned", "ccc"]


def test_a_full_queue_says_when_to_come_again(engine: Engine, batcher: Batcher) -> None:
    askers = [Asker(batcher, "x")]
    wait_until(batcher, 1)
    askers += [Asker(batcher, "x") for _ in range(5)]
    with pytest.raises(Busy, match="5 requests are waiting.*Come again in 1 s") as busy:
        Asker(batcher, "x")
    assert busy.value.retry_after_s >= 1
    assert batcher.waiting == 5
    engine.gate.set()
    assert all(asker.wait().stop == "stop" for asker in askers)
    assert [len(batch) for batch in engine.batches] == [1, 3, 2]
    assert Asker(batcher, "again").wait().text == "again"


def test_who_no_longer_wants_it_is_dropped_from_the_queue_and_from_the_batch(engine: Engine, batcher: Batcher) -> None:
    writing = Asker(batcher, "writing")
    wait_until(batcher, 1)
    waiting, kept = Asker(batcher, "waiting"), Asker(batcher, "kept")
    waiting.ticket.cancel()
    writing.ticket.cancel()
    engine.gate.set()
    assert (writing.wait().stop, writing.wait().text) == ("cancelled", "w"), "it ends at its next token"
    assert (waiting.wait().stop, waiting.pieces) == ("cancelled", [])
    assert kept.wait().text == "kept"
    assert engine.batches == [["writing"], ["kept"]]


@pytest.mark.parametrize("error", [ModelError("too long"), ZeroDivisionError("a bug")])
def test_a_batch_that_fails_tells_its_own_and_the_next_is_served(engine: Engine, batcher: Batcher, error: Exception) -> None:
    engine.error = error
    failed = [Asker(batcher, "x"), Asker(batcher, "y")]
    engine.gate.set()
    assert [asker.wait() for asker in failed] == [error, error]
    engine.error = None
    assert Asker(batcher, "fine").wait().text == "fine"


def test_a_listener_that_raises_harms_nobody(engine: Engine, batcher: Batcher) -> None:
    def fail(_: Any) -> None:
        raise ValueError("the listener's own fault")

    batcher.submit(Ticket(Wish([Message(role="user", content="x")], 9), fail, fail))
    engine.gate.set()
    assert Asker(batcher, "fine").wait().text == "fine"


def test_closing_finishes_what_waits_and_takes_no_more(engine: Engine, batcher: Batcher) -> None:
    askers = [Asker(batcher, "abc") for _ in range(5)]
    engine.gate.set()
    assert batcher.close(5)
    assert [asker.wait().text for asker in askers] == ["abc"] * 5
    with pytest.raises(Busy):
        Asker(batcher, "late")


def test_nothing_was_left_unfinished_where_nothing_was_asked(batcher: Batcher) -> None:
    assert batcher.writing_s == 0
    assert batcher.close(0.0)


def test_what_does_not_end_in_time_is_cancelled(engine: Engine, batcher: Batcher) -> None:
    asker = Asker(batcher, "abc")
    wait_until(batcher, 1)
    closing = threading.Thread(target=lambda: closed.append(batcher.close(0.05)))
    closed: list[bool] = []
    closing.start()
    threading.Event().wait(0.2)
    engine.gate.set()
    closing.join(10)
    assert closed == [False]
    assert asker.wait().stop == "cancelled"


def test_one_completion_whole_or_none_in_time(engine: Engine, batcher: Batcher) -> None:
    wish = Wish([Message(role="user", content="whole")], 9)
    with pytest.raises(TimeoutError, match="within 0 s"):
        write_now(batcher, wish, 0.05)
    engine.gate.set()
    assert write_now(batcher, wish).text == "whole"


def test_an_engine_that_forgets_one_of_a_batch_leaves_nobody_waiting(batcher: Batcher, engine: Engine) -> None:
    real = engine.stream
    engine.stream = lambda wishes, say: real(wishes, say)[1:]  # type: ignore[method-assign]
    engine.gate.set()
    ends = [asker.wait() for asker in (Asker(batcher, "a"), Asker(batcher, "b"))]
    assert all(isinstance(end, ModelError) for end in ends)
    engine.stream = real  # type: ignore[method-assign]
    assert Asker(batcher, "c").wait().text == "c"


def test_who_is_told_that_it_was_dropped_holds_up_nobody(batcher: Batcher, engine: Engine) -> None:
    first = Asker(batcher, "first")
    wait_until(batcher, 1)
    told, go_on = threading.Event(), threading.Event()

    def slow(_: Any) -> None:
        told.set()
        assert go_on.wait(10)

    dropped = batcher.submit(Ticket(Wish([Message(role="user", content="x")], 9), lambda piece: None, slow))
    dropped.cancel()
    engine.gate.set()
    first.wait()
    assert told.wait(10)
    asked = threading.Thread(target=Asker, args=(batcher, "other"), daemon=True)
    asked.start()
    asked.join(5)
    assert not asked.is_alive(), "another cannot ask while somebody is told"
    go_on.set()
