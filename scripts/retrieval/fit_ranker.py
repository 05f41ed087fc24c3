"""Fit the shipped ranker: weights for ragtune/retrieval/ranker.json from questions on FinanceBench's train filings.

    python scripts/retrieval/fit_ranker.py --index work/financebench/index

``questions.jsonl`` beside this script holds questions of our own on the 37 filings whose split is 'train', with the pages
that answer them; ``also`` names further pages that hold the fact. Prints recall on companies left out of the fit, for the
ranker and for the plain fused search, and writes the weights fitted on all questions.
"""

import argparse
import json
from pathlib import Path

from ragtune.files import hash_file, write_json
from ragtune.recipe.load import load_recipe
from ragtune.retrieval.gate import judge_ranks
from ragtune.retrieval.index import open_index
from ragtune.retrieval.rerank import SHIPPED, fit_weights
from ragtune.retrieval.search import IndexSearcher
from ragtune.stages.adapt_ranker import judge_pages, rank_left_out
from ragtune.stages.material import gather_material

QUESTIONS = Path(__file__).with_name("questions.jsonl")


def main() -> None:
    """Measure by company left out, then fit on all and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    recipe = load_recipe("filings", ["adapting.split_by=company", "adapting.folds=8", *options.set])
    material = gather_material(recipe, open_index(options.index), QUESTIONS)
    judged = judge_pages(material, IndexSearcher(material.index, recipe.retrieval))
    after = rank_left_out(material, judged)
    plain = recipe.retrieval.model_copy(update={"rerank": "none"})
    verdict = judge_ranks(material.trial.rank(material.vectors, plain), after, recipe.adapting.k, recipe.adapting.max_p)
    for row in verdict.rows:
        print(json.dumps(row.to_dict()))
    facts = {
        "questions": len(material.questions), "groups": sorted(set(material.parts)),
        "file": QUESTIONS.name, "sha256": hash_file(QUESTIONS), "adapter": recipe.retrieval.adapter,
        "recall_left_out": {f"{row.scope}@{row.k}": round(row.after, 3) for row in verdict.rows},
    }
    write_json(options.out, {"weights": fit_weights(judged["shared"]), "fitted_on": facts})


if __name__ == "__main__":
    main()
