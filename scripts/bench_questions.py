"""Time the asking of questions in one run: ragtune offline beside a plain loop that asks a local chat model page by page.

    python scripts/bench_questions.py --index FOLDER --where "split = 'train'" --count 20000 --pages 50 --sample 100

Offline is all of ``ragtune questions`` (opening the index, asking, checking, near-duplicates, writing). The loop renders a
page, lets the model write, reads the reply and lets in what passes the checks of ``ragtune questions --model``, one page
after the other; its rate on --pages drawn pages is taken for --count. --model is 'bundled' or a folder; --llama
HIDDEN,LAYERS,HEADS,INNER writes a Llama of that shape with random weights instead: its words mean nothing, but a reply of as
many tokens takes as long as that of a trained one. 'passed' is the share of what was asked for that is let in; the ratio is
given for what is let in and, in the loop's favour, as if all passed. --sample N writes N drawn questions with the text
around their evidence to OUT/sample.txt, for reading by eye.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragtune.datasets.admit import Admission, Rejected, check_proposal
from ragtune.datasets.ask import documents_kept
from ragtune.datasets.propose import TOKENS_EACH, Place, count_reply_tokens, parse_proposals, plan_pages, render_page
from ragtune.datasets.questions import read_questions
from ragtune.documents.pack import use_pack
from ragtune.recipe.schema import Dataset, Generator, Recipe
from ragtune.records import Evidence, Question
from ragtune.retrieval.index import Index, open_index
from ragtune.stages.questions import run_questions

AROUND = 8  # lines shown on each side of the evidence
TITLE = 4  # lines of its page shown above


def show(task: str, done: int, total: int) -> None:
    """Show progress on stderr."""
    print(f"\r{task} {done}/{total}   ", end="", file=sys.stderr, flush=True)


def ask_offline(index: Path, pack: str, where: str | None, count: int, seed: int, out: Path) -> dict[str, Any]:
    """Return the time of ``ragtune questions`` without a model, and what it wrote, by kind, and turned away."""
    recipe = Recipe(name="bench", pack=pack, dataset=Dataset(where=where, seed=seed))
    started, cpu = time.perf_counter(), time.process_time()
    summary = run_questions(recipe, count, out, index=index, report=show)
    seconds = time.perf_counter() - started
    print(file=sys.stderr)
    return {"questions": summary.questions, "seconds": round(seconds, 1), "cpu_seconds": round(time.process_time() - cpu, 1),
            "per_second": round(summary.questions / seconds, 2), "kinds": dict(summary.kinds),
            "rejected": dict(summary.rejected), "documents": summary.documents, "pages": summary.pages}


def write_llama(folder: Path, shape: str) -> None:
    """Write a Llama of the shape 'hidden,layers,heads,inner' with random weights and the bundled tokenizer."""
    import shutil

    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from ragtune.models.checkpoint import locate_model

    bundled = Path(locate_model("bundled"))
    tokenizer = AutoTokenizer.from_pretrained(bundled)
    hidden, layers, heads, inner = map(int, shape.split(","))
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads, intermediate_size=inner, max_position_embeddings=8192, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (bundled / name).is_file():
            shutil.copyfile(bundled / name, folder / name)


def ask_in_a_loop(
    index: Index, where: str | None, generator: Any, pages: int, per_page: int, seed: int, new_tokens: int, is_random: bool
) -> tuple[dict[str, Any], list[Question]]:
    """Ask the model about drawn pages one by one; return times, counts and the questions that passed the checks."""
    places = plan_pages(index, documents_kept(index, where), seed)
    random.Random(seed).shuffle(places)
    places = places[:pages]
    admission = Admission(lambda texts: index.embedder.embed_questions(texts), per_page)
    proposed, read, written = 0, 0, 0
    if is_random:  # a reply as long as a trained model's
        generator.stop_ids = [generator.chat.tokenizer.pad_token_id]
    _ask(generator, index, places[0], per_page, 4)  # the first call warms up
    started, cpu = time.perf_counter(), time.process_time()
    for number, place in enumerate(places, start=1):
        show("pages asked", number, len(places))
        document = index.document(place.document)
        page = next(page for page in document.pages if page.number == place.page)
        prompt_tokens, text = _ask(generator, index, place, per_page, new_tokens)
        read += prompt_tokens
        written += len(generator.chat.tokenizer.encode(text, add_special_tokens=False))
        proposals = parse_proposals(text)[: 2 * per_page]
        proposed += len(proposals)
        checked = [check_proposal(proposal, document, page) for proposal in proposals]
        for each in checked:
            if isinstance(each, Rejected):
                admission.reject(each)
        admission.admit([each for each in checked if isinstance(each, Question)])
    seconds = time.perf_counter() - started
    print(file=sys.stderr)
    asked, passed = per_page * len(places), len(admission.admitted)
    return {"pages": len(places), "seconds": round(seconds, 1), "cpu_seconds": round(time.process_time() - cpu, 1),
            "seconds_a_page": round(seconds / len(places), 3), "tokens_in": read, "tokens_out": written,
            "asked_for": asked, "proposed": proposed, "passed": passed, "passed_share": round(passed / asked, 3),
            "rejected": admission.reasons, "asked_per_second": round(asked / seconds, 3),
            "passed_per_second": round(passed / seconds, 4)}, admission.admitted


def _ask(generator: Any, index: Index, place: Place, per_page: int, new_tokens: int) -> tuple[int, str]:
    document = index.document(place.document)
    page = next(page for page in document.pages if page.number == place.page)
    prompt = render_page(document, page, per_page, generator.count_tokens, 3000)
    return generator.count_tokens(prompt), str(generator.generate([prompt], new_tokens)[0])


def write_sample(path: Path, index: Index, questions: Sequence[Question]) -> None:
    """Write questions, answers and the text around their evidence."""
    with path.open("w", encoding="utf-8") as file:
        for number, question in enumerate(questions, start=1):
            file.write(f"{number}. [{question.kind}] {question.text}\n   Answer: {question.answer or '(none)'}\n")
            for line in filter(None, question.justification.split("\n")):
                file.write(f"   {line}\n")
            for evidence in question.evidence:
                file.write(f"   -- {evidence.document}, page {evidence.page}\n{text_around(index, evidence)}")
            file.write("\n")


def text_around(index: Index, evidence: Evidence) -> str:
    """Return the top of an evidence's page and the lines around the evidence, which is marked."""
    page = next(page for page in index.document(evidence.document).pages if page.number == evidence.page)
    lines = page.text.split("\n")
    last = evidence.text.strip().split("\n")[-1]
    place = next((number for number, line in enumerate(lines) if last in line), 0)
    shown = sorted({*range(min(TITLE, len(lines))), *range(max(0, place - AROUND), min(len(lines), place + AROUND // 2))})
    return "".join(f"   {'>' if number == place else ' '} {lines[number][:160]}\n" for number in shown)


def compare(offline: dict[str, Any], loop: dict[str, Any], count: int) -> dict[str, Any]:
    """Return what the loop would take for as many questions, and how many times as fast offline is."""
    found: dict[str, Any] = {"count": count, "offline_seconds": round(count / offline["per_second"], 1)}
    for name, rate in (("as_if_all_passed", loop["asked_per_second"]), ("passed", loop["passed_per_second"])):
        found[f"loop_seconds_{name}"] = round(count / rate) if rate else None
        found[f"ratio_{name}"] = round(offline["per_second"] / rate, 1) if rate else None
    return found


def main() -> None:
    """Measure, print the table on stderr and one JSON object on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--pack", default="finance", help="as the recipe's pack")
    parser.add_argument("--where", help="filter on the documents, as dataset.where")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("work/bench/questions"))
    parser.add_argument("--sample", type=int, default=0, help="questions written with their pages, for reading")
    parser.add_argument("--pages", type=int, default=50, help="pages the loop asks about; 0: no loop")
    parser.add_argument("--per-page", type=int, default=1, help="questions asked for in a call")
    parser.add_argument("--model", default="bundled", help="as generator.model")
    parser.add_argument("--llama", metavar="HIDDEN,LAYERS,HEADS,INNER", help="random weights of this shape instead")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"threads": options.threads, "load_before": os.getloadavg()[0]}
    file = options.out / "questions.jsonl"
    offline = result["offline"] = ask_offline(options.index, options.pack, options.where, options.count,
                                              options.seed, file)
    index = open_index(options.index)
    with use_pack(options.pack):
        if options.sample:
            asked = read_questions(file)
            drawn = random.Random(f"{options.seed}:sample").sample(asked, min(options.sample, len(asked)))
            write_sample(options.out / "sample.txt", index, drawn)
        if options.pages:
            result |= measure_loop(options, index, offline)
    result["load_after"] = os.getloadavg()[0]
    print(json.dumps(result, indent=2))


def measure_loop(options: argparse.Namespace, index: Index, offline: dict[str, Any]) -> dict[str, Any]:
    """Run the loop, print the table and return its figures and the comparison."""
    from ragtune.models.checkpoint import quiet
    from ragtune.models.language import open_generator

    model, new_tokens = options.model, count_reply_tokens(options.per_page)
    if options.llama:
        model, new_tokens = str(options.out / "llama"), TOKENS_EACH * options.per_page
        write_llama(options.out / "llama", options.llama)
    with quiet():
        generator: Any = open_generator(Generator(model=model, engine="transformers", device="cpu", batch_size=1))
        parameters = sum(each.numel() for each in generator.model.parameters())
        loop, passed = ask_in_a_loop(index, options.where, generator, options.pages, options.per_page, options.seed,
                                     new_tokens, bool(options.llama))
    write_sample(options.out / "loop.txt", index, passed)
    loop = {"model": options.llama or model, "parameters": parameters, **loop}
    versus = compare(offline, loop, options.count)
    print(f"{'':<28}{'questions/s':>12}{'share passed':>14}{'for ' + format(options.count, ','):>16}", file=sys.stderr)
    rows = (("ragtune offline", offline["per_second"], None, versus["offline_seconds"]),
            ("loop, what passed", loop["passed_per_second"], loop["passed_share"], versus["loop_seconds_passed"]),
            ("loop, as if all passed", loop["asked_per_second"], 1.0, versus["loop_seconds_as_if_all_passed"]))
    for name, rate, share, seconds in rows:
        print(f"{name:<28}{rate:>12}{'' if share is None else format(share, '.0%'):>14}"
              f"{'never' if seconds is None else format(seconds, ',') + ' s':>16}", file=sys.stderr)
    return {"loop": loop, "comparison": versus}


if __name__ == "__main__":
    main()
