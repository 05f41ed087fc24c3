"""The model that learns from its own answers, with its value head and its start: it draws answers and reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ragtune.models.chat import Chat
from ragtune.models.local import find_stop_ids
from ragtune.recipe.schema import Generator, Training
from ragtune.training.reference import Reference, name_trainable
from ragtune.training.reinforcement.rollout import (
    Batch,
    Drawn,
    Reading,
    build_value_head,
    collate,
    draw_answers,
    read_tokens,
)

if TYPE_CHECKING:
    from torch import Tensor


class Actor:
    """A model ready to be tuned (tunable.prepare), seen as PPO does: a distribution over tokens, and a value of each state.

    On a CUDA device that has bfloat16 it computes in it; the log probabilities, values and tuned weights are float32.
    """

    def __init__(self, model: Any, chat: Chat, generator: Generator, training: Training, has_start: bool) -> None:
        self.model = model
        self.chat = chat
        self.temperature = training.reinforce.temperature
        self.head = build_value_head(model.get_output_embeddings().weight.shape[-1], model.device)
        self.reference = Reference(model, has_start)
        self.tuned: dict[str, Any] = name_trainable(model)
        self._generator = generator
        self._stop_ids = find_stop_ids(model, chat)
        self._pad_id = int(chat.tokenizer.pad_token_id)
        self._recomputes = training.gradient_checkpointing
        if self._recomputes:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def draw(self, prompts: Sequence[tuple[int, tuple[int, ...]]]) -> list[Drawn]:
        """Return one answer for each (row, token ids of its prompt), in order."""
        self.model.eval()
        with _precision(self.model.device):
            return draw_answers(self.model, prompts, self._stop_ids, self._pad_id, self._generator.max_new_tokens,
                                self.temperature, self._generator.batch_size)

    def read(self, answers: Sequence[Drawn], with_entropy: bool = False) -> tuple[Batch, Reading]:
        """Return the answers as a batch and what the model says to their tokens now, with gradients where torch keeps them.

        No dropout: the probabilities compared are those of one function, the one that draws.
        """
        import torch

        self.model.train(self._recomputes and torch.is_grad_enabled())  # transformers recomputes only while training
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        batch = collate(answers, self._pad_id, self.model.device)
        with _precision(self.model.device):
            return batch, read_tokens(self.model, self.head, batch, self.temperature, with_entropy)

    def read_reference(self, answers: Sequence[Drawn]) -> Tensor:
        """Return the log probabilities that the model as it was at the start gives the answers' tokens."""
        with self.reference.in_place():
            return self.read(answers)[1].logps

    def text_of(self, answer: Drawn) -> str:
        """Return an answer as it is served."""
        return self.chat.decode(answer.completion)


def _precision(device: Any) -> contextlib.AbstractContextManager[Any]:
    import torch

    if device.type == "cuda" and torch.cuda.is_bf16_supported(False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()
