"""Models behind a provider's API, with LangChain's own fake chat models in their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import MissingPackage, ModelError
from ragtune.models.language import open_counter, open_generator
from ragtune.models.remote import PROVIDERS, ChatGenerator, approximate_tokens, is_remote, open_chat
from ragtune.models.streaming import Wish
from ragtune.recipe.schema import Generator
from ragtune.records import Message
from ragtune.seams import Sampling

SECTION = Generator(model="openai:gpt-4o-mini", batch_size=2)
PROMPT = [Message(role="system", content="Answer."), Message(role="user", content="Question: 1 + 1?")]


@pytest.mark.parametrize(
    ("model", "remote"),
    [
        ("openai:gpt-4o-mini", True),
        ("ollama:llama3.2:1b", True),
        ("anthropic:claude-haiku-4-5", True),
        ("bundled", False),
        ("Qwen/Qwen2.5-1.5B-Instruct", False),
        ("org/name:tag", False),
        ("C:\\models\\llama", False),
    ],
)
def test_a_name_is_remote_only_with_a_known_provider(model, remote):
    assert is_remote(model) is remote


@pytest.mark.parametrize("model", ["opnai:gpt-4o", "openai:"])
def test_a_wrong_provider_is_named_with_the_nearest(model):
    with pytest.raises(ModelError, match=r"provider:model.*Did you mean 'openai'"):
        is_remote(model)


def test_providers_are_those_of_langchain():
    from langchain.chat_models import base

    known = base._BUILTIN_PROVIDERS
    for provider, package in PROVIDERS.items():
        assert known[provider][0].split(".")[0] == package.replace("-", "_")


def fake_chat(replies):
    from langchain_core.language_models import FakeListChatModel

    return FakeListChatModel(responses=replies)


def test_each_prompt_gets_its_own_reply_and_progress_counts():
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Shout(BaseChatModel):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            assert [message.type for message in messages] == ["system", "human"]
            text = f" {messages[-1].content.upper()} "
            return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text))])

        @property
        def _llm_type(self):
            return "shout"

    seen = []
    prompts = [[PROMPT[0], Message(role="user", content=f"question {i}")] for i in range(5)]
    generator = ChatGenerator("openai:x", Shout(), SECTION)
    replies = generator.generate(prompts, SECTION.max_new_tokens, lambda done, total: seen.append((done, total)))
    assert replies == [f"QUESTION {i}" for i in range(5)]
    assert seen == [(i, 5) for i in range(1, 6)]
    assert generator.context_tokens == SECTION.max_prompt_tokens + SECTION.max_new_tokens


def test_a_failing_provider_becomes_one_clear_error():
    from langchain_core.language_models import GenericFakeChatModel

    def fail():
        raise ConnectionError("Connection refused\nmore")
        yield

    with pytest.raises(ModelError, match=r"did not answer \(.*0 of 1 prompts.*Check the network"):
        ChatGenerator("openai:x", GenericFakeChatModel(messages=fail()), SECTION).generate([PROMPT], 96)


def test_a_missing_provider_package_names_the_pip_line(monkeypatch):
    def missing(*_, **__):
        raise ImportError("no module named langchain_openai")

    monkeypatch.setattr("langchain.chat_models.init_chat_model", missing)
    with pytest.raises(MissingPackage, match=r"pip install 'ragtune\[openai\]'"):
        open_generator(SECTION)
    with pytest.raises(MissingPackage, match="pip install langchain-groq"):
        open_chat(Generator(model="groq:llama"))


def test_a_missing_key_is_said(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("The api_key client option must be set")

    monkeypatch.setattr("langchain.chat_models.init_chat_model", refuse)
    with pytest.raises(ModelError, match="OPENAI_API_KEY"):
        open_generator(SECTION)


def test_settings_reach_the_provider(monkeypatch):
    seen = {}

    def init(model, **settings):
        seen.update(settings, model=model)
        return fake_chat(["yes"])

    monkeypatch.setattr("langchain.chat_models.init_chat_model", init)
    assert open_generator(SECTION).generate([PROMPT], 96) == ["yes"]
    assert seen == {"model": "gpt-4o-mini", "model_provider": "openai", "temperature": 0.0, "max_tokens": 96}
    open_generator(Generator(model="ollama:llama3.2:1b"))
    assert seen["model"] == "llama3.2:1b"
    assert seen["num_predict"] == 96


def test_a_temperature_a_top_p_and_a_seed_a_round_reach_the_provider(monkeypatch):
    seen, counts = [], []

    def init(model, **settings):
        seen.append({name: settings[name] for name in ("temperature", "top_p", "seed", "random_seed") if name in settings})
        return fake_chat([f"{len(seen)}a", f"{len(seen)}b"])

    monkeypatch.setattr("langchain.chat_models.init_chat_model", init)
    drawn = Sampling(samples=2, temperature=0.7, top_p=0.9, seed=5)
    one_by_one = SECTION.model_copy(update={"batch_size": 1})
    samples = open_generator(one_by_one).sample([PROMPT, PROMPT], 96, drawn, lambda *at: counts.append(at))
    assert samples == [["2a", "3a"], ["2b", "3b"]]
    assert counts == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert seen == [{"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9, "seed": 5},
                    {"temperature": 0.7, "top_p": 0.9, "seed": 6}]
    seen.clear()
    greedy = open_generator(one_by_one).sample([PROMPT], 96, Sampling(samples=3, temperature=0.0))
    assert (greedy, seen) == ([["1a"] * 3], [{"temperature": 0.0}])
    open_generator(Generator(model="mistralai:m")).sample([PROMPT], 96, Sampling(temperature=1.0))
    assert seen[-1] == {"temperature": 1.0, "random_seed": 0}
    open_generator(Generator(model="anthropic:m")).sample([PROMPT], 96, Sampling(temperature=1.0))
    assert seen[-1] == {"temperature": 1.0}


def test_remote_models_take_no_adapter(tmp_path):
    with pytest.raises(ModelError, match="cannot take the adapter"):
        open_generator(SECTION, adapter=tmp_path)


@given(st.lists(st.text(max_size=80), max_size=4))
def test_the_estimate_grows_with_the_text(texts):
    messages = [Message(role="user", content=text) for text in texts]
    longer = [Message(role="user", content=text + " 1,234,567") for text in texts]
    assert approximate_tokens(longer) > approximate_tokens(messages) or not texts
    assert open_counter(SECTION)(messages) == approximate_tokens(messages)


def stream_wishes(generator, wishes, enough=1000):
    pieces = {place: [] for place in range(len(wishes))}

    def say(place, piece):
        pieces[place].append(piece)
        return len(pieces[place]) < enough

    return generator.stream(wishes, say), pieces


def test_a_provider_s_answers_stream_side_by_side_and_one_can_end():
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk

    closed = []

    class Slow(BaseChatModel):
        def _generate(self, *_, **__):
            raise AssertionError("it is streamed")

        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            try:
                for word in ("\n", messages[-1].content, " one", " two"):
                    yield ChatGenerationChunk(message=AIMessageChunk(content=word))
                end = "length" if kwargs.get("max_tokens") == 2 else "stop"
                yield ChatGenerationChunk(message=AIMessageChunk(
                    content="", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
                    response_metadata={"finish_reason": end}))
            finally:
                closed.append(messages[-1].content)

        @property
        def _llm_type(self):
            return "slow"

    generator = ChatGenerator("openai:x", Slow(), SECTION)
    wishes = [Wish([PROMPT[0], Message(role="user", content=f"q{n}")], limit) for n, limit in enumerate((96, 2, 96))]
    written, pieces = stream_wishes(generator, wishes)
    assert [one.text for one in written] == ["q0 one two", "q1 one two", "q2 one two"]
    assert [one.stop for one in written] == ["stop", "length", "stop"]
    assert [(one.prompt_tokens, one.tokens) for one in written] == [(7, 3)] * 3
    assert ["".join(said) for said in pieces.values()] == [one.text for one in written]
    closed.clear()
    cut, _ = stream_wishes(generator, wishes[:1], enough=2)
    assert (cut[0].text, cut[0].stop) == ("q0", "cancelled")
    assert cut[0].tokens > 0
    assert closed == ["q0"], "the connection is closed at once"


def test_a_provider_that_breaks_off_and_an_adapter_are_refused(tmp_path):
    from langchain_core.language_models import GenericFakeChatModel

    def fail():
        raise ConnectionError("gone\nmore")
        yield

    generator = ChatGenerator("openai:x", GenericFakeChatModel(messages=fail()), SECTION)
    with pytest.raises(ModelError, match="did not answer.*Check the network"):
        stream_wishes(generator, [Wish(PROMPT, 96)])
    own = ChatGenerator("openai:x", GenericFakeChatModel(messages=fail()),
                        SECTION.model_copy(update={"base_url": "http://127.0.0.1:1/v1"}))
    with pytest.raises(ModelError, match="Check that generator.base_url names a server that runs"):
        stream_wishes(own, [Wish(PROMPT, 96)])
    with pytest.raises(ModelError, match="takes no adapter"):
        stream_wishes(generator, [Wish(PROMPT, 96, adapter=tmp_path)])


def test_another_server_gets_its_own_key_and_never_the_provider_s(monkeypatch):
    seen = []
    monkeypatch.setattr("langchain.chat_models.init_chat_model",
                        lambda model, **given: seen.append(given) or fake_chat(["a"]))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider")
    monkeypatch.delenv("RAGTUNE_UPSTREAM_KEY", raising=False)
    section = Generator(model="openai:local", base_url="http://127.0.0.1:8080/v1")
    generator = open_generator(section)
    monkeypatch.setenv("RAGTUNE_UPSTREAM_KEY", "its-own")
    open_generator(section)
    assert [(given["base_url"], given["api_key"], given["stream_usage"]) for given in seen] == [
        ("http://127.0.0.1:8080/v1", "none", True), ("http://127.0.0.1:8080/v1", "its-own", True)]
    assert generator.fingerprint == "openai:local@http://127.0.0.1:8080/v1"
    with pytest.raises(ModelError, match="no model behind a server"):
        open_generator(Generator(model="bundled", base_url="http://127.0.0.1:8080/v1"))
    with pytest.raises(ValueError, match="base_url"):
        Generator(model="openai:x", base_url="file:///etc/passwd")
