"""A random Llama and its tokenizer on disk: the real libraries on a model that loads in milliseconds."""

from __future__ import annotations

import random
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

    torch.set_num_threads(1)  # on so little work threads only wait for each other
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


def make_adapter(folder: Path, model: Path | str, seed: int = 0) -> Path:
    """Write a LoRA of the model whose update is not zero, so that it changes the answers; return the folder."""
    import torch
    from peft import LoraConfig, get_peft_model

    from ragtune.models.weights import load_base
    from ragtune.recipe.schema import Generator

    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(load_base(Generator(model=str(model), device="cpu")), config).save_pretrained(str(folder))
    return folder


def make_rows(count: int, seed: int = 0, amounts: int = 6) -> list[dict]:
    """Return tuning rows that ask for one amount of a table, rendered by the one prompt."""
    from ragtune.answering.prompt import render_completion, render_prompt
    from ragtune.records import Passage, Question

    draw = random.Random(seed)
    rows = []
    for number in range(count):
        values = [draw.randint(100, 9999) for _ in range(draw.randint(2, amounts))]
        table = "\n".join(f"Item {i} 2021: {value:,}" for i, value in enumerate(values))
        chosen = draw.randrange(len(values))
        passage = Passage(1, table, "c", "acme", 1, 0, len(table), title="Acme 10-K 2021, page 1")
        question = Question(
            f"q{number}", f"What was item {chosen} in 2021?", f"{values[chosen]:,}",
            justification=f"Item {chosen} 2021: {values[chosen]:,}",
        )
        completion = {"role": "assistant", "content": render_completion(question, [passage])}
        rows.append({"prompt": list(render_prompt(question.text, [passage])), "completion": [completion], "provenance": {}})
    return rows


def make_dataset(folder: Path, train: int = 32, test: int = 8, **entries: str) -> Path:
    """Write a dataset folder as the dataset stage does."""
    from ragtune.answering.prompt import prompt_hash
    from ragtune.files import building_folder, write_jsonl, write_manifest

    with building_folder(folder) as partial:
        write_jsonl(partial / "train.jsonl", make_rows(train, seed=1))
        write_jsonl(partial / "test.jsonl", make_rows(test, seed=2))
        write_manifest(partial, "dataset", **{"prompt_hash": prompt_hash(), "index_id": "index-1", **entries})
    return folder
