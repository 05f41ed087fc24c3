"""OpenAI's API over the assistant: chat completions, embeddings and models, for the clients there are."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal, Union

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from ragtune.errors import nearest
from ragtune.server.auth import Caller, identify
from ragtune.server.errors import Rejected, describe_errors
from ragtune.server.events import EventStream
from ragtune.server.openai_bodies import ChatBody, EmbeddingBody
from ragtune.server.openai_chat import Chat, Completion
from ragtune.server.service import Service, UnknownModel
from ragtune.server.state import State

Asker = Annotated[Caller, Depends(identify)]
CHUNKS = """data: {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {...}}], \
"ragtune": {"passages": [{"number": 1, "document": "NORVANE_2022_10K", "page": 7, ...}]}}

data: {"id": "chatcmpl-1", ..., "choices": [{"index": 0, "delta": {"content": "$4,210"}}]}

data: {"id": "chatcmpl-1", ..., "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], \
"ragtune": {"citations": [{"number": 1, "document": "NORVANE_2022_10K", "page": 7, "quote": "...", ...}], ...}}

data: [DONE]
"""


class Model(BaseModel):
    """A model that can be asked."""

    id: str = Field(examples=["demo-tuned"])
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "ragtune"
    ragtune: dict[str, Any] = Field({}, examples=[{"kind": "chat", "has_retrieval": True, "is_tuned": True}])


class Models(BaseModel):
    """All of them; the first is the default."""

    object: Literal["list"] = "list"
    data: list[Model]


class Embedding(BaseModel):
    """The unit vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: Union[list[float], str] = Field(examples=[[0.0123, -0.0456]])


class EmbeddingUsage(BaseModel):
    """Tokens of the embedder."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


def list_models(service: Service) -> list[Model]:
    """Return all models: those of the chat, then the embedder."""
    chat = [Model(id=model.id, created=model.created, ragtune={
        "kind": "chat", "has_retrieval": model.has_retrieval, "is_tuned": model.adapter is not None,
        **({"warning": model.warning} if model.warning else {})})
        for model in service.models()]
    embedder = service.index.embedder
    return [*chat, Model(id=embedder_id(service), created=chat[0].created, ragtune={
        "kind": "embedding", "embedder": embedder.name, "dimension": embedder.dimension})]


def embedder_id(service: Service) -> str:
    """Return the id under which the index's embedder is asked."""
    return f"{service.recipe.name}-embedder"


def embed(service: Service, body: EmbeddingBody) -> Embeddings:
    """Return the vectors. Raises UnknownModel, Rejected."""
    import numpy as np

    embedder, texts = service.index.embedder, body.texts
    if body.model not in (None, "", embedder_id(service), embedder.name):
        raise UnknownModel(f"there is no embedder '{body.model}'. Allowed: {embedder_id(service)}.")
    if body.dimensions not in (None, embedder.dimension):
        raise Rejected(400, f"dimensions is {body.dimensions}, allowed is {embedder.dimension}: this embedder's vectors "
                            "are not cut. Leave it out.", "dimensions")
    is_question = body.ragtune is None or body.ragtune.kind == "question"
    vectors = embedder.embed_questions(texts) if is_question else embedder.embed_passages(texts)
    shown: list[Any] = ([base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
                        if body.encoding_format == "base64" else np.asarray(vectors, dtype=np.float32).tolist())
    tokens = sum(embedder.count_tokens(text) for text in texts)
    return Embeddings(data=[Embedding(index=place, embedding=vector) for place, vector in enumerate(shown)],
                      model=embedder_id(service), usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens))


def routes(state: State) -> APIRouter:
    """Return the routes under /v1 that clients of OpenAI's API ask."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    service = state.service

    @router.post("/chat/completions", summary="Answer the last question of a chat", response_model=Completion,
                 responses={**describe_errors(400, 401, 404, 413, 429, 500, 504), 200: {
                     "description": "The answer with its citations, whole or, with `stream`, as server-sent events.",
                     "content": {"text/event-stream": {"schema": {"type": "string"}, "example": CHUNKS}}}})
    async def chat_completions(body: ChatBody, request: Request, caller: Asker) -> Any:
        """Passages are found for the question, the answer is written from them and checked: figures that no cited passage
        holds make it a refusal (`answering.guard`). The text keeps its marks `[n]`; the sources stand in `ragtune`.

        The question is the last message of the user, and each is answered by itself: the turns before it, those of the
        system too, are not read, and `ragtune.notes` says so. A client that wants follow-up questions puts what they are
        about into the last message ("And in 2021?" → "What were Norvane's net sales in 2021?"). `n` above 1, tools,
        `response_format` other than text and log probabilities are answered with 400 instead of being passed over.

        A stream sends the passages first (empty content, `ragtune.passages`), the checked text in words, and the citations
        with the last chunk. `ragtune.draft: true` adds the draft while it is written; it is unchecked.
        """
        chat = Chat(service, body, caller)
        if not body.stream:
            return await chat.whole(request)
        await chat.listener.ask()
        return EventStream(chat.chunks(request.scope), chat.listener.cancel)

    @router.post("/embeddings", summary="Embed texts with the index's embedder", response_model=Embeddings,
                 responses=describe_errors(400, 401, 404, 413, 429, 500))
    async def embeddings(body: EmbeddingBody, caller: Asker) -> Any:
        """Unit vectors of float32, the same that the index was built with."""
        return await service.turns.run(embed, service, body)

    @router.get("/models", summary="List what can be asked", response_model=Models, responses=describe_errors(401))
    async def models(caller: Asker) -> Models:
        """The tuned model first, then other adapters and the base, each with retrieval and, `-closed-book`, without; last
        the embedder."""
        return Models(data=list_models(service))

    @router.get("/models/{model}", summary="Describe one model", response_model=Model, responses=describe_errors(401, 404))
    async def model(model: str, caller: Asker) -> Model:
        """One of the list."""
        found = {each.id: each for each in list_models(service)}
        if model not in found:
            raise UnknownModel(f"the model '{model}' is not served. Allowed: {', '.join(found)}.{nearest(model, found)}")
        return found[model]

    return router
