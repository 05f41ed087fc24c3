"""Exports: each format against the shape that its readers document, and all of them through load_dataset, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from dataset_fakes import ACME, ZENITH, MemorySearcher, count_words

from ragtune.answering.prompt import REFUSAL, prompt_hash
from ragtune.datasets.card import CardFacts, render_card
from ragtune.datasets.folder import OpenedDataset, open_dataset, save_rows
from ragtune.datasets.formats import FORMATS, find_format, render_alpaca
from ragtune.datasets.instruct import build_examples
from ragtune.errors import RecipeError, RunError
from ragtune.files import building_folder, read_jsonl, write_manifest
from ragtune.recipe.schema import Dataset, Generator, Recipe, Retrieval
from ragtune.records import Evidence, Example, Question
from ragtune.stages.export import run_export

SALES = Question("sales", "What were Acme's net sales in 2021?", "$4,210 million",
                 (Evidence("ACME_2021_10K", 2, "Net sales $ 4,210 $ 3,900"),), "lookup", "Net sales 2021: 4,210")
VAIN = Question("vain", "What was Acme's royalty income?", kind="unanswerable")
RIVAL = Question("rival", "What was Zenith's net income in 2021?", "$999 million",
                 (Evidence("ZENITH_2021_10K", 2, "Net income $ 999 $ 888"),), "lookup", "Net income 2021: 999")
RECIPE = Recipe.model_validate({"name": "acme", "dataset": {"license": "cc-by-4.0", "rows_per_question": 4}})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset folder as the stage writes it, of two companies."""
    folder = tmp_path_factory.mktemp("source") / "dataset"
    searcher = MemorySearcher(ACME, ZENITH)
    train = build_examples([SALES, VAIN], searcher, count_words, RECIPE.dataset, Retrieval(), Generator()).examples
    test = build_examples([RIVAL], searcher, count_words, Dataset(), Retrieval(), Generator(), is_served=True).examples
    with building_folder(folder) as partial:
        save_rows(partial, train, test, [SALES, VAIN], [RIVAL])
        facts = CardFacts(RECIPE, "i", "the file `q.jsonl`", {}, {}, {})
        (partial / "README.md").write_text(render_card(train, test, facts))
        write_manifest(partial, "dataset", id="d", index_id="i", prompt_hash=prompt_hash(),
                       recipe=RECIPE.model_dump(mode="json"))
    return folder


@pytest.fixture(scope="module")
def opened(source: Path) -> OpenedDataset:
    return open_dataset(source)


def rows_of(folder: Path, side: str = "train") -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(folder / f"{side}.jsonl")]


def llama_factory_converts(row: dict[str, Any], entry: dict[str, Any]) -> tuple[str, list[str], str]:
    """Return (system, turns, response) as data/README.md of LLaMA-Factory says that it reads a row by its entry."""
    columns = entry["columns"]
    if entry["formatting"] == "alpaca":
        query = [row[columns["prompt"]], row[columns["query"]]]
        return row[columns["system"]], ["\n".join(filter(None, query))], row[columns["response"]]
    tags, messages = entry["tags"], list(row[columns["messages"]])
    system = ""
    if messages[0][tags["role_tag"]] == tags["system_tag"]:
        system = messages.pop(0)[tags["content_tag"]]
    assert len(messages) % 2 == 0
    for number, message in enumerate(messages):
        assert message[tags["role_tag"]] == tags["assistant_tag" if number % 2 else "user_tag"]
    texts = [message[tags["content_tag"]] for message in messages]
    return system, texts[:-1], texts[-1]


@pytest.mark.parametrize("name", ["messages", "sharegpt", "alpaca"])
def test_llama_factory_reads_the_same_prompt_and_answer(name: str, opened: OpenedDataset, tmp_path: Path) -> None:
    run_export(name, tmp_path / "out", dataset=opened.folder)
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert list(info) == ["acme_train", "acme_test"]
    assert info["acme_test"]["file_name"] == "test.jsonl"
    for side, examples in (("train", opened.train), ("test", opened.test)):
        found = [llama_factory_converts(row, info[f"acme_{side}"]) for row in rows_of(tmp_path / "out", side)]
        assert found == [(e.prompt[0]["content"], [e.prompt[1]["content"]], e.completion) for e in examples]


def test_messages_have_the_shape_openai_documents(opened: OpenedDataset, tmp_path: Path) -> None:
    run_export("messages", tmp_path / "out", dataset=opened.folder)
    for row in rows_of(tmp_path / "out"):
        assert set(row) == {"messages"}
        assert [set(message) for message in row["messages"]] == [{"role", "content"}] * 3
        assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]


def test_prompt_and_completion_have_the_shape_trl_documents(opened: OpenedDataset, tmp_path: Path) -> None:
    run_export("prompt_completion", tmp_path / "out", dataset=opened.folder)
    rows = rows_of(tmp_path / "out")
    assert [set(row) for row in rows] == [{"prompt", "completion"}] * len(opened.train)
    assert rows[0]["prompt"] == [dict(message) for message in opened.train[0].prompt]
    assert rows[0]["completion"] == [{"role": "assistant", "content": opened.train[0].completion}]
    from trl.data_utils import is_conversational

    assert is_conversational(rows[0])


def test_sharegpt_has_the_roles_that_axolotl_and_unsloth_know(opened: OpenedDataset, tmp_path: Path) -> None:
    run_export("sharegpt", tmp_path / "out", dataset=opened.folder)
    for row in rows_of(tmp_path / "out"):
        assert set(row) == {"conversations"}
        assert [turn["from"] for turn in row["conversations"]] == ["system", "human", "gpt"]
        assert all(set(turn) == {"from", "value"} for turn in row["conversations"])


def test_alpaca_leaves_input_empty_so_that_the_question_stands_last(opened: OpenedDataset, tmp_path: Path) -> None:
    run_export("alpaca", tmp_path / "out", dataset=opened.folder)
    row = rows_of(tmp_path / "out")[0]
    assert list(row) == ["instruction", "input", "output", "system"]
    assert row["input"] == ""
    assert row["instruction"].split("\n\n")[-1].startswith("Question: ")
    turns = (*opened.train[0].prompt, {"role": "assistant", "content": "a"}, {"role": "user", "content": "u"})
    with pytest.raises(RunError, match="a prompt of 3 turns"):
        render_alpaca(Example(turns, "c"))


def test_parquet_holds_the_messages(opened: OpenedDataset, tmp_path: Path) -> None:
    import pyarrow.parquet

    run_export("parquet", tmp_path / "out", dataset=opened.folder)
    table = pyarrow.parquet.read_table(tmp_path / "out" / "train.parquet")
    assert table.column_names == ["messages"]
    assert str(table.schema.field("messages").type).startswith("list<element: struct<role: string, content: string>>")
    assert table.to_pylist()[0]["messages"][-1] == {"role": "assistant", "content": opened.train[0].completion}
    assert json.loads((tmp_path / "out" / "dataset_info.json").read_text())["acme_train"]["file_name"] == "train.parquet"


@pytest.mark.parametrize("name", [name for name, shape in FORMATS.items() if shape.axolotl and shape.build])
def test_card_holds_the_entry_that_axolotl_reads(name: str, opened: OpenedDataset, tmp_path: Path) -> None:
    run_export(name, tmp_path / "out", dataset=opened.folder)
    card = (tmp_path / "out" / "README.md").read_text()
    entry = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])["datasets"][0]
    file = tmp_path / "out" / entry.pop("path").removeprefix("FOLDER/")
    assert file.is_file()
    assert entry.pop("ds_type") == ("parquet" if name == "parquet" else "json")
    if entry["type"] == "chat_template":  # docs/dataset-formats/conversation.qmd
        assert file.suffix == ".parquet" or entry["field_messages"] in rows_of(tmp_path / "out")[0]
        turn = {"messages": {"role", "content"}, "conversations": {"from", "value"}}[entry["field_messages"]]
        assert set(entry["message_property_mappings"].values()) == turn
        assert entry["roles_to_train"] == ["assistant"]
    else:  # prompt_strategies/alpaca_w_system.py
        assert entry == {"type": "alpaca_w_system.load_instruct"}


def test_instructions_are_questions_without_passages(opened: OpenedDataset, tmp_path: Path) -> None:
    run_export("instructions", tmp_path / "out", dataset=opened.folder)
    assert [row["messages"] for row in rows_of(tmp_path / "out")] == [
        [{"role": "user", "content": SALES.text},
         {"role": "assistant", "content": "Net sales 2021: 4,210\nAnswer: $4,210 million"}],
        [{"role": "user", "content": VAIN.text}, {"role": "assistant", "content": REFUSAL}]]


def test_classification_rows_have_one_numbering_on_both_sides(opened: OpenedDataset, tmp_path: Path) -> None:
    run_export("answerable", tmp_path / "a", dataset=opened.folder)
    rows = rows_of(tmp_path / "a")
    assert [row["label"] for row in rows] == [int(e.completion != REFUSAL) for e in opened.train]
    assert {row["label"]: row["label_text"] for row in rows} == {0: "not_answerable", 1: "answerable"}
    assert rows[0]["text"] == opened.train[0].prompt[-1]["content"]
    run_export("kinds", tmp_path / "k", dataset=opened.folder)
    assert [(row["text"], row["label"], row["label_text"]) for side in ("train", "test")
            for row in rows_of(tmp_path / "k", side)] == [
        (SALES.text, 0, "lookup"), (VAIN.text, 1, "unanswerable"), (RIVAL.text, 0, "lookup")]


def test_rl_prompts_say_what_is_right_for_these_passages(opened: OpenedDataset, tmp_path: Path) -> None:
    run_export("rl", tmp_path / "out", dataset=opened.folder)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == len(opened.train)
    for row, example in zip(rows, opened.train):
        assert row["prompt"] == [dict(message) for message in example.prompt]
        assert row["answer"] == (SALES.answer if example.provenance["gold"] else REFUSAL)
        assert row["is_answerable"] is bool(example.provenance["gold"])
        assert row["reference"] == example.completion
        assert row["provenance"]["question_id"] == example.provenance["question_id"]
    assert {row["is_answerable"] for row in rows} == {True, False}


@pytest.mark.parametrize("name", ["dataset", *(name for name, shape in FORMATS.items() if shape.build)])
def test_datasets_library_reads_every_folder(
    name: str, source: Path, opened: OpenedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = source
    if name != "dataset":
        folder = tmp_path / "out"
        rows = run_export(name, folder, dataset=source).rows
    else:
        rows = {"train": len(opened.train), "test": len(opened.test)}
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {side: loaded[side].num_rows for side in loaded} == rows
    if name == "dataset":
        assert loaded["test"][0]["completion"][0]["content"] == opened.test[0].completion


def test_card_and_manifest_say_licence_and_source(opened: OpenedDataset, tmp_path: Path) -> None:
    summary = run_export("sharegpt", tmp_path / "out", dataset=opened.folder)
    head = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert head["license"] == "cc-by-4.0"
    assert head["configs"][0]["data_files"] == [{"split": side, "path": f"{side}.jsonl"} for side in ("train", "test")]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["kind"], manifest["export"], manifest["dataset_id"]) == ("export", "sharegpt", "d")
    assert manifest["rows"] == summary.rows == {"train": len(opened.train), "test": len(opened.test)}


def test_faults_are_one_clear_error_and_leave_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="format 'sharegtp' is not known. Allowed: messages, .*Did you mean 'sharegpt'"):
        find_format("sharegtp")
    with pytest.raises(RunError, match="no dataset folder at"):
        run_export("messages", tmp_path / "out", dataset=tmp_path / "none")
    with pytest.raises(RunError, match="--dataset FOLDER or --recipe FILE"):
        run_export("messages", tmp_path / "out")
    with pytest.raises(RunError, match=r"names a file.*--out .*rows$"):
        run_export("messages", tmp_path / "rows.jsonl", dataset=source)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RunError, match="full exists already"):
        run_export("messages", tmp_path / "full", dataset=source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_a_side_without_rows_has_no_file(tmp_path: Path, opened: OpenedDataset) -> None:
    with building_folder(tmp_path / "d") as partial:
        save_rows(partial, opened.train, [], [], [])
        write_manifest(partial, "dataset", id="d", recipe=RECIPE.model_dump(mode="json"))
    assert run_export("messages", tmp_path / "m", dataset=tmp_path / "d").rows == {"train": len(opened.train)}
    assert not (tmp_path / "m" / "test.jsonl").exists()
    assert list(json.loads((tmp_path / "m" / "dataset_info.json").read_text())) == ["acme_train"]
    with pytest.raises(RunError, match="nothing to write as 'instructions'"):
        run_export("instructions", tmp_path / "i", dataset=tmp_path / "d")
    assert not (tmp_path / "i").exists()
