"""Does tuning help on real filings of companies never used? The ladder on held-out companies, then on FinanceBench.

    python scripts/story.py --data ../shared/financebench --out work/story --index work/financebench/financebench/index

All filings whose split is 'train' are put into one index. ragtune asks questions from their statement rows: those about the
companies that the bundled model's pre-training leaves out (HELD_OUT) are the test side, those about all others are tuned
on. Base and tuned then answer the held-out questions closed book, with retrieval and on the oracle page. With --index, an
index of all filings (scripts/financebench.py makes one), the same run also answers FinanceBench's own eval questions as far
as they ask for plain figures; nothing of those filings is tuned on. Prints both ladders and one JSON object, which
story.json keeps; stages may be run one by one (--stages index dataset, then --stages train, ...).
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "pretrain")]

from financebench import open_recipe  # noqa: E402
from tables import HELD_OUT  # noqa: E402

from ragtune.cli.answers import print_evaluation  # noqa: E402
from ragtune.cli.terminal import progress  # noqa: E402
from ragtune.files import read_jsonl, write_json, write_jsonl  # noqa: E402
from ragtune.recipe.schema import Recipe  # noqa: E402
from ragtune.seams import Report  # noqa: E402
from ragtune.stages.dataset import run_dataset  # noqa: E402
from ragtune.stages.evaluate import run_evaluate  # noqa: E402
from ragtune.stages.index import run_index  # noqa: E402
from ragtune.stages.train import run_train  # noqa: E402

STAGES = ("index", "dataset", "train", "held_out", "financebench")


def held_out_filter() -> str:
    """Return the filter that names the filings of the held-out companies."""
    return f"company in ({', '.join(repr(company) for company in HELD_OUT)})"


def train_files(documents: Path) -> list[str]:
    """Return the file names of the filings that may be tuned on."""
    return [f"{row['doc_name']}.pdf" for _, row in read_jsonl(documents) if row["split"] == "train"]


def asks_for_a_figure(row: dict[str, Any]) -> bool:
    """Tell whether a FinanceBench question asks for a plain figure: one read off a statement, or computed from it."""
    return row.get("question_reasoning") == "Information extraction" or row.get("question_type") == "metrics-generated"


def figure_questions(rows: Iterable[dict[str, Any]], splits: dict[str, str]) -> list[dict[str, Any]]:
    """Return the questions that ask for plain figures of filings that are never tuned on, where the filing is at hand."""
    return [row for row in rows if asks_for_a_figure(row) and splits.get(row["doc_name"]) == "eval"]


def measure_financebench(recipe: Recipe, data: Path, out: Path, index: Path, report: Report) -> dict[str, Any]:
    """Ask FinanceBench's questions for plain figures over the index of all filings and return the summary."""
    splits = {row["doc_name"]: row["split"] for _, row in read_jsonl(data / "documents.jsonl")}
    questions = out / "figure_questions.jsonl"
    write_jsonl(questions, figure_questions((row for _, row in read_jsonl(data / "questions.jsonl")), splits))
    section = recipe.evaluation.model_copy(update={"questions": str(questions), "where": None})
    asked = recipe.model_copy(update={"name": "story-financebench", "evaluation": section})
    run = out / recipe.name / "run"
    # The run was tuned over the index of the train filings: asking over another one is the point here.
    return run_evaluate(asked, index=index, run=run if run.is_dir() else None, allow_mismatch=True, report=report).to_dict()


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--index", type=Path, help="index of all filings, for FinanceBench's own questions")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    arguments = parser.parse_args()
    settings = {
        "name": "story",
        "documents.include": json.dumps(train_files(arguments.data / "documents.jsonl")),
        "dataset.test_where": json.dumps(held_out_filter()),
        "dataset.ask_count": 800,
        "dataset.test_share": 0.3,
    }
    recipe = open_recipe(arguments.data, arguments.out, settings, arguments.set)
    results: dict[str, Any] = {}
    with progress() as report:
        for stage, run in {"index": run_index, "dataset": run_dataset, "train": run_train, "held_out": run_evaluate}.items():
            if stage in arguments.stages:
                results[stage] = run(recipe, report=report).to_dict()
                print(json.dumps({stage: results[stage]}), file=sys.stderr)
        if "financebench" in arguments.stages and arguments.index:
            results["financebench"] = measure_financebench(
                recipe, arguments.data, arguments.out, arguments.index, report)
    titles = {"held_out": f"Held-out companies: {', '.join(HELD_OUT)}", "financebench": "FinanceBench, plain figures"}
    for name, title in titles.items():
        if name in results:
            print(f"\n{title}")
            print_evaluation(results[name])
    path = arguments.out / "story.json"
    known = json.loads(path.read_text()) if path.is_file() else {}  # of stages that ran before
    write_json(path, {**known, **results})
    print(json.dumps({**known, **results}, indent=2))


if __name__ == "__main__":
    main()
