"""A random Llama and its tokenizer on disk: the real libraries on a model that loads in milliseconds."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TEXT = [
    "Answer the question from the numbered passages. Cite the passage of each fact as [n].",
    "Question: What were net sales in 2021? Answer: $4,210 million [1] Not found in the documents.",
    "Net sales 2021: 4,210 2020: 3,900 Cost of goods sold (1,234) Operating income 977 Total assets 12,345",
]


def make_tokenizer(folder: Path, vocab: int = 512, template: str | None = TEMPLATE) -> None:
    """Write a byte-level BPE tokenizer with chat tokens; without a template where ``template`` is None."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
    if template is not None:
        fast.chat_template = template
    fast.save_pretrained(folder)


def make_tiny_model(
    folder: Path,
    hidden: int = 64,
    layers: int = 2,
    intermediate: int = 128,
    vocab: int = 512,
    positions: int = 2048,
    template: str | None = TEMPLATE,
    seed: int = 0,
) -> Path:
    """Write a random Llama (tied embeddings, safetensors) with its tokenizer; return the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    make_tokenizer(folder, vocab, template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        num_key_value_heads=max(1, hidden // 64),
        head_dim=hidden // max(1, hidden // 64),
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.08,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
