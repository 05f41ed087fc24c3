"""The export stage and the commands beside `ragtune dataset`, on an index of small documents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from dataset_fakes import CASH, PROSE, STATEMENT

from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.datasets.folder import open_dataset
from ragtune.errors import RunError
from ragtune.files import read_jsonl
from ragtune.models.bundled import CONTEXT_TOKENS
from ragtune.recipe.load import load_recipe
from ragtune.stages.dataset import run_dataset
from ragtune.stages.export import open_packer, run_export
from ragtune.stages.index import run_index

COMPANIES = ("Acme", "Borealis", "Cassandra", "Dunmore")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recipe, an index of four small documents and the dataset built from it."""
    home = tmp_path_factory.mktemp("home")
    (home / "documents").mkdir()
    for number, company in enumerate(COMPANIES):
        text = re.sub(r"\d,\d{3}|\b\d{3}\b", lambda match: match[0][:-2] + str(10 + 7 * number), f"{STATEMENT}\n\n{CASH}")  # noqa: B023
        (home / "documents" / f"{company.upper()}_2021_10K.md").write_text(
            f"# {company}\n\n{PROSE}\n\n{text}".replace("Acme", company))
    (home / "r.yaml").write_text(f"""
name: tiny
work: {home}/work
documents: {{folder: documents, workers: 1}}
index: {{embedder: hash}}
generator: {{model: echo}}
dataset: {{ask_count: 40, split_by: company, test_share: 0.25, license: cc0-1.0, max_dropped_share: 1}}
""")
    recipe = load_recipe(str(home / "r.yaml"))
    run_index(recipe)
    run_dataset(recipe)
    return home


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run_guarded(ragtune, list(arguments))
    return code, *capsys.readouterr()


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


def test_pretraining_text_leaves_the_test_documents_out(home: Path, tmp_path: Path) -> None:
    recipe, seen = load_recipe(str(home / "r.yaml")), []
    opened = open_dataset(home / "work/tiny/dataset")
    tested = {question.metadata["company"] for question in opened.questions("test")}
    summary = run_export("pretraining", tmp_path / "out", recipe, max_tokens=120,
                         report=lambda what, done, total: seen.append((what, done, total)))
    rows = rows_of(tmp_path / "out" / "train.jsonl")
    text = "\n".join(row["text"] for row in rows)
    assert len(tested) == 1
    assert [company for company in COMPANIES if company in text] == [c for c in COMPANIES if c not in tested]
    assert {name.split("_")[0] for row in rows for name in row["documents"]} == {
        company.upper() for company in COMPANIES if company not in tested}
    assert not (tmp_path / "out" / "test.jsonl").exists()
    count, end = open_packer(recipe.generator)
    assert end == ""
    assert max(count([row["text"] for row in rows])) <= 120
    assert text.count("None of our patents is material by itself.") == 1  # the prose is the same in every document
    assert summary.texts["repeated_lines"] > 10
    assert seen == [("packing text", number, 3) for number in (1, 2, 3)]
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert info == {"tiny_train": {"file_name": "train.jsonl", "columns": {"prompt": "text"}}}
    assert "type: completion" in (tmp_path / "out" / "README.md").read_text()


def test_pretraining_counts_the_tokens_of_the_generator(home: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(home / "r.yaml"), ["generator.model=bundled"])
    run_export("pretraining", tmp_path / "out", recipe)
    rows = rows_of(tmp_path / "out" / "train.jsonl")
    count, end = open_packer(recipe.generator)
    limit = recipe.generator.max_prompt_tokens + recipe.generator.max_new_tokens
    lengths = count([row["text"] for row in rows])
    assert max(lengths) <= limit <= CONTEXT_TOKENS
    assert end
    assert sum(row["text"].count(end) for row in rows) == 3


def test_pretraining_needs_the_index_that_the_dataset_was_built_from(home: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(home / "r.yaml"), [f"index.folder={tmp_path / 'other'}", "index.chunk_tokens=64"])
    run_index(recipe)
    with pytest.raises(RunError, match="was built from .* Name that index with --index"):
        run_export("pretraining", tmp_path / "out", recipe, home / "work/tiny/dataset")
    assert not (tmp_path / "out").exists()


def test_export_takes_a_recipe_or_a_folder(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "dataset", "export", "--recipe", str(home / "r.yaml"), "--format", "sharegpt",
                       "--out", str(tmp_path / "a"), "--json")
    assert code == 0
    assert json.loads(out)["rows"]["train"] == len(open_dataset(home / "work/tiny/dataset").train)
    folder = str(home / "work/tiny/dataset")
    code, *_ = run(capsys, "dataset", "export", "--dataset", folder, "--format", "sharegpt", "--out", str(tmp_path / "b"))
    assert code == 0
    assert (tmp_path / "a/train.jsonl").read_bytes() == (tmp_path / "b/train.jsonl").read_bytes()
    assert "license: cc0-1.0" in (tmp_path / "a/README.md").read_text()


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["export", "--format", "sharegtp", "--out", "x", "--recipe", "R"], 1, "Did you mean 'sharegpt'"),
    (["export", "--format", "alpaca", "--out", "x", "--dataset", "nowhere"], 1, "no dataset folder at nowhere"),
    (["export", "--format", "alpaca", "--out", "D", "--recipe", "R"], 1, "exists already"),
    (["export", "--format", "alpaca", "--out", "x.jsonl", "--recipe", "R"], 1, "an export is a folder"),
    (["export", "--format", "alpaca", "--out", "x"], 2, "Name a dataset: --dataset FOLDER, or --recipe FILE"),
    (["export", "--out", "x", "--recipe", "R"], 2, "Missing option '--format'"),
    (["show", "--recipe", "R", "--kind", "lokup"], 1, "Did you mean 'lookup'"),
    (["show", "--recipe", "R", "--mode", "golden"], 1, "no row has the mode 'golden'. There are: "),
    (["show", "--dataset", "nowhere"], 1, "no dataset folder at nowhere"),
    (["show", "--dataset", "D", "--set", "name=x"], 2, "name it with --recipe FILE"),
    (["--recipe", "R", "show"], 2, "Options stand after the command: ragtune dataset show"),
    ([], 2, "Missing option '--recipe'"),
])
def test_faults_are_one_clear_error(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str],
    code: int, words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"R": str(home / "r.yaml"), "D": str(home / "work/tiny/dataset")}
    found, out, err = run(capsys, "dataset", *(places.get(argument, argument) for argument in arguments))
    assert (found, out) == (code, "")
    assert words in " ".join(err.split())
    assert list(tmp_path.iterdir()) == []


def test_show_prints_question_passages_completion_and_provenance(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(home / "r.yaml")
    code, out, _ = run(capsys, "dataset", "show", "--recipe", recipe, "--count", "1", "--kind", "lookup", "--mode", "gold")
    assert code == 0
    example = next(e for e in open_dataset(home / "work/tiny/dataset").train
                   if (e.provenance["kind"], e.provenance["mode"]) == ("lookup", "gold"))
    assert example.provenance["question_id"] in out
    assert out.count("gold ") >= 1
    for line in example.completion.split("\n"):
        assert f"→ {line}" in out
    assert len(re.findall(r"^  \[\d\] ", out, re.MULTILINE)) == len(example.provenance["passages"])
    assert f"documents: {example.provenance['documents'][0]}" in out
    rows = json.loads(run(capsys, "dataset", "show", "--recipe", recipe, "--side", "test", "--count", "2", "--json")[1])
    assert [row["mode"] for row in rows] == ["served", "served"]
    assert all(passage["chunk_id"] for row in rows for passage in row["passages"])
