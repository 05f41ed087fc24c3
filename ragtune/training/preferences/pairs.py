"""Pairs and labelled completions turned into tokens, as the model is asked later; what teaches nothing is refused."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ragtune.datasets.folder import parse_row
from ragtune.errors import RunError
from ragtune.models.chat import Chat
from ragtune.records import Pair
from ragtune.training.methods import SHAPES, Shape
from ragtune.training.rows import NO_LOSS, check_lengths

Row = dict[str, Any]
_LABEL_KEYS = {"prompt", "completion", "label"}


def check_shape(rows: Sequence[Any], shape: Shape, method: str, source: str) -> None:
    """Raise RunError for rows of another shape than ``shape`` ('pairs' or 'labels'), naming the command that makes it."""
    for number, row in enumerate(rows, 1):
        if shape == "pairs" and isinstance(row, Pair):
            continue
        if shape == "labels" and isinstance(row, Mapping) and set(row) >= _LABEL_KEYS and isinstance(row["label"], bool):
            continue
        found = f"the keys {', '.join(sorted(map(str, row))) or 'none'}" if isinstance(row, Mapping) else (
            "a pair" if isinstance(row, Pair) else "a prompt with one completion")
        raise RunError(f"{source}: training.method '{method}' takes {SHAPES[shape][0]}; found {found} in row {number}. "
                       f"Do: {SHAPES[shape][1]}")


def check_labels(labels: Sequence[Mapping[str, Any]], source: str) -> None:
    """Raise RunError where all rows have the same label."""
    if len({row["label"] for row in labels}) == 1:
        raise RunError(f"{source}: all {len(labels)} rows have the label {str(labels[0]['label']).lower()}; KTO learns from "
                       f"right and wrong completions. Do: {SHAPES['labels'][1]}")


def encode_pairs(pairs: Sequence[Pair], chat: Chat, max_tokens: int, source: str) -> list[Row]:
    """Return prompt_ids, chosen_ids and rejected_ids of each pair; both halves end with the stop token.

    Raises RunError where halves are alike or empty, or longer with their prompt than ``max_tokens``: nothing is cut.
    """
    alike = sum(pair.chosen.strip() == pair.rejected.strip() for pair in pairs)
    empty = sum(not pair.chosen.strip() or not pair.rejected.strip() for pair in pairs)
    for count, what in ((alike, "have halves that are alike"), (empty, "have an empty half")):
        if count:
            raise RunError(f"{source}: {count} of {len(pairs)} pairs {what}: there is nothing to prefer. Leave them out, or "
                           f"make the pairs anew. Do: {SHAPES['pairs'][1]}")
    rows = []
    for pair in pairs:
        prompt, chosen = chat.encode_example(pair.prompt, pair.chosen)
        _, rejected = chat.encode_example(pair.prompt, pair.rejected)
        rows.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    check_lengths(list(map(count_tokens, rows)), max_tokens, source, f"{SHAPES['pairs'][1]} (after ragtune dataset)")
    return rows


def encode_labels(labels: Sequence[Mapping[str, Any]], chat: Chat, max_tokens: int, source: str, seed: int) -> list[Row]:
    """Return prompt_ids, completion_ids, label and KL_completion_ids of each labelled completion (a row of kto.jsonl).

    KL_completion_ids is the completion of another prompt: KTO estimates how far the model moved from what it says to
    prompts that do not belong together (arXiv 2402.01306, section 4.1). TRL turns the completions round within a batch of a
    fixed order; here each row keeps one partner, so that the order may change from epoch to epoch.

    Raises RunError for empty completions and for rows longer than ``max_tokens``.
    """
    examples = [parse_row({**row, "provenance": {}}, f"{source}:{number}") for number, row in enumerate(labels, 1)]
    rows = []
    for row, example in zip(labels, examples):
        prompt, completion = chat.encode_example(example.prompt, example.completion)
        rows.append({"prompt_ids": prompt, "completion_ids": completion, "label": row["label"]})
    check_lengths(list(map(count_tokens, rows)), max_tokens, source, f"{SHAPES['labels'][1]} (after ragtune dataset)")
    for row, partner in zip(rows, _choose_partners(rows, max_tokens, seed)):
        row["KL_completion_ids"] = rows[partner]["completion_ids"]
    return rows


def _choose_partners(rows: Sequence[Row], max_tokens: int, seed: int) -> list[int]:
    """Return for each row one with another prompt whose completion fits behind its own; each is taken about once."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    partners = list(range(len(rows)))  # itself where there is no other
    for place, number in enumerate(order):
        mine = rows[number]["prompt_ids"]
        for step in range(1, len(order)):
            other = rows[order[(place + step) % len(order)]]
            if other["prompt_ids"] != mine and len(mine) + len(other["completion_ids"]) <= max_tokens:
                partners[number] = order[(place + step) % len(order)]
                break
    return partners


def count_tokens(row: Row) -> int:
    """Return the tokens of a row's longest sequence."""
    completions = (row.get(name, ()) for name in ("chosen_ids", "rejected_ids", "completion_ids"))
    return len(row["prompt_ids"]) + max(map(len, completions))


def as_sequences(row: Row) -> Row:
    """Return a pair's row as the trainers of trl.experimental take it: each half with its prompt, mask and labels."""
    made: Row = {}
    for half in ("chosen", "rejected"):
        prompt, completion = row["prompt_ids"], row[f"{half}_ids"]
        made[f"{half}_input_ids"] = prompt + completion
        made[f"{half}_attention_mask"] = [1] * (len(prompt) + len(completion))
        made[f"{half}_labels"] = [NO_LOSS] * len(prompt) + completion
    return made


def as_whole(row: Row) -> Row:
    """Return a pair's row as the reward trainer takes it: each half with its prompt in one."""
    return {f"{half}_ids": row["prompt_ids"] + row[f"{half}_ids"] for half in ("chosen", "rejected")}
