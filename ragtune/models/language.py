"""Language models that write completions: opened from a recipe, with or without a tuned adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import ModelError
from ragtune.models.adapt import check_base
from ragtune.models.chat import Chat, load_chat
from ragtune.models.checkpoint import quiet, read_config, read_context_tokens
from ragtune.models.extractive import NAME as EXTRACTIVE
from ragtune.models.extractive import ExtractiveGenerator
from ragtune.models.fake import EchoGenerator
from ragtune.models.local import LocalGenerator, check_budget, find_stop_ids
from ragtune.models.packed import Prefixes, is_packable, write_packed
from ragtune.models.remote import approximate_tokens, is_remote, open_chat
from ragtune.models.spoken import SpokenBatch, check_prompts
from ragtune.models.streaming import Say, Wish, Written
from ragtune.models.switch import CopySwitch, PlaceSwitch
from ragtune.models.weights import SMALL, load_base
from ragtune.recipe.schema import Generator as Section
from ragtune.records import Message
from ragtune.seams import Generator, Progress, Sampling

if TYPE_CHECKING:
    import torch

UNTUNABLE: dict[str, Callable[[], Generator]] = {EXTRACTIVE: ExtractiveGenerator, "echo": EchoGenerator}
"""The generators without weights, by name."""


def open_generator(section: Section, adapter: Path | None = None) -> Generator:
    """Return the generator a recipe names, with the adapter of a run where one is given.

    ``section.model`` is 'bundled', 'extractive', 'echo' (tests), a folder, a Hugging Face name or provider:model. The base
    is always read from disk in 16 or 32 bits: an adapter tuned on 4-bit weights answers best, and merges, on the full ones.
    ``section.engine`` says what runs a local one. Raises ModelError, MissingPackage (a provider's or engine's package),
    RunError (an adapter that does not fit).
    """
    if section.base_url and (section.model in UNTUNABLE or not is_remote(section.model)):
        raise ModelError(f"generator.base_url is set, and '{section.model}' is no model behind a server. Write "
                         "generator.model: openai:NAME, or leave base_url out.")
    if section.model in UNTUNABLE or is_remote(section.model):
        if adapter is not None:
            raise ModelError(
                f"'{section.model}' cannot take the adapter {adapter}: only models that ragtune loads itself can. "
                "Set generator.model to the model the run was tuned on."
            )
        return UNTUNABLE[section.model]() if section.model in UNTUNABLE else open_chat(section)
    if section.engine == "ctranslate2":
        from ragtune.models.ctranslate import CTranslateGenerator

        return CTranslateGenerator(section, load_chat(section), adapter)
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


def read_window(section: Section) -> int:
    """Return how many tokens the model reads, by its configuration alone; a remote one has no bound but the recipe's.

    Raises ModelError where that is less than the recipe's longest prompt and completion.
    """
    if section.model in UNTUNABLE:
        return UNTUNABLE[section.model]().context_tokens
    if is_remote(section.model):
        return section.max_prompt_tokens + section.max_new_tokens
    context_tokens = read_context_tokens(read_config(section.model))
    check_budget(section, context_tokens)
    return context_tokens


class TransformersGenerator(LocalGenerator):
    """A causal language model of transformers, in batches of similar length padded on the left.

    Adapters of all kinds are switched by ``switch``: small models in float32 by copies, large ones in place.
    """

    def __init__(self, section: Section, model: Any, chat: Chat) -> None:
        import torch

        super().__init__(section, chat, read_context_tokens(model.config))
        self.model = model
        self.stop_ids = find_stop_ids(model, chat)
        merges = model.dtype == torch.float32 and sum(p.numel() for p in model.parameters()) < SMALL
        self._switch = CopySwitch(model, self.name) if merges else PlaceSwitch(model, self.name)
        self._window = self.context_tokens
        self.prefixes = Prefixes()

    def _use(self, adapter: Path | None) -> None:
        if adapter is not None:
            check_base(adapter, self._section.model)
        self.model = self._switch.use(adapter)
        self.context_tokens = self._window - getattr(self.model, "virtual_tokens", 0)

    def _complete(self, batch: list[list[int]], max_new_tokens: int, sampling: Sampling) -> list[str]:
        """Return the completions of one batch of token ids, padded on the left to the longest.

        The batch is drawn from its seed alone, and the process's own random numbers go on as if nothing had been drawn.
        """
        import torch
        from transformers import GenerationConfig

        tokenizer = self.chat.tokenizer
        width = max(map(len, batch))
        pad = tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in batch], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=self.model.device)
        drawing = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if sampling.temperature else {}
        settings = GenerationConfig(
            do_sample=bool(drawing), max_new_tokens=max_new_tokens, eos_token_id=self.stop_ids, pad_token_id=pad, **drawing
        )
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        try:
            with torch.inference_mode(), quiet(), torch.random.fork_rng(devices, enabled=bool(drawing)):
                if drawing:
                    torch.manual_seed(sampling.seed)
                written = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{len(batch)} prompts of up to {width} tokens do not fit into the device's memory beside '{self.name}'. "
                "Lower generator.batch_size or generator.max_prompt_tokens."
            ) from error
        return [self.chat.decode(row[width:].tolist()) for row in written]

    def stream(self, wishes: Sequence[Wish], say: Say) -> list[Written]:
        """Write the completions of a batch piece by piece; a row that has ended no longer speaks, the others go on.

        All wishes share sampling and adapter. Raises ModelError where a prompt does not fit the model's context.
        """
        import torch
        from transformers import GenerationConfig

        with self.with_adapter(wishes[0].adapter):
            rows = [self.chat.encode_prompt(wish.messages) for wish in wishes]
            check_prompts(rows, wishes, self.name, self.context_tokens)
            width, pad = max(map(len, rows)), self.chat.tokenizer.pad_token_id
            batch = SpokenBatch(wishes, rows, self.stop_ids, self.chat.decode, say)
            sampling, most = wishes[0].sampling, max(w.max_new_tokens for w in wishes)
            if is_packable(self.model):
                with torch.inference_mode(), quiet(), torch.random.fork_rng([], enabled=bool(sampling.temperature)):
                    if sampling.temperature:
                        torch.manual_seed(sampling.seed)
                    # Going on from what was kept rounds otherwise, and a seed is to draw the same again.
                    prefixes = Prefixes() if wishes[0].is_seeded else self.prefixes
                    write_packed(self.model, rows, most, sampling, batch, prefixes, self.adapter)
                return batch.written()
            ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=self.model.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.model.device)
            drawing: dict[str, Any] = {}
            if sampling.temperature:
                drawing = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
            settings = GenerationConfig(do_sample=bool(drawing), max_new_tokens=most,
                                        eos_token_id=self.stop_ids, pad_token_id=pad, **drawing)
            devices = [self.model.device] if self.model.device.type == "cuda" else []
            try:
                with torch.inference_mode(), quiet(), torch.random.fork_rng(devices, enabled=bool(drawing)):
                    if drawing:
                        torch.manual_seed(sampling.seed)
                    self.model.generate(input_ids=ids, attention_mask=mask, generation_config=settings,
                                        streamer=batch, stopping_criteria=[batch.ended])
            except torch.OutOfMemoryError as error:
                raise ModelError(f"{len(rows)} prompts of up to {width} tokens do not fit into the device's memory beside "
                                 f"'{self.name}'. Lower generator.batch_size or generator.max_prompt_tokens.") from error
        return batch.written()

    def logits(self, messages: Sequence[Message]) -> torch.Tensor:
        """Return the float32 logits after the prompt's last token, shape (vocabulary,), to compare two models."""
        import torch

        ids = torch.tensor([self.chat.encode_prompt(messages)], device=self.model.device)
        with torch.inference_mode():
            out: torch.Tensor = self.model(input_ids=ids).logits[0, -1].float().cpu()
        return out

    def score_completions(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], progress: Progress | None = None
    ) -> list[float]:
        """Return the mean log probability a token of each completion and its end of turn after its prompt, in nats.

        Raises ModelError where a prompt and its completion do not fit the model's context.
        """
        import torch

        rows = [self.chat.encode_example(prompt, completion) for prompt, completion in zip(prompts, completions)]
        longest = max((len(prompt) + len(said) for prompt, said in rows), default=0)
        if longest > self.context_tokens:
            raise ModelError(f"a prompt with its completion is {longest} tokens, and '{self.name}' reads "
                             f"{self.context_tokens}. Lower generator.max_prompt_tokens.")
        order = sorted(range(len(rows)), key=lambda n: -sum(map(len, rows[n])))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), self._section.batch_size):
            batch = order[start : start + self._section.batch_size]
            width = max(sum(map(len, rows[n])) for n in batch)
            pad = self.chat.tokenizer.pad_token_id
            whole = [[*rows[n][0], *rows[n][1]] for n in batch]
            ids = torch.tensor([row + [pad] * (width - len(row)) for row in whole], device=self.model.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in whole], device=self.model.device)
            first = min(len(rows[n][0]) for n in batch) - 1  # the logits before the shortest prompt's end are not needed
            with torch.inference_mode():
                logits = self.model(input_ids=ids, attention_mask=mask, logits_to_keep=width - first).logits.float()
                said = torch.log_softmax(logits[:, :-1], dim=-1).gather(2, ids[:, first + 1 :].unsqueeze(2)).squeeze(2).cpu()
            for place, n in enumerate(batch):
                begin, end = len(rows[n][0]) - 1 - first, len(whole[place]) - 1 - first
                scores[n] = float(said[place, begin:end].mean())
            if progress:
                progress(min(start + len(batch), len(order)), len(order))
        return scores

    def row_logits(self, ids: list[int]) -> torch.Tensor:
        """Return the float32 logits after each token of a row, shape (tokens, vocabulary)."""
        import torch

        row = torch.tensor([ids], device=self.model.device)
        with torch.inference_mode():
            out: torch.Tensor = self.model(input_ids=row).logits[0].float().cpu()
        return out
