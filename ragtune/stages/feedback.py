"""The feedback stage: thumbs given on the page go in, a pairs folder that `ragtune train --pairs` takes comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ragtune.answering.prompt import prompt_hash
from ragtune.datasets.prefer import render_pair
from ragtune.datasets.thumbs import build_preferences, read_thumbs
from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import RunError
from ragtune.files import building_folder, hash_file, write_jsonl, write_manifest
from ragtune.recipe.schema import Recipe
from ragtune.records import Record

FILE = "feedback.jsonl"


@dataclass(frozen=True)
class FeedbackSummary(Record):
    """What was made: judgements read, pairs, and KTO's labels (those of the pairs among them); ``skipped`` by reason."""

    folder: str
    source: str
    judgements: int
    pairs: int
    labels: Mapping[str, int]
    skipped: Mapping[str, int] = field(default_factory=dict)


def feedback_file(recipe: Recipe) -> Path:
    """Return where the recipe's server writes what people think of its answers."""
    folder = Path(recipe.server.folder) if recipe.server.folder else Path(recipe.work) / recipe.name / "server"
    return folder / FILE


@in_recipe_pack
def run_feedback(recipe: Recipe, source: Path | None = None, out: Path | None = None) -> FeedbackSummary:
    """Make a pairs folder, work/NAME/pairs-feedback or ``out``, of the judgements in the server's file, or ``source``.

    Those of another prompt are left out and counted. Raises RunError where there is no judgement to learn from.
    """
    path = source or feedback_file(recipe)
    target = out or Path(recipe.work) / recipe.name / "pairs-feedback"
    thumbs, ours = read_thumbs(path), prompt_hash(recipe.answering.names_rows)
    made = build_preferences(thumbs, ours)
    if not made.labels:
        why = "; ".join(f"{count} {reason}" for reason, count in made.skipped.items()) or "it is empty"
        raise RunError(f"{path}: nothing to learn from ({why}). Judge some answers on the page of ragtune serve.")
    labels = {"desirable": sum(row["label"] for row in made.labels),
              "undesirable": sum(not row["label"] for row in made.labels)}
    with building_folder(target) as folder:
        write_jsonl(folder / "pairs.jsonl", map(render_pair, made.pairs))
        write_jsonl(folder / "kto.jsonl", made.labels)
        write_jsonl(folder / "pairs_test.jsonl", ())
        write_jsonl(folder / "kto_test.jsonl", ())
        summary = FeedbackSummary(str(target), str(path), len(thumbs), len(made.pairs), labels, made.skipped)
        (folder / "README.md").write_text(_render_card(recipe, summary), encoding="utf-8")
        indexes = Counter(thumb.index_id for thumb in thumbs if thumb.prompt_hash == ours)
        write_manifest(folder, "pairs", id=hash_file(folder / "kto.jsonl")[:16], recipe=recipe.model_dump(mode="json"),
                       dataset_id="", index_id=indexes.most_common(1)[0][0], prompt_hash=ours, run_id="",
                       counts={key: value for key, value in summary.to_dict().items() if key not in ("folder", "source")})
    return summary


def _render_card(recipe: Recipe, summary: FeedbackSummary) -> str:
    lines = [f"# Feedback on {recipe.name}\n", f"{summary.judgements:,} judgements of served answers gave {summary.pairs:,} "
             f"preference pairs (`pairs.jsonl`: DPO, ORPO, SimPO, reward models) and {sum(summary.labels.values()):,} "
             f"labels (`kto.jsonl`: {summary.labels['desirable']:,} desirable, {summary.labels['undesirable']:,} not).\n",
             "A pair is of one prompt: an answer that was liked, or the right one that somebody wrote, over one that was "
             "not liked. A judgement without a counterpart is a label only. There is no test side.\n"]
    lines += [f"- left out: {count:,} {reason}" for reason, count in summary.skipped.items()]
    return "\n".join([*lines, ""])
