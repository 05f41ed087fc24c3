"""Soft prompts at work: learned tokens, or learned keys and values, before each prompt of a padded batch.

PEFT's own generation puts them before the padding of a shorter prompt and numbers positions through it, so that a prompt's
answer would depend on its neighbours in the batch. Here positions count what is there and nothing else, as in tuning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class SoftPrompted:
    """A causal language model with a soft prompt; called and asked to generate like the model itself.

    ``peft_model`` holds the model and the prompt; nothing in the model is changed. Logits are those of the tokens given.
    """

    def __init__(self, peft_model: Any) -> None:
        config = peft_model.active_peft_config
        self.base = peft_model.get_base_model()
        self.virtual_tokens = int(config.num_virtual_tokens)
        self._peft = peft_model.eval()
        self._is_prefix = str(config.peft_type).endswith("PREFIX_TUNING")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["base"], name)

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **named: Any) -> Any:
        """Return the model's output for these tokens after the soft prompt, padded on either side."""
        import torch

        mask = self._mask(input_ids, attention_mask)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        if self._is_prefix:
            cache = self._peft.get_prompt(len(input_ids))
            return self.base(input_ids=input_ids, attention_mask=mask, past_key_values=cache,
                             position_ids=positions[:, self.virtual_tokens:], **named)
        states = self._embed(input_ids)
        output = self.base(inputs_embeds=states, attention_mask=mask, position_ids=positions, **named)
        if isinstance(output.logits, torch.Tensor) and output.logits.shape[1] > input_ids.shape[1]:
            output.logits = output.logits[:, self.virtual_tokens:]
        return output

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **named: Any) -> torch.Tensor:
        """Return the tokens given and those written after them, as the model itself does."""
        import torch

        mask = self._mask(input_ids, attention_mask)
        if self._is_prefix:  # stand-ins for what the cache holds: generate() skips as many tokens as it has
            stands = input_ids.new_zeros((len(input_ids), self.virtual_tokens))
            written: torch.Tensor = self.base.generate(
                input_ids=torch.cat([stands, input_ids], 1), attention_mask=mask,
                past_key_values=self._peft.get_prompt(len(input_ids)), **named)
            return written[:, self.virtual_tokens:]
        written = self.base.generate(inputs_embeds=self._embed(input_ids), attention_mask=mask, **named)
        return torch.cat([input_ids, written], 1)

    def _mask(self, input_ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        import torch

        mask = torch.ones_like(input_ids) if mask is None else mask
        return torch.cat([mask.new_ones((len(mask), self.virtual_tokens)), mask], 1)

    def _embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the soft prompt and the tokens as vectors, shape (rows, soft + tokens, hidden)."""
        import torch

        states = self.base.get_input_embeddings()(input_ids)
        return torch.cat([self._peft.get_prompt(len(input_ids)).to(states.dtype), states], 1)
