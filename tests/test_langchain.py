"""ragtune in LangChain: its own standard tests, a real chain, a real agent, and what comes with every answer."""

from __future__ import annotations

import asyncio
from operator import itemgetter
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel, ParrotFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from served_home import ANSWER, COMPANIES, GENERAL, QUESTION, make_served

from ragtune.bridges.langchain import RagtuneEmbeddings, RagtuneRetriever, build_search_tool, join_where, show_numbered
from ragtune.bridges.langchain_chat import RagtuneChatModel
from ragtune.errors import IndexFolderError, QuestionError
from ragtune.models.fake import HashEmbedder
from ragtune.recipe.places import index_folder
from ragtune.server.service import open_service
from ragtune.stages.ask import open_assistant

HOME: dict[str, Any] = {}
"""The recipe and its service, where LangChain's test classes find them: their properties take no fixtures."""


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory):
    recipe = make_served(tmp_path_factory.mktemp("home"))
    HOME.update(recipe=recipe, service=open_service(recipe))
    yield
    HOME["service"].close()


@pytest.fixture
def retriever() -> RagtuneRetriever:
    return RagtuneRetriever.from_recipe(HOME["recipe"])


@pytest.fixture
def chat() -> RagtuneChatModel:
    return RagtuneChatModel(service=HOME["service"])


def test_a_document_tells_where_it_stands(retriever: RagtuneRetriever) -> None:
    found = retriever.invoke(QUESTION)
    first, index = found[0], HOME["service"].index
    assert (first.metadata["document"], first.metadata["page"], first.metadata["rank"]) == ("COIL_2021_10K", 1, 1)
    assert first.metadata["source"] == "COIL_2021_10K, page 1"
    text = index.document("COIL_2021_10K").text
    assert text[first.metadata["start"] : first.metadata["end"]] == first.page_content
    assert index.chunk(first.metadata["chunk_id"]).text == first.page_content
    assert first.id == first.metadata["chunk_id"]
    assert asyncio.run(retriever.ainvoke(QUESTION)) == found
    several = retriever.invoke(GENERAL)
    assert [document.metadata["rank"] for document in several] == [1, 2, 3]
    scores = [document.metadata["score"] for document in several]
    assert scores == sorted(scores, reverse=True)
    assert retriever.batch([GENERAL, QUESTION]) == [several, found]


def test_k_and_filter_of_a_call_and_the_retrievers_own_filter(retriever: RagtuneRetriever) -> None:
    assert len(retriever.invoke(GENERAL, k=5)) == 5
    assert len(retriever.invoke(GENERAL, k=1)) == 1
    only = retriever.invoke(QUESTION, k=5, where="document = 'BOLT_2021_10K'")
    assert {d.metadata["document"] for d in only} == {"BOLT_2021_10K"}
    bound = RagtuneRetriever.from_recipe(HOME["recipe"], where="document in ('ACME_2021_10K', 'BOLT_2021_10K')", k=5)
    assert {d.metadata["document"] for d in bound.invoke(GENERAL)} == {"ACME_2021_10K", "BOLT_2021_10K"}
    assert bound.invoke(QUESTION, where="document = 'COIL_2021_10K'") == []
    with pytest.raises(QuestionError):
        bound.invoke(QUESTION, where="page = 1) or (page = 1")
    with pytest.raises(QuestionError, match="the question is empty"):
        retriever.invoke("  ")
    with pytest.raises(TypeError, match="top"):
        retriever.invoke(QUESTION, top=3)


def test_filters_are_joined_each_by_itself() -> None:
    assert join_where(None, "", " ") is None
    assert join_where("a = 1 or b = 2", None, "c = 3") == "(a = 1 or b = 2) and c = 3"


def test_a_retriever_over_an_index_folder(tmp_path) -> None:
    folder = index_folder(HOME["recipe"])
    assert [d.id for d in RagtuneRetriever.from_index(folder, k=2).invoke(QUESTION)] == [
        d.id for d in RagtuneRetriever.from_recipe(HOME["recipe"], k=2).invoke(QUESTION)]
    with pytest.raises(IndexFolderError):
        RagtuneRetriever.from_index(tmp_path)


def test_a_chain_of_retriever_prompt_model_and_parser(retriever: RagtuneRetriever) -> None:
    prompt = ChatPromptTemplate.from_messages([("human", "{passages}\n\nQuestion: {question}")])
    chain = (RunnablePassthrough.assign(passages=itemgetter("question") | retriever | show_numbered)
             | prompt | ParrotFakeChatModel() | StrOutputParser())
    said = chain.invoke({"question": QUESTION})
    assert said.startswith("[1] COIL_2021_10K, page 1\n")
    assert "Net sales $ 4,484" in said
    assert said.endswith(f"Question: {QUESTION}")


def test_a_chain_with_our_own_model_beside_its_sources(chat: RagtuneChatModel, retriever: RagtuneRetriever) -> None:
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Be brief."), ("human", "What were net sales of {company} in 2021?")])
    chain = prompt | chat | StrOutputParser()
    assert chain.invoke({"company": "Coil"}) == f"{ANSWER} [1]"
    assert "".join(chain.stream({"company": "Coil"})) == f"{ANSWER} [1]"
    assert chain.batch([{"company": company} for company in COMPANIES[:3]]) == [
        "$4,210 million [1]", "$4,347 million [1]", f"{ANSWER} [1]"]
    both = {"answer": chat | StrOutputParser(), "sources": retriever} | RunnablePassthrough()
    assert both.invoke(QUESTION)["sources"][0].metadata["document"] == "COIL_2021_10K"


def test_citations_and_usage_come_whole_and_survive_streaming(chat: RagtuneChatModel) -> None:
    whole = chat.invoke(QUESTION)
    told = whole.response_metadata["ragtune"]
    citation = told["citations"][0]
    assert whole.content == f"{ANSWER} [1]"
    assert (citation["number"], citation["document"], citation["page"]) == (1, "COIL_2021_10K", 1)
    assert "4,484" in citation["quote"]
    text = HOME["service"].index.document("COIL_2021_10K").text
    assert "4,484" in text[citation["start"] : citation["end"]]
    assert whole.usage_metadata["input_tokens"] > whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["finish_reason"] == "stop"
    chunks = list(chat.stream(QUESTION))
    assert len([chunk for chunk in chunks if chunk.content]) == 3
    together = chunks[0]
    for chunk in chunks[1:]:
        together += chunk
    assert isinstance(together, AIMessageChunk)
    assert together.content == whole.content
    assert together.usage_metadata == whole.usage_metadata
    assert together.response_metadata["ragtune"]["citations"] == told["citations"]
    assert together.response_metadata["model_name"] == "home-base"


def test_only_the_last_human_message_is_asked_and_the_rest_is_told(chat: RagtuneChatModel) -> None:
    message = chat.invoke([SystemMessage("Be brief."), HumanMessage("Hello"), AIMessage("Hi"), HumanMessage(QUESTION)])
    assert message.content == f"{ANSWER} [1]"
    assert "3 others were not" in message.response_metadata["ragtune"]["notes"][0]
    with pytest.raises(QuestionError, match="no human message"):
        chat.invoke([SystemMessage("Be brief.")])
    with pytest.raises(QuestionError, match="holds image"):
        chat.invoke([HumanMessage([{"type": "text", "text": QUESTION}, {"type": "image", "url": "x"}])])


def test_fields_of_a_call_go_before_the_models_own(chat: RagtuneChatModel) -> None:
    other = chat.invoke(QUESTION, where="document = 'BOLT_2021_10K'")
    assert {p["document"] for p in other.response_metadata["ragtune"]["passages"]} == {"BOLT_2021_10K"}
    closed = chat.bind(model="home-base-closed-book").invoke(QUESTION)
    assert closed.response_metadata["ragtune"]["is_refusal"]
    assert closed.response_metadata["ragtune"]["passages"] == []
    assert chat.invoke(QUESTION, stop=[" million"]).content == "$4,484"
    assert len(chat.bind(k=2).invoke(GENERAL).response_metadata["ragtune"]["passages"]) == 2
    with pytest.raises(QuestionError, match="Did you mean 'home-base'"):
        chat.invoke(QUESTION, model="home-bass")
    with pytest.raises(QuestionError, match="takes no tools"):
        chat.invoke(QUESTION, tools=[{"type": "function"}])


def test_a_cached_answer_is_of_one_tenant_and_index(chat: RagtuneChatModel) -> None:
    mine = RagtuneChatModel(service=HOME["service"], tenant="document = 'BOLT_2021_10K'")
    assert mine._get_llm_string() != chat._get_llm_string()
    assert HOME["service"].index.id in chat._get_llm_string()
    found = mine.invoke(QUESTION).response_metadata["ragtune"]["passages"]
    assert {passage["document"] for passage in found} == {"BOLT_2021_10K"}


def test_an_answer_that_takes_too_long_frees_its_slot(chat: RagtuneChatModel, monkeypatch) -> None:
    tickets: list[Any] = []
    monkeypatch.setattr(HOME["service"], "ask", lambda asking, hear: tickets.append(FakeTicket()) or tickets[-1])
    with pytest.raises(TimeoutError, match="no answer within 0.01 s"):
        chat.invoke(QUESTION, timeout=0.01)
    assert tickets[0].is_cancelled


class FakeTicket:
    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


def test_a_model_of_an_open_assistant() -> None:
    chat = RagtuneChatModel.from_answerer(open_assistant(HOME["recipe"]))
    assert asyncio.run(chat.ainvoke(QUESTION)).content == f"{ANSWER} [1]"
    chat.service.close()


class ToolCaller(GenericFakeChatModel):
    """Says what it was given to say; takes tools and remembers how they are described."""

    described: list[Any] = []

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        self.described.extend(tools)
        return self


def say_call(**arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "search_documents", "args": arguments, "id": "1", "type": "tool_call"}])


def test_an_agent_searches_with_the_tool(retriever: RagtuneRetriever) -> None:
    model = ToolCaller(messages=iter([say_call(query=QUESTION), AIMessage("$4,484 million [1]")]))
    agent = create_agent(model, [build_search_tool(retriever)])
    messages = agent.invoke({"messages": [("human", QUESTION)]})["messages"]
    result = next(message for message in messages if isinstance(message, ToolMessage))
    assert result.content.startswith("[1] COIL_2021_10K, page 1\n")
    assert "Net sales $ 4,484" in result.content
    assert result.artifact[0].metadata["page"] == 1
    assert messages[-1].content == "$4,484 million [1]"
    tool = model.described[0]
    assert "Columns: " in tool.description
    assert "document (string)" in tool.description


def test_an_agent_filters_and_is_told_its_faults() -> None:
    bound = RagtuneRetriever.from_recipe(HOME["recipe"], where="document != 'COIL_2021_10K'")
    calls = [say_call(query=QUESTION, where="fiscal_yer = 2021"),
             say_call(query=QUESTION, where="document = 'COIL_2021_10K'"),
             say_call(query=QUESTION, where="document = 'DUNE_2021_10K'"), AIMessage("Done.")]
    agent = create_agent(ToolCaller(messages=iter(calls)), [build_search_tool(bound)])
    messages = asyncio.run(agent.ainvoke({"messages": [("human", QUESTION)]}))["messages"]
    wrong, nothing, found = (message for message in messages if isinstance(message, ToolMessage))
    assert wrong.status == "error"
    assert "fiscal_yer" in wrong.content
    assert nothing.content.startswith("Nothing was found")
    assert found.content.startswith("[1] DUNE_2021_10K, page 1\n")


def test_a_tool_without_filter(retriever: RagtuneRetriever) -> None:
    tool = build_search_tool(retriever, "look_up", "Look it up.", is_filterable=False)
    assert (tool.name, tool.description) == ("look_up", "Look it up.")
    assert list(tool.args) == ["query"]
    assert tool.invoke({"query": QUESTION}).startswith("[1] COIL_2021_10K")


def test_embeddings_in_a_vector_store_of_langchains() -> None:
    embeddings = RagtuneEmbeddings.from_recipe(HOME["recipe"])
    assert RagtuneEmbeddings.from_index(index_folder(HOME["recipe"])).embed_query("x") == embeddings.embed_query("x")
    store = InMemoryVectorStore(embeddings)
    store.add_texts(["net sales of Acme", "total assets of Bolt"])
    assert store.similarity_search("assets of Bolt", k=1)[0].page_content == "total assets of Bolt"
    assert embeddings.embed_documents([]) == []


standard = pytest.importorskip("langchain_tests.unit_tests")
integration = pytest.importorskip("langchain_tests.integration_tests")


class TestRetriever(integration.RetrieversIntegrationTests):
    """LangChain's standard tests of retrievers."""

    pytestmark = pytest.mark.asyncio

    @property
    def retriever_constructor(self) -> Any:
        return RagtuneRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"searcher": HOME["service"].searcher, "pack": HOME["recipe"].pack}

    @property
    def retriever_query_example(self) -> str:
        return GENERAL


class TestEmbeddings(standard.EmbeddingsUnitTests):
    """LangChain's standard unit tests of embeddings."""

    @property
    def embeddings_class(self) -> Any:
        return RagtuneEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": HashEmbedder()}


class TestEmbeddingsInUse(integration.EmbeddingsIntegrationTests):
    """LangChain's standard tests of embeddings in use."""

    pytestmark = pytest.mark.asyncio

    @property
    def embeddings_class(self) -> Any:
        return RagtuneEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": HashEmbedder()}


class ChatProperties:
    """What LangChain's standard tests are told of the chat model."""

    @property
    def chat_model_class(self) -> Any:
        return RagtuneChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"service": HOME["service"]}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "home-base-closed-book"


class TestChat(ChatProperties, standard.ChatModelUnitTests):
    """LangChain's standard unit tests of chat models."""


class TestChatInUse(ChatProperties, integration.ChatModelIntegrationTests):
    """LangChain's standard tests of chat models in use; their questions have no answer in the documents."""

    pytestmark = pytest.mark.asyncio

    @property
    def supports_json_mode(self) -> bool:
        return False
