"""The server's log: one JSON object a line, ids bound across threads, and neither questions nor secrets in it."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.server.logs import JsonLines, bound_request, install_logs, log_request, note, noted


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in ("ragtune", "ragtune.server")}
    out = io.StringIO()
    install_logs(stream=out)
    yield out
    root.handlers[:], root.level = before[0], before[1]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_has_one_line_with_its_id_and_counts_and_without_its_question(stream: io.StringIO) -> None:
    with bound_request("req_1") as notes:
        note(question="What did Norvane earn?", model="demo-base", passages=3, caller="reader", is_fallback=None)
        log_request(notes, method="POST", route="/v1/ask", status=200, ms=12.5)
    (line,) = lines(stream)
    time = str(line.pop("time"))
    assert time.endswith("+00:00")
    assert line == {"level": "info", "logger": "ragtune.server.requests", "request_id": "req_1",
                    "message": "POST /v1/ask 200", "method": "POST", "route": "/v1/ask", "status": 200, "ms": 12.5,
                    "model": "demo-base", "passages": 3, "caller": "reader"}


def test_the_question_is_a_field_where_that_is_wanted() -> None:
    handler = JsonLines(has_questions=True)
    record = logging.LogRecord("ragtune.server.requests", logging.INFO, "", 0, "GET / 200", (), None)
    with bound_request("a"):
        note(question="Why?")
        assert json.loads(handler.format(record))["question"] == "Why?"


def test_a_failed_request_is_an_error_and_a_stopping_server_is_not(stream: io.StringIO) -> None:
    with bound_request("a") as notes:
        for status in (500, 503, 429, 404):
            log_request(notes, method="GET", route="/", status=status, ms=1)
    assert [line["level"] for line in lines(stream)] == ["error", "info", "info", "info"]


def test_the_id_is_bound_in_threads_that_copy_their_context_and_nowhere_else(stream: io.StringIO) -> None:
    import contextvars

    def work() -> None:
        note(seen=True)
        logging.getLogger("ragtune.server").warning("at work")

    with bound_request("req_7") as notes:
        context = contextvars.copy_context()
        for target in (lambda: context.run(work), work):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        assert notes["seen"] is True
    assert [line.get("request_id") for line in lines(stream)] == ["req_7", None]
    assert noted() is None


def test_neither_question_nor_secret_is_in_a_line_or_a_traceback(stream: io.StringIO) -> None:
    question = 'What did "Norvane"\nearn in 2021?'
    secrets = ["sk-abcdefghijklmnop1234", "s3cr3t/word", "hunter2hunter2"]
    with bound_request("a"):
        note(question=question)
        try:
            raise ValueError(f"no answer to {question!r} at postgresql://ragtune:{secrets[2]}@database/x")
        except ValueError:
            logging.getLogger("ragtune.server").exception("asked %s with Authorization: Bearer %s", question, secrets[1])
        logging.getLogger("ragtune.server").warning("the key %s; api_key='%s'; %s", secrets[0], secrets[1],
                                                    json.dumps({"password": secrets[2], "question": question}))
    text = stream.getvalue()
    assert len(lines(stream)) == 2
    assert "ValueError: no answer to" in text
    assert "[question]" in text
    assert "@database/x" in text
    for word in ("Norvane", "2021", *secrets):
        assert word not in text


def test_other_parts_say_only_what_is_wrong(stream: io.StringIO) -> None:
    logging.getLogger("ragtune.answering.answerer").info("answered 'a question'")
    logging.getLogger("uvicorn.access").info("127.0.0.1 GET /?question=x")
    logging.getLogger("some.library").info("hello")
    logging.getLogger("ragtune.server.app").info("stopping")
    logging.getLogger("some.library").warning("careful")
    assert [line["message"] for line in lines(stream)] == ["stopping", "careful"]


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_line_is_one_line_of_json_whatever_is_said(question: str, said: str) -> None:
    record = logging.LogRecord("ragtune.server", logging.WARNING, "", 0, "%s", (said,), None)
    with bound_request("a"):
        note(question=question)
        line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["request_id"] == "a"
