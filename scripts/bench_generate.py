"""Time the engines on one model in one run: the first token, tokens a second, and whole answers.

    python scripts/bench_generate.py --threads 2

Prompts are statement pages of filings in data/ cut to --tokens. Each round asks every engine in turn, so that a busy
moment hits all alike; figures are medians over prompts and rounds. Peers are transformers as one would call it by hand:
model.generate in float32 and in the checkpoint's type, and the text-generation pipeline. 'first' is the time until one token
is there; tokens/s counts the --new tokens after it, the end of the turn being switched off; 'answer' is a whole answer that
ends by itself; 'same' the share of answers that are those of model.generate in float32. --adapter FOLDER measures the
engines with a tuned adapter too (PEFT's own layers being the peer). On a busy machine --clock cpu with --threads 1 times
the processor's work instead of the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Complete = Callable[[Sequence[dict[str, str]], int, bool], str]
"""(messages, most new tokens, whether the end of the turn ends it) -> completion."""


def build_prompts(count: int, tokens: int, count_tokens: Callable[..., int]) -> list[Any]:
    """Return prompts of at most ``tokens`` tokens over the pages of bundled filings, cut by whole lines."""
    from ragtune.answering.prompt import fit_prompt
    from ragtune.documents.pdf import read_pdf
    from ragtune.records import Passage

    prompts = []
    for path in sorted((Path(__file__).parent.parent / "data" / "filings").glob("*.pdf"))[:count]:
        pages = read_pdf(path)[0]
        numbered = [(number, text) for number, text in enumerate(pages, start=1) if sum(map(str.isdigit, text)) > 80]
        passages = [Passage(rank, text, f"c{number}", path.stem, number, 0, len(text), rank=rank,
                            title=f"{path.stem}, page {number}")
                    for rank, (number, text) in enumerate(numbered[:8], start=1)]
        prompts.append(fit_prompt("What was net income in the latest fiscal year?", passages, count_tokens, tokens)[0])
    return prompts


def open_engine(name: str, adapter: Path | None, model: str) -> Complete:
    """Return the completion function of one of ragtune's engines."""
    from ragtune.models.language import open_generator
    from ragtune.recipe.schema import Generator

    generator: Any = open_generator(Generator(model=model, engine=name, device="cpu"), adapter)  # type: ignore[arg-type]
    ends = generator.stop_ids

    def complete(messages: Sequence[dict[str, str]], limit: int, is_ended: bool) -> str:
        generator.stop_ids = ends if is_ended else [generator.chat.tokenizer.pad_token_id]
        return str(generator.generate([messages], limit)[0])

    return complete


def open_peer(name: str, adapter: Path | None, model: str) -> Complete:
    """Return the completion function of transformers called by hand."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    from ragtune.models.checkpoint import locate_model

    folder = locate_model(model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32 if name == "float32" else "auto")
    if adapter is not None:
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(loaded, str(adapter))
    loaded.eval()
    pipe = pipeline("text-generation", model=loaded, tokenizer=tokenizer) if name == "pipeline" else None

    def complete(messages: Sequence[dict[str, str]], limit: int, is_ended: bool) -> str:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        end = tokenizer.eos_token_id if is_ended else tokenizer.pad_token_id
        settings = {"max_new_tokens": limit, "do_sample": False, "eos_token_id": end}
        if pipe is not None:
            return str(pipe(text, return_full_text=False, add_special_tokens=False, **settings)[0]["generated_text"]).strip()
        sent = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        written = loaded.generate(**sent, **settings)[0, sent["input_ids"].shape[1] :]
        assert is_ended or len(written) == limit, "the model stopped although its end was switched off"
        return str(tokenizer.decode(written, skip_special_tokens=True)).strip()

    return complete


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def took_ms(complete: Complete, messages: Any, limit: int, is_ended: bool, clock: str) -> float:
    """Return the milliseconds of one completion."""
    started = CLOCKS[clock]()
    complete(messages, limit, is_ended)
    return 1000 * (CLOCKS[clock]() - started)


def measure(
    engines: dict[str, Complete], prompts: Sequence[Any], new: int, rounds: int, clock: str
) -> dict[str, dict[str, float]]:
    """Return first_ms, tokens_per_s, answer_ms and same of each engine."""
    reference = [engines["model.generate float32"](messages, 96, True) for messages in prompts]
    same = {name: sum(complete(m, 96, True) == wanted for m, wanted in zip(prompts, reference)) / len(prompts)
            for name, complete in engines.items()}  # also warms them up
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in engines}
    for turn in range(rounds):
        for position, messages in enumerate(prompts):
            print(f"\rround {turn + 1}/{rounds}, prompt {position + 1}/{len(prompts)}   ", end="", file=sys.stderr)
            for name, complete in engines.items():
                first = took_ms(complete, messages, 1, False, clock)
                more = took_ms(complete, messages, new + 1, False, clock)
                times[name].append((first, more - first, took_ms(complete, messages, 96, True, clock)))
    print(file=sys.stderr)
    found = {}
    for name, rows in times.items():
        first, rest, answer = (statistics.median(column) for column in zip(*rows))
        found[name] = {"first_ms": round(first, 1), "tokens_per_s": round(1000 * new / rest, 1),
                       "answer_ms": round(answer, 1), "same": round(same[name], 2)}
    return found


def main() -> None:
    """Measure, print the table on stderr and one JSON object on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled", help="as generator.model")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=1000, help="of a prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens timed after the first")
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    from ragtune.models.checkpoint import quiet
    from ragtune.models.language import open_counter
    from ragtune.recipe.schema import Generator

    count_tokens = open_counter(Generator(model=options.model))
    prompts = build_prompts(options.prompts, options.tokens, count_tokens)
    result: dict[str, Any] = {"model": options.model, "threads": options.threads, "clock": options.clock,
                              "load_before": os.getloadavg()[0],
                              "prompt_tokens": [count_tokens(messages) for messages in prompts]}
    with quiet():
        for label, adapter in (("base", None), *([("tuned", options.adapter)] if options.adapter else [])):
            engines = {
                "ragtune transformers": open_engine("transformers", adapter, options.model),
                "ragtune ctranslate2": open_engine("ctranslate2", adapter, options.model),
                "model.generate float32": open_peer("float32", adapter, options.model),
                "model.generate auto": open_peer("auto", adapter, options.model),
                "pipeline": open_peer("pipeline", adapter, options.model),
            }
            found = measure(engines, prompts, options.new, options.rounds, options.clock)
            own = found["ragtune transformers"]
            print(f"{label:<24}{'first ms':>10}{'x':>6}{'tokens/s':>10}{'x':>6}{'answer ms':>11}{'x':>6}{'same':>6}",
                  file=sys.stderr)
            for name, row in found.items():
                row["first_ratio"] = round(own["first_ms"] / row["first_ms"], 2)
                row["tokens_ratio"] = round(row["tokens_per_s"] / own["tokens_per_s"], 2)
                row["answer_ratio"] = round(own["answer_ms"] / row["answer_ms"], 2)
                print(f"{name:<24}{row['first_ms']:>10}{row['first_ratio']:>6}{row['tokens_per_s']:>10}{row['tokens_ratio']:>6}"
                      f"{row['answer_ms']:>11}{row['answer_ratio']:>6}{row['same']:>6}", file=sys.stderr)
            result[label] = found
    result["load_after"] = os.getloadavg()[0]
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
