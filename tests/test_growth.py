"""An index that documents came to or left is known as grown from the one before; what was tuned with that still serves."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from served_home import make_served

from ragtune.answering.prompt import prompt_hash
from ragtune.errors import IndexFolderError, RunError
from ragtune.files import building_folder, write_jsonl, write_manifest
from ragtune.models.extractive import ExtractiveGenerator
from ragtune.recipe.places import index_folder
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.index import open_index
from ragtune.server import service as service_module
from ragtune.server import whole
from ragtune.server.runs import find_runs, name_run
from ragtune.server.service import open_service
from ragtune.stages.index import run_index
from ragtune.training.run import check_run_fits, open_run

HAND = "# Hand Corp annual report\n\n(in millions)\n2021 2020\nNet sales $ 88 $ 77\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return make_served(tmp_path)


def ids(recipe: Recipe) -> tuple[str, tuple[str, ...]]:
    index = open_index(index_folder(recipe))
    return index.id, index.grown_from


def add(recipe: Recipe, name: str, text: str = HAND) -> Path:
    path = Path(recipe.documents.folder) / name
    path.write_text(text)
    run_index(recipe)
    return path


def changed(recipe: Recipe, **index: Any) -> Recipe:
    return recipe.model_copy(update={"index": recipe.index.model_copy(update=index)})


def test_documents_that_come_and_go_leave_a_line_of_ids(recipe: Recipe) -> None:
    first, none = ids(recipe)
    assert none == ()
    stamp = (index_folder(recipe) / "manifest.json").stat().st_mtime_ns
    run_index(recipe)
    assert (index_folder(recipe) / "manifest.json").stat().st_mtime_ns == stamp, "nothing changed, no writing"
    hand = add(recipe, "HAND_2021_10K.md")
    second, before = ids(recipe)
    assert second != first
    assert before == (first,)
    add(recipe, "IVY_2021_10K.md", HAND.replace("Hand", "Ivy"))
    third, before = ids(recipe)
    assert before == (first, second)
    hand.unlink()
    (hand.parent / "IVY_2021_10K.md").unlink()
    run_index(recipe)
    assert ids(recipe) == (first, (second, third)), "as it was, and what was tuned meanwhile fits too"


@pytest.mark.parametrize("change", [{"chunk_tokens": 40}, {"chunker": "page"}, {"context_line": False}])
def test_another_way_to_build_it_is_another_index(recipe: Recipe, change: dict[str, Any]) -> None:
    first, _ = ids(recipe)
    add(recipe, "HAND_2021_10K.md")
    run_index(changed(recipe, **change))
    other, before = ids(recipe)
    assert other != first
    assert before == ()


def test_another_recipe_or_all_other_documents_are_another_index(recipe: Recipe) -> None:
    named = recipe.model_copy(update={"name": "other", "index": recipe.index.model_copy(
        update={"folder": str(index_folder(recipe))})})
    (Path(recipe.documents.folder) / "HAND_2021_10K.md").write_text(HAND)
    run_index(named)
    assert ids(recipe)[1] == ()
    for path in Path(recipe.documents.folder).iterdir():
        path.unlink()
    add(named, "IVY_2021_10K.md", HAND.replace("Hand", "Ivy"))
    assert ids(recipe)[1] == ()


def write_run(folder: Path, **entries: str) -> Path:
    with building_folder(folder) as partial:
        (partial / "adapter").mkdir()
        (partial / "adapter" / "adapter_config.json").write_text("{}")
        (partial / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
        write_jsonl(partial / "metrics.jsonl", [{"step": 1, "loss": 2.0}])
        write_manifest(partial, "run", id="r", base_model="b", base_fingerprint="base-1", **entries)
    return folder


def test_a_run_of_an_index_before_fits_and_of_another_does_not(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", prompt_hash="p", index_id="i-1"))
    assert check_run_fits(run, "i-1", "p", "base-1") == ""
    said = check_run_fits(run, "i-2", "p", "base-1", grown_from=("i-1",))
    assert "documents were added or removed since (now i-2)" in said
    for used in (("i-2", "p", "base-1", False, ("i-0",)), ("i-2", "q", "base-1", False, ("i-1",)),
                 ("i-2", "p", "base-2", True, ("i-1",))):
        with pytest.raises(RunError):
            check_run_fits(run, *used)


class Tunable(ExtractiveGenerator):
    """A reader that a run of 'base-1' fits."""

    fingerprint = "base-1"


def test_a_server_opens_with_a_run_from_before_an_upload_and_says_so(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fastapi.testclient import TestClient

    from ragtune.server.app import create_app

    monkeypatch.setattr(service_module, "open_generator", lambda section: Tunable())
    recipe = recipe.model_copy(update={"generator": recipe.generator.model_copy(update={"model": "tiny"})})
    home = index_folder(recipe).parent
    write_run(home / "run", prompt_hash=prompt_hash(recipe.answering.names_rows), index_id=ids(recipe)[0])
    assert [model.warning for model in open_service(recipe).models()] == [""] * 4
    add(recipe, "HAND_2021_10K.md")
    with caplog.at_level(logging.WARNING):
        service = open_service(recipe)
    assert "documents were added or removed since" in caplog.text
    tuned = service.find_model(None)
    assert (tuned.id, tuned.warning) == ("home-tuned", "documents were added or removed since it was tuned")
    assert service.find_model("home-base").warning == ""
    with TestClient(create_app(service), base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as client:
        told = {model["id"]: model["ragtune"].get("warning", "") for model in client.get("/v1/models").json()["data"]}
    assert told["home-tuned"] == tuned.warning
    assert told["home-base"] == ""
    run_index(changed(recipe, chunk_tokens=40))
    with pytest.raises(RunError, match="tuned with index"):
        open_service(recipe)
    assert open_service(recipe, allow_mismatch=True).find_model(None).warning == "it was tuned with another index"


def test_runs_are_found_finished_ones_alone(recipe: Recipe) -> None:
    home = index_folder(recipe).parent
    for name in ("run", "run-2", "run-3.partial", "run-4.old", "run-reward", "run-x"):
        write_run(home / name)
    (home / "run-x" / "manifest.json").write_text(json.dumps({"kind": "search"}))
    (home / "run-2.old").mkdir()
    found = find_runs(recipe)
    assert [folder.name for folder in found] == ["run", "run-2", "run-4"], "one that was being put in place is put there"
    assert [name_run(folder) for folder in found] == ["tuned", "2", "4"]
    own = recipe.model_copy(update={"training": recipe.training.model_copy(update={"folder": str(home / "run-2")})})
    write_run(home / "run-2-2")
    assert [folder.name for folder in find_runs(own)] == ["run-2", "run-2-2"]


def test_an_index_is_opened_whole_while_others_take_its_place(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    first, opened = ids(recipe)[0], []
    real = whole.open_searcher

    def open_then_change(folder: Path, retrieval: Any) -> Any:
        searcher = real(folder, retrieval)
        if not opened:  # another process puts a larger index there before the rest of the files is opened
            add(recipe, "HAND_2021_10K.md")
        opened.append(searcher.index.id)
        return searcher

    monkeypatch.setattr(whole, "open_searcher", open_then_change)
    searcher = whole.open_whole(index_folder(recipe), recipe)
    second = ids(recipe)[0]
    assert opened == [first, second]
    assert searcher.index.id == second
    add(recipe, "IVY_2021_10K.md", HAND.replace("Hand", "Ivy"))
    hits = searcher.search("net sales", 20)
    assert {hit.chunk.document for hit in hits} == {document.name for document in searcher.index.documents()}
    with pytest.raises(IndexFolderError):
        whole.open_whole(Path(recipe.work) / "none", recipe)
