"""Measure an exported model: greedy answers to served prompts about filings it never saw.

Fictitious filings come from a seed of their own, real ones from the training companies that are held out. A question is
asked of one page, or of three passages, as retrieval shows them. *Right* is an answer that names the gold amount and no
other, or the right yes or no, with rows, calculations and verdicts set right as serving does; *quoted* says that the
completion names the amount at all, *operands* that the shown calculation has the gold's left side.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conversations import Conversation, Stage, Teacher
from tables import HELD_OUT, Filings, Table, load_tables

from ragtune.answering.calculate import recompute
from ragtune.answering.prompt import parse_completion, render_prompt
from ragtune.answering.quote import mend_rows
from ragtune.answering.verdict import set_verdict_right

SEED = 20_000_003
CALCULATIONS = ("growth", "difference", "ratio", "margin")


class HeldOut(Filings):
    """Real tables as they stand: own company, years and numbers."""

    def table(self, row_count: int, column_count: int, most_words: int, company: str = "", last_year: int = 0) -> Table:
        """Return a stretch of a held-out table; a second passage comes from the same company where it can."""
        pool = [t for t in self.real if t.company == company and t.fiscal_year == last_year] or self.real
        whole, self.real = self.real, pool
        try:
            return self.realistic(row_count, keep=1.0)
        finally:
            self.real = whole


@dataclass(frozen=True)
class Task:
    """What is asked of one page: the kinds of question, and whether a row is asked by another name than its own."""

    kinds: dict[str, int]
    other_names: float = 0.0


TASKS = {
    "figure": Task({"figure": 1}),
    "figure, other name": Task({"figure": 1}, 1.0),
    "calculation": Task({"growth": 1, "difference": 1, "ratio": 1}),
    "yes or no": Task({"compare": 3, "versus": 1}),
    "absent": Task({"absent": 1}),
}
PAGES = {
    "fictitious, one passage of 6-16 rows": Stage(1.0, 1536, 1, (1, 1), (6, 16), (2, 3), 5, 0.0),
    "fictitious, 3 passages": Stage(1.0, 1536, 1, (3, 3), (4, 9), (2, 3), 5, 0.0),
    "real, one passage of 6-28 rows": Stage(1.0, 1536, 1, (1, 1), (6, 28), (2, 3), 5, 1.0, most_amounts=60),
    "real, 3 passages": Stage(1.0, 1536, 1, (3, 3), (4, 9), (2, 3), 5, 1.0),
}


def draw_prompts(teacher: Teacher, stage: Stage, count: int, names_rows: bool = True) -> Iterator[Conversation]:
    """Yield conversations of one question with its passages, within the tokens that serving allows (by characters)."""
    made = 0
    while made < count:
        conversation = replace(teacher.conversation(stage, 1), names_rows=names_rows)
        if not conversation.turns or not conversation.passages:
            continue
        about = conversation.turns[0].question.metadata
        is_other = str(about["asked"]).lower() != str(about["label"]).lower()
        if teacher.other_names == 1.0 and not is_other:
            continue
        if sum(len(passage.text) for passage in conversation.passages) < 3600:
            made += 1
            yield conversation


def judge(conversation: Conversation, completion: str) -> dict[str, bool]:
    """Return what is right about a completion, by measure."""
    turn = conversation.turns[0]
    answer, reasoning, cited, is_refusal = parse_completion(completion)
    gold_answer, gold_reasoning, gold_cited, _ = parse_completion(turn.gold)
    if not turn.question.is_answerable:
        return {
            "refused": is_refusal
            or "I don't know" in completion
            or "No such row" in completion
            or "None of the" in completion
        }
    served, served_lines, _, _ = parse_completion(recompute(mend_rows(completion, conversation.passages)[0])[0])
    verdict = set_verdict_right(turn.question.text, served, served_lines)
    served = verdict.found if verdict else served
    found = {
        "false refusal": is_refusal,
        "house form": answer == gold_answer and bool(cited),
        "cited": bool(set(cited) & set(gold_cited)),
    }
    if turn.kind in ("compare", "versus"):
        found["lines"] = reasoning.split("\n") == gold_reasoning.split("\n")
        found["right"] = served[:2].lower() == gold_answer[:2].lower()
        return found
    found["right"] = not is_refusal and _amounts(served) == _amounts(gold_answer)
    if turn.kind == "figure":
        found["right unmended"] = _amounts(answer) == _amounts(gold_answer)
        found["quoted"] = _amounts(gold_answer)[0] in _amounts(completion)
    else:
        found["operands"] = gold_reasoning.split("\n")[-1].split(" = ")[0] in reasoning
    return found


def _amounts(text: str) -> list[str]:
    return re.findall(r"\d[\d,.]*\d|\d", text)


def generate(
    model: Any, tokenizer: Any, conversations: list[Conversation], batch: int = 16, max_new_tokens: int = 96
) -> list[str]:
    """Return greedy completions, prompts of like length together."""
    import torch

    prompts = [
        tokenizer.apply_chat_template(
            list(render_prompt(c.turns[0].question.text, c.passages, c.names_rows)),
            tokenize=False,
            add_generation_prompt=True,
        )
        for c in conversations
    ]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    written = [""] * len(prompts)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        inputs = tokenizer([prompts[i] for i in chosen], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            output = model.generate(
                **{k: inputs[k] for k in ("input_ids", "attention_mask")}, max_new_tokens=max_new_tokens, do_sample=False
            )
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, texts):
            written[i] = text
    return written


def measure(model: Any, tokenizer: Any, conversations: list[Conversation], show: int = 0) -> dict[str, str]:
    """Return each measure as ``right/n = share``, by kind of question."""
    completions = generate(model, tokenizer, conversations)
    counts: dict[str, list[bool]] = defaultdict(list)
    for conversation, completion in zip(conversations, completions):
        kind = conversation.turns[0].kind
        for name, right in judge(conversation, completion).items():
            counts[name if name in ("false refusal", "cited", "house form") else f"{kind}: {name}"].append(right)
    for conversation, completion in list(zip(conversations, completions))[:show]:
        print(conversation.turns[0].question.text, "|", repr(completion), "| gold", repr(conversation.turns[0].gold))
    return {
        name: f"{sum(rights)}/{len(rights)} = {sum(rights) / len(rights):.2f}" for name, rights in sorted(counts.items())
    }


def main() -> None:
    """Print one JSON line a set."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder with tables.jsonl")
    parser.add_argument("--model", type=Path, default=Path("ragtune/models/bundled_weights"))
    parser.add_argument("--adapter", type=Path, help="a LoRA adapter to put on the model")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--pages", nargs="*", choices=PAGES, default=list(PAGES))
    parser.add_argument("--names-rows", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--show", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    if options.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, options.adapter).merge_and_unload()
    held = [table for table in load_tables(options.work / "tables.jsonl") if table.company in HELD_OUT]
    for page in options.pages:
        for task in options.tasks:
            filings = HeldOut(SEED, held, 1.0) if page.startswith("real") else Filings(SEED)
            teacher = Teacher(filings, "house", TASKS[task].kinds, TASKS[task].other_names)
            conversations = list(draw_prompts(teacher, PAGES[page], options.count, options.names_rows))
            found = measure(model, tokenizer, conversations, options.show)
            print(json.dumps({"page": page, "task": task, **found}), flush=True)


if __name__ == "__main__":
    main()
