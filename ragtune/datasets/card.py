"""The dataset card: what a person should know before training on a dataset, in the Hugging Face form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ragtune.answering.prompt import REFUSAL, prompt_hash
from ragtune.recipe.schema import Recipe
from ragtune.records import Example


@dataclass(frozen=True)
class CardFacts:
    """What the card tells beyond the rows themselves. ``documents`` are those the questions of each side are about."""

    recipe: Recipe
    index_id: str
    source: str
    documents: Mapping[str, Sequence[str]]
    dropped: Mapping[str, Mapping[str, int]]
    skipped: Mapping[str, Mapping[str, int]]
    missing: Mapping[str, int] = field(default_factory=dict)


def count_rows(examples: Sequence[Example]) -> dict[str, Any]:
    """Return the figures of one side: rows by kind and mode, refusals, where gold stands, how it was found."""
    gold = [e.provenance for e in examples if e.provenance["gold"]]
    return {
        "rows": len(examples),
        "kinds": dict(sorted(Counter(str(e.provenance["kind"]) for e in examples).items())),
        "modes": dict(sorted(Counter(str(e.provenance["mode"]) for e in examples).items())),
        "refusals": sum(e.completion == REFUSAL for e in examples),
        "gold_positions": dict(sorted(Counter(p["passages"].index(p["gold"][0]) + 1 for p in gold).items())),
        "gold_injected": sum(bool(p["gold_injected"]) for p in gold),
        "passages": dict(sorted(Counter(len(e.provenance["passages"]) for e in examples).items())),
        "completion_characters_most": max((len(e.completion) for e in examples), default=0),
    }


def render_card(train: Sequence[Example], test: Sequence[Example], facts: CardFacts) -> str:
    """Return the folder's README.md."""
    sides = {"train": count_rows(train), "test": count_rows(test)}
    lines = [
        "---", "task_categories:", "- question-answering", "configs:", "- config_name: default", "  data_files:",
        "  - split: train", "    path: train.jsonl", "  - split: test", "    path: test.jsonl", "---", "",
        f"# Tuning rows of {facts.recipe.name}", "",
        "Each row holds `prompt` (chat messages: numbered passages, then the question), `completion` (the answer with its "
        "citations, or the refusal) and `provenance` (question, evidence, passages in order and which of them are gold).",
        f"Questions: {facts.source}. Passages come from the search that serves (`{facts.recipe.retrieval.method}`, index "
        f"`{facts.index_id}`); prompts were rendered by prompt `{prompt_hash(facts.recipe.answering.names_rows)}`.", "",
        *_render_counts(sides, facts), "", *_render_method(facts.recipe), "", "## Documents", "",
        *(f"- {side}: {', '.join(names) or 'none'}" for side, names in facts.documents.items()),
    ]
    if facts.missing:
        lines += ["", f"Not in the index, their questions left out: {_counts(facts.missing)}"]
    return "\n".join(lines) + "\n"


def _render_counts(sides: Mapping[str, Mapping[str, Any]], facts: CardFacts) -> list[str]:
    """Return the table of both sides' figures."""
    kinds = sorted({kind for side in sides.values() for kind in side["kinds"]})
    figures: dict[str, list[Any]] = {"rows": [side["rows"] for side in sides.values()]}
    figures |= {f"kind {kind or 'not named'}": [side["kinds"].get(kind, 0) for side in sides.values()] for kind in kinds}
    figures |= {
        "refusals": [side["refusals"] for side in sides.values()],
        "gold injected": [side["gold_injected"] for side in sides.values()],
        "first gold passage at position": [_counts(side["gold_positions"]) for side in sides.values()],
        "passages in a prompt": [_counts(side["passages"]) for side in sides.values()],
        "left out": [_counts(facts.dropped.get(name, {})) for name in sides],
        "passed over": [_counts(facts.skipped.get(name, {})) for name in sides],
    }
    rows = [[name, *map(str, values)] for name, values in figures.items()]
    return [f"| {' | '.join(row)} |" for row in (["", *sides], ["---"] * (len(sides) + 1), *rows)]


def _render_method(recipe: Recipe) -> list[str]:
    """Return how rows are drawn, in words."""
    section = recipe.dataset
    return [
        "## How rows are drawn", "",
        f"- Split by `{section.split_by}`: no group is on both sides, and no training row shows a passage of a test "
        "document.",
        f"- {section.rows_per_question} row(s) a training question, seed {section.seed}. An answerable question is shown "
        f"with its gold passage in a share {section.gold_share:g} of rows, at a random position among "
        f"{section.distractors} distractors from the same search that do not hold the answer; otherwise only distractors "
        f"are shown and the completion is the refusal. A share {section.closed_book_share:g} of rows shows no passage and "
        "is refused.",
        "- 'Gold injected' means that the search would not have shown the gold passage among the first "
        f"{recipe.retrieval.k}; it was put in.",
        "- Test rows show what serving would show, by rank; where the evidence is not among it, the refusal is right.",
        f"- Prompts hold at most {recipe.generator.max_prompt_tokens} tokens of `{recipe.generator.model}`.",
    ]


def _counts(counts: Mapping[Any, int]) -> str:
    return "; ".join(f"{name}: {count}" for name, count in counts.items()) or "0"
