"""The dataset folder and its card: rows survive, wrong rows are named with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dataset_fakes import ACME, ZENITH, MemorySearcher, count_words

from ragtune.answering.prompt import REFUSAL, prompt_hash
from ragtune.datasets.card import CardFacts, count_rows, find_columns, render_card
from ragtune.datasets.folder import open_dataset, parse_row, render_row, save_rows
from ragtune.datasets.instruct import build_examples
from ragtune.errors import RunError
from ragtune.files import building_folder, write_manifest
from ragtune.recipe.schema import Dataset, Generator, Recipe, Retrieval
from ragtune.records import Document, Evidence, Example, Question

QUESTION = Question("sales", "What were Acme's net sales in 2021?", "$4,210 million",
                    (Evidence("ACME_2021_10K", 2, "Net sales $ 4,210 $ 3,900"),), "lookup", "Net sales 2021: 4,210")
VAIN = Question("vain", "What was Acme's royalty income?", kind="unanswerable")
ROW = {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
       "completion": [{"role": "assistant", "content": "a"}], "provenance": {"question_id": "q", "passages": [], "gold": []}}


def examples() -> tuple[Example, ...]:
    return build_examples([QUESTION, VAIN], MemorySearcher(ACME, ZENITH), count_words, Dataset(rows_per_question=3),
                          Retrieval(), Generator()).examples


def save(folder: Path, train: tuple[Example, ...], test: tuple[Example, ...] = ()) -> Path:
    with building_folder(folder) as partial:
        save_rows(partial, train, test, [QUESTION], [])
        write_manifest(partial, "dataset", index_id="i", prompt_hash=prompt_hash())
    return folder


def test_what_was_saved_is_opened_again(tmp_path: Path) -> None:
    rows = examples()
    opened = open_dataset(save(tmp_path / "d", rows, rows[:1]))
    assert opened.train == rows
    assert opened.test == rows[:1]
    assert opened.manifest["index_id"] == "i"
    assert opened.questions("train") == [QUESTION]
    assert opened.questions() == []


def test_rows_have_the_shape_that_trains_completions_only(tmp_path: Path) -> None:
    row = render_row(examples()[0])
    assert set(row) == {"prompt", "completion", "provenance"}
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert [message["role"] for message in row["completion"]] == ["assistant"]
    wanted = {"question_id", "kind", "evidence", "passages", "gold", "gold_injected", "groups", "documents"}
    assert wanted <= set(row["provenance"])
    assert parse_row(json.loads(json.dumps(row)), "x:1") == examples()[0]


@pytest.mark.parametrize(("change", "words"), [
    ({"prompt": None}, "found the keys"),
    ({"prompt": "text"}, "found the keys"),
    ({"prompt": []}, "ends with a message of the user"),
    ({"prompt": [{"role": "user"}]}, "found the message"),
    ({"prompt": [{"role": "human", "content": "x"}]}, "system, user, assistant"),
    ({"prompt": [{"role": "assistant", "content": "x"}]}, "ends with a message of the user"),
    ({"completion": []}, "exactly one message"),
    ({"completion": [{"role": "user", "content": "x"}]}, "exactly one message"),
    ({"completion": [{"role": "assistant", "content": " "}]}, "exactly one message"),
    ({"provenance": None}, "found the keys"),
    ({"prompt": [], "chosen": [], "rejected": []}, "preference row"),
])
def test_wrong_rows_are_named_with_file_and_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder = tmp_path / "d"
    with building_folder(folder) as partial:
        (partial / "train.jsonl").write_text(f"{json.dumps(ROW)}\n\n{json.dumps(ROW | change)}\n")
        (partial / "test.jsonl").write_text("")
        write_manifest(partial, "dataset")
    with pytest.raises(RunError, match="train.jsonl:3: ") as caught:
        open_dataset(folder)
    assert words in str(caught.value)
    assert "ragtune dataset" in str(caught.value)


def test_damaged_missing_and_foreign_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no dataset folder"):
        open_dataset(tmp_path / "none")
    folder = save(tmp_path / "d", examples())
    (folder / "train.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match=r"train\.jsonl is not what the manifest says"):
        open_dataset(folder)
    with building_folder(tmp_path / "e") as partial:
        (partial / "train.jsonl").write_text("")
        write_manifest(partial, "dataset")
    with pytest.raises(RunError, match=r"no test\.jsonl"):
        open_dataset(tmp_path / "e")
    with building_folder(tmp_path / "f") as partial:
        write_manifest(partial, "index")
    with pytest.raises(RunError, match="kind 'index', wanted 'dataset'"):
        open_dataset(tmp_path / "f")


def test_card_tells_the_counts() -> None:
    rows = examples()
    facts = CardFacts(Recipe(name="acme"), "index-1", "the file `q.jsonl`", {"train": ["ACME_2021_10K"], "test": []},
                      {"train": {"the answer has no evidence": 3}}, {}, {"GONE": 2})
    figures = count_rows(rows)
    assert figures["rows"] == len(rows) == sum(figures["kinds"].values()) == sum(figures["modes"].values())
    assert figures["refusals"] == sum(row.completion == REFUSAL for row in rows)
    assert sum(figures["gold_positions"].values()) == len(rows) - figures["refusals"]
    card = render_card(rows, (), facts)
    for words in ("# Tuning rows of acme", "the answer has no evidence: 3", "GONE: 2", "index-1", prompt_hash(),
                  f"| kind lookup | {figures['kinds']['lookup']} | 0 |", "- train: ACME_2021_10K", "- test: none"):
        assert words in card
    head = card.split("---\n")[1]
    assert "path: train.jsonl" in head


def test_columns_are_those_that_half_of_the_documents_have() -> None:
    documents = {name: Document(name, name, name, (), metadata) for name, metadata in {
        "A": {"company": "Acme", "fiscal_year": 2021, "form": "10-K", "aliases": "x" * 99},
        "B": {"company": "Best | Co", "fiscal_year": 2020, "audited": True, "aliases": "x" * 99}, "C": {"company": "Acme"},
        "D": {"fiscal_year": 2020}}.items()}
    questions = [Question("two", "?", "1", (Evidence("A", 1), Evidence("B", 2))),
                 Question("gone", "?", "1", (Evidence("Z", 1),)),
                 Question("named", "?", metadata={"document": "C"}), Question("own", "?", metadata={"company": "Own"})]
    columns = find_columns(questions, documents)
    assert columns == {
        "two": {"company": ["Acme", "Best | Co"], "fiscal_year": ["2020", "2021"]},
        "gone": {"company": [], "fiscal_year": []},
        "named": {"company": ["Acme"], "fiscal_year": []}, "own": {"company": ["Own"], "fiscal_year": []}}
    rows = [Example(({"role": "user", "content": "u"},), "a", {"question_id": id, "kind": "", "mode": "gold", "gold": [],
                                                              "passages": []}) for id in columns for _ in range(2)]
    card = render_card(rows, rows[:1], CardFacts(Recipe(name="x"), "i", "s", {}, {}, {}, columns=columns))
    assert card.split("## Rows by company\n\n")[1].split("\n\n")[0].split("\n") == [
        "| company | train | test |", "| --- | --- | --- |", "| Acme | 4 | 1 |", "| Best \\| Co | 2 | 1 |",
        "| Own | 2 | 0 |", "| not named | 2 | 0 |"]


def test_a_column_of_many_values_is_cut_at_the_most_frequent() -> None:
    columns = {f"q{n}": {"company": [f"C{n:02d}"]} for n in range(40)}
    rows = [Example(({"role": "user", "content": "u"},), "a", {"question_id": id, "kind": "", "mode": "gold", "gold": [],
                                                              "passages": []}) for id in ["q39", *columns]]
    card = render_card(rows, (), CardFacts(Recipe(name="x"), "i", "s", {}, {}, {}, columns=columns))
    table = card.split("## Rows by company\n\n")[1].split("\n\n")[0].split("\n")
    assert table[-2:] == ["| C39 | 2 | 0 |", "| 10 others | 10 | 0 |"]
    assert len(table) == 2 + 30 + 1


def test_datasets_library_reads_the_folder(tmp_path: Path) -> None:
    library = pytest.importorskip("datasets")
    rows = examples()
    folder = save(tmp_path / "d", rows, rows[:2])
    loaded = library.load_dataset("json", data_files={"train": str(folder / "train.jsonl")}, cache_dir=str(tmp_path / "c"))
    assert loaded["train"].num_rows == len(rows)
    assert loaded["train"][0]["completion"][0]["content"] == rows[0].completion
