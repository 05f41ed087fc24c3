"""The dataset stage on real PDFs and a real index: rows, manifest, errors, the same bytes again."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tiny_model

from ragtune.answering.prompt import REFUSAL, prompt_hash
from ragtune.datasets.folder import open_dataset
from ragtune.datasets.questions import read_questions, save_questions
from ragtune.errors import IndexFolderError, ModelError, QuestionError, RunError
from ragtune.recipe.schema import Recipe
from ragtune.records import Evidence, Question
from ragtune.retrieval.search import open_searcher
from ragtune.stages.dataset import DatasetSummary, run_dataset
from ragtune.stages.index import run_index

DATA = Path(__file__).resolve().parent.parent / "data"
NAMES = ("NORVANE_2021_10K", "NORVANE_2022_10K", "VELTRASSA_2021_10K", "KESTROVIA_2019_10K")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an index of four bundled filings, embedded by hashing, and their questions."""
    home = tmp_path_factory.mktemp("home")
    (home / "documents").mkdir()
    for name in NAMES:
        shutil.copy(DATA / "filings" / f"{name}.pdf", home / "documents")
    questions = [q for q in read_questions(DATA / "questions.jsonl") if q.id.startswith(NAMES)]
    save_questions(home / "questions.jsonl", questions)
    run_index(make_recipe(home))
    return home


def make_recipe(home: Path, **dataset: Any) -> Recipe:
    return Recipe.model_validate({
        "name": "tiny", "work": str(home / "work"),
        "documents": {"folder": str(home / "documents"), "workers": 1}, "index": {"embedder": "hash"},
        "generator": {"model": "echo", "max_prompt_tokens": 2000},
        "dataset": {"questions": str(home / "questions.jsonl"), "split_by": "company", **dataset},
    })


def run_to(home: Path, out: Path, **dataset: Any) -> DatasetSummary:
    return run_dataset(make_recipe(home, **dataset), out)


@pytest.fixture(scope="module")
def built(home: Path) -> tuple[DatasetSummary, Path]:
    return run_dataset(make_recipe(home, rows_per_question=2), home / "built"), home / "built"


def test_folder_holds_rows_questions_card_and_manifest(built: tuple[DatasetSummary, Path], home: Path) -> None:
    summary, folder = built
    opened = open_dataset(folder)
    assert len(opened.train) == summary.train["rows"] > 100
    assert len(opened.test) == summary.test["rows"] > 10
    assert {path.name for path in folder.iterdir()} == {
        "train.jsonl", "test.jsonl", "questions_train.jsonl", "questions_test.jsonl", "README.md", "lengths.png",
        "manifest.json"}
    manifest = opened.manifest
    assert manifest["prompt_hash"] == prompt_hash()
    assert manifest["index_id"] == json.loads((home / "work/tiny/index/manifest.json").read_text())["id"]
    assert manifest["recipe"]["dataset"]["rows_per_question"] == 2
    assert manifest["counts"]["train"]["rows"] == len(opened.train)
    assert len(opened.questions("train")) + len(opened.questions()) == summary.questions
    assert summary.to_dict()["dropped"] == {"train": {}, "test": {}}


def test_card_counts_rows_by_what_the_documents_are_and_by_length(built: tuple[DatasetSummary, Path]) -> None:
    summary, folder = built
    card = (folder / "README.md").read_text()
    opened = open_dataset(folder)
    by_company = card.split("## Rows by company")[1].split("##")[0]
    table = {cells[1].strip(): (int(cells[2]), int(cells[3])) for line in by_company.splitlines()[4:]
             if len(cells := line.split("|")) == 5}
    assert sum(train for train, _ in table.values()) == len(opened.train)
    assert sum(test for _, test in table.values()) == len(opened.test)
    groups = {side: {g for e in rows for g in e.provenance["groups"]}
              for side, rows in (("train", opened.train), ("test", opened.test))}
    assert {name for name, (train, _) in table.items() if train} == groups["train"]
    assert "## Rows by fiscal_year" in card
    assert "](lengths.png)" in card
    assert (folder / "lengths.png").read_bytes().startswith(b"\x89PNG")
    longest = int(re.search(r"- train: [\d,]+ to ([\d,]+) tokens of `echo`", card)[1].replace(",", ""))  # type: ignore[index]
    assert 100 < longest < 2100
    gold, distractors = (summary.train["modes"][mode] for mode in ("gold", "distractors"))
    assert f"answerable questions with passages) | {gold / (gold + distractors):.2f} | as served |" in card
    assert card.startswith("---\nlicense: other\n")


def test_no_company_is_on_both_sides_nor_shown_on_the_other(built: tuple[DatasetSummary, Path], home: Path) -> None:
    opened = open_dataset(built[1])
    sides = {side: {g for e in rows for g in e.provenance["groups"]}
             for side, rows in (("train", opened.train), ("test", opened.test))}
    assert sides["train"]
    assert sides["test"]
    assert not sides["train"] & sides["test"]
    index = open_searcher(home / "work/tiny/index", make_recipe(home).retrieval).index
    shown = {index.chunk(chunk).metadata["company"] for e in opened.train for chunk in e.provenance["passages"]}
    assert shown == sides["train"]


def test_gold_passages_hold_the_evidence_and_serving_is_what_is_tested(
    built: tuple[DatasetSummary, Path], home: Path
) -> None:
    opened = open_dataset(built[1])
    recipe = make_recipe(home)
    searcher = open_searcher(home / "work/tiny/index", recipe.retrieval)
    questions = {q.id: q for q in read_questions(home / "questions.jsonl")}
    for example in opened.train:
        question = questions[example.provenance["question_id"]]
        if example.provenance["mode"] == "gold":
            lines = example.completion.split("\n")
            for line in question.justification.split("\n"):
                assert any(shown == line or shown.startswith(f"{line} [") for shown in lines)
            text = "\n".join(searcher.index.chunk(chunk).text for chunk in example.provenance["gold"])
            holds_row = all(" ".join(e.text.split()) in " ".join(text.split()) for e in question.evidence)
            is_twin = any(searcher.index.chunk(c).document not in {e.document for e in question.evidence}
                          for c in example.provenance["gold"])
            assert holds_row or is_twin, example.provenance
        else:
            assert example.completion == REFUSAL
    for example in opened.test[:20]:
        hits = searcher.search(questions[example.provenance["question_id"]].text, recipe.retrieval.k)
        assert example.provenance["passages"] == [hit.chunk.id for hit in hits]


def test_same_recipe_writes_the_same_bytes_and_another_seed_others(
    built: tuple[DatasetSummary, Path], home: Path, tmp_path: Path
) -> None:
    run_dataset(make_recipe(home, rows_per_question=2), tmp_path / "again")
    for name in ("train.jsonl", "test.jsonl", "questions_train.jsonl", "questions_test.jsonl", "README.md", "lengths.png"):
        assert (tmp_path / "again" / name).read_bytes() == (built[1] / name).read_bytes()
    run_dataset(make_recipe(home, rows_per_question=2, seed=1), tmp_path / "other")
    assert (tmp_path / "other" / "train.jsonl").read_bytes() != (built[1] / "train.jsonl").read_bytes()


def test_questions_are_asked_where_no_file_is_given(home: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    recipe = make_recipe(home, questions=None, ask_count=60, split_by="document", where="company != 'Kestrovia'")
    summary = run_dataset(recipe, tmp_path / "d", report=lambda what, done, total: seen.append(what))
    assert summary.questions == 60
    assert set(seen) == {"asking questions", "training rows", "test rows"}
    opened = open_dataset(tmp_path / "d")
    documents = {q.metadata["document"] for side in ("train", "test") for q in opened.questions(side)}
    assert documents == set(NAMES[:3])
    shown = {chunk for example in opened.train for chunk in example.provenance["passages"]}
    index = open_searcher(home / "work/tiny/index", recipe.retrieval).index
    assert "KESTROVIA_2019_10K" not in {index.chunk(chunk).document for chunk in shown}


def test_the_test_side_can_be_named(home: Path, tmp_path: Path) -> None:
    recipe = make_recipe(home, questions=None, ask_count=40, test_share=0.3, test_where="document = 'NORVANE_2021_10K'")
    summary = run_dataset(recipe, tmp_path / "d")
    assert (summary.questions, summary.test_questions) == (40, 12)
    opened = open_dataset(tmp_path / "d")
    sides = {side: {q.metadata["company"] for q in opened.questions(side)} for side in ("train", "test")}
    assert sides["test"] == {"Norvane"}  # of the other filing of this company too, as the split is by company
    assert sides["train"] <= {"Veltrassa", "Kestrovia"}
    index = open_searcher(home / "work/tiny/index", recipe.retrieval).index
    shown = {index.chunk(chunk).metadata["company"] for example in opened.train for chunk in example.provenance["passages"]}
    assert "Norvane" not in shown
    assert "NORVANE_2021_10K" in (tmp_path / "d" / "README.md").read_text()
    by_file = run_dataset(make_recipe(home, test_where="company = 'Kestrovia'"), tmp_path / "file")
    assert all(q.id.startswith("KESTROVIA") for q in open_dataset(tmp_path / "file").questions())
    assert by_file.train_questions > 0
    with pytest.raises(QuestionError, match="keeps none of 4 documents"):
        run_dataset(make_recipe(home, test_where="company = 'Nobody'"), tmp_path / "none")


def test_missing_documents_are_counted_and_none_left_is_an_error(home: Path, tmp_path: Path) -> None:
    rows = read_questions(home / "questions.jsonl")
    gone = [Question(f"g{n}", f"Where is {n}?", "5", (Evidence("GONE_2020_10K", 1),)) for n in range(3)]
    save_questions(tmp_path / "some.jsonl", [*rows, *gone])
    summary = run_dataset(make_recipe(home, questions=str(tmp_path / "some.jsonl")), tmp_path / "d")
    assert summary.missing == {"GONE_2020_10K": 3}
    assert summary.questions == len(rows)
    assert "GONE_2020_10K: 3" in (tmp_path / "d" / "README.md").read_text()
    save_questions(tmp_path / "none.jsonl", gone)
    with pytest.raises(QuestionError, match="none of 3 questions.*GONE_2020_10K"):
        run_dataset(make_recipe(home, questions=str(tmp_path / "none.jsonl")), tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_pages_beyond_the_document_and_evidence_on_no_page_are_counted(home: Path, tmp_path: Path) -> None:
    rows = read_questions(home / "questions.jsonl")
    beyond = Question("b", "Where?", "5", (Evidence(NAMES[0], 99),))
    lost = Question("l", "Who?", "5", (Evidence(NAMES[0], 0, "There are no unicorns in this filing"),))
    known = next(q for q in rows if q.evidence and len(q.evidence[0].text) > 30)
    found = Question("f", "What stands there?", "5",
                     tuple(Evidence(e.document, 0, e.text.upper().replace(" ", "  ")) for e in known.evidence))
    save_questions(tmp_path / "q.jsonl", [*rows, beyond, lost, found])
    summary = run_dataset(make_recipe(home, questions=str(tmp_path / "q.jsonl")), tmp_path / "d")
    assert list(summary.missing.values()) == [1, 1]
    assert [key.partition(" page 99 (it has ")[0] for key in summary.missing] == [NAMES[0], "evidence found on no page"]
    assert summary.located["not found"] == 1
    assert summary.located["found by its text"] == len(known.evidence)
    assert summary.dropped == {"train": {}, "test": {}}
    opened = open_dataset(tmp_path / "d")
    kept = {q.id: q for side in ("train", "test") for q in opened.questions(side)}
    assert [(e.document, e.page) for e in kept["f"].evidence] == [(e.document, e.page) for e in known.evidence]
    assert "page 99" in (tmp_path / "d" / "README.md").read_text()
    save_questions(tmp_path / "none.jsonl", [beyond, lost])
    with pytest.raises(QuestionError, match="none of 2 questions.*page 99"):
        run_dataset(make_recipe(home, questions=str(tmp_path / "none.jsonl")), tmp_path / "e")


def test_rows_are_built_from_other_peoples_shapes(home: Path, tmp_path: Path) -> None:
    """One list of four shapes, of questions whose pages are known: the pages are found, and the rows are gold ones."""
    known = [q for q in read_questions(home / "questions.jsonl") if len(q.evidence) == 1 and len(q.evidence[0].text) > 24]
    known = [q for q in known if q.is_answerable][:60]
    entries: list[dict[str, Any]] = []
    for number, question in enumerate(known):
        text = " ".join(question.evidence[0].text.split()).lower()
        document = question.evidence[0].document
        company, _, year = document.removesuffix("_10K").rpartition("_")
        entries.append([
            {"id": question.id, "filename": f"{company}/{year}_10K/page_1.pdf", "pre_text": [], "post_text": [], "table": [],
             "qa": {"question": question.text, "answer": question.answer, "program": "", "gold_inds": {"text_0": text}}},
            {"table": {"uid": "t", "table": [["", "a", "b"], text.split(" ")]}, "paragraphs": [], "questions": [
                {"uid": question.id, "question": question.text, "answer": question.answer, "answer_from": "table"}]},
            {"title": document.replace("_", " "), "paragraphs": [{"context": question.evidence[0].text, "qas": [
                {"id": question.id, "question": question.text, "answers": [{"text": text.split(" ")[-1]}]}]}]},
            {"id": question.id, "user_input": question.text, "reference": question.answer, "reference_contexts": [text]},
        ][number % 4])
    (tmp_path / "q.json").write_text(json.dumps(entries))
    recipe = make_recipe(home, questions=str(tmp_path / "q.json"), max_dropped_share=1, gold_share=1)
    summary = run_dataset(recipe, tmp_path / "d")
    assert sum(summary.located.values()) == len(known)
    opened = open_dataset(tmp_path / "d")
    pages = {q.id: (q.evidence[0].document, q.evidence[0].page) for q in known}
    found = [q for side in ("train", "test") for q in opened.questions(side)]
    right = [q for q in found if (q.evidence[0].document, q.evidence[0].page) == pages[q.id]]
    assert len(right) >= 0.8 * len(known)  # the others are rows too short to be looked for in all documents
    assert sum(example.provenance["mode"] == "gold" for example in opened.train) >= 0.9 * len(opened.questions("train"))


def test_filter_keeps_questions_out_and_says_how_many(home: Path, tmp_path: Path) -> None:
    summary = run_dataset(make_recipe(home, where="company in ('Norvane', 'Veltrassa')"), tmp_path / "d")
    kestrovia = sum(q.id.startswith("KESTROVIA") for q in read_questions(home / "questions.jsonl"))
    assert summary.outside_filter == kestrovia > 0
    with pytest.raises(QuestionError, match="no column 'compny'"):
        run_dataset(make_recipe(home, where="compny = 'x'"), tmp_path / "e")


def test_errors_leave_the_old_folder(home: Path, tmp_path: Path) -> None:
    run_dataset(make_recipe(home), tmp_path / "d")
    before = (tmp_path / "d" / "manifest.json").read_bytes()
    recipe = make_recipe(home).model_copy(update={"generator": make_recipe(home).generator.model_copy(
        update={"max_prompt_tokens": 120})})
    with pytest.raises(RunError, match="rows had to be left out"):
        run_dataset(recipe, tmp_path / "d")
    with pytest.raises(QuestionError, match="no question file"):
        run_dataset(make_recipe(home, questions=str(tmp_path / "nowhere.jsonl")), tmp_path / "d")
    with pytest.raises(IndexFolderError, match="no index folder"):
        run_dataset(make_recipe(home), tmp_path / "d", index=tmp_path / "nowhere")
    assert (tmp_path / "d" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_questions_asked_twice_are_left_out_kept_or_refused(home: Path, tmp_path: Path) -> None:
    rows = read_questions(home / "questions.jsonl")
    train = open_dataset(Path(run_to(home, tmp_path / "plain").folder)).questions("train")
    first = next(q for q in train if q.kind == "lookup" and len(q.text.split()) > 8)
    twins = [dataclasses.replace(first, id=f"twin{n}", text=first.text.replace("What were", "what WAS").upper())
             for n in range(3)]
    save_questions(tmp_path / "q.jsonl", [*rows, *twins])
    asked = str(tmp_path / "q.jsonl")
    summary = run_to(home, tmp_path / "drop", questions=asked)
    assert summary.repeated == {"like another training question": 3}
    assert summary.train_questions == len(train)
    assert "like another training question: 3 left out" in (tmp_path / "drop" / "README.md").read_text()
    assert (tmp_path / "drop" / "train.jsonl").read_bytes() == (tmp_path / "plain" / "train.jsonl").read_bytes()
    assert run_to(home, tmp_path / "keep", questions=asked, near_duplicates="keep").train_questions == len(train) + 3
    with pytest.raises(QuestionError, match=rf"3 training question.* 'twin0' is like '{first.id}'"):
        run_to(home, tmp_path / "fail", questions=asked, near_duplicates="fail")


def test_training_questions_of_a_file_that_are_asked_again_fail_and_our_own_are_left_out(home: Path, tmp_path: Path) -> None:
    train = open_dataset(Path(run_to(home, tmp_path / "plain").folder)).questions("train")
    save_questions(tmp_path / "e.jsonl", [dataclasses.replace(train[0], id="again")])
    recipe = make_recipe(home)
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(
        update={"questions": str(tmp_path / "e.jsonl")})})
    with pytest.raises(QuestionError, match=rf"again in evaluation.questions, e.jsonl.* '{train[0].id}' is like 'again'"):
        run_dataset(recipe, tmp_path / "d")
    own = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update={"questions": None, "ask_count": 60})})
    plain = run_dataset(own.model_copy(update={"evaluation": make_recipe(home).evaluation}), tmp_path / "own")
    asked = open_dataset(tmp_path / "own").questions("train")
    save_questions(tmp_path / "e.jsonl", [dataclasses.replace(asked[0], id="again")])
    summary = run_dataset(own, tmp_path / "left")
    assert summary.repeated["asked again in evaluation.questions, e.jsonl"] >= 1
    assert summary.train_questions < plain.train_questions
    assert asked[0].text not in {question.text for question in open_dataset(tmp_path / "left").questions("train")}


def test_quotes_and_shares_stand_in_the_summary_and_the_card_the_same_to_the_byte(home: Path, tmp_path: Path) -> None:
    rows = [dataclasses.replace(q, justification="") if n % 2 else q
            for n, q in enumerate(read_questions(home / "questions.jsonl"))]
    save_questions(tmp_path / "q.jsonl", rows)
    fields = {"questions": str(tmp_path / "q.jsonl"), "quotes": True, "max_kind_share": 0.3, "rows_per_question": 2}
    summary = run_to(home, tmp_path / "a", **fields)
    opened = open_dataset(tmp_path / "a")
    kinds = Counter(example.provenance["kind"] for example in opened.train)
    assert max(kinds.values()) <= 0.3 * len(opened.train)
    assert sum(count for reason, count in summary.skipped["train"].items() if "max_kind_share" in reason) > 10
    quoted = Counter(outcome for example in opened.train for outcome in example.provenance.get("quotes", ()))
    assert summary.train["quotes"] == dict(sorted(quoted.items()))
    assert quoted["rows restated"] > 20
    card = (tmp_path / "a" / "README.md").read_text()
    for words in ("| quotes | ", f"rows restated: {quoted['rows restated']}", "is of one kind", "in quotation marks",
                  "over dataset.max_kind_share"):
        assert words in card
    run_to(home, tmp_path / "b", **fields)
    for name in ("train.jsonl", "test.jsonl", "questions_train.jsonl", "README.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_completions_that_serving_cuts_off_and_models_that_read_too_little_are_told(home: Path, tmp_path: Path) -> None:
    recipe = make_recipe(home)
    short = recipe.model_copy(update={"generator": recipe.generator.model_copy(update={"max_new_tokens": 12})})
    summary = run_dataset(short, tmp_path / "d")
    assert summary.cut_off["train"] > 10
    assert f"which serving cuts off | {summary.cut_off['train']} |" in (tmp_path / "d" / "README.md").read_text()
    assert run_dataset(recipe, tmp_path / "d").cut_off == {"train": 0, "test": 0}
    small = str(make_tiny_model(tmp_path / "small", positions=500))
    with pytest.raises(ModelError, match=r"max_prompt_tokens 2000 .*'small' can read: 500 tokens. Lower .* at most 404"):
        run_dataset(recipe.model_copy(update={"generator": recipe.generator.model_copy(update={"model": small})}),
                    tmp_path / "e")


@pytest.mark.real
def test_real_filings_become_rows(tmp_path: Path) -> None:
    folder = Path(os.environ.get("RAGTUNE_FINANCEBENCH", Path(__file__).parents[2] / "shared" / "financebench"))
    if not folder.is_dir():
        pytest.skip("no FinanceBench")
    (tmp_path / "documents").mkdir()
    for name in ("APPLE_2019_10K", "SALESFORCE_2023_10K", "FEDEX_2023_10K"):
        shutil.copy(folder / "pdfs" / f"{name}.pdf", tmp_path / "documents")
    recipe = make_recipe(tmp_path, questions=None, ask_count=150, split_by="document")
    run_index(recipe)
    summary = run_dataset(recipe)
    lost = sum(sum(side.values()) for side in summary.dropped.values())
    assert summary.train["rows"] > 60
    assert lost <= 0.05 * (summary.train["rows"] + summary.test["rows"] + lost)
