"""Question sets by the name of a data set, read from local folders of the shape that the Hub's have."""

import pytest

from ragtune.datasets.hub import is_hub
from ragtune.datasets.questions import read_questions
from ragtune.errors import QuestionError
from ragtune.recipe.load import load_recipe
from ragtune.stages.check import check_references

ROW = {
    "financebench_id": "fb_1", "company": "Acme", "doc_name": "ACME_2020_10K", "question_type": "metrics-generated",
    "question_reasoning": None, "question": "What was capex?", "answer": "$15.00", "justification": "It is stated.",
    "dataset_subset_label": "OPEN_SOURCE",
    "evidence": [{"evidence_text": "Capex (15)", "doc_name": "ACME_2020_10K", "evidence_page_num": 59,
                  "evidence_text_full_page": "All of it. Capex (15)"}],
}


@pytest.fixture
def rows():
    import datasets

    return datasets.Dataset.from_list([ROW, {**ROW, "financebench_id": "fb_2", "question": "What were sales?"}])


def check(questions):
    assert [question.id for question in questions] == ["fb_1", "fb_2"]
    assert questions[0].answer == "$15.00"
    assert (questions[0].evidence[0].document, questions[0].evidence[0].page) == ("ACME_2020_10K", 60)
    assert questions[0].kind == "metrics-generated"


def test_a_folder_of_files_as_the_hub_holds_them(tmp_path, rows):
    (tmp_path / "financebench").mkdir()
    rows.to_json(str(tmp_path / "financebench/financebench_merged.jsonl"))
    check(read_questions(f"hf:{tmp_path}/financebench"))
    check(read_questions(f"hf:{tmp_path}/financebench#train"))


def test_a_folder_that_datasets_saved(tmp_path, rows):
    import datasets

    rows.save_to_disk(str(tmp_path / "one"))
    check(read_questions(f"hf:{tmp_path}/one"))
    both = datasets.DatasetDict({"train": rows.select([0]), "test": rows})
    both.save_to_disk(str(tmp_path / "two"))
    check(read_questions(f"hf:{tmp_path}/two"))
    assert len(read_questions(f"hf:{tmp_path}/two#train")) == 1
    with pytest.raises(QuestionError, match="no split 'tain'. Did you mean 'train'"):
        read_questions(f"hf:{tmp_path}/two#tain")
    datasets.DatasetDict({"a": rows, "b": rows}).save_to_disk(str(tmp_path / "open"))
    with pytest.raises(QuestionError, match="has the splits a, b. Name one: hf:.*#a"):
        read_questions(f"hf:{tmp_path}/open")


def test_a_wrong_row_is_told_by_its_number(tmp_path):
    import datasets

    datasets.Dataset.from_list([{"question": "What?", "answer": "1"}, {"question": " ", "answer": "2"}]).save_to_disk(
        str(tmp_path / "d"))
    with pytest.raises(QuestionError, match="hf:.*, row 2"):
        read_questions(f"hf:{tmp_path}/d")


def test_without_a_network_the_local_way_is_said(monkeypatch):
    import datasets

    def refuse(place):
        raise ConnectionError("Couldn't reach 'PatronusAI/financebench' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(QuestionError, match="PatronusAI/financebench cannot be had.*hf:FOLDER.*JSONL"):
        read_questions("hf:PatronusAI/financebench")


def test_a_recipe_may_name_a_data_set(tmp_path):
    text = "evaluation: {questions: 'hf:PatronusAI/financebench'}\ndataset: {questions: q.jsonl}\n"
    (tmp_path / "r.yaml").write_text(text)
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    assert recipe.evaluation.questions == "hf:PatronusAI/financebench"
    assert recipe.dataset.questions == str(tmp_path / "q.jsonl")
    assert is_hub(recipe.evaluation.questions)
    notes = check_references(recipe)
    assert any("dataset.questions" in note for note in notes)
    assert not any("evaluation.questions" in note for note in notes)
