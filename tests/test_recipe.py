"""Recipes: every shipped one is fine, and every fault is named at once."""

import pytest

from ragtune.errors import RecipeError
from ragtune.recipe.load import check_recipe, load_recipe, render_recipe, shelf
from ragtune.recipe.places import dataset_folder, index_folder
from ragtune.stages.check import check_references


@pytest.mark.parametrize("name", shelf())
def test_shipped_recipes_parse_and_survive_rendering(name, tmp_path):
    recipe = load_recipe(name)
    (tmp_path / "again.yaml").write_text(render_recipe(recipe))
    assert load_recipe(str(tmp_path / "again.yaml")) == recipe
    assert recipe.name == name


def test_settings_reach_single_fields():
    recipe = load_recipe("demo", ["training.epochs=3", "evaluation.settings=[oracle]", "documents.metadata=null"])
    assert recipe.training.epochs == 3
    assert recipe.evaluation.settings == ("oracle",)


def test_all_faults_in_one_error():
    with pytest.raises(RecipeError) as error:
        load_recipe("demo", ["training.epoch=3", "retreival.k=2", "index.chunk_tokens=abc", "dataset.test_share=2"])
    text = str(error.value)
    assert "4 faults" in text
    assert "Did you mean 'epochs'?" in text
    assert "Did you mean 'retrieval'?" in text
    assert "found 'abc'" in text
    assert "dataset.test_share: found 2" in text


@pytest.mark.parametrize(
    ("setting", "says"),
    [("training", "wanted section.field=value"), ("name.x=1", "single value"), ("a.b=[", "not YAML"), (".=1", "wanted")],
)
def test_bad_settings(setting, says):
    with pytest.raises(RecipeError, match=says):
        load_recipe("demo", [setting])


@pytest.mark.parametrize(
    ("text", "says"),
    [(b"- a\n- b", "found list"), (b"a: [", "not YAML"), (b"\xff\xfe\x00", "not UTF-8"), (b"", "found NoneType")],
)
def test_bad_files(tmp_path, text, says):
    path = tmp_path / "x.yaml"
    path.write_bytes(text)
    with pytest.raises(RecipeError, match=says):
        load_recipe(str(path))


def test_unknown_recipe_offers_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean 'demo'"):
        load_recipe("deno")


def test_paths_count_from_the_recipe_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("documents: {folder: filings}\ndataset: {questions: package:questions.jsonl}")
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert recipe.documents.folder == str(tmp_path / "filings")
    assert recipe.dataset.questions.endswith("data/questions.jsonl")


def test_folders_lie_under_work_and_name():
    recipe = check_recipe({"name": "mine", "work": "w", "dataset": {"folder": "elsewhere"}}, "test")
    assert str(index_folder(recipe)) == "w/mine/index"
    assert str(dataset_folder(recipe)) == "elsewhere"


def test_check_names_what_is_wrong_and_what_is_not_there():
    with pytest.raises(RecipeError) as error:
        check_references(load_recipe("demo", ["retrieval.rerank=rankr", "index.chunker=rowz", "retrieval.where='a = '",
                                              "dataset.where=b = 1"]))
    assert [line.strip().split(":")[0] for line in str(error.value).split("\n") if line.startswith("  ")][:3] == [
        "index.chunker", "retrieval.rerank", "retrieval.where"]
    assert "Did you mean 'ranker'?" in str(error.value)
    assert "dataset.where" not in str(error.value)
    notes = check_references(load_recipe("demo", ["retrieval.rerank=cross-encoder/ms-marco-MiniLM-L6-v2", "pack=plain",
                                                  "retrieval.adapter=/none", "adapting.questions=/none.jsonl"]))
    assert check_references(load_recipe("demo", ["retrieval.method=dense"]))[0].startswith("retrieval.method")
    assert check_references(load_recipe("demo", ["retrieval.method=dense", "retrieval.rerank=none"])) == []
    assert notes == ["adapting.questions: there is nothing at /none.jsonl yet",
                     "retrieval.adapter: there is nothing at /none yet"]


def test_the_questions_to_adapt_by_count_from_the_recipe_file(tmp_path):
    (tmp_path / "my.yaml").write_text("adapting: {questions: q.jsonl}\n")
    assert load_recipe(str(tmp_path / "my.yaml")).adapting.questions == str(tmp_path / "q.jsonl")
