"""What OpenAI's chat and embeddings routes are sent: the parameters that are served, and one clear error for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, field_validator, model_validator
from pydantic_core import PydanticCustomError

UNSUPPORTED: dict[str, Callable[[Any], bool]] = {
    "n": lambda value: value == 1,
    "tools": lambda value: not value,
    "tool_choice": lambda value: value in ("none", "auto"),
    "functions": lambda value: not value,
    "function_call": lambda value: value in ("none", "auto"),
    "logprobs": lambda value: value is False,
    "top_logprobs": lambda value: value == 0,
    "logit_bias": lambda value: not value,
    "frequency_penalty": lambda value: value == 0,
    "presence_penalty": lambda value: value == 0,
    "response_format": lambda value: value == {"type": "text"},
    "modalities": lambda value: value == ["text"],
    "audio": lambda value: False,
    "prediction": lambda value: False,
    "web_search_options": lambda value: False,
    "reasoning_effort": lambda value: False,
    "verbosity": lambda value: False,
}
"""Parameters that are not served -> whether a value asks for nothing, so that it may be there."""
UNUSED = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
                    "prompt_cache_retention", "parallel_tool_calls"})
"""Parameters that change nothing of an answer; they are taken and not used."""


def drop_unsupported(body: Any) -> Any:
    """Return a request without the parameters that ask for nothing. Raises ValueError naming all that ask for something."""
    if not isinstance(body, Mapping):
        return body
    asked = [name for name, is_neutral in UNSUPPORTED.items() if body.get(name) is not None and not is_neutral(body[name])]
    if asked:
        names = ", ".join(f"'{name}'" for name in asked)
        raise PydanticCustomError(
            "unsupported", "not supported here: {names}. Leave {them} out: one answer of text is written, without tools.",
            {"names": names, "them": "it" if len(asked) == 1 else "them", "param": asked[0]})
    return {name: value for name, value in body.items() if name not in UNSUPPORTED and name not in UNUSED}


def check_number(value: Any) -> Any:
    """Return a value that is a number, or none. Raises PydanticCustomError for true, false and texts of digits."""
    if isinstance(value, (bool, str)):
        raise PydanticCustomError("number", "wanted a number, found {found}", {"found": repr(value)[:80]})
    return value


Whole = Annotated[int, BeforeValidator(check_number)]
"""A whole number, as JSON has it."""
Share = Annotated[float, BeforeValidator(check_number)]
"""A number, as JSON has it."""


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="allow")
    type: Literal["text"] = Field(description="Only text is read.")
    text: str


class ChatMessage(BaseModel):
    """One turn. The last one of the user is the question."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Union[str, list[Part], None] = Field(None, examples=["What were Norvane's net sales in fiscal 2022?"])

    @field_validator("content", mode="before")
    @classmethod
    def _refuse_other_parts(cls, content: Any) -> Any:
        parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
        kinds = {str(part["type"])[:40] for part in parts if part.get("type", "text") != "text"}
        if kinds:
            raise PydanticCustomError("unsupported", "only parts of the type 'text' are read, found {kinds}.",
                                      {"kinds": ", ".join(sorted(map(repr, kinds))), "param": "messages"})
        return content

    @property
    def text(self) -> str:
        """The text of all parts."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: StrictBool = Field(False, description="Send a last chunk with the usage and without a choice.")
    include_obfuscation: StrictBool = Field(False, description="Taken and not used.")


class Wanted(BaseModel):
    """What ragtune can be asked for beyond OpenAI's API, in the request's field `ragtune`."""

    model_config = ConfigDict(extra="forbid")
    where: Union[str, dict[str, Any], None] = Field(
        None, description="A filter on the documents, as a text or a mapping. It is joined with the API key's own.",
        examples=["company = 'Norvane Industries' and fiscal_year = 2022"])
    k: Whole | None = Field(None, ge=1, le=100, description="Passages in the prompt; the recipe's where it is left out.")
    draft: StrictBool = Field(False, description="Stream also the unchecked draft, in the chunks' field `ragtune`.")


Stop = Annotated[str, Field(min_length=1, max_length=200)]


class ChatBody(BaseModel):
    """A question in the form of a chat. Parameters of OpenAI's that are not listed are refused, unless their value asks for
    nothing (`tools: []`, `n: 1`) or changes nothing (`user`, `metadata`)."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{
        "model": "demo-tuned", "messages": [{"role": "user", "content": "What were Norvane's net sales in fiscal 2022?"}],
        "ragtune": {"where": "fiscal_year = 2022"}}]})
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000, description="The turns; the last one of the user is "
                                        "the question. Earlier ones are not read, which the answer's notes say.")
    model: str | None = Field(None, examples=["demo-tuned"], description="An id of GET /v1/models; without one the first.")
    stream: StrictBool | None = Field(None, description="Answer by server-sent events.")
    stream_options: StreamOptions | None = None
    temperature: Share | None = Field(None, ge=0, le=2, description="0, the default, always writes the same answer.")
    top_p: Share | None = Field(None, ge=0, le=1, description="Draw from the words that hold this share; with temperature.")
    seed: Whole | None = Field(None, ge=-(2**63), le=2**63 - 1, description="The same seed draws the same answer where the "
                                                                    "engine can; with temperature.")
    max_tokens: Whole | None = Field(None, ge=1, description="Most tokens to write; at most the server's own limit.")
    max_completion_tokens: Whole | None = Field(None, ge=1, description="The newer name of max_tokens; goes before it.")
    stop: Union[Stop, Annotated[list[Stop], Field(max_length=4)], None] = Field(
        None, description="The content ends before the first of these texts.")
    ragtune: Wanted | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_unsupported(cls, body: Any) -> Any:
        return drop_unsupported(body)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the content."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wanted(self) -> Wanted:
        """What is asked of ragtune alone."""
        return self.ragtune or Wanted()


MAX_INPUTS = 512
"""Texts of one request for embeddings."""
MAX_INPUT_CHARACTERS = 32_000
"""Characters of one of them."""
Text = Annotated[str, Field(min_length=1, max_length=MAX_INPUT_CHARACTERS)]


class EmbeddingOptions(BaseModel):
    """What ragtune can be asked for beyond OpenAI's API."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["question", "passage"] = Field("question", description="Some embedders read questions in another way.")


class EmbeddingBody(BaseModel):
    """Texts to be embedded by the index's own embedder."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [
        {"model": "demo-embedder", "input": ["net sales", "cost of sales"]}]})
    input: Union[Text, Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]] = Field(
        description="A text or a list of texts. Tokens are not taken.")
    model: str | None = Field(None, examples=["demo-embedder"], description="The embedder's id of GET /v1/models.")
    encoding_format: Literal["float", "base64"] | None = Field(None, description="base64: float32, little-endian.")
    dimensions: Whole | None = Field(None, ge=1, description="Only the embedder's own.")
    user: str | None = Field(None, description="Taken and not used.")
    ragtune: EmbeddingOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_tokens(cls, body: Any) -> Any:
        given = body.get("input") if isinstance(body, Mapping) else None
        if isinstance(given, list) and given and isinstance(given[0], (int, list)):
            raise PydanticCustomError("unsupported", "tokens are not taken, only texts: those of another tokenizer mean "
                                      "nothing to this embedder. With LangChain's OpenAIEmbeddings set "
                                      "check_embedding_ctx_length=False.", {"param": "input"})
        return body

    @property
    def texts(self) -> list[str]:
        """The texts to embed."""
        return [self.input] if isinstance(self.input, str) else list(self.input)
