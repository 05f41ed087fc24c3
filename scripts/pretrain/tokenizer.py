"""The tokenizer: byte-level BPE of our own text, with whole tokens for years and for groups of up to three digits.

Every step is lossless: decoding gives back the very text, case, spaces and newlines included.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.answering.prompt import SYSTEM

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SIZE = 6144
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""One token a role; an assistant's message ends with the end token."""
PIECES = (
    r" ?(?:199\d|20[0-4]\d)(?!\d)"  # a year, with the space before it
    r"|,\d{3}(?!\d)"  # a group of thousands
    r"|: (?=[\d(\$€£—–-])"  # the colon before an amount
    r"|\d{1,3}"
    r"|'s| ?\p{L}+| ?[^\s\p{L}\p{N}]|\n\n|\s| ?\p{N}"
)


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer trained on the texts, with its chat template."""
    import json

    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    numbers = [f"{i}" for i in range(10, 100)] + [f"{i:02d}" for i in range(10)] + [f"{i:03d}" for i in range(1000)]
    numbers += [f",{i:03d}" for i in range(1000)]
    numbers += [f"{space}{year}" for year in range(1990, 2050) for space in ("", "Ġ")]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, BEGIN, END, *ROLES]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(numbers) - 1,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((_without_digits(text) for text in texts), trainer)
    written = json.loads(tokenizer.to_str())
    vocabulary = written["model"]["vocab"]
    for number in numbers:
        vocabulary.setdefault(number, len(vocabulary))
    while len(vocabulary) < SIZE - 1:  # numbers that the training had already made
        vocabulary[f"<|unused{len(vocabulary)}|>"] = len(vocabulary)
    written["model"]["ignore_merges"] = True  # a piece that is in the vocabulary is one token, without merges of its own
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.add_tokens([AddedToken(SYSTEM, normalized=False)])  # the constant system message costs one token
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
        padding_side="left",
    )
    fast.chat_template = TEMPLATE
    return fast


def _without_digits(text: str) -> str:
    """Return the text without digits: numbers have tokens of their own, and take no part in the training."""
    return "".join(" " if character.isdigit() else character for character in text)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    tokenizer.save_pretrained(folder)
