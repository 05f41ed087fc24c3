"""The export stage: a dataset folder goes in, the same rows in another tool's shape, or another shape of it, come out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ragtune.datasets.corpus import LABELS, CountMany, Texts, build_texts
from ragtune.datasets.folder import OpenedDataset, open_dataset
from ragtune.datasets.formats import Format, find_format, write_rows
from ragtune.errors import RunError
from ragtune.files import building_folder, write_json, write_manifest
from ragtune.models.language import UNTUNABLE, open_counter
from ragtune.models.remote import is_remote
from ragtune.recipe.load import check_recipe
from ragtune.recipe.places import dataset_folder, index_folder
from ragtune.recipe.schema import Generator, Recipe
from ragtune.records import Document, Message, Record
from ragtune.retrieval.index import open_index
from ragtune.seams import Report, progress_of

SIDES = ("train", "test")


@dataclass(frozen=True)
class ExportSummary(Record):
    """What was written: rows by side, and for text of documents what was read and left out."""

    folder: str
    format: str
    rows: Mapping[str, int]
    texts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def run_export(
    format_name: str, out: Path, recipe: Recipe | None = None, dataset: Path | None = None, index: Path | None = None,
    max_tokens: int | None = None, report: Report | None = None,
) -> ExportSummary:
    """Write a dataset in one of FORMATS as a new folder: files by side, a card, LLaMA-Factory's dataset_info.json.

    The dataset is the folder ``dataset``, else the recipe's. For 'pretraining' the text comes from ``index``, else the
    recipe's index (the recipe the dataset was built with, where none is given); rows hold at most ``max_tokens`` tokens,
    by default as many as the generator's prompt and answer. Raises RecipeError for an unknown format, RunError where the
    dataset is missing or damaged, ``out`` is there already, nothing is to be written or the index is not the dataset's.
    """
    started = time.perf_counter()
    shape = check_export(format_name, out)
    opened = open_dataset(find_dataset(recipe, dataset))
    own = check_recipe(opened.manifest.get("recipe") or {}, str(opened.folder / "manifest.json"))
    texts = read_texts(opened, recipe or own, index, max_tokens, report) if shape.build is None else None
    rows: dict[str, int] = {}
    with building_folder(out) as folder:
        for side, built in _build_sides(shape, opened, texts):
            path = folder / f"{side}.{shape.suffix}"
            rows[side] = write_rows(path, built)
            if not rows[side]:
                path.unlink()  # a file without rows has no columns: readers stumble over it
        rows = {side: count for side, count in rows.items() if count}
        if not rows:
            raise RunError(f"{opened.folder} has nothing to write as '{format_name}'. Build it from a recipe with "
                           "questions. Do: ragtune dataset --recipe FILE")
        _describe(folder, format_name, shape, opened, own, rows, texts)
        write_manifest(folder, "export", export=format_name, dataset_id=opened.manifest.get("id"), rows=rows,
                       index_id=opened.manifest.get("index_id"), prompt_hash=opened.manifest.get("prompt_hash"),
                       texts=texts.counts if texts else {})
    return ExportSummary(str(out), format_name, rows, texts.counts if texts else {}, round(time.perf_counter() - started, 1))


def find_dataset(recipe: Recipe | None, dataset: Path | None) -> Path:
    """Return the dataset folder that was named, else the recipe's. Raises RunError where there is neither."""
    if dataset is None and recipe is None:
        raise RunError("no dataset is named. Name its folder, or a recipe: --dataset FOLDER or --recipe FILE")
    return dataset if dataset is not None else dataset_folder(recipe)  # type: ignore[arg-type]


def check_export(format_name: str, out: Path) -> Format:
    """Return the format. Raises RecipeError where there is none of this name, RunError where ``out`` cannot be written.

    ``out`` is a new folder: neither a file, nor named like one, nor a folder with something in it.
    """
    shape = find_format(format_name)
    if out.suffix in (".json", ".jsonl", ".parquet"):
        raise RunError(f"--out {out} names a file, but an export is a folder of files. Do: --out {out.with_suffix('')}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} exists already. Choose another --out, or delete it first.")
    return shape


def _build_sides(
    shape: Format, opened: OpenedDataset, texts: Texts | None
) -> Iterator[tuple[str, Iterable[Mapping[str, Any]]]]:
    """Yield each side with its rows; text of documents is for training alone."""
    if shape.build is None:
        yield "train", texts.rows if texts else ()
        return
    for side in SIDES:
        yield side, shape.build(opened, side)


def read_texts(
    opened: OpenedDataset, recipe: Recipe, index: Path | None, max_tokens: int | None, report: Report | None
) -> Texts:
    """Return the packed text of the index's documents of which training rows may show passages."""
    found = open_index(index or index_folder(recipe))
    built_from, excluded = opened.manifest.get("index_id"), opened.manifest.get("excluded")
    if found.id != built_from:
        raise RunError(f"{found.folder} is the index '{found.id}', but {opened.folder} was built from '{built_from}', so "
                       "which documents are kept for testing is not known. Name that index with --index, or build the "
                       "dataset again. Do: ragtune dataset --recipe FILE")
    if not isinstance(excluded, list):
        raise RunError(f"{opened.folder} does not say which documents are kept for testing: it was built by an older "
                       "ragtune. Build it again. Do: ragtune dataset --recipe FILE")
    names = [document.name for document in found.documents() if document.name not in set(excluded)]
    count_many, end = open_packer(recipe.generator)
    limit = max_tokens or recipe.generator.max_prompt_tokens + recipe.generator.max_new_tokens
    documents: Iterator[Document] = (found.document(name) for name in names)
    return build_texts(documents, count_many, limit, end, progress_of(report, "packing text"), len(names))


def open_packer(generator: Generator) -> tuple[CountMany, str]:
    """Return what counts the tokens of bare texts, and the end-of-text token ('' for models without a tokenizer here)."""
    if generator.model in UNTUNABLE or is_remote(generator.model):
        count: Callable[[Sequence[Message]], int] = open_counter(generator)
        return lambda texts: [count([Message(role="user", content=text)]) for text in texts], ""
    from ragtune.models.chat import load_chat

    tokenizer = load_chat(generator).tokenizer
    return (lambda texts: [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]],
            str(tokenizer.eos_token))


def _describe(
    folder: Path, name: str, shape: Format, opened: OpenedDataset, recipe: Recipe, rows: Mapping[str, int],
    texts: Texts | None,
) -> None:
    """Write the card and dataset_info.json."""
    files = {side: f"{side}.{shape.suffix}" for side in rows}
    if shape.llama_factory is not None:
        write_json(folder / "dataset_info.json", {f"{recipe.name}_{side}": {"file_name": file, **shape.llama_factory}
                                                  for side, file in files.items()})
    head = {"license": recipe.dataset.license, "task_categories": [shape.task], "configs": [
        {"config_name": "default", "data_files": [{"split": side, "path": file} for side, file in files.items()]}]}
    lines = [
        "---", yaml.safe_dump(head, sort_keys=False).rstrip(), "---", "", f"# {recipe.name}, exported as `{name}`", "",
        shape.description, "", f"From the dataset `{opened.manifest.get('id')}` of ragtune (index "
        f"`{opened.manifest.get('index_id')}`, prompt `{opened.manifest.get('prompt_hash')}`).",
        "Rows: " + ", ".join(f"{side} {count:,}" for side, count in rows.items()) + ".",
        *(["", "Text: " + ", ".join(f"{key.replace('_', ' ')} {count:,}" for key, count in texts.counts.items())
           + ". Documents that test questions are about, and those of their groups, are not in it."] if texts else []),
        *(["", shape.note] if shape.note else []), *([f"Labels: {_labels()}."] if name == "answerable" else []),
        *_render_readers(shape, recipe.name, files),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _labels() -> str:
    return ", ".join(f"{number} {label}" for number, label in enumerate(LABELS))


def _render_readers(shape: Format, name: str, files: Mapping[str, str]) -> list[str]:
    """Return how other tools read the files."""
    lines = ["", "## Reading it", "", "```python", "from datasets import load_dataset", "", "load_dataset(FOLDER)", "```"]
    if shape.llama_factory is not None:
        lines += ["", "LLaMA-Factory: `dataset_dir` is this folder, with "
                  + "; ".join(f"`dataset: {name}_{side}`" for side in files) + " (see `dataset_info.json`)."]
    if shape.axolotl is not None:
        entry = {"path": f"FOLDER/{next(iter(files.values()))}",
                 "ds_type": "parquet" if shape.suffix == "parquet" else "json", **json.loads(json.dumps(shape.axolotl))}
        lines += ["", "Axolotl:", "", "```yaml", yaml.safe_dump({"datasets": [entry]}, sort_keys=False).rstrip(), "```"]
    return lines
