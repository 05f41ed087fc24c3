"""Language models that write completions: opened from a recipe, with or without a tuned adapter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import ModelError, RunError
from ragtune.models.chat import Chat, load_chat
from ragtune.models.checkpoint import fingerprint_model, portable_name, quiet, read_context_tokens
from ragtune.models.extractive import NAME as EXTRACTIVE
from ragtune.models.extractive import ExtractiveGenerator
from ragtune.models.fake import EchoGenerator
from ragtune.models.remote import approximate_tokens, is_remote, open_chat
from ragtune.models.weights import load_base
from ragtune.recipe.schema import Generator as Section
from ragtune.records import Message
from ragtune.seams import Generator, Progress

if TYPE_CHECKING:
    import torch

UNTUNABLE: dict[str, Callable[[], Generator]] = {EXTRACTIVE: ExtractiveGenerator, "echo": EchoGenerator}
"""The generators without weights, by name."""


def open_generator(section: Section, adapter: Path | None = None) -> Generator:
    """Return the generator a recipe names, with the adapter of a run where one is given.

    ``section.model`` is 'bundled', 'extractive', 'echo' (tests), a folder, a Hugging Face name or provider:model. The base
    is always read from disk in 16 or 32 bits: an adapter tuned on 4-bit weights answers best, and merges, on the full ones.
    Raises ModelError, MissingPackage (a provider's package), RunError (an adapter that does not fit).
    """
    if section.model in UNTUNABLE or is_remote(section.model):
        if adapter is not None:
            raise ModelError(
                f"'{section.model}' cannot take the adapter {adapter}: only models that ragtune loads itself can. "
                "Set generator.model to the model the run was tuned on."
            )
        return UNTUNABLE[section.model]() if section.model in UNTUNABLE else open_chat(section)
    generator = TransformersGenerator(section, load_base(section), load_chat(section))
    if adapter is not None:
        generator.attach(adapter)
    return generator


def open_counter(section: Section) -> Callable[[Sequence[Message]], int]:
    """Return what counts the tokens of a rendered prompt, with the tokenizer alone: no weights are read."""
    if section.model in UNTUNABLE:
        return UNTUNABLE[section.model]().count_tokens
    if is_remote(section.model):
        return approximate_tokens
    return load_chat(section).count_tokens


class TransformersGenerator:
    """A causal language model of transformers, greedy, in batches of similar length padded on the left."""

    def __init__(self, section: Section, model: Any, chat: Chat) -> None:
        self.name = portable_name(section.model)
        self.context_tokens = read_context_tokens(model.config)
        self.model = model
        self.chat = chat
        self.adapter: Path | None = None
        self._section = section
        self._adapters: dict[Path, str] = {}
        if section.max_prompt_tokens + section.max_new_tokens > self.context_tokens:
            raise ModelError(
                f"generator.max_prompt_tokens {section.max_prompt_tokens} + max_new_tokens {section.max_new_tokens} is more "
                f"than '{self.name}' can read: {self.context_tokens} tokens. Lower generator.max_prompt_tokens to at most "
                f"{self.context_tokens - section.max_new_tokens}."
            )

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the base model's configuration, tokenizer and weights."""
        return fingerprint_model(self._section.model)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length of the rendered chat prompt in the model's tokens."""
        return self.chat.count_tokens(messages)

    def attach(self, adapter: Path | None) -> None:
        """Answer with this adapter from now on, or with the base alone for None. Raises RunError for a wrong one."""
        if adapter is None:
            if self.adapter is not None:
                self.model.base_model.disable_adapter_layers()
            self.adapter = None
            return
        path = Path(adapter).resolve()
        if path not in self._adapters:
            self._load_adapter(path)
        self.model.base_model.enable_adapter_layers()
        self.model.set_adapter(self._adapters[path])
        self.model.eval()
        self.adapter = path

    def _load_adapter(self, path: Path) -> None:
        with quiet():
            from peft import PeftModel
            from safetensors import SafetensorError

        if not (path / "adapter_config.json").is_file():
            raise RunError(f"no adapter at {path}: adapter_config.json is missing. Do: ragtune train --recipe FILE")
        name = f"run{len(self._adapters)}"
        try:
            with quiet():
                if self._adapters:
                    self.model.load_adapter(str(path), adapter_name=name)
                else:
                    self.model = PeftModel.from_pretrained(self.model, str(path), adapter_name=name)
        except (RuntimeError, ValueError, OSError, KeyError, TypeError, SafetensorError) as error:
            first = str(error).strip().split("\n")[0][:300]
            raise RunError(
                f"the adapter at {path} does not fit '{self.name}': {first}. Open it on the model it was tuned on, or "
                "tune again. Do: ragtune train --recipe FILE"
            ) from error
        self._adapters[path] = name

    @contextlib.contextmanager
    def with_adapter(self, adapter: Path | None) -> Iterator[TransformersGenerator]:
        """Answer with another adapter (None: the base) inside the block, with the former one after it."""
        before = self.adapter
        self.attach(adapter)
        try:
            yield self
        finally:
            self.attach(before)

    def without_adapter(self) -> contextlib.AbstractContextManager[TransformersGenerator]:
        """Answer with the base model inside the block."""
        return self.with_adapter(None)

    def generate(
        self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: Progress | None = None
    ) -> list[str]:
        """Return one greedy completion per prompt, in order, without special tokens.

        Raises ModelError where a prompt and its completion would not fit the model's context.
        """
        encoded = [self.chat.encode_prompt(messages) for messages in prompts]
        longest = max(map(len, encoded), default=0)
        if longest + max_new_tokens > self.context_tokens:
            raise ModelError(
                f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit '{self.name}', which reads "
                f"{self.context_tokens}. Lower generator.max_prompt_tokens or retrieval.k."
            )
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i]))  # the largest first: memory fails early
        completions = [""] * len(encoded)
        for start in range(0, len(order), self._section.batch_size):
            batch = order[start : start + self._section.batch_size]
            for position, text in zip(batch, self._complete([encoded[i] for i in batch], max_new_tokens)):
                completions[position] = text
            if progress:
                progress(min(start + len(batch), len(order)), len(order))
        return completions

    def _complete(self, batch: list[list[int]], max_new_tokens: int) -> list[str]:
        """Return the completions of one batch of token ids, padded on the left to the longest."""
        import torch
        from transformers import GenerationConfig

        tokenizer = self.chat.tokenizer
        width = max(map(len, batch))
        pad = tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in batch], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=self.model.device)
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=self._stop_ids(), pad_token_id=pad
        )
        try:
            with torch.inference_mode(), quiet():
                written = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{len(batch)} prompts of up to {width} tokens do not fit into the device's memory beside '{self.name}'. "
                "Lower generator.batch_size or generator.max_prompt_tokens."
            ) from error
        return [self.chat.decode(row[width:].tolist()) for row in written]

    def _stop_ids(self) -> list[int]:
        own = getattr(self.model.generation_config, "eos_token_id", None)
        return sorted({*self.chat.stop_ids, *([own] if isinstance(own, int) else own or [])})

    def logits(self, messages: Sequence[Message]) -> torch.Tensor:
        """Return the float32 logits after the prompt's last token, shape (vocabulary,), to compare two models."""
        import torch

        ids = torch.tensor([self.chat.encode_prompt(messages)], device=self.model.device)
        with torch.inference_mode():
            out: torch.Tensor = self.model(input_ids=ids).logits[0, -1].float().cpu()
        return out
