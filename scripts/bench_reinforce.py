"""Tune the bundled model by rewards with each method and several seeds in one run: what the reward was before and after.

    python scripts/bench_reinforce.py --methods ppo grpo rloo --seeds 3 --threads 2

The task is made up: small statement tables and questions about one of their amounts, rendered by the one prompt; one in four
asks for what the table does not hold. The reward is the evaluator's (training.reinforce.rewards as a recipe has it).
'before' and 'after' are mean rewards of answers drawn to --held questions that were not tuned on, at the temperature they
are tuned at, the same draws for both; 'greedy' those of the answers as served. Seeds have rows and draws of their own, so
the interval (Student's t over the seeds' differences, 95%) says what another run would bring. 's/round' is the median time
of a round: drawing, rewarding, learning. On a busy machine --clock cpu counts the processor's seconds, not the wall clock's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LABELS = ("Net sales", "Cost of goods sold", "Gross profit", "Operating income", "Interest expense", "Income taxes",
          "Net income", "Total assets", "Inventories", "Accounts receivable", "Total liabilities", "Capital expenditures")
COMPANIES = ("Arkwell", "Bellmont", "Corvane", "Dunhollow", "Elmstead", "Farrowby", "Glenmoor", "Harksel")
_T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}  # Student's t of n - 1 degrees, two-sided


def make_task(count: int, seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Return rows (Examples) and their questions by id."""
    from ragtune.answering.prompt import render_completion, render_prompt
    from ragtune.records import REFUSAL, Example, Passage, Question

    draw = random.Random(seed)
    rows, questions = [], {}
    for number in range(count):
        company, year = draw.choice(COMPANIES), draw.randint(2012, 2022)
        shown = draw.sample(LABELS, draw.randint(4, 6))
        amounts = {(label, year): draw.randint(100, 9999) for label in shown}
        text = "\n".join(f"{label} {when}: {amount:,}" for (label, when), amount in amounts.items())
        passage = Passage(1, text, f"c{number}", f"{company}_{year}", 1, 0, len(text),
                          title=f"{company} 10-K {year}, page 1 (in $ millions)")
        (label, when), amount = draw.choice(list(amounts.items()))
        is_shown = draw.random() < 0.75
        if not is_shown:
            label = draw.choice([other for other in LABELS if other not in shown])
        question = Question(f"q{seed}-{number}", f"What was {company}'s {label.lower()} in {when}?",
                            f"${amount:,} million" if is_shown else "", kind="lookup" if is_shown else "unanswerable",
                            justification=f"{label} {when}: {amount:,}" if is_shown else "")
        completion = render_completion(question, [passage]) if question.answer else REFUSAL
        rows.append(Example(render_prompt(question.text, [passage]), completion, {"question_id": question.id}))
        questions[question.id] = question
    return rows, questions


def measure(job: Any, held: Sequence[Any], adapter: Path | None, seed: int, samples: int) -> dict[str, float]:
    """Return the mean rewards of answers to the held-out rows: 'drawn' and 'greedy'."""
    from ragtune.models.language import open_generator
    from ragtune.seams import GREEDY, Sampling
    from ragtune.training.reinforcement.rewards import build_reward

    generator: Any = open_generator(job.generator, adapter)
    reward = build_reward(job)
    found = {}
    for name, sampling in (("drawn", Sampling(samples, job.training.reinforce.temperature, seed=seed)), ("greedy", GREEDY)):
        drawn = generator.sample([example.prompt for example in held], job.generator.max_new_tokens, sampling)
        pairs = [(example, text) for example, texts in zip(held, drawn) for text in texts]
        found[name] = statistics.fmean(reward([example for example, _ in pairs], [text for _, text in pairs]))
    return found


def run_one(method: str, seed: int, options: argparse.Namespace, clock: Callable[[], float]) -> dict[str, float]:
    """Tune once; return the rewards before and after, and the seconds of a round."""
    from ragtune.recipe.schema import Generator, Reinforce, Training
    from ragtune.training.job import Job
    from ragtune.training.methods import METHODS

    rows, questions = make_task(options.rows, seed)
    held, held_questions = make_task(options.held, 1000 + seed)
    reinforce = Reinforce(samples=options.samples, prompts=options.prompts)
    training = Training(method=method, seed=seed, max_steps=options.rounds, batch_size=options.batch, lr=options.lr,
                        save_steps=10_000, reinforce=reinforce)
    generator = Generator(device=options.device, max_prompt_tokens=400, max_new_tokens=options.new, batch_size=64)
    with tempfile.TemporaryDirectory() as scratch:
        marks: list[float] = []
        job = Job(generator, training, METHODS[method], rows, (), Path(scratch), lambda *_: marks.append(clock()), (),
                  {**questions, **held_questions})
        before = measure(job, held, None, seed, options.draws)
        METHODS[method].fit(job)
        after = measure(job, held, Path(scratch) / "adapter", seed, options.draws)
    rounds = [later - earlier for earlier, later in itertools.pairwise(marks)]
    return {"before": before["drawn"], "after": after["drawn"], "greedy_before": before["greedy"],
            "greedy_after": after["greedy"], "round_s": statistics.median(rounds) if rounds else 0.0}


def describe(method: str, runs: Sequence[dict[str, float]]) -> str:
    """Return a method's row of the table."""
    gains = [run["after"] - run["before"] for run in runs]
    mean = {name: statistics.fmean(run[name] for run in runs) for name in runs[0]}
    half = _T95.get(len(gains), 1.96) * statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    gain = statistics.fmean(gains)
    return (f"| {method} | {mean['before']:.3f} | {mean['after']:.3f} "
            f"| {gain:+.3f} ({gain - half:+.3f} to {gain + half:+.3f}) "
            f"| {sum(g > 0 for g in gains)} of {len(gains)} | {mean['greedy_before']:.3f} | {mean['greedy_after']:.3f} "
            f"| {mean['round_s']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["ppo", "grpo", "rloo"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--held", type=int, default=24)
    parser.add_argument("--draws", type=int, default=3, help="answers drawn to each held-out question")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new", type=int, default=40, help="most tokens of an answer")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, help="write the figures of every run here too")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    found: dict[str, list[dict[str, float]]] = {method: [] for method in options.methods}
    for seed in range(options.seeds):  # methods in turn, so that a busy moment hits all alike
        for method in options.methods:
            run = run_one(method, seed, options, clock)
            found[method].append(run)
            print(f"{method} seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in run.items()), flush=True)
    print("\n| method | before | after | gain (95%) | seeds up | greedy before | greedy after | s/round |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |")
    for method, runs in found.items():
        print(describe(method, runs))
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name != "json"}
        options.json.write_text(json.dumps({"options": settings, "runs": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
