"""Chat messages as tokens: one rendering for counting, generating and tuning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ragtune.errors import ModelError
from ragtune.models.checkpoint import explain_loading, locate_model, quiet
from ragtune.recipe.schema import Generator as Section
from ragtune.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# For base models, which bring no chat template. A role stands on its own line, because every tokenizer breaks there.
FALLBACK_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}{{ message['role'] + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token or '' }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
)
_ROLE_LINE = re.compile(r"^(system|user|assistant):[ \t]*$", re.MULTILINE)
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|end_of_turn|>", "<turn|>")


class Chat:
    """A tokenizer with its chat template.

    Where a template is missing, ``FALLBACK_TEMPLATE`` stands in; where it refuses the system role, the system message
    is put before the first user message. Either way counting, generating and tuning see the same tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        if not tokenizer.chat_template:
            tokenizer.chat_template = FALLBACK_TEMPLATE
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        self.takes_system = self._takes_system()
        self._control = find_control_tokens(tokenizer)

    def _takes_system(self) -> bool:
        from jinja2 import TemplateError

        try:
            self.tokenizer.apply_chat_template(
                [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], tokenize=False
            )
        except TemplateError:
            return False
        return True

    @cached_property
    def stop_ids(self) -> list[int]:
        """The tokens that end a turn: the end of text and, where the vocabulary has one, the end of a turn."""
        vocabulary = self.tokenizer.get_vocab()
        found = {vocabulary[token] for token in _TURN_ENDS if token in vocabulary}
        if self.tokenizer.eos_token_id is not None:
            found.add(self.tokenizer.eos_token_id)
        return sorted(found)

    def _messages(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        plain = [{"role": m["role"], "content": self.neutralise(m["content"])} for m in messages]
        if self.takes_system or not plain or plain[0]["role"] != "system":
            return plain
        system, *rest = plain
        if rest and rest[0]["role"] == "user":
            rest[0] = {"role": "user", "content": f"{system['content']}\n\n{rest[0]['content']}"}
        return rest

    def neutralise(self, text: str) -> str:
        """Break what this model would read as a control token where it stands in a message, so that none takes effect.

        ``answering.prompt`` has done so for the tokens of the known templates; here the tokenizer says which there are.
        """
        if self.tokenizer.chat_template == FALLBACK_TEMPLATE:  # its turns begin with lines that a text may hold too
            text = _ROLE_LINE.sub(r"\1 :", text)
        while self._control is not None and self._control.search(text):
            text = self._control.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        return text

    def render_text(self, messages: Sequence[Message], is_prompt: bool = True) -> str:
        """Return the chat as the model reads it; a prompt ends where the assistant's turn begins.

        Templates of models that can think aloud are told not to: the completion is the answer with its calculation.
        """
        return str(
            self.tokenizer.apply_chat_template(
                self._messages(messages), tokenize=False, add_generation_prompt=is_prompt, enable_thinking=False
            )
        )

    def encode(self, text: str) -> list[int]:
        """Return the token ids of rendered text; the template brings all special tokens itself."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a prompt, up to where the assistant answers."""
        return self.encode(self.render_text(messages))

    def encode_example(self, prompt: Sequence[Message], completion: str) -> tuple[list[int], list[int]]:
        """Return (prompt ids, completion ids), the completion with its end of turn.

        The prompt's ids are exactly those that ``encode_prompt`` gives when the model is asked.
        """
        prompt_text = self.render_text(prompt)
        prompt_ids = self.encode(prompt_text)
        whole = self.render_text([*prompt, Message(role="assistant", content=completion)], is_prompt=False)
        whole_ids = self.encode(whole)
        if whole_ids[: len(prompt_ids)] == prompt_ids:
            return prompt_ids, self._up_to_stop(whole_ids[len(prompt_ids) :])
        # The template renders a finished turn in another way, or tokens merge over the border.
        rest = whole[len(prompt_text) :] if whole.startswith(prompt_text) else completion
        return prompt_ids, self._up_to_stop(self.encode(rest))

    def _up_to_stop(self, ids: list[int]) -> list[int]:
        """Cut what the template puts after the end of the turn (a newline): the model stops there and never says it."""
        ends = [position for position, token in enumerate(ids) if token in self.stop_ids]
        return ids[: ends[-1] + 1] if ends else [*ids, self.tokenizer.eos_token_id]

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length of the rendered prompt in tokens."""
        return len(self.encode_prompt(messages))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids without special tokens, stripped."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def find_control_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Return a pattern of the tokenizer's special tokens, None where it has none of at least two characters.

    Tokens that were added as plain words (years, the words of a prompt) are none: they stand in ordinary text.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    names = {str(token.content) for token in added if token.special} | set(tokenizer.all_special_tokens)
    kept = sorted((name for name in names if len(name.strip()) > 1), key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, kept))) if kept else None


def load_chat(section: Section) -> Chat:
    """Return the tokenizer of a recipe's model; the weights stay on disk. Raises ModelError."""
    from transformers import AutoTokenizer

    with quiet(), explain_loading(section.model):
        tokenizer = AutoTokenizer.from_pretrained(
            locate_model(section.model), padding_side="left", trust_remote_code=False
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of '{section.model}' has no end-of-text token, so its answers would never end. "
            "Choose a model for text generation."
        )
    return Chat(tokenizer)
