"""A service and those who watch it."""

from __future__ import annotations

import gc
import queue
import weakref
from pathlib import Path
from typing import Any

import pytest
from served_home import ANSWER, QUESTION, open_served

from ragtune.errors import RecipeError
from ragtune.recipe.load import check_recipe
from ragtune.server.service import Asking, Done, Found, check_answer_tokens


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


def test_an_index_that_was_replaced_is_let_go(tmp_path: Path) -> None:
    service = open_served(tmp_path)
    service.search(QUESTION, 1, tenant="company = 'Coil'")
    old = weakref.ref(service.index)
    service.reload_index()
    gc.collect()
    assert old() is None
    assert service.guardrails.check_question(QUESTION).refusal == ""
    assert service.close(5)


def test_answers_longer_than_the_model_reads_are_refused_at_the_start() -> None:
    recipe = check_recipe({"server": {"max_answer_tokens": 500}, "generator": {"max_prompt_tokens": 3600}}, "test")
    check_answer_tokens(recipe, 4100)
    with pytest.raises(RecipeError, match="at most 496"):
        check_answer_tokens(recipe, 4096)
