"""The main job on real filings: index FinanceBench's PDFs, tune on the train filings, measure on the eval questions.

    python scripts/financebench.py --data ../shared/financebench --out work/financebench

The folder holds pdfs/, documents.jsonl (doc_name, company, doc_period, doc_type, gics_sector, split) and questions.jsonl in
FinanceBench's shape. Tuning questions are asked from statement rows of the filings whose split is 'train'; nothing of
the 'eval' filings is tuned on. Prints one JSON object: pages/s, chunks/s, peak memory, page recall and the ladder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragtune.cli.answers import print_evaluation
from ragtune.cli.terminal import progress
from ragtune.recipe.load import load_recipe
from ragtune.recipe.schema import Recipe
from ragtune.stages.dataset import run_dataset
from ragtune.stages.evaluate import run_evaluate
from ragtune.stages.index import run_index
from ragtune.stages.train import run_train

STAGES = ("index", "dataset", "train", "evaluate")


def write_sidecar(source: Path, target: Path) -> None:
    """Write the documents' metadata with ragtune's column names."""
    rows = []
    for line in (source / "documents.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.append({"document": row["doc_name"], "company": row["company"], "sector": row["gics_sector"],
                     "split": row["split"]})
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))


def open_recipe(data: Path, out: Path, settings: dict[str, Any], given: Sequence[str] = ()) -> Recipe:
    """Write the documents' metadata into ``out`` and return the recipe for these filings; ``given`` are --set options.

    Questions to tune on are asked about the filings whose split is 'train' alone.
    """
    if not (data / "pdfs").is_dir():
        sys.exit(f"no pdfs/ in {data}: name the folder of FinanceBench's filings with --data")
    out.mkdir(parents=True, exist_ok=True)
    sidecar = out / "documents.jsonl"
    write_sidecar(data, sidecar)
    settings = {
        "work": out,
        "documents.folder": data / "pdfs",
        "documents.metadata": sidecar,
        "dataset.split_by": "company",
        **settings,
        "dataset.where": "\"split = 'train'\"",
    }
    return load_recipe("filings", [*(f"{key}={value}" for key, value in settings.items()), *given])


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--questions", help="The eval questions, where they are not those of --data: a file, or "
                        "hf:PatronusAI/financebench.")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    arguments = parser.parse_args()
    settings = {"name": "financebench", "evaluation.questions": arguments.questions or arguments.data / "questions.jsonl"}
    recipe = open_recipe(arguments.data, arguments.out, settings, arguments.set)
    stages = {"index": run_index, "dataset": run_dataset, "train": run_train, "evaluate": run_evaluate}
    results = {}
    with progress() as report:
        for stage in arguments.stages:
            results[stage] = stages[stage](recipe, report=report).to_dict()
            print(json.dumps({stage: results[stage]}), file=sys.stderr)
    if "evaluate" in results:
        print_evaluation(results["evaluate"])
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
