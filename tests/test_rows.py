"""Tuning rows: their shape, their tokens and their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import TEMPLATE, make_rows, make_tokenizer

from ragtune.datasets.folder import read_examples
from ragtune.errors import RunError
from ragtune.files import write_jsonl
from ragtune.models.chat import load_chat
from ragtune.recipe.schema import Generator
from ragtune.training.rows import LengthOrder, encode_examples


def test_only_the_completion_has_labels_and_long_rows_are_refused(tmp_path):
    make_tokenizer(tmp_path, template=TEMPLATE)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    chat = load_chat(Generator(model=str(tmp_path)))
    write_jsonl(tmp_path / "train.jsonl", make_rows(5))
    examples = read_examples(tmp_path / "train.jsonl")
    rows = encode_examples(examples, chat, 2048, "train.jsonl")
    for example, row in zip(examples, rows):
        kept = [label for label in row["labels"] if label != -100]
        assert chat.decode(kept) == example.completion
        assert row["input_ids"][-len(kept) :] == kept
        assert len(row["labels"]) == len(row["input_ids"])
    with pytest.raises(RunError, match=r"5 of 5 rows are longer than the model's 64 tokens"):
        encode_examples(examples, chat, 64, "train.jsonl")


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=300), st.integers(1, 16), st.integers(0, 5), st.integers(0, 3)
)
def test_every_epoch_shows_every_row_once_in_an_order_that_can_be_repeated(lengths, batch, seed, epoch):
    order, again = LengthOrder(lengths, batch, seed), LengthOrder(lengths, batch, seed)
    order.set_epoch(epoch)
    again.set_epoch(epoch)
    shown = list(order)
    assert sorted(shown) == list(range(len(lengths)))
    assert shown == list(again)
    assert len(order) == len(lengths)


def test_batches_hold_rows_of_like_length():
    lengths = [(i * 7919) % 1000 + 1 for i in range(256)]
    order = list(LengthOrder(lengths, 8, 0))
    padded = sum(8 * max(lengths[row] for row in order[i : i + 8]) for i in range(0, 256, 8))
    assert padded < 1.15 * sum(lengths)  # in random order it is about 1.7 times
    other = LengthOrder(lengths, 8, 0)
    other.set_epoch(1)
    assert list(other) != order
