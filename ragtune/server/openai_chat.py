"""Chat completions: a chat's last question becomes an answer with citations, whole or as a stream of chunks."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request

from ragtune.seams import GREEDY, Sampling
from ragtune.server.answers import Checked, mark_answer, show_answer, show_passages
from ragtune.server.auth import Caller
from ragtune.server.errors import Rejected, error_body, explain
from ragtune.server.events import ALIVE, DONE, frame
from ragtune.server.listening import Listener
from ragtune.server.openai_bodies import ChatBody
from ragtune.server.service import Asking, Done, Found, Piece, Service


class Usage(BaseModel):
    """Tokens of the prompt, passages included, and of what was written, reasoning included."""

    prompt_tokens: int = Field(examples=[812])
    completion_tokens: int = Field(examples=[31])
    total_tokens: int = Field(examples=[843])


class Reply(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str = Field(examples=["$4,210 million [1]"], description="The checked answer and the marks of its citations.")
    refusal: None = None


class Choice(BaseModel):
    """The one answer."""

    index: int = 0
    message: Reply
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class Completion(BaseModel):
    """A chat completion as OpenAI's API gives it; `ragtune` holds the citations."""

    id: str = Field(examples=["chatcmpl-2c7f0e1bb2f94c0a"])
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str = Field(examples=["demo-tuned"])
    choices: list[Choice]
    usage: Usage
    ragtune: Checked


class Chat:
    """One request for a completion."""

    def __init__(self, service: Service, body: ChatBody, caller: Caller) -> None:
        self.service, self.body = service, body
        self.model = service.find_model(body.model)
        self.notes: list[str] = []
        self.id = f"chatcmpl-{uuid.uuid4().hex[:16]}"
        self.created = int(time.time())
        self.is_checked_first = service.recipe.answering.guard == "refuse"
        self.listener = Listener(service, self._asking(caller))

    def _asking(self, caller: Caller) -> Asking:
        body, wanted = self.body, self.body.wanted
        where = json.dumps(wanted.where) if isinstance(wanted.where, dict) else wanted.where
        if where and not self.model.has_retrieval:
            self.notes.append(f"ragtune.where was not used: '{self.model.id}' answers without passages")
        most = self.service.most_tokens
        asked = body.max_completion_tokens or body.max_tokens
        if asked and asked > most:
            self.notes.append(f"max_tokens {asked} was lowered to this server's limit, {most}")
        question, notes = read_question(body)
        self.notes += notes
        return Asking(question, self.model.id, wanted.k, where, caller.tenant_filter, asked, read_sampling(body),
                      body.seed is not None)

    async def whole(self, request: Request) -> Completion:
        """Return the completion. Raises QuestionError, Busy, TimeoutError, Gone."""
        done = await self.listener.done(request)
        content, is_cut = cut_at(mark_answer(done.answer), self.body.stops)
        message = Reply(content=content)
        return Completion(id=self.id, created=self.created, model=self.model.id, usage=count_usage(done),
                          choices=[Choice(message=message, finish_reason=finish_reason(done, is_cut))],
                          ragtune=show_answer(done, self.model, self.notes))

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None, ragtune: Mapping[str, Any] | None = None) -> str:
        chunk: dict[str, Any] = self._frame([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])
        if ragtune is not None:
            chunk["ragtune"] = ragtune
        return frame(chunk)

    def _frame(self, choices: Sequence[Mapping[str, Any]], usage: Usage | None = None) -> dict[str, Any]:
        chunk: dict[str, Any] = {"id": self.id, "object": "chat.completion.chunk", "created": self.created,
                                 "model": self.model.id, "choices": list(choices)}
        if self._wants_usage:
            chunk["usage"] = usage.model_dump() if usage else None
        return chunk

    @property
    def _wants_usage(self) -> bool:
        return bool(self.body.stream_options and self.body.stream_options.include_usage)

    async def chunks(self, scope: Mapping[str, Any]) -> AsyncIterator[str]:
        """Yield the chunks of a question that was queued already, as events; an error is an event too."""
        try:
            yield self._chunk({"role": "assistant", "content": ""})
            async for chunk in self._said():
                yield chunk
        except Exception as error:
            status, message, param, code, _ = explain(error)
            yield frame(error_body(scope, status, message, param, code))
        yield DONE

    async def _said(self) -> AsyncIterator[str]:
        until = StopAt(self.body.stops)
        async for event in self.listener.events():
            if event is None:
                yield ALIVE
            elif isinstance(event, Found):
                yield self._chunk({"content": ""}, ragtune={"passages": [p.model_dump() for p in
                                                                        show_passages(event.passages)]})
            elif isinstance(event, Piece):
                ragtune = {"draft": event.text} if self.body.wanted.draft else None
                content = "" if self.is_checked_first else until.add(event.text)
                if content or ragtune:
                    yield self._chunk({"content": content}, ragtune=ragtune)
                if until.is_over:
                    self.listener.cancel()
            else:
                for chunk in self._last(event, until):
                    yield chunk

    def _last(self, done: Done, until: StopAt) -> list[str]:
        """Return the chunks once all is known: the checked content where it was held back, the end, the usage."""
        pieces, is_cut = [until.rest()], until.is_over
        if self.is_checked_first:
            content, is_cut = cut_at(mark_answer(done.answer), self.body.stops)
            pieces = re.findall(r"\s*\S+|\s+$", content)
        ragtune = show_answer(done, self.model, self.notes).model_dump()
        chunks = [self._chunk({"content": piece}) for piece in pieces if piece]
        chunks.append(self._chunk({}, finish_reason(done, is_cut), ragtune))
        if self._wants_usage:
            chunks.append(frame(self._frame([], count_usage(done))))
        return chunks


class StopAt:
    """Text in pieces up to the first of some texts; what may become one of them is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.is_over = False

    def add(self, piece: str) -> str:
        """Return what can be given out now."""
        if self.is_over:
            return ""
        text = self._held + piece
        cut, self.is_over = cut_at(text, self._stops)
        if self.is_over:
            self._held = ""
            return cut
        back = max((size for stop in self._stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
        self._held = text[len(text) - back :]
        return text[: len(text) - back]

    def rest(self) -> str:
        """Return what was held back and became none of them."""
        held, self._held = self._held, ""
        return held


def cut_at(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Return the text before the first of ``stops`` in it, and whether there is one."""
    places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)


def finish_reason(done: Done, is_cut: bool) -> Literal["stop", "length"]:
    """Return why the completion ended."""
    return "length" if done.written.stop == "length" and not is_cut else "stop"


def count_usage(done: Done) -> Usage:
    """Return the tokens read and written."""
    read, written = done.written.prompt_tokens, done.written.tokens
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


def read_question(body: ChatBody) -> tuple[str, list[str]]:
    """Return the last text of the user, and what is to be said of the turns that are not read. Raises Rejected."""
    places = [place for place, message in enumerate(body.messages) if message.role == "user"]
    if not places:
        raise Rejected(400, "there is no message of the role 'user'. The last one of them is the question.", "messages")
    last = places[-1]
    notes: list[str] = []
    said = [f"{count} of the role '{role}'" for role in ("system", "developer", "user", "assistant", "tool", "function")
            if (count := sum(m.role == role for place, m in enumerate(body.messages) if place != last))]
    if said:
        notes.append(f"only the last message of the user was read; not read: {', '.join(said)}. Each question is answered "
                     "by itself, so name in it what it is about.")
    return body.messages[last].text, notes


def read_sampling(body: ChatBody) -> Sampling:
    """Return how the answer is drawn. Without a seed, questions that come together share one that changes all the time."""
    if not body.temperature or body.top_p == 0:
        return GREEDY
    seed = int(time.time() * 20) if body.seed is None else body.seed
    return Sampling(1, body.temperature, body.top_p or 1.0, seed % 2**32)
