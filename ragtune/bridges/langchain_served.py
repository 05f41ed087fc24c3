"""A ragtune server as a LangChain chat model that keeps the citations: its ChatOpenAI drops what it does not know.

Imported on demand only, so LangChain is imported at the top. Needs langchain-openai: pip install 'ragtune[openai]'.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import openai
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI

from ragtune.bridges.wire import KEY_NAME, LOCAL


class ServedChatModel(ChatOpenAI):
    """LangChain's ChatOpenAI over a ragtune server, with ``response_metadata["ragtune"]`` in whole and streamed messages.

    It holds what a chat completion's field ``ragtune`` does: citations (number, document, page, span, quote), passages,
    what the check set right, the filter and the timings. A stream brings it with its last chunk, so that the sum of all
    chunks has it too. Make one with ``at``; filters go in ``extra_body={"ragtune": {"where": "fiscal_year = 2022"}}``, as a
    field or in ``bind``. For the assistant in this process: bridges.langchain_chat.RagtuneChatModel.
    """

    @classmethod
    def at(cls, url: str = LOCAL, model: str = "", api_key: str | None = None, **fields: Any) -> ServedChatModel:
        """Return the model of a server (``http://127.0.0.1:8000``). ``api_key`` None takes RAGTUNE_API_KEY; ``model`` '' the
        server's first."""
        key: Any = api_key or os.environ.get(KEY_NAME) or "none"  # the client wants one, an open server reads none
        base = url.rstrip("/").removesuffix("/v1") + "/v1"
        return cls(**{"base_url": base, "api_key": key, "model": model, "stream_usage": True, **fields})

    @property
    def _llm_type(self) -> str:
        return "ragtune-served"

    def _create_chat_result(
        self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        told = response.get("ragtune") if isinstance(response, Mapping) else getattr(response, "ragtune", None)
        for generation in result.generations:
            if told and isinstance(generation.message, AIMessage):
                generation.message.response_metadata |= {"model_provider": "ragtune", "ragtune": told}
        return result

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        made = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        told = chunk.get("ragtune") or {}
        if made is not None and "citations" in told:  # passages and drafts come before it: added up they would be doubled
            made.message.response_metadata |= {"ragtune": told}
        return made
