"""Tokens a second and peak memory of ragtune's QLoRA beside a plain TRL script, on the same model, rows and settings.

    python scripts/bench_train.py [--rows uneven|even|FOLDER] [--model bundled] [--repeats 3] [--out result.json]
    python scripts/bench_train.py --shape 1b [--rows uneven]      a randomly initialised Llama of that shape (CUDA)

Each contestant tunes in a process of its own, one after the other in alternating order, so that a machine that gets slower
slows all of them. Contestants: ``trl`` (SFTTrainer with its own order of rows, padding and loss), ``ragtune`` (rows of like
length share a batch) and ``packed`` (training.packing). All pass once over the same tokens with the same batch size, LoRA,
schedule, precision and seed, without evaluation; ``packed`` counts packed rows in a batch, so it takes fewer steps.

A token counts where it is no padding. Seconds are CPU-seconds of the process on a CPU (take --threads 1 where others work
there too: threads that wait for each other burn seconds), and the clock's on CUDA. Memory is what the process grew by after
its libraries were loaded (CUDA: the most allocated). Rows are rendered by ragtune's prompt: ``uneven`` shows 1 to 8 tables
of 4 to 16 lines, as searches that find little or much do; ``even`` four tables of ten lines; a FOLDER is a dataset of
ragtune. The interval is that of the ratio's geometric mean over the repeats (Student's t, 95%). On CUDA the model FLOP
utilisation is told too: 4 operations a weight and token (6 for what is tuned) and attention, by the chip's dense bfloat16
peak (--peak-tflops).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHAPES = {  # hidden, inner, layers, heads, key-value heads, vocabulary: Llama-3.2-1B and Llama-3.1-8B
    "1b": (2048, 8192, 16, 32, 8, 128256),
    "8b": (4096, 14336, 32, 32, 8, 128256),
}
CONTESTANTS = ("trl", "ragtune", "packed")
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def make_examples(kind: str, count: int, seed: int = 0) -> list[Any]:
    """Return tuning rows that ask for an amount of one of their tables."""
    from ragtune.answering.prompt import render_completion, render_prompt
    from ragtune.records import Example, Passage, Question

    draw = random.Random(seed)
    labels = ["Net sales", "Cost of products sold", "Operating income", "Total current assets", "Income tax expense",
              "Inventories", "Accounts receivable, net", "Purchases of property, plant and equipment", "Dividends paid",
              "Interest expense"]
    examples = []
    for number in range(count):
        tables = 4 if kind == "even" else min(8, 1 + int(draw.expovariate(1 / 1.6)))
        passages, wanted = [], draw.randrange(tables)
        for place in range(tables):
            lines = [f"{draw.choice(labels)} {2010 + draw.randrange(14)}: {draw.randint(100, 99999):,}"
                     for _ in range(10 if kind == "even" else draw.randint(4, 16))]
            passages.append(Passage(place + 1, "\n".join(lines), f"c{place}", "acme", 40 + place, 0, 1,
                                    title=f"Acme 10-K, page {40 + place}"))
        line = draw.choice(passages[wanted].text.split("\n"))
        name, _, value = line.rpartition(": ")
        question = Question(f"q{number}", f"What was {name}?", value, justification=line)
        examples.append(Example(tuple(render_prompt(question.text, passages)), render_completion(question, passages),
                                {"question_id": question.id}))
    return examples


def read_examples(job: dict[str, Any]) -> list[Any]:
    """Return the rows of a job: made, or those of a dataset folder."""
    if job["rows"] in ("uneven", "even"):
        return make_examples(job["rows"], job["count"])
    from ragtune.datasets.folder import read_examples as read

    return read(Path(job["rows"]) / "train.jsonl")[: job["count"]]


def make_model(shape: str, folder: Path) -> None:
    """Write a randomly initialised Llama in bfloat16 with the bundled model's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from ragtune.models.chat import load_chat
    from ragtune.recipe.schema import Generator

    hidden, inner, layers, heads, kv, vocabulary = SHAPES[shape]
    config = LlamaConfig(hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
                         num_key_value_heads=kv, vocab_size=vocabulary, max_position_embeddings=8192,
                         tie_word_embeddings=shape == "1b", pad_token_id=0, bos_token_id=1, eos_token_id=2)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    load_chat(Generator()).tokenizer.save_pretrained(folder)


class Clock:
    """Time of the steps and memory the process grew by; made before the model is loaded."""

    def __init__(self) -> None:
        import psutil
        import torch

        self.process, self.cuda = psutil.Process(), torch.cuda.is_available()
        self.before = self.process.memory_info().rss
        Path("/proc/self/clear_refs").write_text("5")  # the highest resident size starts anew from here
        self.seconds = 0.0

    def callback(self) -> Any:
        """Return the trainer's callback that starts and stops the clock."""
        from transformers import TrainerCallback

        clock = self
        now = time.perf_counter if self.cuda else time.process_time

        class Times(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                clock.seconds = -now()

            def on_train_end(self, *_: Any, **__: Any) -> None:
                if clock.cuda:
                    import torch

                    torch.cuda.synchronize()
                clock.seconds += now()

        return Times()

    def facts(self) -> dict[str, float]:
        """Return seconds of the steps and peak memory in MiB."""
        if self.cuda:
            import torch

            peak = torch.cuda.max_memory_allocated()
        else:
            line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
            peak = int(line.split()[1]) * 1024 - self.before
        return {"seconds": self.seconds, "peak_mib": peak / (1 << 20)}


def run_ragtune(job: dict[str, Any], examples: list[Any], is_packed: bool) -> dict[str, Any]:
    """Tune with ragtune's loop for supervised tuning."""
    from ragtune.recipe.schema import Generator, Training
    from ragtune.training.job import Job
    from ragtune.training.methods import METHODS
    from ragtune.training.supervised.sft import fit_sft

    import_libraries()
    with tempfile.TemporaryDirectory() as folder:
        training = Training(method=job["method"], epochs=1, batch_size=job["batch"], lr=1e-4, save_steps=10**6,
                            packing=is_packed)
        clock = Clock()
        fit = fit_sft(Job(Generator(model=job["model"]), training, METHODS[job["method"]], examples, [], Path(folder),
                          callbacks=[clock.callback()]))
    losses = [point["loss"] for point in fit.metrics if "loss" in point]
    return {**clock.facts(), "steps": fit.steps, "loss": losses[-1], "trainable": fit.trainable_parameters}


def run_trl(job: dict[str, Any], examples: list[Any]) -> dict[str, Any]:
    """Tune as TRL's documentation has it: quantised model, LoraConfig, SFTTrainer."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    from ragtune.models.chat import load_chat
    from ragtune.models.checkpoint import locate_model
    from ragtune.models.weights import has_fast_bfloat16
    from ragtune.recipe.schema import Generator
    from ragtune.training.rows import encode_examples

    import_libraries()
    chat = load_chat(Generator(model=job["model"]))
    rows = encode_examples(examples, chat, 10**6, "rows")
    is_cuda = torch.cuda.is_available()
    half = torch.bfloat16 if is_cuda or has_fast_bfloat16() else torch.float32
    clock = Clock()
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                      bnb_4bit_compute_dtype=half) if job["method"] == "qlora" else None
    model = AutoModelForCausalLM.from_pretrained(
        locate_model(job["model"]), quantization_config=quantization, dtype=half if is_cuda else torch.float32,
        device_map={"": "cuda:0" if is_cuda else "cpu"})
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, max_length=None, num_train_epochs=1, per_device_train_batch_size=job["batch"],
            learning_rate=1e-4, lr_scheduler_type="linear", warmup_steps=0.1, gradient_checkpointing=False,
            bf16=half == torch.bfloat16, use_cpu=not is_cuda, dataloader_pin_memory=is_cuda, save_strategy="no",
            logging_steps=max(1, math.ceil(len(rows) / job["batch"]) // 100), report_to=[], disable_tqdm=True, seed=0)
        trainer = SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), peft_config=lora,
                             processing_class=chat.tokenizer, callbacks=[clock.callback()])
        trainer.train()
    losses = [point["loss"] for point in trainer.state.log_history if "loss" in point]
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return {**clock.facts(), "steps": trainer.state.global_step, "loss": losses[-1], "trainable": trainable}


def import_libraries() -> None:
    """Load what all contestants use, so that memory is measured from the same start."""
    import bitsandbytes  # noqa: F401
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import trl.trainer.sft_trainer  # noqa: F401


def run_contestant(job: dict[str, Any]) -> dict[str, Any]:
    """Run one contestant in this process."""
    import logging
    import warnings

    from ragtune.models.chat import load_chat
    from ragtune.models.checkpoint import quiet
    from ragtune.recipe.schema import Generator
    from ragtune.training.rows import encode_examples

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if job["threads"]:
        import torch

        torch.set_num_threads(job["threads"])
    with quiet():
        examples = read_examples(job)
        chat = load_chat(Generator(model=job["model"]))
        lengths = [len(row["input_ids"]) for row in encode_examples(examples, chat, 10**6, "rows")]
        found = run_trl(job, examples) if job["contestant"] == "trl" else run_ragtune(job, examples,
                                                                                    job["contestant"] == "packed")
    return {**found, "tokens": sum(lengths), "longest": max(lengths), "mean": statistics.mean(lengths),
            "tokens_per_s": sum(lengths) / found["seconds"]}


def compare(runs: dict[str, list[dict[str, Any]]], peak_flops: float, sizes: Any) -> dict[str, Any]:
    """Return means, and the ratio of each contestant's speed to TRL's with its interval."""
    told: dict[str, Any] = {}
    for name, each in runs.items():
        ratios = [math.log(run["tokens_per_s"] / other["tokens_per_s"]) for run, other in zip(each, runs["trl"])]
        mean, n = statistics.mean(ratios), len(ratios)
        half = STUDENT.get(n - 1, 2.0) * statistics.stdev(ratios) / math.sqrt(n) if n > 1 else float("nan")
        speed = statistics.mean(run["tokens_per_s"] for run in each)
        told[name] = {"tokens_per_s": round(speed, 1), "peak_mib": round(max(run["peak_mib"] for run in each), 1),
                      "steps": each[0]["steps"], "loss": round(each[0]["loss"], 4), "ratio": round(math.exp(mean), 3),
                      "interval": [round(math.exp(mean - half), 3), round(math.exp(mean + half), 3)]}
        if peak_flops:
            flops = 4 * sizes.parameters + 6 * each[0]["trainable"] + 6 * sizes.layers * sizes.hidden * each[0]["mean"]
            told[name]["mfu"] = round(speed * flops / peak_flops, 4)
    return told


def main() -> None:
    """Run the contestants in turn and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--shape", choices=sorted(SHAPES))
    parser.add_argument("--rows", default="uneven", metavar="uneven|even|FOLDER")
    parser.add_argument("--method", default="qlora", choices=["qlora", "lora"])
    parser.add_argument("--count", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="dense bfloat16: H100 and H200 989, A100 312")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print("RESULT " + json.dumps(run_contestant(options.job)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model
        if options.shape:
            model = str(Path(scratch) / options.shape)
            make_model(options.shape, Path(model))
        names = options.contestants.split(",")
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for repeat in range(options.repeats):
            for name in names if repeat % 2 == 0 else names[::-1]:
                job = {"contestant": name, "model": model, "rows": options.rows, "count": options.count,
                       "batch": options.batch, "method": options.method, "threads": options.threads}
                done = subprocess.run([sys.executable, __file__, "--job", json.dumps(job)], capture_output=True, text=True)
                line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
                if line is None:
                    sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
                runs[name].append(json.loads(line[7:]))
                last = runs[name][-1]
                print(f"{repeat + 1} {name}: {last['tokens_per_s']:.0f} tokens/s, {last['peak_mib']:.0f} MiB, "
                      f"{last['steps']} steps, loss {last['loss']:.3f}", file=sys.stderr, flush=True)
        from ragtune.training.sizes import read_sizes

        result = {"model": options.shape or options.model, "rows": options.rows, "method": options.method,
                  "tokens": runs[names[0]][0]["tokens"], "longest": runs[names[0]][0]["longest"], "count": options.count,
                  "batch": options.batch, "repeats": options.repeats,
                  "contestants": compare(runs, options.peak_tflops * 1e12, read_sizes(model)), "runs": runs}
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "runs"}, indent=2))


if __name__ == "__main__":
    main()
