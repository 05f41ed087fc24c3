"""Comparing methods: statistics on outcomes made by hand, and two methods end to end, each in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from tiny_home import home_recipe, make_home

from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.errors import ModelError, RecipeError
from ragtune.evaluation.statistics.compare import mcnemar_p, wilson_interval
from ragtune.files import read_jsonl, read_manifest
from ragtune.recipe.schema import Recipe
from ragtune.records import Outcome
from ragtune.stages import compare_methods as stage
from ragtune.stages.compare_methods import Budget, run_compare_methods
from ragtune.stages.comparison_report import draw_standing, render_comparison, sum_up, tell_bytes, tell_row, tell_seconds
from ragtune.stages.method_process import MethodResult, MethodTask, main, run_task
from ragtune.stages.outcomes import Outcomes
from ragtune.stages.standing import MethodRow, Standing, find_standing
from ragtune.training.run import open_run

# Statistics, by hand


def answers(right: str) -> Outcomes:
    """Outcomes of as many questions as there are letters: c correct, w wrong, r refused."""
    names = {"c": "correct", "w": "wrong", "r": "refused"}
    found = {f"q{place}": cast(Outcome, names[letter]) for place, letter in enumerate(right)}
    return Outcomes(found, {question: question for question in found})


def row(method: str, seconds: float, parameters: int = 10, adapter: int = 100) -> MethodRow:
    return MethodRow(method, "finished", seconds=seconds, trainable_parameters=parameters, adapter_bytes=adapter)


def stand(**answered: tuple[float, str]) -> Standing:
    rows = [row(name, seconds) for name, (seconds, _) in answered.items()]
    return find_standing(rows, {name: answers(right) for name, (_, right) in answered.items()})


def test_counts_intervals_and_paired_tests_are_those_of_the_outcomes() -> None:
    standing = stand(base=(0, "w" * 20), full=(90, "c" * 18 + "wr"), lora=(30, "c" * 16 + "wwwr"))
    rows = {row.method: row for row in standing.rows}
    assert [row.method for row in standing.rows] == ["full", "lora", "base"]
    assert (rows["full"].n, rows["full"].correct, rows["full"].wrong, rows["full"].refused) == (20, 18, 1, 1)
    assert rows["full"].interval == pytest.approx(wilson_interval(18, 20))
    against_base = rows["lora"].against_base
    assert against_base is not None
    assert (against_base.only_a, against_base.only_b, against_base.difference) == (0, 16, 0.8)
    assert against_base.mcnemar == pytest.approx(mcnemar_p(0, 16))
    assert against_base.adjusted_p == pytest.approx(mcnemar_p(0, 16))  # the larger of two: Holm takes it as it is
    other = rows["full"].against_base
    assert other is not None
    assert other.adjusted_p == pytest.approx(2 * mcnemar_p(0, 18))
    assert rows["base"].against_base is None
    assert rows["full"].against_best is None
    best = rows["base"].against_best
    assert best is not None
    assert best.is_shown
    assert best.difference == pytest.approx(0.9)


def test_the_cheapest_within_the_noise_is_not_shown_to_be_worse_than_the_best() -> None:
    standing = stand(base=(0, "w" * 20), full=(90, "c" * 18 + "ww"), lora=(30, "c" * 16 + "wwww"),
                     ia3=(10, "c" * 4 + "w" * 16))
    assert (standing.best, standing.cheapest) == ("full", "lora")
    assert {row.method for row in standing.rows if row.is_within_noise} == {"full", "lora"}
    assert sum_up(standing) == ("Most correct: full (90% of 20 questions). Cheapest that is not shown to be worse: lora "
                                "(80%, 30 s against 90 s).")


def test_where_nothing_is_shown_the_base_is_the_cheapest_and_it_is_said() -> None:
    standing = stand(base=(0, "cww"), full=(90, "ccw"))
    assert (standing.best, standing.cheapest) == ("full", "base")
    assert "No test shows that it, or any other, is better than the base untuned." in sum_up(standing)


def test_of_equal_costs_in_seconds_fewer_weights_are_cheaper_and_then_fewer_bytes() -> None:
    alike = {name: answers("cccw") for name in ("a", "b", "c")}
    rows = [row("a", 5, 20), row("b", 5, 10, 300), row("c", 5, 10, 200)]
    standing = find_standing(rows, alike)
    assert standing.cheapest == "c"
    assert standing.best == "c"  # of equals the cheapest


def test_many_methods_are_corrected_as_many() -> None:
    base = "w" * 8 + "c" * 8
    better = "c" * 14 + "ww"  # 8 gained, 2 lost
    alone = stand(base=(0, base), a=(1, better))
    rows = {f"m{i}": (float(i), better) for i in range(8)}
    many = stand(base=(0, base), **rows)
    one = next(row for row in alone.rows if row.method == "a").against_base
    first = next(row for row in many.rows if row.method == "m0").against_base
    assert one is not None
    assert first is not None
    assert one.adjusted_p == pytest.approx(one.p)
    assert first.adjusted_p == pytest.approx(min(1, 8 * one.p))


def test_tests_are_over_questions_and_that_by_documents_stands_beside() -> None:
    one, other = answers("w" * 12), answers("c" * 12)
    documents = {question: f"d{place // 4}" for place, question in enumerate(one.outcomes)}
    sides = {"base": Outcomes(one.outcomes, documents), "a": Outcomes(other.outcomes, documents)}
    found = find_standing([row("base", 0), row("a", 1)], sides).rows[0]
    assert found.against_base is not None
    assert (found.against_base.test, found.against_base.p) == ("mcnemar", pytest.approx(mcnemar_p(0, 12)))
    assert found.p_by_documents == pytest.approx(2 / 2**3)


def test_a_failed_method_is_a_row_that_says_why() -> None:
    failed = MethodRow("dora", "failed", reason="out of memory | killed")
    standing = find_standing([row("base", 0), failed], {"base": answers("cw")})
    assert [row.method for row in standing.rows] == ["base", "dora"]
    assert tell_row(failed, standing)[:2] == ("dora", "failed: out of memory | killed")
    assert "| dora | failed: out of memory / killed |" in render_comparison(standing, "t", "retrieval", 2, "3 steps", ())
    assert draw_standing(standing, 2).startswith(b"\x89PNG")
    assert sum_up(find_standing([failed], {})) == "No method finished."


@pytest.mark.parametrize(("count", "told"), [(0, "0 B"), (900, "900 B"), (2048, "2.0 KiB"), (20 << 20, "20 MiB"),
                                             (3 << 30, "3.0 GiB")])
def test_bytes_are_told_in_their_unit(count: int, told: str) -> None:
    assert tell_bytes(count) == told


@pytest.mark.parametrize(("seconds", "told"), [(4.4, "4 s"), (600, "10 min"), (9000, "2.5 h")])
def test_seconds_are_told_in_their_unit(seconds: float, told: str) -> None:
    assert tell_seconds(seconds) == told


# The stage


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize(("methods", "budget", "error", "says"), [
    (["lorra"], Budget(), RecipeError, "Did you mean 'lora'?"),
    ([], Budget(), RecipeError, "there is no method to compare"),
    (["lora"], Budget(steps=3, epochs=1.0), RecipeError, "Name one of --steps and --epochs"),
])
def test_what_cannot_be_compared_is_refused(
    home: Path, methods: list[str], budget: Budget, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run_compare_methods(home_recipe(home), methods, budget, out=home / "none")


def test_a_model_that_cannot_be_tuned_is_refused(home: Path) -> None:
    with pytest.raises(ModelError, match="'echo' cannot be tuned here"):
        run_compare_methods(home_recipe(home, generator={"model": "echo"}), ["lora"], out=home / "none")


def fake_process(calls: list[MethodTask], failing: str = "") -> Any:
    """Return what stands for the process: it writes a run and takes up an evaluation of the base made once."""

    def run(task: MethodTask, place: Path) -> MethodResult:
        calls.append(task)
        if task.method == failing:
            return MethodResult(task.method, task.key, "failed", "out of memory")
        evaluation = place / "evaluation"
        evaluation.mkdir(parents=True, exist_ok=True)
        model = "base" if task.method == "base" else "tuned"
        questions = [question for _, question in read_jsonl(Path(task.recipe["evaluation"]["questions"]))]
        rows = [{"model": model, "setting": "retrieval", "question_id": question["id"], "kind": "", "outcome": "correct",
                 "reason": "", "question": question["text"], "gold": "", "answer": ""} for question in questions]
        (evaluation / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (evaluation / "questions.jsonl").write_text("".join(json.dumps({"question": q}) + "\n" for q in questions))
        result = MethodResult(task.method, task.key, "finished", seconds=0.0 if model == "base" else 5.0, parameters=1000,
                              trainable_parameters=10)
        (place / "result.json").write_text(json.dumps(result.to_dict()))
        return result

    return run


def test_finished_methods_are_not_run_again_and_failed_ones_are(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = home_recipe(home), tmp_path / "comparison"
    calls: list[MethodTask] = []
    monkeypatch.setattr(stage, "_run_process", fake_process(calls, failing="dora"))
    first = run_compare_methods(recipe, ["lora", "dora"], Budget(steps=3), out=out)
    assert [task.method for task in calls] == ["base", "lora", "dora"]
    assert [(row.method, row.state) for row in first.standing.rows][-1] == ("dora", "failed")
    assert {task.recipe["training"]["max_steps"] for task in calls[1:]} == {3}
    calls.clear()
    monkeypatch.setattr(stage, "_run_process", fake_process(calls))
    again = run_compare_methods(recipe, ["lora", "dora", "ia3"], Budget(steps=3), out=out)
    assert [task.method for task in calls] == ["dora", "ia3"]
    assert [row.state for row in again.standing.rows] == ["finished"] * 4
    calls.clear()
    run_compare_methods(recipe, ["lora"], Budget(steps=4), out=out)
    assert [task.method for task in calls] == ["base", "lora"]  # another budget is another comparison
    assert sorted(path.name for path in (out / "methods").iterdir()) == ["base", "lora"]


def test_methods_that_refine_start_from_one_supervised_run_whose_time_counts(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = home_recipe(home, training={"method": "ia3", "lr": 0.5, "weights": "dora"})
    calls: list[MethodTask] = []
    monkeypatch.setattr(stage, "_run_process", fake_process(calls))
    pairs: list[Path] = []

    def make_pairs(recipe: Recipe, dataset: Path, index: Path, out: Path, report: Any = None) -> None:
        pairs.append(out)
        out.mkdir(parents=True)
        (out / "manifest.json").write_text('{"id": "pairs-1"}')

    monkeypatch.setattr("ragtune.stages.bench.run_pairs", make_pairs)
    summary = run_compare_methods(recipe, ["ia3", "dpo", "kto", "orpo", "reward"], Budget(steps=3), out=tmp_path / "c")
    tasks = {task.method: task for task in calls}
    assert [task.method for task in calls] == ["base", "lora", "ia3", "dpo", "kto", "orpo"]
    assert len(pairs) == 1  # made once for all that learn from them
    assert not tasks["lora"].is_asked  # it is only there to start from
    assert tasks["dpo"].recipe["training"]["start"].endswith("methods/lora/run")
    assert tasks["orpo"].recipe["training"]["start"] is None
    assert (tasks["ia3"].recipe["training"]["lr"], tasks["dpo"].recipe["training"]["lr"]) == (0.5, None)
    assert (tasks["ia3"].recipe["training"]["weights"], tasks["dpo"].recipe["training"]["weights"]) == (None, "dora")
    rows = {row.method: row for row in summary.standing.rows}
    assert (rows["dpo"].start_seconds, rows["ia3"].start_seconds, rows["orpo"].start_seconds) == (5.0, 0.0, 0.0)
    assert rows["dpo"].seconds >= 10
    assert rows["dpo"].rows_seconds >= 0
    assert rows["reward"].state == "failed"
    assert "it scores answers and gives none" in rows["reward"].reason
    assert "lora" not in rows
    assert summary.start == "lora"


def test_methods_with_a_preset_get_its_rows_of_the_same_questions(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[MethodTask] = []
    monkeypatch.setattr(stage, "_run_process", fake_process(calls))
    run_compare_methods(home_recipe(home), ["lora", "raft"], Budget(steps=3), limit=4, out=tmp_path / "c")
    lora, raft = calls[1:]
    assert Path(raft.rows).name == "dataset-raft"
    found = read_manifest(Path(tmp_path / "c" / "dataset-raft"), "dataset")["recipe"]["dataset"]
    assert (found["preset"], found["distractors"]) == ("raft", 4)
    sides = [(Path(place) / "questions_test.jsonl").read_text() for place in (lora.rows, tmp_path / "c" / "dataset-raft")]
    assert sides[0] == sides[1]
    assert raft.dataset == lora.dataset  # what is asked is the same for all


def test_all_stands_for_every_method_that_answers(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def run(self: Any, name: str, is_asked: bool) -> MethodResult:
        tried.append(name)
        return MethodResult(name, "", "failed", "not here")

    monkeypatch.setattr(stage._Runner, "run", run)
    (tmp_path / "c.partial" / "methods").mkdir(parents=True)
    summary = run_compare_methods(home_recipe(home), ["all"], out=tmp_path / "c")
    assert {"full", "lora", "dpo", "grpo"} <= set(tried)
    assert not {"reward", "ra_dit_retriever"} & set(tried)
    assert summary.standing.best == ""


def test_a_start_that_failed_fails_those_that_need_it(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[MethodTask] = []
    monkeypatch.setattr(stage, "_run_process", fake_process(calls, failing="lora"))
    summary = run_compare_methods(home_recipe(home), ["grpo"], Budget(steps=3), out=tmp_path / "c")
    assert [task.method for task in calls] == ["base", "lora"]
    assert "the supervised run it goes on from (lora) failed" in summary.standing.rows[-1].reason


def test_a_process_that_dies_is_a_reason(home: Path, tmp_path: Path) -> None:
    task = MethodTask("lora", {"name": "no such section", "oops": 1}, "", "", "", str(tmp_path), "key")
    (tmp_path / "task.json").write_text(json.dumps(task.to_dict()))
    result = stage._run_process(task, tmp_path)
    assert (result.state, result.key) == ("failed", "key")
    assert result.reason


def test_a_fault_in_a_task_is_its_result(home: Path, tmp_path: Path) -> None:
    recipe = home_recipe(home).model_dump(mode="json")
    result = run_task(MethodTask("lora", recipe, str(home), str(home), str(tmp_path / "none"), str(tmp_path), "key"))
    assert result.state == "failed"
    assert "none" in result.reason


def test_two_methods_end_to_end(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """lora runs in a process of its own; starting Python and its libraries for the others too would take long."""
    started: list[str] = []
    real = stage._run_process

    def run(task: MethodTask, place: Path) -> MethodResult:
        started.append(task.method)
        if task.method == "lora":
            return real(task, place)
        main(place / "task.json")
        return MethodResult.from_dict(json.loads((place / "result.json").read_text()))

    monkeypatch.setattr(stage, "_run_process", run)
    file, out = tmp_path / "r.yaml", tmp_path / "comparison"
    file.write_text(json.dumps(home_recipe(home).model_dump(mode="json")))
    command = ["compare-methods", "--recipe", str(file), "--methods", "lora,qlora", "--steps", "1", "--limit", "4", "--out",
               str(out)]
    assert run_guarded(ragtune, [*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    rows = {row["method"]: row for row in printed["standing"]["rows"]}
    assert {name: row["state"] for name, row in rows.items()} == dict.fromkeys(("base", "lora", "qlora"), "finished")
    assert all(row["n"] == 4 for row in rows.values())
    assert rows["lora"]["steps"] == 1
    assert 0 < rows["lora"]["trainable_share"] < 1
    assert rows["lora"]["adapter_bytes"] > 1000
    assert rows["lora"]["peak_memory_mb"] > 50
    assert rows["lora"]["seconds"] > 0
    assert rows["base"]["trainable_parameters"] == 0
    assert open_run(out / "methods" / "lora" / "run").manifest["recipe"]["training"]["method"] == "lora"
    assert read_manifest(out, "comparison")["best"] == printed["standing"]["best"]
    assert (out / "methods.png").read_bytes().startswith(b"\x89PNG")
    assert started == ["base", "lora", "qlora"]
    assert run_guarded(ragtune, command) == 0
    told = capsys.readouterr().out
    assert "Most correct: " in told
    assert f"Report: {out / 'report.md'}" in told
    assert "qlora" in told
    assert len(started) == 3


@pytest.mark.parametrize(("arguments", "code", "says"), [
    (["compare-methods", "--recipe", "demo"], 2, "Missing option '--methods'"),
    (["compare-methods", "--recipe", "demo", "--methods", "lorra"], 1, "Did you mean 'lora'?"),
    (["compare-methods", "--recipe", "demo", "--methods", ", ,"], 1, "there is no method to compare"),
    (["compare-methods", "--recipe", "demo", "--methods", "lora", "--steps", "0"], 2, "is not in the range"),
    (["compare-methods", "--recipe", "demo", "--methods", "lora", "--steps", "3", "--epochs", "1"], 1, "Name one of"),
    (["tune", "--recipe", "demo", "--trials", "0"], 2, "is not in the range"),
    (["tune", "--recipe", "demo", "--timeout", "0"], 2, "is not in the range"),
    (["tune", "--recipe", "demo", "--set", "tune.space={training.lrr: {low: 1, high: 2}}"], 1,
     "Did you mean 'training.lr'?"),
    (["tune", "--recipe", "demo", "--set", "training.method=dpo"], 1, "which goes on from a supervised run"),
    (["tune", "--recipe", "demo", "--set", "tune.objectiv=loss"], 1, "Did you mean 'objective'?"),
])
def test_the_command_line_refuses(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_guarded(ragtune, arguments) == code
    assert says in capsys.readouterr().err
