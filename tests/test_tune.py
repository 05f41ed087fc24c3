"""Searching for settings: the space, resuming, pruning, what is chosen by, and what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_home import home_recipe, make_home

from ragtune.datasets.questions import read_questions
from ragtune.errors import RecipeError, RunError
from ragtune.files import read_manifest
from ragtune.recipe.load import check_recipe, load_recipe
from ragtune.recipe.schema import Recipe, Tune
from ragtune.recipe.space import apply_setting, holds
from ragtune.stages import trials as trials_module
from ragtune.stages import tune as tune_module
from ragtune.stages.tune import run_tune
from ragtune.training.search import Measured, Search, TrialRow, choose_best, describe_failure

pytest.importorskip("optuna")
LR = {"low": 0.001, "high": 0.01, "log": True}


def make_recipe(**tune: Any) -> Recipe:
    return check_recipe({"name": "t", "tune": tune}, "test")


# The space


@pytest.mark.parametrize(("key", "span", "says"), [
    ("training.lrr", LR, "'training.lrr' cannot be searched. Did you mean 'training.lr'?"),
    ("lr", LR, "'lr' cannot be searched"),
    ("index.chunk_tokens", {"low": 100, "high": 200}, "The index is built once and reused."),
    ("dataset.seed", {"low": 0, "high": 9}, "It stays as it is in a search."),
    ("training.seed", {"low": 0, "high": 9}, "It stays as it is in a search."),
    ("retrieval.k", {"low": 0, "high": 5}, "retrieval.k = 0: "),
    ("retrieval.k", {"low": 1.5, "high": 5}, "retrieval.k takes whole numbers, found 1.5"),
    ("retrieval.k", {"low": 1, "high": 5, "step": 0.5}, "retrieval.k takes whole numbers, found 0.5"),
    ("training.schedule", {"choices": ["linear", "cosin"]}, "training.schedule = 'cosin': "),
    ("training.lr", {"low": 0.1}, "low and high are both needed"),
    ("training.lr", {"low": 0.2, "high": 0.1}, "low not above high"),
    ("training.lr", {"low": 0, "high": 0.1, "log": True}, "log needs a low above 0"),
    ("training.lr", {}, "name low and high, or choices"),
    ("training.lr", {"low": 1, "high": 2, "choices": [1]}, "name low and high, or choices"),
    ("training.lr", {"hihg": 1}, "unknown key"),
])
def test_a_space_that_cannot_be_searched_is_refused_with_reasons(key: str, span: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(space={key: span})
    assert says in str(caught.value)


def test_all_faults_of_a_space_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(space={"training.lrr": LR, "retrieval.kk": {"low": 1, "high": 3}})
    assert "training.lrr" in str(caught.value)
    assert "retrieval.kk" in str(caught.value)


def test_a_rank_keeps_the_ratio_of_alpha_unless_alpha_is_searched_too() -> None:
    recipe = Recipe()
    assert apply_setting(recipe, {"training.r": 4}).training.alpha == 8
    assert apply_setting(recipe, {"training.r": 4, "training.alpha": 32}).training.alpha == 32
    assert apply_setting(recipe, {"training.epochs": 2}).training.epochs == 2.0
    assert apply_setting(recipe, {"training.preference.beta": 0.3}).training.preference.beta == 0.3


def test_which_values_lie_in_a_span() -> None:
    space = Tune.model_validate({"space": {"training.r": {"choices": [4, 8]}, "training.lr": LR,
                                           "dataset.gold_share": {"low": 0.6, "high": 1.0, "step": 0.1}}}).space
    assert holds(space["training.r"], 4)
    assert not holds(space["training.r"], 5)
    assert holds(space["training.lr"], 0.005)
    assert not holds(space["training.lr"], None)
    assert holds(space["dataset.gold_share"], 0.8)
    assert not holds(space["dataset.gold_share"], 0.85)


# Trials


def make_search(folder: Path, **tune: Any) -> Search:
    space = {"training.lr": LR, "retrieval.k": {"low": 1, "high": 5}}
    return Search(folder, Tune.model_validate({"space": space, **tune}))


def reach(setting: Any, report_loss: Any) -> Measured:
    return Measured(setting["retrieval.k"] / 5, 1.0)


def die(setting: Any, report_loss: Any) -> Measured:
    raise KeyboardInterrupt


def test_a_search_that_was_stopped_tries_what_an_unbroken_one_tries(tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = make_search(tmp_path / "whole", seed=3)
    whole.run(reach, 7)
    for trials in (2, 5, 7):
        broken = make_search(tmp_path / "broken", seed=3)
        broken.run(reach, trials)
        broken.close()
    assert [row.setting for row in broken.rows()] == [row.setting for row in whole.rows()]
    assert len({row.setting["training.lr"] for row in whole.rows()}) == 7


def test_a_killed_trial_is_marked_and_redone_with_its_setting(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    search.run(reach, 1)
    with pytest.raises(KeyboardInterrupt):
        search.run(die, 2)
    again = make_search(tmp_path)
    again.run(reach, 2)
    assert [row.state for row in again.rows()] == ["finished", "killed", "finished"]
    assert again.rows()[1].setting == again.rows()[2].setting


def test_a_setting_that_kills_twice_counts_as_failed(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            make_search(tmp_path).run(die, 1)
    search = make_search(tmp_path)
    search.run(reach, 2)
    assert [row.state for row in search.rows()] == ["killed", "failed", "finished"]
    assert search.rows()[1].reason == "killed 2 times"


def test_failures_are_counted_and_told_and_the_search_goes_on(tmp_path: Path) -> None:
    faults: list[BaseException] = [RunError("the loss is nan at step 3."), RuntimeError("CUDA out of memory. Tried"),
                                   MemoryError()]

    def fail(setting: Any, report_loss: Any) -> Measured:
        if faults:
            raise faults.pop(0)
        return reach(setting, report_loss)

    def fill(setting: Any, report_loss: Any) -> Measured:
        raise RunError("the disk is full: x")

    search = make_search(tmp_path)
    search.run(fail, 4)
    rows = search.rows()
    assert [row.state for row in rows] == ["failed"] * 3 + ["finished"]
    assert rows[0].reason == "the loss is nan at step 3."
    assert rows[1].reason == "RuntimeError: out of memory (CUDA out of memory. Tried)"
    assert "out of memory" in rows[2].reason
    with pytest.raises(RunError, match="disk is full"):
        search.run(fill, 5)


def test_trials_that_lag_are_pruned(tmp_path: Path) -> None:
    losses = iter([1.0, 1.1, 1.2, 9.0])

    def measure(setting: Any, report_loss: Any) -> Measured:
        report_loss(30, next(losses))
        return Measured(0.5, 1.0)

    search = make_search(tmp_path, startup_trials=3)
    search.run(measure, 4)
    rows = search.rows()
    assert [row.state for row in rows] == ["finished"] * 3 + ["pruned"]
    assert rows[3].losses == {30: 9.0}
    assert rows[3].reason == "loss 9.0000 at 30% of the steps"
    assert rows[3].value is None


def test_the_time_ends_a_search(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    search.run(reach, 50, timeout_s=1e-9)
    assert search.rows() == []


def test_importances_name_what_decides(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    search.run(reach, 12)
    found = search.importances()
    assert next(iter(found)) == "retrieval.k"
    assert sum(found.values()) == pytest.approx(1)


def test_of_equals_the_one_with_less_loss_is_the_best() -> None:
    rows = [TrialRow(0, "finished", {}, Measured(0.5, 0.9)), TrialRow(1, "finished", {}, Measured(0.5, 0.8)),
            TrialRow(2, "pruned", {}, Measured(0.9, 0.1)), TrialRow(3, "finished", {}, Measured(0.4, 0.2))]
    best = choose_best(rows)
    assert best is not None
    assert best.number == 1
    assert choose_best([rows[2]]) is None


def test_failures_are_told_in_one_line() -> None:
    assert describe_failure(ValueError("a\n b")) == "ValueError: a b"


# The stage


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"))


def stage_recipe(home: Path, **tune: Any) -> Recipe:
    space = {"training.lr": LR, "retrieval.k": {"low": 1, "high": 2}}
    return home_recipe(home, tune={"space": space, "limit": 4, "validation_share": 0.5, **tune})


def test_test_questions_are_asked_at_the_end_alone_and_the_best_recipe_loads(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = stage_recipe(home)
    dataset = home / "work" / "t" / "dataset"
    test = {q.text for q in read_questions(dataset / "questions_test.jsonl")}
    excluded = set(read_manifest(dataset, "dataset")["excluded"])
    asked: list[tuple[str, str]] = []
    learned: list[set[str]] = []
    real_evaluate, real_train = trials_module.run_evaluate, tune_module.run_train

    def evaluate(recipe: Recipe, out: Path, *args: Any, **named: Any) -> Any:
        found = real_evaluate(recipe, out, *args, **named)
        where = "final" if "final" in out.parts else "trials"
        asked.extend((where, json.loads(line)["question"]) for line in (out / "answers.jsonl").open())
        return found

    def train(recipe: Recipe, out: Path, dataset: Path, **named: Any) -> Any:
        if "trials" in out.parts:
            files = [dataset / f"questions_{side}.jsonl" for side in ("train", "test")]
            learned.append({question.text for file in files for question in read_questions(file)})
            shown = (dataset / "train.jsonl").read_text()
            assert not [name for name in excluded if name in shown]
        return real_train(recipe, out, dataset=dataset, **named)

    monkeypatch.setattr(trials_module, "run_evaluate", evaluate)
    monkeypatch.setattr(trials_module, "run_train", train)
    out = tmp_path / "search"
    seen: list[str] = []
    summary = run_tune(recipe, out, trials=2, report=lambda what, *_: seen.append(what))

    places = [where for where, _ in asked]
    assert set(places[: places.index("final")]) == {"trials"}
    assert set(places[places.index("final"):]) == {"final"}
    assert len(learned) == 3  # the recipe's own setting and two trials
    assert all(not test & texts for texts in learned)
    assert not test & {text for where, text in asked if where == "trials"}
    assert {text for where, text in asked if where == "final"} <= test
    assert excluded

    assert (len(summary.trials), summary.validation_questions) == (2, 4)
    assert summary.finals[0].name == "default"
    assert "trials" in seen
    names = {path.name for path in out.iterdir()}
    assert {"best.yaml", "history.png", "manifest.json", "report.md", "search.db", "summary.json", "trials"} <= names
    assert not names & {"datasets", "held_out"}
    assert read_manifest(out, "search")["test_looks"] == len(summary.finals)
    best = load_recipe(str(out / "best.yaml"))
    assert apply_setting(recipe, summary.best).training == best.training

    # more trials go on from these: what was measured is not measured again, nor the test questions for a known setting
    asked.clear()
    again = run_tune(recipe, out, trials=3)
    assert [row.setting for row in again.trials[:2]] == [row.setting for row in summary.trials]
    assert len(again.trials) == 3
    assert len([where for where, _ in asked if where == "trials"]) <= 4
    assert again.finals[0].to_dict()["rung"]["correct"] == summary.finals[0].rung.correct


def test_a_search_killed_in_a_trial_goes_on(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, real = stage_recipe(home, objective="loss"), trials_module.run_train
    calls: list[str] = []

    def train(recipe: Recipe, out: Path, **named: Any) -> Any:
        calls.append(out.parent.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(recipe, out, **named)

    def stop(*_: Any, **__: Any) -> None:
        raise SystemExit("the end")

    monkeypatch.setattr(trials_module, "run_train", train)
    monkeypatch.setattr(trials_module, "run_evaluate", stop)  # this objective needs no answers
    monkeypatch.setattr(tune_module, "run_train", stop)
    out = tmp_path / "search"
    with pytest.raises(KeyboardInterrupt):
        run_tune(recipe, out, trials=1)
    assert not out.exists()
    with pytest.raises(SystemExit, match="the end"):
        run_tune(recipe, out, trials=1)
    assert len(calls) == 3  # the recipe's own setting was measured once
    assert calls[2] == calls[1]


@pytest.mark.parametrize(("training", "says"), [
    ({"method": "dpo"}, "'dpo', which goes on from a supervised run"), ({"start": "work/run"}, "training.start is work/run"),
])
def test_a_run_that_knows_the_held_out_questions_is_no_start(home: Path, training: dict[str, Any], says: str) -> None:
    recipe = stage_recipe(home)
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=training)})
    with pytest.raises(RecipeError, match=says):
        run_tune(recipe, home / "none")


def test_a_search_whose_trials_all_fail_says_why(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: Any, setting: dict[str, Any], report_loss: Any) -> Measured:
        if setting:
            raise RunError("the loss is nan at step 1.")
        return Measured(0.0)

    monkeypatch.setattr(trials_module.Trials, "measure", measure)
    with pytest.raises(RunError, match="all 2 trials failed: the loss is nan at step 1"):
        run_tune(stage_recipe(home), tmp_path / "search", trials=2)
