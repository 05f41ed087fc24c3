"""Chat models behind a provider's API, through LangChain's init_chat_model."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ragtune.errors import MissingPackage, ModelError, nearest
from ragtune.models.streaming import Say, Wish, Written
from ragtune.recipe.schema import Generator as Section
from ragtune.records import Message
from ragtune.seams import Progress, Sampling

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

# Provider -> pip package, as langchain.chat_models.init_chat_model knows them.
PROVIDERS = {
    "anthropic": "langchain-anthropic",
    "azure_openai": "langchain-openai",
    "bedrock": "langchain-aws",
    "bedrock_converse": "langchain-aws",
    "cohere": "langchain-cohere",
    "deepseek": "langchain-deepseek",
    "fireworks": "langchain-fireworks",
    "google_genai": "langchain-google-genai",
    "google_vertexai": "langchain-google-vertexai",
    "groq": "langchain-groq",
    "huggingface": "langchain-huggingface",
    "ibm": "langchain-ibm",
    "litellm": "langchain-litellm",
    "mistralai": "langchain-mistralai",
    "nvidia": "langchain-nvidia-ai-endpoints",
    "ollama": "langchain-ollama",
    "openai": "langchain-openai",
    "openrouter": "langchain-openrouter",
    "perplexity": "langchain-perplexity",
    "together": "langchain-together",
    "xai": "langchain-xai",
}
_EXTRAS = {"langchain-openai": "openai", "langchain-anthropic": "anthropic"}
_LENGTH_SETTING = {"ollama": "num_predict", "google_genai": "max_output_tokens", "google_vertexai": "max_output_tokens"}

_SEED_SETTING = {"openai": "seed", "azure_openai": "seed", "deepseek": "seed", "xai": "seed", "together": "seed",
                 "openrouter": "seed", "ollama": "seed", "google_genai": "seed", "mistralai": "random_seed"}
"""The providers whose chat model takes a seed when it is made. Of these Ollama keeps to it; the others say they try."""


UPSTREAM_KEY = "RAGTUNE_UPSTREAM_KEY"
"""The variable with the key of the server at ``generator.base_url``. The provider's own key is never sent there: a recipe
from elsewhere could name any address."""
_LENGTHS = frozenset({"length", "max_tokens", "MAX_TOKENS", "model_length"})
"""What providers call the end of a completion that was cut."""


def is_remote(model: str) -> bool:
    """Whether the name is provider:model. Raises ModelError for a colon after an unknown provider."""
    provider, colon, rest = model.partition(":")
    if not colon or "/" in provider or "\\" in provider or len(provider) < 2:  # a Hugging Face name or C:\\folder
        return False
    if provider in PROVIDERS and rest:
        return True
    raise ModelError(
        f"generator.model '{model}' names no known model of a provider. Write provider:model, e.g. openai:gpt-4o-mini; "
        f"the providers are {', '.join(PROVIDERS)}.{nearest(provider, PROVIDERS)}"
    )


def approximate_tokens(messages: Sequence[Message]) -> int:
    """Return a careful estimate of a prompt's tokens: 1.3 a word or one for 3.5 characters, whichever is more.

    Providers do not share their tokenizers; numbers have many tokens a word, hence the second rule.
    """
    return sum(
        4 + math.ceil(max(1.3 * len(message["content"].split()), len(message["content"]) / 3.5)) for message in messages
    )


def open_chat(section: Section) -> ChatGenerator:
    """Return the generator for provider:model. Nothing is sent before the first question.

    Raises MissingPackage naming the pip line, ModelError for a missing API key or a wrong setting.
    """
    return ChatGenerator(section.model, _open(section, {"temperature": 0.0}), section)


def _open(section: Section, settings: dict[str, Any]) -> BaseChatModel:
    """Return LangChain's chat model with settings of drawing. Raises as ``open_chat``."""
    from langchain.chat_models import init_chat_model

    provider, _, model = section.model.partition(":")
    package = PROVIDERS[provider]
    length: dict[str, Any] = {_LENGTH_SETTING.get(provider, "max_tokens"): section.max_new_tokens}
    upstream: dict[str, Any] = {}
    if section.base_url:
        upstream = {"base_url": section.base_url}
        if provider != "ollama":  # the one that takes no key
            upstream["api_key"] = os.environ.get(UPSTREAM_KEY) or "none"
        if provider == "openai":  # usage is counted by default only at OpenAI's own address
            upstream["stream_usage"] = True
    try:
        chat: BaseChatModel = init_chat_model(model, model_provider=provider, **settings, **length, **upstream)
    except ImportError as error:
        line = f"'ragtune[{_EXTRAS[package]}]'" if package in _EXTRAS else package
        raise MissingPackage(
            f"generator.model '{section.model}' needs the package {package}, which is not installed. Do: pip install {line}"
        ) from error
    except Exception as error:  # each provider has its own errors; the one in practice is a missing API key
        raise ModelError(
            f"'{section.model}' cannot be opened: {_first_line(error)}. Set the provider's API key in the environment, "
            f"e.g. {provider.upper()}_API_KEY, or use generator.model: bundled."
        ) from error
    return chat


class ChatGenerator:
    """A LangChain chat model as a generator."""

    def __init__(self, name: str, chat: BaseChatModel, section: Section) -> None:
        self.name = name
        self.fingerprint = f"{name}@{section.base_url}" if section.base_url else name
        self.context_tokens = section.max_prompt_tokens + section.max_new_tokens
        self._chat = chat
        self._section = section

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return an estimate; see approximate_tokens."""
        return approximate_tokens(messages)

    def generate(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: Progress | None = None
    ) -> list[str]:
        """Return one completion per prompt, in order; ``generator.batch_size`` of them are asked at a time.

        Raises ModelError for a refused key, an exceeded quota or no network.
        """
        return self._ask(self._chat, prompts, max_new_tokens, progress)

    def sample(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, sampling: Sampling,
        progress: Progress | None = None,
    ) -> list[list[str]]:
        """Return ``sampling.samples`` completions per prompt, in order, all prompts once, then all again.

        Each round has a seed of its own where the provider takes one (``_SEED_SETTING``): Ollama gives the same again, the
        others promise no more than to try, and the rest (Anthropic, Bedrock, Groq, ...) cannot repeat what they drew.
        Raises ModelError as ``generate``.
        """
        rounds = sampling.samples if sampling.temperature else 1
        drawn = []
        for number in range(rounds):
            def count(done: int, total: int, number: int = number) -> None:
                if progress:
                    progress(number * total + done, rounds * total)

            drawn.append(self._ask(self._open(sampling, number), prompts, max_new_tokens, count))
        return [list(each) * (sampling.samples // rounds) for each in zip(*drawn)]

    def _open(self, sampling: Sampling, number: int) -> BaseChatModel:
        """Return the chat model that draws the samples of one round: settings count when it is made, with any provider."""
        if not sampling.temperature:
            return self._chat
        settings: dict[str, Any] = {"temperature": sampling.temperature}
        if sampling.top_p < 1:
            settings["top_p"] = sampling.top_p
        if name := _SEED_SETTING.get(self.name.partition(":")[0]):
            settings[name] = sampling.seed + number
        return _open(self._section, settings)

    def stream(self, wishes: Sequence[Wish], say: Say) -> list[Written]:
        """Write the completions piece by piece as the provider sends them, all at once, each in a thread of its own.

        One that is no longer wanted closes its connection at its next piece. Counts of tokens are the provider's, else
        estimates. Raises ModelError as ``generate``, and for a wish with an adapter.
        """
        if any(wish.adapter for wish in wishes):
            raise ModelError(f"'{self.name}' takes no adapter. Ask the model without one.")
        with ThreadPoolExecutor(len(wishes)) as pool:
            return list(pool.map(self._stream_one, wishes, range(len(wishes)), [say] * len(wishes)))

    def _stream_one(self, wish: Wish, place: int, say: Say) -> Written:
        provider = self.name.partition(":")[0]
        chat: Any = self._open(wish.sampling, 0)
        if wish.max_new_tokens != self._section.max_new_tokens:
            chat = chat.bind(**{_LENGTH_SETTING.get(provider, "max_tokens"): wish.max_new_tokens})
        text = ""
        told: dict[str, Any] = {}
        counts = {"input_tokens": 0, "output_tokens": 0}
        is_wanted = True
        pieces = chat.stream([(m["role"], m["content"]) for m in wish.messages])
        try:
            for piece in pieces:
                counts = {name: max(count, (piece.usage_metadata or {}).get(name, 0)) for name, count in counts.items()}
                told = {**told, **piece.response_metadata}
                said = str(piece.text) if text else str(piece.text).lstrip()
                text += said
                is_wanted = say(place, said)
                if not is_wanted:
                    break
        except Exception as error:  # providers share no error class
            raise ModelError(f"'{self.name}' did not answer ({type(error).__name__}: {_first_line(error)}). Check "
                             f"{self._suspects}, then ask again.") from error
        finally:
            pieces.close()
        why = {told.get(name) for name in ("finish_reason", "stop_reason", "done_reason")}
        return Written(text, counts["input_tokens"] or self.count_tokens(wish.messages),
                       counts["output_tokens"] or approximate_tokens([Message(role="assistant", content=text)]),
                       "cancelled" if not is_wanted else "length" if why & _LENGTHS else "stop")

    @property
    def _suspects(self) -> str:
        first = "that generator.base_url names a server that runs" if self._section.base_url else "the network"
        return f"{first}, the API key, the model's name and the quota"

    def _ask(
        self, chat: Any, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: Progress | None
    ) -> list[str]:
        provider = self.name.partition(":")[0]
        if max_new_tokens != self._section.max_new_tokens:
            chat = chat.bind(**{_LENGTH_SETTING.get(provider, "max_tokens"): max_new_tokens})
        completions = [""] * len(prompts)
        asked = [[(m["role"], m["content"]) for m in messages] for messages in prompts]
        done = 0
        try:
            for position, reply in chat.batch_as_completed(asked, config={"max_concurrency": self._section.batch_size}):
                completions[position] = str(reply.text).strip()
                done += 1
                if progress:
                    progress(done, len(prompts))
        except Exception as error:  # providers share no error class
            raise ModelError(
                f"'{self.name}' did not answer ({type(error).__name__}: {_first_line(error)}); {done} of {len(prompts)} "
                f"prompts were done. Check {self._suspects}, then run again."
            ) from error
        return completions


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0][:300].rstrip(".")
