"""Drawing answers from the model that is tuned, and reading its log probabilities and values of them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragtune.errors import ModelError
from ragtune.models.chat import Chat
from ragtune.models.checkpoint import quiet, read_config, read_context_tokens
from ragtune.training.job import Job

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Drawn:
    """One drawn answer: the tokens of its prompt and its own, up to and with its stop token where it ``ended``."""

    row: int
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    ended: bool


@dataclass(frozen=True)
class Batch:
    """Answers side by side: prompts padded on the left, completions on the right, so that these begin at one column.

    ``ids`` and ``attention`` are (answers, prompt + completion), ``completion`` and ``mask`` (answers, completion tokens).
    """

    ids: Tensor
    attention: Tensor
    completion: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Reading:
    """What the model says to each token of a batch's completions, float32, (answers, completion tokens).

    ``values`` are those of the state before the token; ``entropy``, in nats, is read where it was asked for.
    """

    logps: Tensor
    values: Tensor
    entropy: Tensor | None = None


def encode_prompts(job: Job, chat: Chat) -> list[tuple[int, ...]]:
    """Return the token ids of each row's prompt, as served. Raises ModelError where one leaves no room for an answer."""
    limit = read_context_tokens(read_config(job.generator.model))
    new = job.generator.max_new_tokens
    prompts = [tuple(chat.encode_prompt(example.prompt)) for example in job.train]
    longest = max(map(len, prompts))
    if longest + new > limit:
        raise ModelError(
            f"a prompt of {longest} tokens and an answer of {new} do not fit the model, which reads {limit}. Build the "
            "dataset for this model, with generator.max_prompt_tokens within its limit. Do: ragtune dataset --recipe FILE"
        )
    return prompts


def choose_rows(rows: int, prompts: int, step: int, seed: int) -> list[int]:
    """Return the rows whose answers are drawn in round ``step`` (from 0): ``prompts`` of them, pass after pass.

    Each pass has its own order, by seed and pass alone: a resumed run asks what an unbroken one would have asked.
    """
    chosen: list[int] = []
    for place in range(step * prompts, (step + 1) * prompts):
        order = list(range(rows))
        random.Random(seed * 1_000_003 + place // rows).shuffle(order)
        chosen.append(order[place % rows])
    return chosen


def draw_answers(
    model: Any, prompts: Sequence[tuple[int, tuple[int, ...]]], stop_ids: Sequence[int], pad_id: int, max_new_tokens: int,
    temperature: float, batch_size: int,
) -> list[Drawn]:
    """Return one answer for each (row, token ids of its prompt), in their order, ``batch_size`` drawn at once.

    Drawn from the model's own distribution at the temperature, nothing left out of it (no top-k, top-p or penalty), because
    the log probabilities that are learned from are those of that distribution. Uses torch's random numbers as they stand.
    """
    import torch
    from transformers import GenerationConfig

    settings = GenerationConfig(
        do_sample=True, temperature=temperature, top_k=0, top_p=1.0, repetition_penalty=1.0, no_repeat_ngram_size=0,
        use_cache=True, max_new_tokens=max_new_tokens, eos_token_id=list(stop_ids), pad_token_id=pad_id,
    )
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place][1]))
    drawn: dict[int, Drawn] = {}
    model.eval()
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        width = len(prompts[places[0]][1])
        ids = torch.tensor([[pad_id] * (width - len(prompts[p][1])) + list(prompts[p][1]) for p in places],
                           device=model.device)
        mask = torch.tensor([[0] * (width - len(prompts[p][1])) + [1] * len(prompts[p][1]) for p in places],
                            device=model.device)
        with torch.no_grad(), quiet():
            written = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        for place, tokens in zip(places, written[:, width:].tolist()):
            end = next((position for position, token in enumerate(tokens) if token in stop_ids), None)
            row, prompt = prompts[place]
            drawn[place] = Drawn(row, prompt, tuple(tokens if end is None else tokens[: end + 1]), end is not None)
    return [drawn[place] for place in range(len(prompts))]


def collate(answers: Sequence[Drawn], pad_id: int, device: Any) -> Batch:
    """Return the answers as one batch on the device."""
    import torch

    before = max(len(answer.prompt) for answer in answers)
    after = max(len(answer.completion) for answer in answers)

    def pad(rows: Sequence[tuple[Sequence[int], Sequence[int]]], filler: int) -> Tensor:
        return torch.tensor([[filler] * (before - len(first)) + [*first, *second] + [filler] * (after - len(second))
                             for first, second in rows], device=device)

    ids = pad([(answer.prompt, answer.completion) for answer in answers], pad_id)
    attention = pad([([1] * len(answer.prompt), [1] * len(answer.completion)) for answer in answers], 0)
    return Batch(ids, attention, ids[:, before:], attention[:, before:].float())


def build_value_head(width: int, device: Any) -> Any:
    """Return the linear map from a final hidden state, scaled to length 1, to its value: float32, and 0 at first.

    Starting at 0, no advantage is moved by what a random head would say. At length 1 a step of the optimizer moves values
    alike in all models: by no more than the learning rate times the root of the width.
    """
    import torch

    head = torch.nn.Linear(width, 1, dtype=torch.float32, device=device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head


def read_tokens(model: Any, head: Any, batch: Batch, temperature: float, with_entropy: bool = False) -> Reading:
    """Return the log probabilities at the temperature the answers were drawn with, and the values, in one forward."""
    import torch

    kept = batch.completion.shape[1] + 1  # the position before each token, and the one after the last, not needed
    with _seeing_hidden(model) as seen:
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attention}
        if not _has_virtual_tokens(model):  # PEFT works those positions out itself
            inputs["position_ids"] = (batch.attention.cumsum(dim=1) - 1).clamp(min=0)
        logits = model(**inputs, use_cache=False, logits_to_keep=kept).logits[:, :-1].float() / temperature
    total = logits.logsumexp(dim=-1)
    logps = logits.gather(2, batch.completion.unsqueeze(2)).squeeze(2) - total
    values = head(torch.nn.functional.normalize(seen[0][:, -kept:-1].float(), dim=-1)).squeeze(2)
    entropy = total - ((logits - total.unsqueeze(2)).exp() * logits).sum(dim=-1) if with_entropy else None
    return Reading(logps, values, entropy)


@contextlib.contextmanager
def _seeing_hidden(model: Any) -> Iterator[list[Tensor]]:
    """Give the final hidden states that go into the output layer; those of the inner layers are not kept for it."""
    seen: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def _has_virtual_tokens(model: Any) -> bool:
    return any(getattr(config, "is_prompt_learning", False) for config in getattr(model, "peft_config", {}).values())
