"""Several short rows in one, which do not see each other: less padding, the same loss.

Rows are packed once, before the trainer, so that nothing is cut or dropped. Positions restart at each row, and no mask is
handed on: transformers then masks each row off from its neighbours in the attention it computes itself (sdpa, eager).
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Mapping, Sequence
from typing import Any

from ragtune.errors import RecipeError, RunError
from ragtune.training.rows import NO_LOSS

Row = dict[str, list[int]]
UNPACKABLE = ("prompt_tuning", "prefix_tuning", "p_tuning")
"""Weights whose learned tokens stand before the whole packed row: PEFT then ignores positions, and rows see each other."""
_PROBED = 12  # tokens of a row in the check that rows do not see each other
_LEAK = 0.05  # of what a row's logits change by where it does see its neighbour: rounding changes them less


def pack_rows(rows: Sequence[Row], seed: int) -> list[Row]:
    """Return packed rows: input_ids, labels and ``seq_lengths``, the lengths of the rows in each.

    Best fit decreasing (arXiv 2404.10830), up to the length of the longest row: a batch needs no more memory than before.
    Rows of one length are taken in an order drawn from ``seed``. A row's first token is nobody's prediction, so its label
    does not count; in a row that begins with a prompt it did not before.
    """
    if not rows:
        return []
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda row: -len(rows[row]["input_ids"]))
    capacity = len(rows[order[0]]["input_ids"])
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, pack), sorted: the tightest fit is found by bisection
    for row in order:
        length = len(rows[row]["input_ids"])
        place = bisect.bisect_left(room, (length, -1))
        left, pack = room.pop(place) if place < len(room) else (capacity, len(packs))
        if pack == len(packs):
            packs.append([])
        packs[pack].append(row)
        bisect.insort(room, (left - length, pack))
    return [_join([rows[row] for row in pack]) for pack in packs]


def _join(rows: Sequence[Row]) -> Row:
    return {
        "input_ids": [token for row in rows for token in row["input_ids"]],
        "labels": [label for row in rows for label in [NO_LOSS, *row["labels"][1:]]],
        "seq_lengths": [len(row["input_ids"]) for row in rows],
    }


class PackedCollator:
    """Makes a batch of packed rows, padded on the right, with restarting positions and without a mask.

    Padding stands after all rows, which never look ahead; its positions do not run on, so it is no part of a row either.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        import torch

        width = max(len(row["input_ids"]) for row in rows)

        def pad(values: Sequence[int], value: int) -> list[int]:
            return [*values, *[value] * (width - len(values))]

        positions = [[at for length in _lengths(row) for at in range(length)] for row in rows]
        return {
            "input_ids": torch.tensor([pad(row["input_ids"], self.pad_token_id) for row in rows]),
            "labels": torch.tensor([pad(row["labels"], NO_LOSS) for row in rows]),
            "position_ids": torch.tensor([pad(row, 0) for row in positions]),
        }


def _lengths(row: Mapping[str, Any]) -> Sequence[int]:
    return row.get("seq_lengths") or [len(row["input_ids"])]  # test rows are not packed


def check_packable(weights: str, method: str) -> None:
    """Raise RecipeError for weights with which packed rows would see each other."""
    if weights in UNPACKABLE:
        raise RecipeError(f"training.packing does not go with {method}: its learned tokens stand before a whole packed row, "
                          "whose parts would then see each other. Do: --set training.packing=false")


def check_apart(model: Any, rows: Sequence[Row]) -> None:
    """Raise RunError where rows of a packed row see each other in this model, by its logits on the start of two rows.

    Models whose attention does not go by positions (state space, linear attention, kernels of their own) fail it.
    """
    import torch

    tokens = [row["input_ids"][:_PROBED] for row in rows[:2]]
    if len(tokens) < 2:
        return
    joint = torch.tensor([tokens[0] + tokens[1]], device=model.device)
    alone = torch.tensor([tokens[1]], device=model.device)
    running = torch.arange(joint.shape[1], device=model.device)[None]
    restarting = torch.tensor([[*range(len(tokens[0])), *range(len(tokens[1]))]], device=model.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        wanted = model(input_ids=alone, use_cache=False).logits
        packed, leaking = (model(input_ids=joint, position_ids=places, use_cache=False).logits[:, -len(tokens[1]) :]
                           for places in (restarting, running))
    model.train(was_training)
    if not float((packed - wanted).abs().max()) <= _LEAK * float((leaking - wanted).abs().max()) + 1e-6:
        raise RunError(f"training.packing is not right for this model ({type(model).__name__}): the rows that are packed "
                       "together would see each other. Do: --set training.packing=false (rows of like length share a batch "
                       "anyway).")
