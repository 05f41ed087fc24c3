"""The client against a real server on this machine, and against one that fails in every way there is."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served_home import ANSWER, QUESTION, make_served

from ragtune.bridges import async_client, client
from ragtune.bridges.async_client import AsyncClient
from ragtune.bridges.calls import Draft, Found, ServedAnswer
from ragtune.bridges.client import Client
from ragtune.bridges.wire import (
    EventReader,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Sent,
    ServerFault,
    TooBusy,
    Unreachable,
)
from ragtune.errors import RagtuneError
from ragtune.records import Answer, Citation, Hit

REPORT = "# Fern Corp annual report\n\nConsolidated Statements of Income\n(in millions)\n2021 2020\nNet sales $ 777 $ 700\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """A real server with the little assistant, on a free port of this machine."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from ragtune.server.app import create_app
    from ragtune.server.service import open_service

    service = open_service(make_served(tmp_path_factory.mktemp("home")))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def asker(url: str) -> Iterator[Client]:
    with Client(url, timeout_s=30) as made:
        yield made


def test_an_answer_comes_as_records(asker: Client) -> None:
    answer = asker.ask(QUESTION, where={"document": "COIL_2021_10K"})
    assert isinstance(answer, Answer)
    assert (answer.question, answer.text, answer.marked) == (QUESTION, ANSWER, f"{ANSWER} [1]")
    citation = answer.citations[0]
    assert isinstance(citation, Citation)
    assert (citation.passage, citation.document, citation.page) == (1, "COIL_2021_10K", 1)
    assert answer.passages[0].chunk_id == citation.chunk_id
    assert (answer.model, answer.where) == ("home-base", "document = 'COIL_2021_10K' and company = 'Coil'")
    assert answer.timings_s["total"] > 0
    assert answer.prompt_tokens > answer.completion_tokens > 0
    assert ServedAnswer.from_dict(answer.to_dict()) == answer


def test_a_stream_ends_with_the_same_answer(asker: Client) -> None:
    events = list(asker.ask_stream(QUESTION))
    found, answer = events[0], events[-1]
    assert isinstance(found, Found)
    assert isinstance(answer, ServedAnswer)
    assert found.passages == answer.passages
    assert any(isinstance(event, Draft) for event in events)
    assert (answer.text, answer.citations) == (ANSWER, asker.ask(QUESTION).citations)


def test_hits_and_models(asker: Client) -> None:
    hits = asker.search("net sales", k=2, where="document in ('ACME_2021_10K', 'BOLT_2021_10K')")
    assert all(isinstance(hit, Hit) for hit in hits)
    assert [hit.rank for hit in hits] == [1, 2]
    assert {hit.chunk.document for hit in hits} == {"ACME_2021_10K", "BOLT_2021_10K"}
    assert "Net sales" in hits[0].chunk.text
    assert asker.models() == ["home-base", "home-base-closed-book"]
    closed = asker.ask(QUESTION, model="home-base-closed-book")
    assert closed.is_refusal
    assert closed.passages == ()


def test_errors_tell_status_code_and_request_id(asker: Client) -> None:
    with pytest.raises(NotFound, match="is not served") as unknown:
        asker.ask(QUESTION, model="home-bass")
    assert (unknown.value.status, unknown.value.code, unknown.value.param) == (404, "model_not_found", "model")
    assert unknown.value.request_id.startswith("req_")
    with pytest.raises(InvalidRequest, match="nowhere"):
        asker.search(QUESTION, where="nowhere = 1")
    with pytest.raises(InvalidRequest, match="the question is empty") as empty:
        list(asker.ask_stream(" "))
    assert empty.value.status == 400
    with pytest.raises(NotFound) as missing:
        asker.show_job("job_0")
    assert missing.value.code == "job_not_found"
    assert isinstance(missing.value, RagtuneError)


def test_a_document_comes_is_found_and_goes(asker: Client, tmp_path: Path) -> None:
    (tmp_path / "FERN_2021_10K.md").write_text(REPORT)
    changed = asker.upload_documents([tmp_path / "FERN_2021_10K.md"], {"desk": "west"})
    assert [(each.name, each.state) for each in changed.documents] == [("FERN_2021_10K", "waiting")]
    states = [job.state for job in asker.follow_job(changed.job.id)]
    assert states[-1] == "done", asker.read_job_log(changed.job.id)
    assert asker.wait_job(changed.job.id).state == "done", "what has ended can be followed too"
    for _ in range(50):  # the server takes the new index in a moment after the job
        held = {each.name: each for each in asker.list_documents("indexed")}
        if "FERN_2021_10K" in held:
            break
        time.sleep(0.2)
    assert held["FERN_2021_10K"].metadata["desk"] == "west"
    assert len(held) == 6
    assert asker.ask("What were net sales of Fern in fiscal 2021?").text == "$777 million"
    with pytest.raises(InvalidRequest) as there:
        asker.upload_documents([("FERN_2021_10K.md", REPORT.encode())])
    assert (there.value.status, there.value.code) == (409, "document_exists")
    assert asker.delete_document("FERN_2021_10K").documents[0].state == "leaving"
    with pytest.raises(NotFound):
        asker.delete_document("NO/SUCH FILE?")


def test_a_job_is_submitted_and_cancelled(asker: Client) -> None:
    with pytest.raises(InvalidRequest, match="no job of kind 'trian'"):
        asker.submit_job("trian")
    job = asker.submit_job("dataset", {"dataset.ask_count": 5}, name="little")
    assert asker.show_job(job.id).kind == "dataset"
    assert job.id in {each.id for each in asker.list_jobs(kind="dataset")}
    assert asker.cancel_job(job.id).id == job.id
    assert asker.wait_job(job.id).state == "cancelled"
    with pytest.raises(InvalidRequest) as ended:
        asker.cancel_job(job.id)
    assert ended.value.code == "job_ended"


def test_the_same_with_asyncio(url: str) -> None:
    async def run() -> None:
        async with AsyncClient(url, timeout_s=30) as asker:
            answers = await asyncio.gather(*(asker.ask(QUESTION) for _ in range(3)))
            assert [answer.text for answer in answers] == [ANSWER] * 3
            events = [event async for event in asker.ask_stream(QUESTION)]
            assert isinstance(events[0], Found)
            assert events[-1].text == ANSWER
            assert len(await asker.search("net sales", k=1)) == 1
            changed = await asker.upload_documents([("GROVE_2021_10K.md", REPORT.encode())], is_indexed=False)
            assert changed.job is None
            assert "GROVE_2021_10K" in {each.name for each in await asker.list_documents("waiting")}
            job = await asker.submit_job("dataset", name="other")
            await asker.cancel_job(job.id)
            assert [job.state async for job in asker.follow_job(job.id)][-1] == "cancelled"
            with pytest.raises(NotFound):
                await asker.show_job("job_0")

    asyncio.run(run())


def test_both_clients_have_the_same_calls() -> None:
    def shape(kind: Any) -> dict[str, str]:
        return {name: str(inspect.signature(method)).split(" -> ")[0] for name, method in vars(kind).items()
                if inspect.isfunction(method) and not name.startswith("_")}

    assert shape(client.Client) == shape(async_client.AsyncClient)


class Failing:
    """A server that answers with these, one after the other, and notes what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def busy(status: int = 429, after: str | None = "0") -> httpx.Response:
    return httpx.Response(status, headers={"retry-after": after} if after else {}, json={"error": {
        "message": "come again", "code": "server_busy", "request_id": "req_1", "param": None}})


HEALTH = {"status": "alive", "version": "1"}


def failing(*answers: httpx.Response | Exception, **settings: Any) -> tuple[Client, Failing]:
    server = Failing(*answers)
    return Client("http://there", transport=httpx.MockTransport(server), **settings), server


def test_a_busy_server_is_asked_again_when_it_says(monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("ragtune.bridges.client.time.sleep", waits.append)
    asker, server = failing(busy(after="7"), busy(503, None), httpx.Response(200, json=HEALTH))
    assert asker.health().status == "alive"
    assert waits == [7.0, 1.0]
    assert len(server.asked) == 3
    asker, server = failing(*[busy()] * 3)
    with pytest.raises(TooBusy, match="come again") as error:
        asker.health()
    assert (error.value.status, error.value.code, error.value.request_id, error.value.retry_after_s) == (
        429, "server_busy", "req_1", 0.0)
    asker, server = failing(busy(after="86400"))
    with pytest.raises(TooBusy):
        asker.health()
    assert len(server.asked) == 1, "a day is not waited for"


def test_what_would_be_done_twice_is_tried_once() -> None:
    for ask in (lambda asker: asker.submit_job("train"), lambda asker: asker.upload_documents([("a.md", b"# A")])):
        asker, server = failing(busy(), busy())
        with pytest.raises(TooBusy):
            ask(asker)
        assert len(server.asked) == 1


def test_a_server_that_cannot_be_reached(monkeypatch) -> None:
    monkeypatch.setattr("ragtune.bridges.client.time.sleep", lambda seconds: None)
    asker, _ = failing(httpx.ConnectError("refused"), httpx.Response(200, json=HEALTH))
    assert asker.health().version == "1"
    asker, _ = failing(*[httpx.ReadTimeout("slow")] * 3, timeout_s=2)
    with pytest.raises(Unreachable, match=r"http://there did not answer GET /health \(ReadTimeout: slow\).*up to 2 s"):
        asker.health()
    with pytest.raises(Unreachable, match="ragtune serve"):
        Client("http://127.0.0.1:9", retries=0).health()


def test_readiness_is_told_at_once() -> None:
    assert not failing(httpx.Response(503, json={"ready": False, "missing": {"engine": "x"}}))[0].is_ready()
    assert failing(httpx.Response(200, json={"ready": True}))[0].is_ready()


@pytest.mark.parametrize(("status", "kind"), [(400, InvalidRequest), (401, NotAllowed), (403, NotAllowed), (404, NotFound),
                                              (413, InvalidRequest), (500, ServerFault), (502, ServerFault)])
def test_every_status_has_its_exception(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="<h1>A proxy's page</h1>") as error:
        failing(httpx.Response(status, text="<h1>A proxy's page</h1>", headers={"x-request-id": "abc"}))[0].health()
    assert type(error.value) is kind
    assert error.value.request_id == "abc"


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[1]),
                                    httpx.Response(200, json={"hits": [{}]})])
def test_what_is_no_ragtune_server_is_said(answer: httpx.Response) -> None:
    with pytest.raises(ServerFault, match="what no ragtune server of this version says"):
        failing(answer)[0].search("net sales")


def stream(text: str) -> httpx.Response:
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


def job_event(name: str, **values: Any) -> str:
    return f"event: {name}\ndata: {json.dumps({'id': 'j', 'kind': 'train', 'recipe': 'r', **values})}\n\n"


def test_errors_and_ends_within_a_stream(monkeypatch) -> None:
    error = {"message": "no answer within 5 s", "type": "timeout_error", "code": "timeout"}
    told = f"event: error\ndata: {json.dumps({'error': error})}\n\n"
    with pytest.raises(ServerFault, match="no answer within 5 s") as raised:
        list(failing(stream(told))[0].ask_stream(QUESTION))
    assert (raised.value.status, raised.value.code) == (504, "timeout")
    with pytest.raises(Unreachable, match="the stream ended before the answer"):
        list(failing(stream(": still here\n\n"))[0].ask_stream(QUESTION))
    monkeypatch.setattr("ragtune.bridges.client.time.sleep", lambda seconds: None)
    asker, _ = failing(stream(job_event("progress", state="running", done=1)), httpx.ConnectError("starting"),
                       stream(job_event("progress", state="running", done=2) + job_event("done", state="done")))
    assert [(job.state, job.done) for job in asker.follow_job("j")] == [("running", 1), ("running", 2), ("done", 0)]


def test_the_key_is_sent_and_shown_nowhere(monkeypatch) -> None:
    asker, server = failing(httpx.Response(200, json=HEALTH), api_key="rt-secret")
    asker.health()
    assert server.asked[0].headers["authorization"] == "Bearer rt-secret"
    assert "secret" not in repr(asker)
    monkeypatch.setenv("RAGTUNE_API_KEY", "rt-other")
    asker, server = failing(httpx.Response(200, json=HEALTH))
    asker.health()
    assert server.asked[0].headers["authorization"] == "Bearer rt-other"
    asker, server = failing(httpx.Response(307, headers={"location": "http://elsewhere/health"}))
    with pytest.raises(InvalidRequest):
        asker.health()
    assert len(server.asked) == 1, "a redirect is not followed with the key"


@given(st.lists(st.tuples(st.sampled_from(["message", "found", "done"]), st.text(
    st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]))), max_size=6), st.data())
def test_events_are_read_from_any_pieces(events: list[tuple[str, str]], data: Any) -> None:
    text = "".join(f": alive\n\nevent: {name}\nid: 7\ndata: {value}\n\n" for name, value in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
    reader = EventReader()
    assert [sent for piece in pieces for sent in reader.add(piece)] == [Sent(name, value) for name, value in events]


def test_events_of_several_lines_and_windows_line_ends() -> None:
    assert EventReader().add("data: a\r\ndata:b\r\n\r\ndata: half") == [Sent("message", "a\nb")]
