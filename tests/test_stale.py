"""The pairs and stale stages on real PDFs and a real index that is changed under the dataset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_stage_dataset import NAMES, home, make_recipe  # noqa: F401

from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.datasets.folder import open_dataset
from ragtune.datasets.lineage import DOCUMENT_GONE, FILE_CHANGED, PASSAGE_CHANGED, PASSAGE_GONE
from ragtune.datasets.prefer import read_pairs
from ragtune.errors import IndexFolderError, RunError
from ragtune.files import hash_file, read_manifest, write_manifest
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.index import open_index
from ragtune.retrieval.life import remove_documents
from ragtune.stages.dataset import run_dataset
from ragtune.stages.index import run_index
from ragtune.stages.prefer import PairsSummary, run_pairs
from ragtune.stages.stale import StaleSummary, run_stale


@pytest.fixture(scope="module")
def recipe(home: Path) -> Recipe:  # noqa: F811
    """Return the recipe of a built dataset."""
    recipe = make_recipe(home)
    run_dataset(recipe)
    return recipe


@pytest.fixture
def changing(recipe: Recipe, home: Path, tmp_path: Path) -> Recipe:  # noqa: F811
    """Return the recipe with documents and index of its own, which a test may change; the dataset is the common one."""
    shutil.copytree(home / "documents", tmp_path / "documents")
    shutil.copytree(home / "work/tiny/index", tmp_path / "index")
    return recipe.model_copy(update={
        "documents": recipe.documents.model_copy(update={"folder": str(tmp_path / "documents")}),
        "index": recipe.index.model_copy(update={"folder": str(tmp_path / "index")})})


def test_nothing_is_stale_against_the_index_it_was_built_from(recipe: Recipe) -> None:
    seen: list[str] = []
    found = run_stale(recipe, report=lambda what, done, total: seen.append(what))
    assert (found.stale, found.outdated, found.question_ids) == ({"train": 0, "test": 0}, (), ())
    assert found.rows["train"] > 50
    assert found.is_same_index
    assert found.is_same_prompt
    assert set(seen) == {"tracing train rows", "tracing test rows"}


def call(recipe: Recipe, folder: Path, *arguments: str) -> int:
    """Call a command with the recipe written down."""
    (folder / "recipe.yaml").write_text(json.dumps(json.loads(recipe.model_dump_json())))  # JSON is YAML
    return run_guarded(ragtune, ["dataset", *arguments, "--recipe", str(folder / "recipe.yaml")])


def test_the_commands_say_what_is_stale_and_make_pairs(
    changing: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(changing, tmp_path, "stale") == 0
    assert call(changing, tmp_path, "pairs", "--out", str(tmp_path / "pairs"), "--json") == 0
    printed = capsys.readouterr().out
    made = json.loads(printed[printed.index("{"):])
    assert made["train"]["pairs"] == len(read_pairs(tmp_path / "pairs/pairs.jsonl"))
    built = open_dataset(Path(changing.work) / "tiny/dataset")
    gone = min(name for row in built.train for name in row.provenance["documents"])
    remove_documents(changing, tmp_path / "index", [gone])
    assert call(changing, tmp_path, "stale") == 1
    listed = capsys.readouterr().out
    assert f"document gone ({gone})" in listed
    assert "(--json lists all)" in listed


def test_a_removed_document_makes_its_rows_stale_and_no_others(changing: Recipe, tmp_path: Path) -> None:
    folder = Path(changing.work) / "tiny/dataset"
    gone = min(name for row in open_dataset(folder).train for name in row.provenance["documents"])
    remove_documents(changing, tmp_path / "index", [gone])
    found = run_stale(changing)
    assert not found.is_same_index
    for side in ("train", "test"):
        rows = [json.loads(line) for line in (folder / f"{side}.jsonl").read_text().splitlines()]
        touched = {n for n, row in enumerate(rows, start=1) if gone in row["provenance"]["documents"]
                   or gone in {file["document"] for file in row["provenance"]["files"]}}
        stale = {row.line: row for row in found.outdated if row.side == side}
        assert set(stale) == touched
        for line, row in stale.items():
            assert row.question_id == rows[line - 1]["provenance"]["question_id"]
            assert row.reasons == (DOCUMENT_GONE,)
            assert row.documents == (gone,)
    assert sum(found.stale.values()) == len(found.outdated) > 10
    assert found.documents == {gone: len(found.outdated)}
    assert StaleSummary.from_dict(found.to_dict()) == found
    made = run_pairs(changing, out=tmp_path / "pairs")
    assert made.skipped["train"][f"the row is outdated: {DOCUMENT_GONE}"] == found.stale["train"]
    stale_ids = {row.question_id for row in found.outdated}
    assert not stale_ids & {pair.provenance["question_id"] for pair in read_pairs(tmp_path / "pairs" / "pairs.jsonl")}


def test_a_changed_file_is_told_by_its_hash_and_its_evidence_is_looked_up(changing: Recipe, tmp_path: Path) -> None:
    with (tmp_path / "documents" / f"{NAMES[2]}.pdf").open("ab") as file:
        file.write(b"\n% a comment: other bytes, the same text\n")
    run_index(changing)
    found = run_stale(changing)
    assert found.outdated
    for row in found.outdated:
        assert row.reasons == (FILE_CHANGED,)
        assert row.documents == (NAMES[2],)
    assert "not held" not in found.evidence
    assert found.evidence["still held"] > 5


def test_another_chunk_size_makes_passages_gone(changing: Recipe) -> None:
    smaller = changing.model_copy(update={"index": changing.index.model_copy(update={"chunk_tokens": 120})})
    run_index(smaller)
    found = run_stale(smaller)
    assert set(found.reasons["train"]) == {PASSAGE_GONE}
    assert found.stale["train"] > 0.5 * found.rows["train"]
    assert "not held" not in found.evidence
    with pytest.raises(RunError, match=rf"{found.stale['train']} the row is outdated: passage gone"):
        run_pairs(smaller, out=Path(smaller.index.folder or "").parent / "pairs")


def test_another_pack_shows_passages_otherwise(recipe: Recipe) -> None:
    found = run_stale(recipe.model_copy(update={"pack": "plain"}))
    assert found.is_same_index
    assert not found.is_same_prompt
    assert PASSAGE_CHANGED in found.reasons["train"]


@pytest.fixture(scope="module")
def made(recipe: Recipe) -> PairsSummary:
    return run_pairs(recipe)


def test_pairs_folder_holds_both_sides_and_a_manifest(made: PairsSummary, recipe: Recipe) -> None:
    folder = Path(made.folder)
    assert folder == Path(recipe.work) / "tiny" / "pairs"
    manifest = read_manifest(folder, "pairs")
    assert set(manifest["files"]) == {"pairs.jsonl", "kto.jsonl", "pairs_test.jsonl", "kto_test.jsonl", "README.md"}
    dataset = read_manifest(Path(made.dataset), "dataset")
    assert (manifest["dataset_id"], manifest["prompt_hash"]) == (dataset["id"], dataset["prompt_hash"])
    assert manifest["index_id"] == dataset["index_id"] == open_index(Path(recipe.work) / "tiny/index").id
    for side, end in (("train", ""), ("test", "_test")):
        pairs = read_pairs(folder / f"pairs{end}.jsonl")
        counts = getattr(made, side)
        assert len(pairs) == counts["pairs"] == sum(counts["reasons"].values()) > 20
        assert max(sum(p.prompt == pair.prompt for p in pairs) for pair in pairs) <= recipe.pairs.per_row
        labels = [json.loads(line)["label"] for line in (folder / f"kto{end}.jsonl").read_text().splitlines()]
        assert counts["kto"] == {"desirable": labels.count(True), "undesirable": labels.count(False)}
    assert {"neighbouring_year", "wrong_row", "needless_refusal", "unsupported_answer"} <= set(made.train["reasons"])
    assert PairsSummary.from_dict(made.to_dict()) == made


def test_no_group_of_the_test_side_is_in_the_training_pairs(made: PairsSummary) -> None:
    groups = [{group for pair in read_pairs(Path(made.folder) / name) for group in pair.provenance["groups"]}
              for name in ("pairs.jsonl", "pairs_test.jsonl")]
    assert groups[0]
    assert groups[1]
    assert not groups[0] & groups[1]


def test_the_same_bytes_again_and_others_under_another_seed(made: PairsSummary, recipe: Recipe, tmp_path: Path) -> None:
    run_pairs(recipe, out=tmp_path / "again")
    for name in ("pairs.jsonl", "kto.jsonl", "pairs_test.jsonl", "kto_test.jsonl"):
        assert hash_file(tmp_path / "again" / name) == hash_file(Path(made.folder) / name)
    seeded = recipe.model_copy(update={"pairs": recipe.pairs.model_copy(update={"seed": 1})})
    run_pairs(seeded, out=tmp_path / "other")
    assert hash_file(tmp_path / "other" / "pairs.jsonl") != hash_file(Path(made.folder) / "pairs.jsonl")


def test_what_cannot_be_used_is_one_clear_error(recipe: Recipe, tmp_path: Path) -> None:
    none = recipe.pairs.model_copy(update={name: 0.0 for name in type(recipe.pairs).model_fields if name not in (
        "folder", "per_row", "seed")})
    with pytest.raises(RunError, match="gave no pair"):
        run_pairs(recipe.model_copy(update={"pairs": none}), out=tmp_path / "none")
    with pytest.raises(IndexFolderError, match="no index folder"):
        run_pairs(recipe, index=tmp_path / "nowhere", out=tmp_path / "none")
    with pytest.raises(RunError, match="no dataset folder"):
        run_stale(recipe, dataset=tmp_path / "nowhere")
    shutil.copytree(Path(recipe.work) / "tiny/dataset", tmp_path / "old")
    write_manifest(tmp_path / "old", "dataset", id="x", prompt_hash="0123456789abcdef")
    with pytest.raises(RunError, match="rendered by prompt 0123456789abcdef"):
        run_pairs(recipe, dataset=tmp_path / "old", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
