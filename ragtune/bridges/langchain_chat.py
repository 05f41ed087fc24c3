"""ragtune's assistant as a LangChain chat model: it searches, answers and checks; the citations come with the message.

Imported on demand only, so LangChain is imported at the top.
"""

from __future__ import annotations

import queue
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from ragtune.answering.answerer import Answerer
from ragtune.bridges.langchain import read_recipe
from ragtune.errors import QuestionError
from ragtune.recipe.schema import Recipe
from ragtune.seams import GREEDY, Sampling
from ragtune.server.answers import mark_answer, show_answer
from ragtune.server.service import Asking, Done, Event, Served, Service, open_service

ASKED = ("k", "where", "model", "max_tokens", "temperature", "top_p", "seed", "timeout")
"""Fields that a call (``invoke(..., k=5)``) or ``bind`` may set for itself."""


class RagtuneChatModel(BaseChatModel):
    """Answers the last human message from the documents, with citations; the messages before it are not read.

    ``content`` is the checked answer with its marks ([1]). ``response_metadata["ragtune"]`` holds the citations (number,
    document, page, span, quote), the passages, what the check set right, the filter used and the timings: the same as in
    ragtune's own API. A stream gives the content after its check, in words, and all that with the last chunk. Tools are not
    taken: to let an agent search, give it ``bridges.langchain.build_search_tool``.
    """

    service: Any = Field(exclude=True, repr=False, description="A server.service.Service; threads may share it.")
    model: str = Field("", description="An id of service.models(), e.g. demo-tuned; '' is the first of them.")
    k: int | None = Field(None, ge=1, description="Passages in the prompt; None: the recipe's.")
    where: str | None = Field(None, description="A filter on the documents.")
    tenant: str | None = Field(None, description="A filter that holds beside it, which no call can change.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens to write; None: the recipe's.")
    temperature: float = Field(0.0, ge=0, description="0 always writes the same answer.")
    top_p: float = Field(1.0, gt=0, le=1, description="With temperature: draw from the words that hold this share.")
    seed: int = Field(0, description="With temperature: the same seed draws the same answer where the engine can.")
    stop: list[str] | None = Field(None, description="The content ends before the first of these texts.")
    timeout: float | None = Field(None, gt=0, description="Seconds an answer may take; None: server.timeout_s.")

    @classmethod
    def from_recipe(
        cls, recipe: Recipe | str | Path, settings: Iterable[str] = (), runs: Sequence[str | Path] = (), **fields: Any
    ) -> RagtuneChatModel:
        """Return the chat model over a recipe's index and generator, with the adapters of its runs, or of ``runs``.

        Raises RecipeError, IndexFolderError where there is no index, RunError for a run that does not fit.
        """
        return cls(service=open_service(read_recipe(recipe, settings), [Path(run) for run in runs]), **fields)

    @classmethod
    def from_answerer(cls, answerer: Answerer, **fields: Any) -> RagtuneChatModel:
        """Return the chat model over what stages.ask.open_assistant opened. Raises QuestionError where it cannot search."""
        if answerer.searcher is None:
            raise QuestionError("this answerer has no index to search. Do: open_assistant(recipe)")
        adapter = getattr(answerer.generator, "adapter", None)
        searcher: Any = answerer.searcher
        return cls(service=Service(answerer.recipe, searcher, answerer.generator, {"tuned": adapter} if adapter else {}),
                   **fields)

    def model_post_init(self, context: Any, /) -> None:
        """Name the model where none was named. Raises QuestionError for one that is not served."""
        super().model_post_init(context)
        self.model = self.service.find_model(self.model).id

    @property
    def _llm_type(self) -> str:
        return "ragtune"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """What an answer depends on, for LangChain's caches and traces: the index and the tenant are of it."""
        return {"model": self.model, "index": self.service.index.id, "tenant": self.tenant,
                **{name: getattr(self, name) for name in ASKED if name != "model"}}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "ragtune"
        return params

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:
        content, details = self._answer(messages, stop, kwargs)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=content, **details),
                                                      generation_info={"finish_reason": _finish(details)})])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        content, details = self._answer(messages, stop, kwargs)
        for piece in re.findall(r"\s*\S+|\s+$", content):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
        yield ChatGenerationChunk(message=AIMessageChunk(content="", chunk_position="last", **details),
                                  generation_info={"finish_reason": _finish(details)})

    def _answer(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Return the content and what the message holds beside it. Raises QuestionError, Busy, TimeoutError."""
        if kwargs.get("tools"):
            raise QuestionError("this model takes no tools. Let an agent's own model search with "
                                "bridges.langchain.build_search_tool")
        asked = {name: kwargs[name] if kwargs.get(name) is not None else getattr(self, name) for name in ASKED}
        model: Served = self.service.find_model(asked["model"])
        question, notes = read_question(messages)
        sampling = GREEDY if not asked["temperature"] else Sampling(1, asked["temperature"], asked["top_p"], asked["seed"])
        asking = Asking(question, model.id, asked["k"], asked["where"], self.tenant, asked["max_tokens"], sampling)
        done = ask_now(self.service, asking, asked["timeout"])
        content = mark_answer(done.answer)
        ends = [place for place in map(content.find, stop or self.stop or ()) if place >= 0]
        reason = "length" if done.written.stop == "length" and not ends else "stop"
        read, written = done.written.prompt_tokens, done.written.tokens
        return content[: min(ends, default=len(content))], {
            "response_metadata": {"model_name": model.id, "model_provider": "ragtune", "finish_reason": reason,
                                  "ragtune": show_answer(done, model, notes).model_dump()},
            "usage_metadata": UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)}


def ask_now(service: Service, asking: Asking, timeout_s: float | None = None) -> Done:
    """Return the checked answer, waiting for it. Raises what asking raised, Busy, TimeoutError (its slot is freed)."""
    heard: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
    timeout_s = timeout_s or service.recipe.server.timeout_s
    end = time.monotonic() + timeout_s
    ticket = service.ask(asking, heard.put)
    try:
        while True:
            event = heard.get(timeout=max(0.001, end - time.monotonic()))
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, Done):
                return event
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout_s:g} s. Ask again, or raise server.timeout_s.") from None
    finally:
        ticket.cancel()  # harmless where it is done


def read_question(messages: Sequence[BaseMessage]) -> tuple[str, list[str]]:
    """Return the text of the last human message, and what is to be said of what is not read.

    Raises QuestionError where there is none, or it holds something else than text.
    """
    humans = [message for message in messages if message.type == "human" or getattr(message, "role", "") == "user"]
    if not humans:
        raise QuestionError("there is no human message. The last one is the question.")
    last = humans[-1]
    if isinstance(last.content, list):
        kinds = [str(part.get("type")) for part in last.content if isinstance(part, dict) and part.get("type") != "text"]
        if kinds:
            raise QuestionError(f"the question holds {', '.join(sorted(set(kinds)))}. Allowed is text.")
    others = len(messages) - 1
    notes = [f"only the last human message was read, {others} others were not. Each question is answered by itself, so name "
             "in it what it is about."] if others else []
    return str(last.text), notes


def _finish(details: Mapping[str, Any]) -> str:
    return str(details["response_metadata"]["finish_reason"])
