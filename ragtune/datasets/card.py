"""The dataset card: what a person should know before training on a dataset, in the Hugging Face form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ragtune.answering.prompt import REFUSAL, prompt_hash
from ragtune.datasets.lengths import FILE as LENGTHS
from ragtune.datasets.lengths import render_lengths
from ragtune.recipe.schema import Recipe
from ragtune.records import Document, Example, Question

_MOST = 30  # values of a column that are listed
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
_NEAR = {"drop": "there are none", "fail": "there are none", "keep": "they were not looked for"}
Columns = Mapping[str, Mapping[str, Sequence[str]]]
"""Question id -> column of the documents' metadata -> the values that its documents have."""


@dataclass(frozen=True)
class CardFacts:
    """What the card tells beyond the rows themselves.

    ``documents`` are those the questions of each side are about, ``columns`` what their metadata say of each question,
    ``lengths`` the tokens of each side's rows, ``repeated`` how many training questions were left
    out, by reason, ``cut_off`` how many rows of each side end later than the generator does.
    """

    recipe: Recipe
    index_id: str
    source: str
    documents: Mapping[str, Sequence[str]]
    dropped: Mapping[str, Mapping[str, int]]
    skipped: Mapping[str, Mapping[str, int]]
    missing: Mapping[str, int] = field(default_factory=dict)
    columns: Columns = field(default_factory=dict)
    lengths: Mapping[str, Sequence[int]] = field(default_factory=dict)
    repeated: Mapping[str, int] = field(default_factory=dict)
    cut_off: Mapping[str, int] = field(default_factory=dict)


def find_columns(questions: Sequence[Question], documents: Mapping[str, Document]) -> dict[str, dict[str, list[str]]]:
    """Return for each question id what the metadata of its documents say, by column.

    Its documents are those of its evidence, else the one its metadata name; without any, its own metadata count. Columns
    are those that at least half of the index's documents have, with short values that can be counted.
    """
    having = Counter(column for document in documents.values() for column, value in document.metadata.items()
                     if isinstance(value, (str, int)) and not isinstance(value, bool) and 0 < len(str(value)) <= 60)
    columns = [column for column, count in having.items() if 2 * count >= len(documents)]
    found: dict[str, dict[str, list[str]]] = {}
    for question in questions:
        names = {evidence.document for evidence in question.evidence} or {str(question.metadata.get("document"))}
        about = [documents[name].metadata for name in sorted(names) if name in documents] or [question.metadata]
        found[question.id] = {column: sorted({str(metadata[column]) for metadata in about
                                              if metadata.get(column) not in (None, "")}) for column in columns}
    return found


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
        "quotes": dict(sorted(Counter(outcome for e in examples for outcome in e.provenance.get("quotes", ())).items())),
        "passages": dict(sorted(Counter(len(e.provenance["passages"]) for e in examples).items())),
        "completion_characters_most": max((len(e.completion) for e in examples), default=0),
    }


def render_card(train: Sequence[Example], test: Sequence[Example], facts: CardFacts) -> str:
    """Return the folder's README.md."""
    examples = {"train": train, "test": test}
    sides = {side: count_rows(rows) for side, rows in examples.items()}
    lines = [
        *_render_head(sides, facts.recipe), "", f"# Tuning rows of {facts.recipe.name}", "",
        *([facts.recipe.description, ""] if facts.recipe.description else []),
        "Each row holds `prompt` (chat messages: numbered passages, then the question), `completion` (the answer with its "
        "citations, or the refusal) and `provenance` (question, evidence, passages in order and which of them are gold).",
        "", *_render_counts(sides, facts), "", *_render_method(facts.recipe, facts.repeated), "",
        *_render_columns(examples, facts.columns), *_render_lengths(facts), *_render_provenance(facts),
        "## Documents", "", *(f"- {side}: {', '.join(names) or 'none'}" for side, names in facts.documents.items()),
    ]
    if facts.missing:
        lines += ["", f"Not in the index, their questions left out: {_counts(facts.missing)}"]
    return "\n".join(lines) + "\n"


def _render_head(sides: Mapping[str, Mapping[str, Any]], recipe: Recipe) -> list[str]:
    """Return the YAML front matter: what `datasets.load_dataset` and the Hugging Face hub read."""
    count = sum(side["rows"] for side in sides.values())
    files = [{"split": name, "path": f"{name}.jsonl"} for name, side in sides.items() if side["rows"]]
    head = {
        "license": recipe.dataset.license, "pretty_name": f"Tuning rows of {recipe.name}",
        "task_categories": ["question-answering"], "tags": ["retrieval-augmented-generation", "ragtune"],
        "size_categories": [next((size for most, size in _SIZES.items() if count < most), "n>10M")],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(), "---"]


def _render_columns(examples: Mapping[str, Sequence[Example]], columns: Columns) -> list[str]:
    """Return a table of rows by value for each column of the documents' metadata."""
    names = list(dict.fromkeys(column for found in columns.values() for column in found))
    lines = []
    for column in names:
        counts = {side: Counter[str]() for side in examples}
        for side, rows in examples.items():
            for example in rows:
                counts[side].update(columns.get(str(example.provenance.get("question_id")), {}).get(column) or ["not named"])
        values = [value for value, _ in sum(counts.values(), Counter[str]()).most_common()]
        shown = sorted(values[:_MOST], key=lambda value: (value == "not named", value))
        lines += [f"## Rows by {column}", "", f"| {column} | {' | '.join(examples)} |", f"| --- {'| --- ' * len(examples)}|"]
        lines += [f"| {_cell(value)} | {' | '.join(str(counts[side][value]) for side in examples)} |" for value in shown]
        if values[_MOST:]:
            rest = [str(sum(counts[side][value] for value in values[_MOST:])) for side in examples]
            lines.append(f"| {len(values) - _MOST} others | {' | '.join(rest)} |")
        lines.append("")
    return lines


def _render_lengths(facts: CardFacts) -> list[str]:
    """Return the lengths in figures, and the link to their drawing."""
    figures = render_lengths(facts.lengths, f"tokens of `{facts.recipe.generator.model}`")
    drawing = f"![Histogram: tokens of prompt and completion]({LENGTHS})"
    most = f"{facts.recipe.generator.max_prompt_tokens:,}"
    mark = f"The dashed line, where there is one, marks the {most} tokens a prompt may have; the completion comes on top."
    return ["## Length", "", drawing, "", mark, "", *figures, ""] if figures else []


def _render_provenance(facts: CardFacts) -> list[str]:
    """Return where rows come from and under which terms they may be used."""
    recipe = facts.recipe
    licence = "not said" if recipe.dataset.license == "other" else f"`{recipe.dataset.license}`"
    return [
        "## Provenance", "",
        f"- Questions: {facts.source}.",
        f"- Passages: from the search that serves (`{recipe.retrieval.method}`, index `{facts.index_id}`); a chunk id in "
        "`provenance` leads to its document, page and characters in that index.",
        f"- Prompts: rendered by prompt `{prompt_hash(recipe.answering.names_rows)}`, as serving renders them.",
        "- `manifest.json` holds the whole recipe, package versions and the hash of each file.",
        f"- Licence: {licence} (`dataset.license` in the recipe). The documents keep their own terms.", "",
    ]


def _render_counts(sides: Mapping[str, Mapping[str, Any]], facts: CardFacts) -> list[str]:
    """Return the table of both sides' figures."""
    kinds = sorted({kind for side in sides.values() for kind in side["kinds"]})
    figures: dict[str, list[Any]] = {"rows": [side["rows"] for side in sides.values()]}
    figures |= {f"kind {kind or 'not named'}": [side["kinds"].get(kind, 0) for side in sides.values()] for kind in kinds}
    modes, quotes = ([side[key] for side in sides.values()] for key in ("modes", "quotes"))
    figures |= {
        "P (gold shown, of answerable questions with passages)": [_share(mode.get("gold", 0), mode.get("distractors", 0))
                                                                  for mode in modes],
        "refusals": [side["refusals"] for side in sides.values()],
        "gold injected": [side["gold_injected"] for side in sides.values()],
        "first gold passage at position": [_counts(side["gold_positions"]) for side in sides.values()],
        "passages in a prompt": [_counts(side["passages"]) for side in sides.values()],
        "modes": [_counts(mode) for mode in modes],
        **({"quotes": list(map(_counts, quotes))} if any(quotes) else {}),
        **({"completions over `generator.max_new_tokens`, which serving cuts off": list(facts.cut_off.values())}
           if any(facts.cut_off.values()) else {}),
        "left out": [_counts(facts.dropped.get(name, {})) for name in sides],
        "passed over": [_counts(facts.skipped.get(name, {})) for name in sides],
    }
    rows = [[name, *map(str, values)] for name, values in figures.items()]
    return [f"| {' | '.join(row)} |" for row in (["", *sides], ["---"] * (len(sides) + 1), *rows)]


def _render_method(recipe: Recipe, repeated: Mapping[str, int]) -> list[str]:
    """Return how rows are drawn, in words."""
    section = recipe.dataset
    named = f", with the documents that meet `{section.test_where}` on the test side" if section.test_where else ""
    return [
        "## How rows are drawn", "",
        f"- Split by `{section.split_by}`{named}: no group is on both sides, and no training row shows a passage of a test "
        "document.",
        f"- {section.rows_per_question} row(s) a training question, seed {section.seed}. An answerable question is shown "
        f"with its gold passage in a share {section.gold_share:g} of rows, at a random position among "
        f"{section.distractors} distractors {_tell_source(recipe)} that do not hold the answer; otherwise only distractors "
        f"are shown and the completion is the refusal. A share {section.closed_book_share:g} of rows shows no passage and "
        "is refused."
        + (f" At most a share {section.refusal_share:g} of the rows are refusals." if section.refusal_share < 1 else "")
        + (f" At most a share {section.max_kind_share:g} of the rows is of one kind." if section.max_kind_share < 1 else ""),
        f"- Training questions that are like another (`dataset.near_duplicates`: {section.near_duplicates}): "
        f"{f'{_counts(repeated)} left out' if repeated else _NEAR[section.near_duplicates]}.",
        *(["- Before an answer that restates no row stand the sentences of its evidence that hold it, in quotation marks "
           "with their passage. Each was looked for in the passages shown: 'repaired' ones differed in white space, case, "
           "dashes or quotation marks, 'cited to another passage' ones stand in another than named; a row with one that "
           "stands in none is left out."] if section.quotes else []),
        "- 'Gold injected' means that the search would not have shown the gold passage among the first "
        f"{recipe.retrieval.k}; it was put in.",
        "- Test rows show what serving would show, by rank; where the evidence is not among it, the refusal is right.",
        f"- Prompts hold at most {recipe.generator.max_prompt_tokens} tokens of `{recipe.generator.model}`.",
    ]


def _tell_source(recipe: Recipe) -> str:
    section = recipe.dataset
    if section.distractor_source == "random":
        return "from anywhere in the index"
    hard = "" if section.hard_share is None else f", a share {section.hard_share:g} of them hard ones,"
    return f"from the same search{hard}"


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())


def _share(count: int, others: int) -> str:
    return f"{count / (count + others):.2f}" if count + others else "as served"


def _counts(counts: Mapping[Any, int]) -> str:
    return "; ".join(f"{name}: {count}" for name, count in counts.items()) or "0"
