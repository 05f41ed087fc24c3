"""The card of a pairs folder: what its pairs are made of, counted, and how the libraries read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ragtune.recipe.schema import Recipe

_MEANINGS = {
    "neighbouring_year": "the row's amount of another year", "wrong_row": "another row of the gold passage",
    "other_company": "the line item of another company", "swapped_operand": "the calculation the wrong way round",
    "wrong_citation": "a passage cited that does not hold the row", "needless_refusal": "a refusal of what is shown",
    "unsupported_answer": "an answer to what is not shown", "sampled": "a worse answer the run gave itself",
    "judged": "the answer of the run that the judge likes less",
}


def render_pairs_card(counts: Mapping[str, Any], recipe: Recipe, dataset_id: str) -> str:
    """Return the folder's README.md. ``counts`` are those of the stage's summary: train, test, skipped and sampled."""
    sides = {side: counts[side] for side in ("train", "test") if counts[side]}
    files = {"train": "", "test": "_test"}
    head = {
        "license": recipe.dataset.license, "pretty_name": f"{recipe.name} pairs", "tags": ["preference", "ragtune"],
        "configs": [{"config_name": name, "data_files": [{"split": side, "path": f"{name}{files[side]}.jsonl"}
                                                         for side in sides]} for name in ("pairs", "kto")],
    }
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    lines = [
        f"---\n{front}---\n\n# Preference pairs of {recipe.name}\n", _tell_source(counts, recipe, dataset_id),
        "\n## Pairs by what is rejected\n", "| rejected | what it is | " + " | ".join(sides) + " |",
        "| --- | --- |" + " --- |" * len(sides),
    ]
    for reason in sorted({name for side in sides.values() for name in side["reasons"]}):
        lines.append(f"| {reason} | {_MEANINGS.get(reason, '')} | "
                     + " | ".join(f"{side['reasons'].get(reason, 0):,}" for side in sides.values()) + " |")
    lines += ["| all | | " + " | ".join(f"{side['pairs']:,}" for side in sides.values()) + " |\n", "## What gave no pair\n"]
    told = [f"- {side}: {count:,} {reason}" for side, skipped in counts["skipped"].items()
            for reason, count in skipped.items()]
    lines += told or ["- nothing was left out"]
    lines += ["", "## Reading it\n", "`load_dataset(FOLDER, \"pairs\")` has the columns of TRL's DPO and reward trainers "
              "(prompt, chosen, rejected), `load_dataset(FOLDER, \"kto\")` those of its KTO trainer (prompt, completion, "
              "label): " + ", ".join(f"{side} {facts['kto']['desirable']:,} desirable, {facts['kto']['undesirable']:,} not"
                                     for side, facts in sides.items()) + ".\n"]
    return "\n".join(lines)


def _tell_source(counts: Mapping[str, Any], recipe: Recipe, dataset_id: str) -> str:
    """Return the sentence that says what the pairs are made of."""
    section, sampled = recipe.pairs, counts.get("sampled")
    if not sampled:
        return (f"Made of the rows of dataset `{dataset_id}` without an annotator: the grounded completion against a "
                "mistake about it, each checked by the scorer.")
    outcomes = ", ".join(f"{sampled.get(outcome, 0):,} {outcome}" for outcome in ("correct", "wrong", "refused"))
    how = f"picked by the judge `{section.judge}`, asked in both orders" if section.judge else "told apart by the scorer"
    return (f"Made of {sampled['samples']:,} answers that a tuned run gave to {sampled['questions']:,} training questions "
            f"of dataset `{dataset_id}` as they would be served (temperature {section.temperature:g}, top_p "
            f"{section.top_p:g}, seed {section.seed}): {outcomes}. Chosen and rejected are {how}.")
