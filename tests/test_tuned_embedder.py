"""Tuning an embedder of random weights with the real trainer: it learns, is gated on held-out companies, and is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_adapt import COMPANIES, TOPICS, make_questions, make_recipe

from ragtune.datasets.questions import save_questions
from ragtune.errors import ModelError
from ragtune.models.embed import SentenceEmbedder, open_embedder
from ragtune.recipe.schema import Adapting, Recipe
from ragtune.retrieval.adapter import find_version
from ragtune.retrieval.index import build_index
from ragtune.stages.adapt import run_adapt
from ragtune.training.embedder import start_model, tune_embedder


def make_sentence_model(folder: Path) -> Path:
    """Write a random BERT with mean pooling whose words are those of the topics."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.set_num_threads(1)
    torch.manual_seed(0)
    words = {word: None for said, called in TOPICS for word in (*said.split(), called)}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *(c.lower() for c in COMPANIES)]
    bert = folder.with_name("bert")
    numbers = {word: number for number, word in enumerate(vocabulary)}
    BertTokenizerFast(vocab=numbers, model_max_length=32).save_pretrained(bert)
    BertModel(BertConfig(vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=32, max_position_embeddings=32, initializer_range=0.2)).save_pretrained(bert)
    model = SentenceTransformer(modules=[Transformer(str(bert), max_seq_length=32), Pooling(32, "mean")], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sentence_model(tmp_path_factory.mktemp("start") / "model")


def recipe_on(home: Path, start: Path, **adapting: Any) -> Recipe:
    settings = {"embedder_documents": 1, "embedder_batch_size": 16, "embedder_lr": 0.01, "embedder_epochs": 15.0,
                "embedder_negatives": 0}
    values = make_recipe(home, **{**settings, **adapting}).model_dump()
    values["index"]["embedder"] = str(start)
    values["index"]["chunk_tokens"] = 24
    return Recipe.model_validate(values)


@pytest.fixture
def home(tmp_path: Path, start: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for company in COMPANIES:
        pages = [f"{said} {company.lower()}" for said, _ in TOPICS]
        (tmp_path / f"docs/{company.upper()}_2021_10K.txt").write_text("\f".join(pages))
    save_questions(tmp_path / "questions.jsonl", make_questions())
    build_index(recipe_on(tmp_path, start), tmp_path / "work/t/index")
    return tmp_path


def test_a_tuned_embedder_is_written_and_can_be_indexed_with(
    home: Path, start: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[str, int, int]] = []
    recipe = recipe_on(home, start)
    summary = run_adapt(recipe, "embedder", report=lambda *told: steps.append(told))
    part = summary.parts[0]
    assert capsys.readouterr().out == ""
    folder = find_version(home / "work/t/embedder")
    assert part.is_accepted, part.verdict
    assert part.folder == str(folder)
    right = next(row for row in part.recall if (row.scope, row.k) == ("document", 1))
    assert right.after > right.before + 0.3
    assert right.n == 24, "only questions on the one document that was embedded anew"
    assert {row.scope for row in part.recall} == {"1 documents", "document"}
    assert part.facts["rows"] == 96
    assert any(task == "tuning the embedder" and done == total for task, done, total in steps)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["kind"], manifest["fit"]["start"]) == ("embedder", start.name)
    assert not any(path.suffix in (".bin", ".pt", ".pkl") for path in folder.rglob("*"))

    tuned = open_embedder(str(folder))
    assert isinstance(tuned, SentenceEmbedder)
    assert tuned.fingerprint != open_embedder(str(start)).fingerprint
    again = recipe.model_copy(update={"index": recipe.index.model_copy(update={"embedder": str(folder)})})
    assert build_index(again, home / "again").chunks == len(COMPANIES) * len(TOPICS)


def test_an_embedder_that_does_not_raise_recall_is_refused(home: Path, start: Path) -> None:
    summary = run_adapt(recipe_on(home, start, max_p=1e-12, embedder_epochs=0.2), "embedder")
    assert not summary.is_accepted
    assert summary.parts[0].verdict.startswith("refused, recall on held-out questions")
    assert not (home / "work/t/embedder").exists()


def test_rows_without_negatives_and_the_same_seed(start: Path, tmp_path: Path) -> None:
    rows = [(f"{called} {company}", said) for said, called in TOPICS for company in ("acme", "bolt")]
    settings, texts = Adapting(embedder_epochs=1, embedder_batch_size=4, embedder_lr=0.01), ["capex acme", "staff"]
    losses = [tune_embedder(str(start), rows, settings, tmp_path / name) for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    vectors = [SentenceEmbedder(str(tmp_path / name)).embed_questions(texts) for name in ("one", "two")]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-5


def test_where_tuning_starts(tmp_path: Path) -> None:
    assert start_model("some/name") == "some/name"
    assert (Path(start_model("minilm")) / "modules.json").is_file()
    with pytest.raises(ModelError, match="'hash' has no weights to tune"):
        start_model("hash")
    with pytest.raises(ModelError, match="cannot be loaded to be tuned"):
        tune_embedder(str(tmp_path), [("a", "b")], Adapting(), tmp_path / "out")
