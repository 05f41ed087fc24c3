"""Pairs of a run's own answers, end to end: the shipped model on a real index of small filings, scored and judged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_stage_dataset import home, make_recipe  # noqa: F401

from ragtune.answering.prompt import prompt_hash
from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.datasets.folder import open_dataset
from ragtune.datasets.prefer import read_pairs
from ragtune.datasets.sampled import NOT_READ, ONE_ANSWER, TURNED, Choice
from ragtune.errors import ModelError, RunError
from ragtune.evaluation.judging.judge import ModelJudge, open_judge
from ragtune.evaluation.judging.rubric import load_rubric
from ragtune.files import hash_file, read_manifest, write_jsonl, write_manifest
from ragtune.models.checkpoint import fingerprint_model
from ragtune.models.fake import EchoGenerator
from ragtune.recipe.schema import Recipe
from ragtune.records import Question
from ragtune.retrieval.index import open_index
from ragtune.stages import sampled
from ragtune.stages.dataset import run_dataset
from ragtune.stages.prefer import PairsSummary, run_pairs


def with_pairs(recipe: Recipe, **fields: Any) -> Recipe:
    return recipe.model_copy(update={"pairs": recipe.pairs.model_copy(update=fields)})


@pytest.fixture(scope="module")
def recipe(home: Path) -> Recipe:  # noqa: F811
    """Return a recipe with a dataset and a run of the shipped model, whose adapter changes nothing."""
    import torch
    from peft import LoraConfig, get_peft_model

    from ragtune.models.weights import load_base

    torch.set_num_threads(1)
    recipe = Recipe.model_validate({
        **make_recipe(home, questions=None, ask_count=20, split_by="company").model_dump(mode="json"),
        "name": "sampled", "index": {"embedder": "hash", "folder": str(home / "work/tiny/index")},
        "generator": {"device": "cpu", "max_new_tokens": 40, "max_prompt_tokens": 500},
        "pairs": {"from_run": True, "samples": 3, "temperature": 1.0, "top_p": 1.0, "per_row": 2}})
    run_dataset(recipe)
    folder = Path(recipe.work) / "sampled" / "run"
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(load_base(recipe.generator), config).save_pretrained(str(folder / "adapter"))
    write_jsonl(folder / "metrics.jsonl", [{"step": 1, "loss": 1.0}])
    write_manifest(folder, "run", id="run-1", prompt_hash=prompt_hash(), base_fingerprint=fingerprint_model("bundled"),
                   index_id=open_index(home / "work/tiny/index").id)
    return recipe


@pytest.fixture(scope="module")
def made(recipe: Recipe) -> PairsSummary:
    return run_pairs(recipe)


def test_a_run_s_right_answers_are_paired_with_its_wrong_ones(made: PairsSummary, recipe: Recipe) -> None:
    folder = Path(made.folder)
    pairs = read_pairs(folder / "pairs.jsonl")
    assert len(pairs) == made.train["pairs"] == made.train["reasons"]["sampled"] > 2
    assert sum(made.train["rejected"].values()) == len(pairs)
    for pair in pairs:
        assert pair.provenance["chosen_outcome"] == "correct"
        assert pair.provenance["rejected_outcome"] in ("wrong", "refused")
        assert pair.provenance["mode"] == "served"
        assert len(pair.provenance["passages"]) <= recipe.retrieval.k
    counts = made.sampled
    assert counts["samples"] == 3 * counts["questions"] == sum(counts[name] for name in ("correct", "wrong", "refused"))
    labels = [json.loads(line) for line in (folder / "kto.jsonl").read_text().splitlines()]
    assert made.train["kto"] == {"desirable": sum(row["label"] for row in labels),
                                 "undesirable": sum(not row["label"] for row in labels)}
    assert 0 < made.train["kto"]["desirable"] < len(labels)


def test_nothing_of_the_test_side_is_asked_or_shown(made: PairsSummary, recipe: Recipe, home: Path) -> None:  # noqa: F811
    opened = open_dataset(Path(made.dataset))
    pairs = read_pairs(Path(made.folder) / "pairs.jsonl")
    assert {p.provenance["question_id"] for p in pairs} <= {question.id for question in opened.questions("train")}
    kept_apart = set(opened.manifest["excluded"])
    index = open_index(home / "work/tiny/index")
    shown = {index.chunk(chunk).document for pair in pairs for chunk in pair.provenance["passages"]}
    assert kept_apart
    assert not kept_apart & shown
    assert made.test == {}
    assert sorted(path.name for path in Path(made.folder).iterdir()) == [
        "README.md", "kto.jsonl", "manifest.json", "pairs.jsonl"]
    assert read_manifest(Path(made.folder), "pairs")["run_id"] == "run-1"


def test_the_card_counts_pairs_and_the_hub_s_library_reads_the_folder(made: PairsSummary, tmp_path: Path) -> None:
    from datasets import load_dataset

    card = (Path(made.folder) / "README.md").read_text()
    assert f"| sampled | a worse answer the run gave itself | {made.train['pairs']} |" in card
    assert f"{made.sampled['samples']} answers" in card
    assert re.search(r"temperature 1, top_p 1, seed 0\): \d+ correct, \d+ wrong, \d+ refused", card)
    for reason, count in made.skipped["train"].items():
        assert f"- train: {count} {reason}" in card
    for name, column in (("pairs", "chosen"), ("kto", "label")):
        rows = load_dataset(made.folder, name, split="train", cache_dir=str(tmp_path / "cache"))
        assert column in rows.column_names
        assert len(rows) == (made.train["pairs"] if name == "pairs" else sum(made.train["kto"].values()))


def test_the_same_seed_draws_the_same_pairs_by_the_command_and_another_seed_others(
    made: PairsSummary, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(json.loads(recipe.model_dump_json())))  # JSON is YAML
    arguments = ["dataset", "pairs", "--recipe", str(tmp_path / "recipe.yaml"), "--run", f"{Path(made.folder).parent}/run"]
    assert run_guarded(ragtune, [*arguments, "--out", str(tmp_path / "again"), "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index("{"):])["sampled"] == made.sampled
    assert hash_file(tmp_path / "again/pairs.jsonl") == hash_file(Path(made.folder) / "pairs.jsonl")
    assert run_guarded(ragtune, [*arguments, "--out", str(tmp_path / "other"), "--set", "pairs.seed=1"]) == 0
    assert hash_file(tmp_path / "other/pairs.jsonl") != hash_file(Path(made.folder) / "pairs.jsonl")


def test_a_judge_picks_and_one_that_cannot_be_read_is_counted(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = with_pairs(recipe, samples=2, judge="openai:longer")
    asked: list[str] = []

    class Longer(EchoGenerator):
        """Prefers the longer answer, wherever it stands, and gives its reason; or says nothing that can be read."""

        name, speaks = "longer", True

        def generate(self, prompts, max_new_tokens, progress=None):  # type: ignore[no-untyped-def]
            replies = []
            for _, user in prompts:
                asked.append(user["content"])
                answers = user["content"].partition("Answer A:\n")[2].partition("Give your reason")[0]
                first, second = answers.split("Answer B:\n")
                longer = "A" if len(first.strip()) > len(second.strip()) else "B"
                replies.append(f"It says more.\nVerdict: {longer}" if self.speaks else "Both are fine.")
            return replies

    def opened(longer: Longer) -> None:
        monkeypatch.setattr("ragtune.evaluation.judging.judge.open_generator", lambda section: longer)

    mute = Longer()
    mute.speaks = False
    opened(mute)
    with pytest.raises(RunError, match=rf"{NOT_READ}.*pairs.temperature"):
        run_pairs(two, out=tmp_path / "none")
    opened(Longer())
    summary = run_pairs(two, out=tmp_path / "judged")
    pairs = read_pairs(tmp_path / "judged" / "pairs.jsonl")
    assert len(pairs) == summary.train["reasons"]["judged"]
    assert all(len(pair.chosen) > len(pair.rejected) for pair in pairs)
    assert {pair.provenance["judge"] for pair in pairs} == {"longer"}
    left_out = sum(summary.skipped["train"].get(reason, 0) for reason in (TURNED, ONE_ANSWER))
    assert len(pairs) + left_out == summary.sampled["questions"]
    assert "picked by the judge `openai:longer`" in (tmp_path / "judged" / "README.md").read_text()
    assert all("Reference answer:\n| " in prompt and "Passages:\n| [1] " in prompt for prompt in asked)


def test_a_judge_that_cannot_be_opened_or_fails_always_is_one_clear_error(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    rubric = load_rubric(sampled.RUBRIC)
    with pytest.raises(ModelError, match="'echo' cannot judge"):
        open_judge("echo", rubric, option="pairs.judge")
    with pytest.raises(ModelError, match="^pairs.judge 'opnai:x' names no known model of a provider"):
        open_judge("opnai:x", rubric, option="pairs.judge")

    class Gone(EchoGenerator):
        def generate(self, prompts, max_new_tokens, progress=None):  # type: ignore[no-untyped-def]
            raise ModelError("no network")

    choose = sampled.choose_by(ModelJudge(Gone(), rubric, timeout_s=5.0))
    with pytest.raises(ModelError, match="failed too often in a row.*no network"):
        choose([Choice(Question("q", "?", "yes"), (), "yes", "no")] * 9)


def test_what_cannot_be_sampled_is_one_clear_error(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ragtune train"):
        run_pairs(recipe, run=tmp_path / "nowhere", out=tmp_path / "none")
    echo = recipe.model_copy(update={"generator": recipe.generator.model_copy(update={"model": "echo"})})
    with pytest.raises(ModelError, match="cannot take the adapter"):
        run_pairs(echo, out=tmp_path / "none")
    with pytest.raises(ValueError, match="set from_run to true"):
        Recipe.model_validate({"name": "x", "pairs": {"judge": "openai:gpt-4o-mini"}})
    assert not (tmp_path / "none").exists()
