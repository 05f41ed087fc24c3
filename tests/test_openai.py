"""OpenAI's API with the real clients: openai (sync, async, streamed), LangChain's ChatOpenAI, curl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import Scripted, make_documents, open_scripted, questions, served_recipe, serving, wait_for

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")

from ragtune.errors import ModelError  # noqa: E402
from ragtune.server.answers import mark_answer  # noqa: E402
from ragtune.server.app import create_app  # noqa: E402
from ragtune.server.openai_chat import StopAt, cut_at  # noqa: E402
from ragtune.server.service import Service, open_service  # noqa: E402
from ragtune.stages.ask import open_assistant  # noqa: E402

ASKED = "What were net sales of Acme in fiscal 2021?"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_documents(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def service(home: Path) -> Service:
    return open_service(served_recipe(home))


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with serving(create_app(service)) as url:
        yield f"{url}/v1"


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)


def ask(text: str, **settings: Any) -> dict[str, Any]:
    return {"model": "t-base", "messages": [{"role": "user", "content": text}], **settings}


def open_client(url: str) -> Any:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def test_an_answer_is_whole_with_its_citations_usage_and_end(client: Any) -> None:
    answer = client.chat.completions.create(**ask(ASKED))
    assert answer.choices[0].message.content == "$4,210 million [1]"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 20
    told = answer.ragtune
    cited = told["citations"][0]
    assert (cited["number"], cited["document"], cited["page"], cited["quote"]) == (
        1, "ACME_2021_10K", 1, "Net sales 2021: 4,210")
    assert cited["chunk_id"] == told["passages"][0]["chunk_id"]
    assert told["filter"] == "company = 'Acme'"
    assert (told["answer"], told["model"], told["is_refusal"], told["problems"], told["notes"]) == (
        "$4,210 million", "t-base", False, [], [])
    assert set(told["timings_s"]) == {"search", "prompt", "generate", "check", "total"}
    assert answer._request_id.startswith("req_")


def test_a_stream_says_the_same_and_its_citations_survive(client: Any) -> None:
    whole = client.chat.completions.create(**ask(ASKED))
    chunks = list(client.chat.completions.create(**ask(ASKED, stream=True, stream_options={"include_usage": True})))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    told = [chunk.ragtune for chunk in chunks if getattr(chunk, "ragtune", None)]
    assert told[0] == {"passages": whole.ragtune["passages"]}, "the passages come before anything is written"
    assert told[-1]["citations"] == whole.ragtune["citations"]
    assert not any("draft" in each for each in told)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    plain = list(client.chat.completions.create(**ask(ASKED, stream=True)))
    assert all(chunk.usage is None and chunk.choices for chunk in plain)


def test_asynchronous_clients_get_their_own_answers(url: str, home: Path) -> None:
    asked = questions()[:8]
    wanted = [mark_answer(open_assistant(served_recipe(home)).answer(each)) for each in asked]

    async def stream(client: Any, text: str) -> str:
        chunks = await client.chat.completions.create(**ask(text, stream=True))
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            return list(await asyncio.gather(*(stream(client, text) for text in asked)))

    assert asyncio.run(all_of_them()) == wanted
    assert len(set(wanted)) == 8


def test_twenty_at_once_each_get_what_asking_alone_gives(client: Any, home: Path, service: Service) -> None:
    asked = questions()[:20]
    assistant = open_assistant(served_recipe(home))
    wanted = [assistant.answer(text) for text in asked]
    before = service.vectors.hits
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda text: client.chat.completions.create(**ask(text)), asked * 2))
    assert [each.choices[0].message.content for each in found] == [mark_answer(each) for each in wanted] * 2
    assert [[c["chunk_id"] for c in each.ragtune["citations"]] for each in found] == [
        [c.chunk_id for c in each.citations] for each in wanted] * 2
    assert len({each.choices[0].message.content for each in found}) > 10
    assert service.vectors.hits > before


def test_twenty_at_once_of_a_language_model_get_what_asking_alone_gives(home: Path, tmp_path: Path) -> None:
    from tiny_model import make_tiny_model

    recipe = served_recipe(home, str(make_tiny_model(tmp_path / "tiny")), answering={"guard": "none"})
    recipe = recipe.model_copy(update={"generator": recipe.generator.model_copy(update={"max_new_tokens": 8})})
    asked = questions()[:20]
    assistant = open_assistant(recipe)
    wanted = [mark_answer(assistant.answer(text)) for text in asked]
    with serving(create_app(open_service(recipe))) as url, ThreadPoolExecutor(20) as pool:
        client = open_client(url)
        found = list(pool.map(lambda text: client.chat.completions.create(**ask(text)), asked))
        drawn = [client.chat.completions.create(**ask(asked[0], temperature=1.0, seed=seed)).choices[0].message.content
                 for seed in (1, 1, 2)]
    assert [each.choices[0].message.content for each in found] == wanted
    assert len(set(wanted)) > 5
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_is_asked_of_ragtune_alone_counts_and_what_is_not_read_is_said(client: Any) -> None:
    def told(**settings: Any) -> dict[str, Any]:
        return client.chat.completions.create(**ask("What were net sales in fiscal 2021?", **settings)).ragtune

    only = told(extra_body={"ragtune": {"where": "company = 'Dune'", "k": 1}})
    assert [passage["document"] for passage in only["passages"]] == ["DUNE_2021_10K"]
    same = told(extra_body={"ragtune": {"where": {"company": {"$in": ["Dune"]}}, "k": 1}})
    assert same["passages"] == only["passages"]
    closed = client.chat.completions.create(**{**ask(ASKED), "model": "t-base-closed-book"},
                                            extra_body={"ragtune": {"where": "company = 'Dune'"}})
    assert (closed.ragtune["passages"], closed.ragtune["is_refusal"]) == ([], True)
    assert "where was not used" in closed.ragtune["notes"][0]
    parts = [{"type": "text", "text": "What were net sales"}, {"type": "text", "text": "of Acme in fiscal 2021?"}]
    answer = client.chat.completions.create(model="t-base", messages=[
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello."}, {"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "$4,210 million [1]"
    assert "1 of the role 'system', 1 of the role 'user', 1 of the role 'assistant'" in answer.ragtune["notes"][0]


def test_wrong_requests_raise_the_client_s_own_errors_and_say_what_to_do(client: Any) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.BadRequestError, match="not supported here: 'n', 'tools'. Leave them out") as bad:
        create(**ask(ASKED, n=2, tools=[{"type": "function", "function": {"name": "f"}}]))
    assert (bad.value.param, bad.value.type) == ("n", "invalid_request_error")
    assert bad.value.request_id == bad.value.body["request_id"]  # type: ignore[index]
    for settings in ({"logprobs": True}, {"response_format": {"type": "json_object"}}, {"modalities": ["text", "audio"]},
                     {"presence_penalty": 0.5}, {"logit_bias": {"1": 2}}):
        with pytest.raises(openai.BadRequestError, match="not supported here"):
            create(**ask(ASKED, **settings))
    neutral = create(**ask(ASKED, n=1, tools=[], logprobs=False, presence_penalty=0, user="me", metadata={"a": "b"},
                           response_format={"type": "text"}, parallel_tool_calls=True))
    assert neutral.choices[0].message.content == "$4,210 million [1]"
    with pytest.raises(openai.NotFoundError, match="'t-bass' is not served.*Did you mean 't-base'") as unknown:
        create(**{**ask(ASKED), "model": "t-bass"})
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        create(**{**ask(ASKED), "model": "t-bass"}, stream=True)
    for body, said in ((ask(" "), "the question is empty"), (ask("x" * 4001), "4000 are allowed"),
                       (ask(ASKED, temperature=3), "temperature"), (ask(ASKED, extra_body={"topp": 1}), "topp"),
                       (ask(ASKED, extra_body={"ragtune": {"where": "compny = 'Acme'"}}), "Did you mean 'company'"),
                       (ask(ASKED, extra_body={"ragtune": {"wher": "x"}}), "ragtune.wher"),
                       ({"model": "t-base", "messages": []}, "messages"),
                       ({"model": "t-base", "messages": [{"role": "system", "content": "x"}]}, "no message of the role"),
                       ({"model": "t-base", "messages": [{"role": "user", "content": [
                           {"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]}, "'text'")):
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError, match=said):
                create(**body, stream=stream)


def test_embeddings_are_the_index_s_own(client: Any, service: Service) -> None:
    import numpy as np

    texts = ["net sales", "cost of sales and more"]
    wanted = service.index.embedder.embed_questions(texts)
    for form in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        found = client.embeddings.create(model="t-embedder", input=texts, **form)
        if form.get("encoding_format") == "base64":
            import base64

            vectors = [np.frombuffer(base64.b64decode(each.embedding), dtype="<f4") for each in found.data]
        else:
            vectors = [np.array(each.embedding, dtype=np.float32) for each in found.data]
        assert np.array_equal(np.stack(vectors), wanted)
    assert found.usage.prompt_tokens == sum(service.index.embedder.count_tokens(text) for text in texts)
    one = client.embeddings.create(model="hash", input=texts[0], dimensions=len(wanted[0]))
    assert np.allclose(one.data[0].embedding, wanted[0])
    for wrong, said in (({"input": [1, 2, 3]}, "tokens are not taken"), ({"input": []}, "at least 1"),
                        ({"input": ""}, "at least 1"), ({"input": ["x"] * 513}, "512"),
                        ({"input": "x", "dimensions": 3}, "allowed is 256")):
        with pytest.raises(openai.BadRequestError, match=said):
            client.embeddings.create(model="t-embedder", **wrong)
    with pytest.raises(openai.NotFoundError, match="Allowed: t-embedder"):
        client.embeddings.create(model="text-embedding-3-small", input="x")


def test_models_are_listed_and_described(client: Any) -> None:
    models = {model.id: model.ragtune for model in client.models.list()}
    assert list(models) == ["t-base", "t-base-closed-book", "t-embedder"]
    assert models["t-base"] == {"kind": "chat", "has_retrieval": True, "is_tuned": False}
    assert client.models.retrieve("t-base-closed-book").ragtune["has_retrieval"] is False
    with pytest.raises(openai.NotFoundError, match="Did you mean 't-base'"):
        client.models.retrieve("t-bas")


def test_langchain_asks_streams_and_batches(url: str) -> None:
    ChatOpenAI = pytest.importorskip("langchain_openai").ChatOpenAI
    chat = ChatOpenAI(model="t-base", base_url=url, api_key="none", max_retries=0)
    assert chat.invoke(ASKED).content == "$4,210 million [1]"
    pieces = list(chat.stream(ASKED))
    assert "".join(str(piece.content) for piece in pieces) == "$4,210 million [1]"
    assert len([piece for piece in pieces if piece.content]) == 3
    answers = chat.batch([f"What were net sales of {company} in fiscal 2021?" for company in ("Acme", "Bolt", "Coil")])
    assert [answer.content for answer in answers] == ["$4,210 million [1]", "$4,347 million [1]", "$4,484 million [1]"]
    assert answers[0].usage_metadata["total_tokens"] > 20
    with pytest.raises(openai.BadRequestError, match="not supported here: 'tools'"):
        chat.bind_tools([{"type": "function", "function": {"name": "f", "parameters": {}}}]).invoke(ASKED)


def test_a_class_of_langchains_keeps_the_citations(url: str) -> None:
    from ragtune.bridges.langchain_served import ServedChatModel

    chat = ServedChatModel.at(url.removesuffix("/v1"), "t-base", max_retries=0)
    whole = chat.invoke(ASKED)
    assert whole.content == "$4,210 million [1]"
    cited = whole.response_metadata["ragtune"]["citations"]
    assert [(each["number"], each["document"], each["page"]) for each in cited] == [(1, "ACME_2021_10K", 1)]
    streamed = None
    for chunk in chat.stream(ASKED):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed.content == whole.content
    assert streamed.response_metadata["ragtune"]["citations"] == cited
    assert len(streamed.response_metadata["ragtune"]["passages"]) == len(whole.response_metadata["ragtune"]["passages"])
    assert streamed.usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"] > 0

    async def both() -> list[Any]:
        pieces = [piece async for piece in chat.astream(ASKED)]
        return [await chat.ainvoke(ASKED), *pieces]

    first, *pieces = asyncio.run(both())
    assert first.response_metadata["ragtune"]["citations"] == cited
    told = [piece.response_metadata["ragtune"] for piece in pieces if "ragtune" in piece.response_metadata]
    assert [each["citations"] for each in told] == [cited]
    narrowed = chat.bind(extra_body={"ragtune": {"where": "company = 'Bolt'"}}).invoke("What were net sales in fiscal 2021?")
    assert narrowed.response_metadata["ragtune"]["citations"][0]["document"] == "BOLT_2021_10K"


def test_langchain_embeds(url: str, service: Service) -> None:
    OpenAIEmbeddings = pytest.importorskip("langchain_openai").OpenAIEmbeddings
    embeddings = OpenAIEmbeddings(model="t-embedder", base_url=url, api_key="none", check_embedding_ctx_length=False)
    assert embeddings.embed_query("net sales") == pytest.approx(
        service.index.embedder.embed_questions(["net sales"])[0].tolist())


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_asks_and_streams(url: str) -> None:
    def curl(body: dict[str, Any]) -> str:
        return subprocess.run(["curl", "-sN", f"{url}/chat/completions", "-H", "Content-Type: application/json", "-d",
                               json.dumps(body)], capture_output=True, text=True, check=True, timeout=60).stdout

    assert json.loads(curl(ask(ASKED)))["choices"][0]["message"]["content"] == "$4,210 million [1]"
    lines = [line for line in curl(ask(ASKED, stream=True)).split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2].removeprefix("data: "))["ragtune"]["citations"][0]["page"] == 1
    error = json.loads(curl({"messages": []}))["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}


def test_another_server_of_ours_is_an_upstream(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langchain_openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-sent")
    recipe = served_recipe(home, generator="openai:t-base", answering={"guard": "none"})
    section = recipe.generator.model_copy(update={"base_url": url, "model": "openai:t-base"})
    above = open_service(recipe.model_copy(update={"generator": section}))
    with serving(create_app(above)) as upper:
        chunks = list(open_client(upper).chat.completions.create(**ask("What were net sales of Acme in fiscal 2021?",
                                                                       stream=True)))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said.startswith("$4,210 million")
    assert above.batcher._thread.name == "writer"
    assert len(above.batcher._others) == recipe.server.max_batch - 1


def test_a_draft_is_streamed_only_where_it_is_asked_for_and_before_the_check(home: Path) -> None:
    generator = Scripted("Net sales 2021: 4,210 [1]\nAnswer: $9,999 million")
    with serving(create_app(open_scripted(home, generator))) as url:
        chunks = list(open_client(url).chat.completions.create(**ask(ASKED, stream=True),
                                                               extra_body={"ragtune": {"draft": True}}))
    drafts = [chunk.ragtune["draft"] for chunk in chunks if "draft" in (getattr(chunk, "ragtune", None) or {})]
    assert "".join(drafts) == generator.text
    assert len(drafts) > 3
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == "Not found in the documents.", "the figure that no passage holds is never content"
    last = chunks[-1].ragtune
    assert last["is_refusal"]
    assert last["citations"] == []
    assert "9999" in last["problems"][0]


@pytest.mark.parametrize("guard", ["flag", "none"])
def test_unchecked_content_is_streamed_as_written_and_set_right_in_the_end(home: Path, guard: str) -> None:
    generator = Scripted("Net sales 2021: 4,210 [1]\nAnswer: $4,210 million")
    with serving(create_app(open_scripted(home, generator, answering={"guard": guard}))) as url:
        chunks = list(open_client(url).chat.completions.create(**ask(ASKED, stream=True)))
        cut = list(open_client(url).chat.completions.create(**ask(ASKED, stream=True, stop=["Answer", "zz"])))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == generator.text
    assert chunks[-1].ragtune["answer"] == "$4,210 million"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in cut) == "Net sales 2021: 4,210 [1]\n"
    assert cut[-1].choices[0].finish_reason == "stop"


def test_stop_and_length_end_an_answer(home: Path) -> None:
    generator = Scripted("Answer: Net sales 2021 were 4,210 [1]")
    with serving(create_app(open_scripted(home, generator))) as url:
        create = open_client(url).chat.completions.create
        whole = create(**ask(ASKED))
        assert whole.choices[0].message.content == "Net sales 2021 were 4,210 [1]"
        for stop in ("were", ["nothing", " were"]):
            cut = create(**ask(ASKED, stop=stop))
            assert cut.choices[0].message.content.strip() == "Net sales 2021"
            assert cut.choices[0].finish_reason == "stop"
        short = create(**ask(ASKED, max_tokens=4))
        assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 4)
        newer = create(**ask(ASKED, max_completion_tokens=4, max_tokens=9))
        assert newer.usage.completion_tokens == 4
        most = create(**ask(ASKED, max_tokens=5000))
        assert "max_tokens 5000 was lowered" in most.ragtune["notes"][0]


def test_a_client_that_goes_frees_its_slot(home: Path) -> None:
    import httpx

    generator = Scripted()
    service = open_scripted(home, generator, server={"max_batch": 1})
    with serving(create_app(service)) as url:
        wait_for(lambda: generator.ends == ["length"] and not service.batcher.writing)  # whether the engine answers at all
        generator.ends.clear()
        generator.gate.clear()
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=ask(ASKED, stream=True)) as response:
            lines = response.iter_lines()  # to be kept: when it is collected, the connection is closed
            assert any("passages" in line for line in lines)
            wait_for(lambda: service.batcher.writing == 1)
        wait_for(lambda: service.batcher.writing == 0)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=ask(ASKED), timeout=1.0)
        wait_for(lambda: service.batcher.writing == 0)
        assert generator.ends == ["cancelled", "cancelled"]
        generator.gate.set()
        assert open_client(url).chat.completions.create(**ask(ASKED)).choices[0].message.content == "$4,210 million [1]"


def test_a_full_server_says_when_to_come_again(home: Path) -> None:
    generator = Scripted()
    service = open_scripted(home, generator, server={"max_batch": 1, "max_waiting": 1})
    with serving(create_app(service)) as url, ThreadPoolExecutor(2) as pool:
        client = open_client(url)
        generator.gate.clear()
        first = pool.submit(client.chat.completions.create, **ask(ASKED))
        wait_for(lambda: service.batcher.writing == 1)
        second = pool.submit(client.chat.completions.create, **ask(ASKED))
        wait_for(lambda: service.batcher.waiting == 1)
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError, match="Come again in") as busy:
                client.chat.completions.create(**ask(ASKED, stream=stream))
            assert int(busy.value.response.headers["retry-after"]) >= 1
        generator.gate.set()
        assert first.result().choices[0].message.content == second.result().choices[0].message.content


def test_what_takes_too_long_ends_and_what_breaks_says_nothing_of_the_inside(home: Path) -> None:
    generator = Scripted()
    service = open_scripted(home, generator, server={"timeout_s": 0.4})
    with serving(create_app(service)) as url:
        client = open_client(url)
        generator.gate.clear()
        with pytest.raises(openai.InternalServerError, match="no answer within 0.4 s") as slow:
            client.chat.completions.create(**ask(ASKED))
        assert slow.value.status_code == 504
        with pytest.raises(openai.APIError, match="no answer within 0.4 s"):
            list(client.chat.completions.create(**ask(ASKED, stream=True)))
        wait_for(lambda: service.batcher.writing == 0)
        generator.gate.set()
        for error in (ModelError("/secret/folder is damaged"), ZeroDivisionError("/secret")):
            generator.error = error
            with pytest.raises(openai.InternalServerError, match="its log says why|Its log says why") as broken:
                client.chat.completions.create(**ask(ASKED))
            assert "secret" not in str(broken.value)
            assert broken.value.request_id
            with pytest.raises(openai.APIError, match="Its log says why"):
                list(client.chat.completions.create(**ask(ASKED, stream=True)))


def test_the_documentation_names_every_route_with_a_summary_and_an_example(url: str) -> None:
    import httpx

    said = httpx.get(url.replace("/v1", "/openapi.json")).json()
    for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/models", "/v1/models/{model}"):
        for route in said["paths"][path].values():
            assert route["summary"]
            assert route["description"]
            assert route["tags"] == ["OpenAI"]
    assert said["components"]["schemas"]["ChatBody"]["examples"]
    assert "text/event-stream" in said["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    missing = httpx.post(url + "/nothing", headers={"x-request-id": "mine-1"})
    assert (missing.status_code, missing.headers["x-request-id"]) == (404, "mine-1")
    assert missing.json()["error"]["request_id"] == "mine-1"
    assert httpx.get(url + "/models", headers={"x-request-id": "a b\\n"}).headers["x-request-id"].startswith("req_")


@given(st.lists(st.text("ab\n", max_size=3), max_size=12), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3))
def test_pieces_up_to_a_stop_are_the_text_before_it(pieces: list[str], stops: list[str]) -> None:
    until = StopAt(stops)
    said = "".join(until.add(piece) for piece in pieces) + until.rest()
    wanted, is_cut = cut_at("".join(pieces), stops)
    assert said == wanted
    assert until.is_over == is_cut


@pytest.mark.parametrize(("body", "message", "param"), [
    ("{nope", "the body is not JSON: .* at character 1", None),
    ("", "the request has no body. Send one, and the header Content-Type: application/json", None),
    ("[1]", "the body is no JSON object", None),
    ({"messages": "hi"}, "messages: Input should be a valid list", "messages"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content: .*valid string, or: .*valid list",
     "messages.0.content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "messages.0.content: only parts of the type 'text' are read, found 'image_url'", "messages"),
    ({"messages": [{"role": "user", "content": "x"}], "top_k": 5}, "top_k: there is no such parameter here", "top_k"),
    ({"messages": [{"role": "user", "content": "x"}], "seed": False}, "seed: wanted a number, found False", "seed"),
    ({"messages": [{"role": "user", "content": "x"}], "temperature": "1"}, "temperature: wanted a number", "temperature"),
    ({"messages": [{"role": "user", "content": "x"}], "stream": "yes"}, "stream: Input should be a valid boolean", "stream"),
    ({"messages": [{"role": "user", "content": "x"}], "n": 2}, "not supported here: 'n'", "n"),
    ({"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"}},
     "not supported here: 'response_format'", "response_format"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "no message of the role 'user'", "messages"),
])
def test_what_is_wrong_with_a_body_is_said_in_words(url: str, body: Any, message: str, param: str | None) -> None:
    import re

    import httpx

    sent = body if isinstance(body, str) else json.dumps(body)
    answer = httpx.post(f"{url}/chat/completions", content=sent, headers={"Content-Type": "application/json"})
    told = answer.json()["error"]
    assert (answer.status_code, told["param"], told["type"]) == (400, param, "invalid_request_error")
    assert re.search(message, told["message"]), told["message"]


def test_json_without_its_header_is_told_what_to_add(url: str) -> None:
    import httpx

    answer = httpx.post(f"{url}/chat/completions", content=json.dumps(ask(ASKED)),
                        headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 400
    assert "Content-Type: application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_client_that_goes_while_it_waits_in_the_queue_is_never_written(home: Path, is_streamed: bool) -> None:
    import httpx

    generator = Scripted()
    service = open_scripted(home, generator, server={"max_batch": 1})
    with serving(create_app(service)) as url, ThreadPoolExecutor(1) as pool:
        wait_for(lambda: generator.ends == ["length"] and not service.batcher.writing)
        generator.gate.clear()
        first = pool.submit(open_client(url).chat.completions.create, **ask(ASKED))
        wait_for(lambda: service.batcher.writing == 1)
        with contextlib.suppress(httpx.ReadTimeout), httpx.stream(
                "POST", f"{url}/v1/chat/completions", json=ask(ASKED, stream=is_streamed), timeout=1.0) as response:
            wait_for(lambda: service.batcher.waiting == 1)
            response.close()
        wait_for(lambda: all(ticket.cancelled.is_set() for ticket in service.batcher._waiting))
        service.batcher.check_room()
        generator.gate.set()
        assert first.result().choices[0].message.content == "$4,210 million [1]"
        wait_for(lambda: not service.batcher.waiting)
        assert generator.ends == ["length", "stop"], "the one that went is not written"


def test_a_silent_stream_is_kept_alive_by_comments_that_clients_pass_over(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    from ragtune.server.listening import Listener

    monkeypatch.setattr(Listener.events, "__defaults__", (0.05,))
    generator = Scripted()
    service = open_scripted(home, generator)
    with serving(create_app(service)) as url:
        wait_for(lambda: generator.ends == ["length"] and not service.batcher.writing)
        generator.gate.clear()
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=ask(ASKED, stream=True)) as response:
            lines = response.iter_lines()
            assert any(line.startswith(": still here") for line in lines)
            generator.gate.set()
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        generator.gate.clear()
        stream = open_client(url).chat.completions.create(**ask(ASKED, stream=True))
        first = next(stream)
        assert first.choices[0].delta.role == "assistant"
        generator.gate.set()
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "$4,210 million [1]"
