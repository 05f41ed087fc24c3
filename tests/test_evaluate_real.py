"""run_evaluate with the real libraries: a tiny Llama, two steps of tuning, an index, a run that does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from ladder_fakes import COMPANIES, chunks, questions
from tiny_model import make_tiny_model

from ragtune.answering.prompt import number_passages, prompt_hash, render_completion, render_prompt
from ragtune.errors import RunError
from ragtune.evaluation.ladder.references import UNMEASURED
from ragtune.files import read_manifest, write_jsonl, write_manifest
from ragtune.recipe.schema import Documents, Evaluation, Generator, Index, Recipe, Retrieval, Training
from ragtune.records import Hit
from ragtune.stages.ask import open_assistant
from ragtune.stages.evaluate import NO_RUN, run_evaluate
from ragtune.stages.index import run_index
from ragtune.stages.train import run_train


def make_recipe(folder: Path) -> Recipe:
    """Write documents, questions and a model; index the documents."""
    documents = folder / "documents"
    documents.mkdir()
    for company in COMPANIES:
        (documents / f"{company}.txt").write_text("\f".join(c.text for c in chunks() if c.document == company))
    write_jsonl(folder / "questions.jsonl", (question.to_dict() for question in questions()))
    model = make_tiny_model(folder / "model")
    recipe = Recipe(
        name="tiny",
        work=str(folder / "work"),
        documents=Documents(folder=str(documents)),
        index=Index(embedder="hash"),
        retrieval=Retrieval(k=1),
        generator=Generator(model=str(model), max_prompt_tokens=700, max_new_tokens=8, batch_size=4, device="cpu"),
        training=Training(max_steps=2, batch_size=2, eval_rows=2, save_steps=2, lr=0.05),
        evaluation=Evaluation(questions=str(folder / "questions.jsonl"), limit=3, recall_at=(1, 5)),
    )
    run_index(recipe)
    return recipe


def make_dataset(recipe: Recipe, index_id: str) -> None:
    """Write a dataset folder of a few rows by hand."""
    folder = Path(recipe.work) / "tiny" / "dataset"
    folder.mkdir(parents=True)
    rows = []
    for question, chunk in list(zip(questions(), chunks()))[:4]:
        passages = number_passages([Hit(chunk, 1.0, 1, "test")])
        completion = {"role": "assistant", "content": render_completion(question, passages)}
        rows.append({"prompt": list(render_prompt(question.text, passages)), "completion": [completion]})
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "test.jsonl", rows[:2])
    write_manifest(folder, "dataset", prompt_hash=prompt_hash(), index_id=index_id)


@pytest.mark.timeout(300)
def test_base_and_tuned_from_folders(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    alone = run_evaluate(recipe)
    assert NO_RUN in alone.notes
    assert [rung.model for rung in alone.ladder] == ["base"] * 3 + ["extractive"] * 3

    index_id = read_manifest(Path(recipe.work) / "tiny" / "index", "index")["id"]
    make_dataset(recipe, index_id)
    run_train(recipe)
    both = run_evaluate(recipe)
    assert [(rung.model, rung.n) for rung in both.ladder] == [
        *[("base", 3)] * 3, *[("tuned", 3)] * 3, *[("extractive", 3)] * 3]  # fmt: skip
    assert {setting for setting, _ in both.comparisons} == {"closed_book", "retrieval", "oracle"}
    assert [(a, b, setting) for a, b, setting, _ in both.against_baselines] == [
        ("extractive", "tuned", "retrieval"), ("extractive", "tuned", "oracle")]  # fmt: skip
    assert NO_RUN not in both.notes
    assert both.references == ()
    folder = Path(both.folder)
    assert len((folder / "answers.jsonl").read_text().splitlines()) == 27
    assert "Learning curve" in (folder / "report.html").read_text()
    manifest = read_manifest(folder, "evaluation")
    assert manifest["index_id"] == index_id
    assert set(manifest["models"]) == {"base", "tuned", "extractive"}

    asking = {"evaluation": recipe.evaluation.model_copy(update={"perplexity": True})}
    surprised = run_evaluate(recipe.model_copy(update=asking))
    assert [(rung.model, rung.setting, rung.correct) for rung in surprised.ladder] == [
        (rung.model, rung.setting, rung.correct) for rung in both.ladder]  # the answers were kept
    rows = {(row.model, row.setting): row for row in surprised.references}
    assert len(rows) == 6
    assert {row.n for row in rows.values()} == {3}
    assert all(1 < row.perplexity < 1e6 for row in rows.values())
    for setting in ("closed_book", "retrieval", "oracle"):
        base, tuned = rows["base", setting], rows["tuned", setting]
        assert base.comparison is None
        assert tuned.comparison.n == 3
        assert tuned.comparison.difference == pytest.approx(tuned.comparison.mean_b - tuned.comparison.mean_a)
        assert tuned.perplexity != base.perplexity  # it was tuned
    assert rows["base", "closed_book"].perplexity != rows["base", "oracle"].perplexity
    assert "How surprising are the references?" in (folder / "report.html").read_text()
    assert "## How surprising are the references?" in (folder / "report.md").read_text()

    other = recipe.model_copy(update={"index": Index(embedder="hash", context_line=False)})
    run_index(other, tmp_path / "other")
    assert read_manifest(tmp_path / "other", "index")["id"] != index_id
    with pytest.raises(RunError, match="index"):
        run_evaluate(recipe, tmp_path / "out", index=tmp_path / "other")
    assert not (tmp_path / "out").exists()
    allowed = run_evaluate(recipe, tmp_path / "out", index=tmp_path / "other", allow_mismatch=True)
    assert len(allowed.ladder) == 9

    reader = recipe.model_copy(update={"generator": recipe.generator.model_copy(update={"model": "extractive"})})
    # it takes no adapter, and is not measured twice
    itself = run_evaluate(reader.model_copy(update=asking), tmp_path / "itself")
    assert [rung.model for rung in itself.ladder] == ["base"] * 3
    assert NO_RUN not in itself.notes
    assert itself.references == ()
    assert UNMEASURED.format("base") in itself.notes
    assert open_assistant(reader).generator.name == "extractive"


def test_missing_questions_are_named(tmp_path: Path) -> None:
    recipe = Recipe(name="none", work=str(tmp_path), evaluation=Evaluation(questions=str(tmp_path / "nowhere.jsonl")))
    with pytest.raises(RunError, match=r"no questions at .*nowhere\.jsonl"):
        run_evaluate(recipe)
