"""The stage that makes a model to be served elsewhere: a run goes in, one model of base and adapter comes out.

Held-out questions go through the adapter, the merged model and the exported one; what differs beyond noise is not written.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ragtune.answering.prompt import parse_completion
from ragtune.datasets.folder import OpenedDataset, open_dataset
from ragtune.errors import RunError
from ragtune.files import building_folder, write_manifest
from ragtune.models.adapt import FILES, check_adapter, check_mergeable
from ragtune.models.chat import load_chat
from ragtune.models.checkpoint import fingerprint_model
from ragtune.models.convert import import_ctranslate2
from ragtune.models.gguf import MAX_SECONDS, find_converter
from ragtune.recipe.places import dataset_folder, run_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Example, Question, Record
from ragtune.seams import Report
from ragtune.training.exporting.formats import ExportJob, build_model, check_format
from ragtune.training.exporting.model_card import render_card
from ragtune.training.exporting.parity import Parity
from ragtune.training.run import Run, check_run_fits, open_run

QUESTIONS = 48
@dataclass(frozen=True)
class ModelSummary(Record):
    """What was exported. ``parity`` is None for an adapter alone, which is what the run holds already."""

    format: str
    numbers: str
    folder: str
    run: str
    bytes: int
    seconds: float
    parity: Parity | None = None


def run_export_model(
    recipe: Recipe,
    format_name: str,
    out: Path,
    numbers: str | None = None,
    run: Path | None = None,
    dataset: Path | None = None,
    questions: int = QUESTIONS,
    allow_difference: bool = False,
    llama_cpp: Path | None = None,
    max_seconds: float = MAX_SECONDS,
    report: Report | None = None,
) -> ModelSummary:
    """Write the recipe's run as a model in one of FORMATS, as a new folder with a card.

    ``numbers`` is a number type of the format. ``questions`` test rows of the dataset, as they would be served, are asked of
    all models; ``allow_difference`` writes one that differs all the same, and its card says so. Raises RecipeError for an
    unknown format or number type, RunError for a run that is missing, of another base or not to be merged, and for a model
    that differs; ModelError where it cannot be converted; MissingPackage for what a format needs.
    """
    started = time.perf_counter()
    numbers = check_format(format_name, numbers)
    opened = open_run(run or run_folder(recipe))
    check_run_fits(opened, "", "", fingerprint_model(recipe.generator.model))
    if format_name == "adapter":
        return _export_adapter(opened, out, started)
    check_mergeable(check_adapter(opened.adapter))
    converter = find_converter(llama_cpp) if format_name == "gguf" else None
    if format_name == "ctranslate2":
        import_ctranslate2()
    floats = numbers if format_name == "safetensors" else recipe.generator.dtype
    job = ExportJob(recipe, opened.adapter, format_name, numbers, "float32" if floats == "auto" else floats,
               load_chat(recipe.generator), converter, max_seconds, report)
    rows = choose_rows(open_dataset(dataset or dataset_folder(recipe)), questions)
    with building_folder(out) as folder:
        parity = build_model(job, folder, rows)
        if parity.faults and not allow_difference:
            raise RunError(describe_faults(parity, out))
        (folder / "README.md").write_text(render_card(opened, recipe.name, format_name, numbers, parity), encoding="utf-8")
        write_manifest(folder, "model", format_name=format_name, numbers=numbers, **_facts(opened),
                       allow_difference=allow_difference, parity=parity.to_dict())
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return ModelSummary(format_name, numbers, str(out), opened.id, size, round(time.perf_counter() - started, 1), parity)


def choose_rows(opened: OpenedDataset, count: int) -> list[tuple[Example, Question]]:
    """Return ``count`` test rows spread over the file, each with its question.

    A row whose question the folder does not hold is scored against its own completion. Raises RunError without test rows.
    """
    rows = opened.test
    if not rows:
        raise RunError(f"{opened.folder} has no test rows to compare the models on. Set dataset.test_share, and build it "
                       "again: ragtune dataset --recipe FILE")
    places = [place * len(rows) // count for place in range(count)] if count < len(rows) else range(len(rows))
    has_questions = (opened.folder / "questions_test.jsonl").is_file()
    known = {question.id: question for question in (opened.questions("test") if has_questions else ())}
    chosen = []
    for place in places:
        name = str(rows[place].provenance.get("question_id", place))
        chosen.append((rows[place], known.get(name) or _question_of(rows[place], name)))
    return chosen


def _question_of(row: Example, name: str) -> Question:
    """Return a question whose reference is the row's own completion."""
    text, _, _, is_refusal = parse_completion(row.completion)
    asked = row.prompt[-1]["content"].rpartition("Question:")[2].strip()
    return Question(name, asked, "" if is_refusal else text)


def _export_adapter(run: Run, out: Path, started: float) -> ModelSummary:
    """Copy the adapter alone: its two files and nothing else that lies beside them."""
    with building_folder(out) as folder:
        for name in FILES:
            shutil.copyfile(run.adapter / name, folder / name)
        (folder / "README.md").write_text(render_card(run, "", "adapter", "as tuned", None), encoding="utf-8")
        write_manifest(folder, "model", format_name="adapter", numbers="as tuned", **_facts(run))
        size = sum(path.stat().st_size for path in folder.iterdir())
    return ModelSummary("adapter", "as tuned", str(out), run.id, size, round(time.perf_counter() - started, 1))


def _facts(run: Run) -> dict[str, object]:
    """Return what an exported model's manifest says of where it came from."""
    return {"run_id": run.id, **{key: run.manifest.get(key) for key in ("base_model", "base_fingerprint", "prompt_hash")}}


def describe_faults(parity: Parity, out: Path) -> str:
    """Return why a model is not written, with the first questions it answers in another way."""
    lines = [f"the exported model is not the one that was tuned: {'; '.join(parity.faults)}. {out} was not written."]
    side = next(side for side in parity.sides if side.faults)
    for example in side.examples:
        lines += [f"  {example.question}", f"    adapter: {_short(example.adapter)}",
                  f"    {side.name}: {_short(example.other)}"]
    lines.append("Serve the adapter itself, choose a number type with more bits (--numbers), or write it all the same with "
                 "--allow-difference.")
    return "\n".join(lines)


def _short(text: str, length: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[:length]}..."
