"""The training loop: bfloat16 compute on float32 weights, Muon and AdamW, a curriculum, resumable; CPU or GPU.

One process a core (the loop starts them itself). Each takes steps of its own, and every few steps they average their
weights (local SGD): on a shared machine that loses less to waiting than averaging every gradient.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import re
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from conversations import STAGES, Conversation, Stage, Teacher
from shape import Reader, Shape, deepen, initialise, share_embeddings
from tables import HELD_OUT, Filings, load_tables
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORED = -100
RESULT_WEIGHT, FIRST_WEIGHT = 0.05, 2.0
"""A shown result is worked out again by the calculator, and would be most of the loss; the first token chooses the row."""
_RESULT = re.compile(r" = (\S+)")


def encode(
    conversation: Conversation, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], list[int], list[int], list[float]]:
    """Return (ids, labels, turn of each label, weight of each label); only answers and their end token are labelled.

    The turn is -1 outside the answers, and in calculations: the model is not held to their results,
    which a calculator works out again.
    The ids are those of the chat template (tests compare them).
    """
    raw = tokenizer.backend_tokenizer
    roles = {role: tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in ("system", "user", "assistant")}
    ids, labels, turns, turn, weights = [tokenizer.bos_token_id], [IGNORED], [-1], 0, [0.0]
    for message in conversation.messages():
        encoded = raw.encode(message["content"], add_special_tokens=False)
        piece = [roles[message["role"]], *encoded.ids]
        if message["role"] == "assistant":
            piece.append(tokenizer.eos_token_id)
            labels += [IGNORED, *piece[1:]]
            results = [match.span(1) for match in _RESULT.finditer(message["content"])]
            among = [any(start <= a and b <= end for start, end in results) for a, b in encoded.offsets]
            weights += [0.0, *(RESULT_WEIGHT if inside else 1.0 for inside in among), 1.0]
            weights[-len(piece) + 1] = FIRST_WEIGHT
            is_measured = conversation.turns[turn].kind in ("figure", "absent", "compare", "versus")
            turns += [-1] + [turn if is_measured else -1] * (len(piece) - 1)
            turn += 1
        else:
            labels += [IGNORED] * len(piece)
            turns += [-1] * len(piece)
            weights += [0.0] * len(piece)
        ids += piece
    return ids, labels, turns, weights


def make_batch(
    teacher: Teacher, stage: Stage, rows: int, tokenizer: PreTrainedTokenizerFast
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ids, labels, turn numbers and weights, each of shape (rows, stage.tokens + 1)."""
    batch: list[tuple[list[int], list[int], list[int], list[float]]] = []
    while len(batch) < rows:
        ids, labels, turns, weights = encode(teacher.conversation(stage, max(6, stage.tokens // 28)), tokenizer)
        labelled = sum(label != IGNORED for label in labels[: stage.tokens])
        if labelled < min(40, stage.tokens // 12):
            continue
        spare = stage.tokens + 1 - len(ids)
        batch.append(
            (
                (ids + [0] * spare)[: stage.tokens + 1],
                (labels + [IGNORED] * spare)[: stage.tokens + 1],
                (turns + [-1] * spare)[: stage.tokens + 1],
                (weights + [0.0] * spare)[: stage.tokens + 1],
            )
        )
    ids_, labels_, turns_, weights_ = (torch.tensor(column) for column in zip(*batch))
    return ids_, labels_, turns_, weights_


def exact_turns(right: Tensor, turns: Tensor, kept: Tensor) -> tuple[int, int]:
    """Return how many answers are right in every token, and how many there are (teacher-forced)."""
    rows = torch.arange(turns.shape[0], device=turns.device)[:, None].expand_as(turns)[kept]
    measured = turns[kept] >= 0
    key, right = (rows * 1000 + turns[kept])[measured], right[measured]
    wrong = torch.unique(key[~right])
    return len(torch.unique(key)) - len(wrong), len(torch.unique(key))


def optimisers(model: Reader, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the layers and AdamW for embeddings and norms."""
    inner = [w for name, w in model.named_parameters() if w.dim() == 2 and "embedding" not in name]
    rest = [w for name, w in model.named_parameters() if w.dim() != 2 or "embedding" in name]
    return [
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
        torch.optim.Muon(inner, lr=rate, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    ]


class Training:
    """State of one process of the run."""

    def __init__(self, options: argparse.Namespace, rank: int) -> None:
        """Build or resume the model; every process of a run holds the same weights."""
        from transformers import AutoTokenizer

        self.options, self.rank = options, rank
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self.tokenizer = AutoTokenizer.from_pretrained(options.work / "tokenizer")
        tables = [t for t in load_tables(options.work / "tables.jsonl") if t.company not in HELD_OUT] if options.real else []
        self.step, self.tokens, self.elapsed_s, self.stage = 0, 0, 0.0, 0
        self.log: list[dict[str, Any]] = []
        self.master = Reader(Shape(vocabulary=len(self.tokenizer)))
        if options.start and not options.checkpoint.exists():
            self._begin_from(torch.load(options.start, weights_only=True))
        elif not options.checkpoint.exists():
            share_embeddings(self.master, self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer)))))
            initialise(self.master)
        else:
            self.master = Reader(Shape(**torch.load(options.checkpoint, weights_only=True)["shape"]))
        self.optimisers = optimisers(self.master, options.rate)
        if options.checkpoint.exists():
            self._resume()
        self.master.to(self.device)
        self.model = copy.deepcopy(self.master).bfloat16()
        seed = options.seed + 1000 * rank + 7919 * self.step
        self.filings = Filings(seed, tables)
        self.teacher = Teacher(self.filings)
        self.teacher.restates_rows = options.restate_rows
        self.draw = random.Random(options.seed + self.step)  # the same in every process: one stage a step
        self.losses: deque[float] = deque(maxlen=100)
        self.exact: deque[tuple[int, int]] = deque(maxlen=60)

    def _begin_from(self, state: dict[str, Any]) -> None:
        """Take a finished run's weights, deepened to ``layers``; the clock and the optimisers begin anew."""
        self.master = Reader(Shape(**state["shape"]))
        self.master.load_state_dict(state["weights"])
        if self.options.layers > self.master.shape.layers:
            self.master = deepen(self.master, self.options.layers)
        self.tokens, self.stage, self.log = state["tokens"], len(STAGES) - 1, json.loads(state["log"])

    def _resume(self) -> None:
        state = torch.load(self.options.checkpoint, weights_only=True)
        self.master.load_state_dict(state["weights"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
        self.step, self.tokens, self.elapsed_s, self.stage = (
            state["step"],
            state["tokens"],
            state["elapsed_s"],
            state["stage"],
        )
        self.log = json.loads(state["log"])

    def save(self) -> None:
        """Write the checkpoint in one move."""
        partial = self.options.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "weights": self.master.state_dict(),
                "optimisers": [o.state_dict() for o in self.optimisers],
                "step": self.step,
                "tokens": self.tokens,
                "elapsed_s": self.elapsed_s,
                "stage": self.stage,
                "log": json.dumps(self.log),
                "shape": asdict(self.master.shape),
            },
            partial,
        )
        os.replace(partial, self.options.checkpoint)

    def rate(self) -> float:
        """Learning rate now: a short warm-up, then level, then down to 3% over the last part of the time."""
        share = self.elapsed_s / (self.options.minutes * 60)
        return self.options.rate * min(1.0, (self.step + 1) / 40) * min(1.0, max(0.03, (1 - share) / self.options.cooldown))

    def one_step(self) -> None:
        """Draw a batch, and move the weights along its averaged gradient."""
        began = time.monotonic()
        number = self.stage if self.draw.random() < 0.7 else self.draw.randint(max(0, self.stage - 2), self.stage)
        stage = STAGES[number]
        self.filings.real_share = stage.real_share if self.filings.real else 0.0
        drawn = make_batch(self.teacher, stage, stage.batch, self.tokenizer)
        ids, labels, turns, weights = (x.to(self.device) for x in drawn)
        targets, turns, weights = labels[:, 1:], turns[:, 1:], weights[:, 1:]
        kept = targets != IGNORED
        scores = (self.model(ids[:, :-1])[kept] @ self.model.embedding.weight.T).float()
        losses, weights = F.cross_entropy(scores, targets[kept], reduction="none"), weights[kept]
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        for fast, exact in zip(self.model.parameters(), self.master.parameters()):
            exact.grad = None if fast.grad is None else fast.grad.float()
            fast.grad = None
        torch.nn.utils.clip_grad_norm_(self.master.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.rate()
            optimiser.step()
        self.step += 1
        if self.options.processes > 1 and self.step % self.options.together == 0:
            self._average_weights()
        with torch.no_grad():
            for fast, exact in zip(self.model.parameters(), self.master.parameters()):
                fast.copy_(exact)
        self.losses.append(loss.item())
        if number == self.stage:
            self.exact.append(exact_turns(scores.argmax(-1) == targets[kept], turns, kept))
        self.tokens += ids.numel() * self.options.processes
        self.elapsed_s += time.monotonic() - began

    @torch.no_grad()
    def _average_weights(self) -> None:
        """Give every process the mean of all processes' weights."""
        import torch.distributed as distributed

        weights = list(self.master.parameters())
        flat = torch.cat([weight.flatten() for weight in weights])
        distributed.all_reduce(flat)
        for weight, mean in zip(weights, (flat / self.options.processes).split([weight.numel() for weight in weights])):
            weight.copy_(mean.view_as(weight))

    def share_exact(self) -> float:
        """Return the share of answers wholly right in recent batches of the present stage."""
        return sum(right for right, _ in self.exact) / max(1, sum(count for _, count in self.exact))

    def advance(self) -> None:
        """Log, go to the next stage when this one is learnt or its time is over, and save."""
        share, exact = self.elapsed_s / (self.options.minutes * 60), self.share_exact()
        self.log.append(
            {
                "minutes": round(self.elapsed_s / 60, 2),
                "step": self.step,
                "tokens": self.tokens,
                "stage": self.stage,
                "loss": round(sum(self.losses) / len(self.losses), 4),
                "exact": round(exact, 3),
            }
        )
        print(json.dumps(self.log[-1]), flush=True)
        is_learnt = len(self.exact) >= 30 and exact > self.options.promote
        if self.stage < len(STAGES) - 1 and (is_learnt or share > STAGES[self.stage].until):
            self.stage += 1
            self.exact.clear()
        self.save()

    def run(self) -> None:
        """Train until the time is over."""
        last_log_s, limit_s = self.elapsed_s, self.options.minutes * 60
        while self.elapsed_s < limit_s:
            for _ in range(self.options.together):
                self.one_step()
            if self._agree(self.elapsed_s - last_log_s > self.options.log_s):
                last_log_s = self.elapsed_s
                if self.rank == 0:
                    self.advance()
                self.stage = self._agree(self.stage)
        if self.rank == 0:
            self.advance()

    def _agree(self, value: float) -> int:
        """Return process 0's value, and let its clock be everybody's."""
        if self.options.processes == 1:
            return int(value)
        import torch.distributed as distributed

        said = torch.tensor([float(value), self.elapsed_s], dtype=torch.float64)
        distributed.broadcast(said, 0)
        self.elapsed_s = float(said[1])
        return int(said[0])


def _process(rank: int, options: argparse.Namespace) -> None:
    if options.processes > 1:
        import torch.distributed as distributed

        distributed.init_process_group(
            "gloo", init_method=f"file://{options.work}/rendezvous.{os.getppid()}", world_size=options.processes, rank=rank
        )
    Training(options, rank).run()


def main() -> None:
    """Read the options and start the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder with tokenizer/ and tables.jsonl; checkpoints go there"
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--start", type=Path, help="checkpoint of a finished run to go on from, with a clock of its own")
    parser.add_argument("--layers", type=int, default=0, help="with --start: deepen the model to so many layers")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--cooldown", type=float, default=0.35, help="share of the time over which the learning rate falls")
    parser.add_argument("--promote", type=float, default=0.8, help="share of exact answers that ends a stage")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--together", type=int, default=10, help="steps between two averagings of the processes' weights")
    parser.add_argument("--log-s", type=float, default=45.0, help="seconds between two log lines, each with a checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action=argparse.BooleanOptionalAction, default=True, help="read tables.jsonl")
    parser.add_argument(
        "--restate-rows",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="say the year beside each amount, as serving does; without: to measure what it gives",
    )
    options = parser.parse_args()
    options.checkpoint = options.work / "checkpoint.pt"
    if options.processes == 1:
        _process(0, options)
    else:
        torch.multiprocessing.spawn(_process, (options,), nprocs=options.processes)


if __name__ == "__main__":
    main()
