"""What does each part of the tuning data bring? The demo tuned on variants of its dataset, each against the default.

    python scripts/bench_dataset.py --out work/bench/dataset [--seeds 0 1] [--variants NAME ...]

Every variant has the same index, questions, split and test questions, is tuned for as many steps as the default and answers
the same test questions with retrieval and on the oracle page. A row pools the seeds (of the draws, of initialisation and of
order); 'gained / lost' counts the answers that only the variant, or only the default, got right, p is McNemar's exact test
over the answers, an answer of another seed counting apart, so with several seeds it is a little too sure.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from ragtune.cli.terminal import progress
from ragtune.errors import RagtuneError
from ragtune.evaluation.ladder.log import LOG
from ragtune.evaluation.statistics.compare import compare_paired
from ragtune.files import read_jsonl, write_json
from ragtune.recipe.load import load_recipe
from ragtune.recipe.schema import Recipe
from ragtune.seams import Report
from ragtune.stages.dataset import run_dataset
from ragtune.stages.evaluate import run_evaluate
from ragtune.stages.index import run_index
from ragtune.stages.train import run_train

DEFAULT = "default"
SETTINGS = ("retrieval", "oracle")
VARIANTS: dict[str, tuple[str, ...]] = {
    DEFAULT: (),
    "random distractors": ("dataset.distractor_source=random",),
    "no distractors": ("dataset.distractors=0",),
    "no refusals": ("dataset.refusal_share=0", "dataset.gold_share=1", "dataset.closed_book_share=0"),
    "RAFT's settings": ("dataset.preset=raft",),
    "InstructLab's settings": ("dataset.preset=instructlab",),
}
Outcomes = dict[tuple[int, str, str], str]
"""(seed, rung, question id) -> correct, wrong or refused."""


def open_variant(name: str, seed: int, out: Path, steps: int | None, own: list[str]) -> Recipe:
    """Return the recipe of a variant; all share one index folder."""
    folder = out / f"{name.replace(' ', '_')}-{seed}"
    fields = [*own, f"work={json.dumps(str(folder))}", f"index.folder={json.dumps(str(out / 'index'))}",
              f"dataset.seed={seed}", f"training.seed={seed}", f"evaluation.settings={json.dumps(SETTINGS)}",
              "evaluation.baselines=[]", *([f"training.max_steps={steps}"] if steps else [])]
    return load_recipe("demo", [*fields, *VARIANTS[name]])


def measure(recipe: Recipe, report: Report) -> dict[str, Any]:
    """Build, tune and evaluate one variant; what is finished is taken up. Return rows by mode, steps and outcomes."""
    dataset, train = run_dataset(recipe, report=report).to_dict(), run_train(recipe, report=report).to_dict()
    evaluation = run_evaluate(recipe, models=("tuned",), report=report)
    rows = [row for _, row in read_jsonl(Path(evaluation.folder) / LOG)]
    return {"train": dataset["train"], "steps": train["steps"],
            "outcomes": {f"{row['setting']} {row['question_id']}": row["outcome"] for row in rows}}


def print_table(results: dict[str, dict[int, dict[str, Any]]]) -> None:
    """Print what each variant answers, and its paired test against the default, in Markdown."""
    print("\n| dataset | rung | correct / wrong / refused | gained / lost against the default | difference [95%] | p |")
    print("| --- |" + " --- |" * 5)
    for name, seeds in results.items():
        for rung in SETTINGS:
            pooled = {f"{seed} {key}": outcome for seed, result in seeds.items()
                      for key, outcome in result["outcomes"].items() if key.startswith(f"{rung} ")}
            default = {f"{seed} {key}": outcome for seed, result in results[DEFAULT].items()
                       for key, outcome in result["outcomes"].items()}
            counts = Counter(pooled.values())
            cells = [name, rung, " / ".join(str(counts[outcome]) for outcome in ("correct", "wrong", "refused"))]
            if name != DEFAULT:
                test = compare_paired([default[key] == "correct" for key in pooled],
                                      [outcome == "correct" for outcome in pooled.values()])
                low, high = test.interval
                cells += [f"+{test.only_b} / −{test.only_a}", f"{test.difference:+.3f} [{low:+.3f}, {high:+.3f}]",
                          f"{test.p:.2g}"]
            print(f"| {' | '.join([*cells, '', '', ''][:6])} |")


def main() -> None:
    """Run the variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("work/bench/dataset"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", choices=[name for name in VARIANTS if name != DEFAULT], metavar="NAME",
                        default=[name for name in VARIANTS if name != DEFAULT])
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="recipe field, repeatable")
    options = parser.parse_args()
    results: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in (DEFAULT, *options.variants)}
    with progress() as report:
        for seed in options.seeds:
            steps = None
            for name, seeds in results.items():
                recipe = open_variant(name, seed, options.out, steps, options.set)
                if steps is None:
                    run_index(recipe, report=report)
                seeds[seed] = measure(recipe, report)
                steps = steps or seeds[seed]["steps"]
                write_json(options.out / "results.json", results)
                print(f"{name}, seed {seed}: {seeds[seed]['train']}, {seeds[seed]['steps']} steps", file=sys.stderr)
    print_table(results)


if __name__ == "__main__":
    try:
        main()
    except RagtuneError as error:
        sys.exit(f"Error: {error}")
