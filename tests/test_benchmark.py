"""The bridge to lm-evaluation-harness: its tasks on our models, base and tuned paired, without a network."""

import json

import pytest
from tiny_model import make_adapter, make_tiny_model

from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.errors import MissingPackage, ModelError, RunError
from ragtune.evaluation.benchmarks.general import compare_results
from ragtune.evaluation.benchmarks.harness import TaskResult, Tasks, shipped_tasks
from ragtune.evaluation.benchmarks.task_names import reached_names
from ragtune.files import write_manifest
from ragtune.models.checkpoint import fingerprint_model
from ragtune.recipe.schema import Generator, Recipe
from ragtune.stages.benchmark import NO_RUN, run_benchmark


def result(model, scores, totals=None):
    items = {f"t/{n}/x": float(score) for n, score in enumerate(scores)}
    return TaskResult("t", model, len(items), {"acc": items}, {"t": {"acc": 0.5, **(totals or {})}})


def test_base_and_tuned_are_paired_item_by_item():
    lines, notes = compare_results([result("base", [1] * 20), result("tuned", [1] * 8 + [0] * 12, {"f1": 0.25})])
    assert [(line.metric, line.n) for line in lines] == [("acc", 20), ("f1", 20)]
    found = lines[0].comparison
    assert (found.only_a, found.only_b, found.test) == (12, 0, "mcnemar")
    assert found.p == pytest.approx(2 / 2**12)
    assert lines[0].sentence().startswith("Base is better than tuned on t (acc)")
    assert (lines[1].figures, lines[1].comparison, notes) == ({"tuned": 0.25}, None, [])


def test_scores_between_are_compared_by_their_means_and_corrected():
    several = [TaskResult("t", model, 2, {"a": {"1": 0.5, "2": value}, "b": {"1": 1.0, "2": value}}, {})
               for model, value in (("base", 0.25), ("tuned", 1.0))]
    lines, _ = compare_results(several)
    assert lines[0].comparison.difference == pytest.approx(0.375)
    assert all(line.comparison.correction == "holm" for line in lines)


def test_what_only_one_has_is_left_out_and_said():
    lines, notes = compare_results([result("base", [1, 0, 1]), result("tuned", [1, 0])])
    assert lines[0].n == 2
    assert lines[0].figures == {"base": 0.5, "tuned": 0.5}
    assert "1 only of a" in notes[0]


def test_the_shipped_tasks_are_whole():
    found = shipped_tasks()
    assert set(found) == {"ragtune_everyday", "ragtune_sums"}
    for name, count in (("ragtune_everyday", 40), ("ragtune_sums", 20)):
        with open(found[name]["dataset_kwargs"]["data_files"]["test"]) as file:
            rows = [json.loads(line) for line in file]
        assert len(rows) == len({json.dumps(row) for row in rows}) == count
        if name == "ragtune_everyday":
            assert all(0 <= row["answer"] < len(row["choices"]) == len(set(row["choices"])) for row in rows)
            places = [row["answer"] for row in rows]
            assert max(places.count(place) for place in range(4)) <= 20  # no place is the answer to most


def test_the_sums_are_right():
    import re

    with open(shipped_tasks()["ragtune_sums"]["dataset_kwargs"]["data_files"]["test"]) as file:
        rows = [json.loads(line) for line in file]
    checked = 0
    for row in rows:
        asked = row["question"].removeprefix("What is ").rstrip("?").replace(",", "")
        asked = asked.replace("divided by", "/").replace("times", "*")
        if re.fullmatch(r"[\d +*/-]+", asked):
            assert eval(asked) == int(row["answer"])
            checked += 1
    assert checked >= 16


def test_providers_and_readers_cannot_be_asked(tmp_path):
    pytest.importorskip("lm_eval")
    for model in ("extractive", "openai:gpt-4o-mini"):
        with pytest.raises(ModelError, match="probabilities"):
            run_benchmark(Recipe(work=str(tmp_path), generator=Generator(model=model)), ["ragtune_sums"])


def test_without_the_harness_the_pip_line_is_said(monkeypatch):
    import importlib.metadata

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(MissingPackage, match=r"pip install 'ragtune\[benchmarks\]'"):
        Tasks(["ragtune_sums"])


TASK = """task: my_task
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{c}}"
doc_to_target: "{{a}}"
metric_list: [{metric: acc}]
"""


@pytest.fixture
def task_folder(tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = ({"q": f"{n} + {n} =", "c": [str(2 * n), str(2 * n + 1)], "a": 0} for n in (1, 2))
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "my.yaml").write_text(TASK.replace("FILE", str(folder / "items.jsonl")))
    (folder / "far.yaml").write_text(TASK.replace("my_task", "far_task").replace("FILE", str(folder / "none.jsonl")))
    return folder


def test_data_that_cannot_be_had_name_the_local_way(task_folder):
    pytest.importorskip("lm_eval")
    tasks = Tasks(["my_task", "far_task"], task_folder)
    assert list(tasks.load("my_task")["tasks"]) == ["my_task"]
    with pytest.raises(RunError, match="'far_task' cannot be had.*HF_HOME.*--task-folder.*ragtune_everyday"):
        tasks.load("far_task")
    with pytest.raises(RunError, match="no folder"):
        Tasks(["my_task"], task_folder / "none")


@pytest.fixture
def tuned(tmp_path):
    """A recipe on a random model with a run of it."""
    model = make_tiny_model(tmp_path / "model")
    run = tmp_path / "work/t/run"
    run.mkdir(parents=True)
    make_adapter(run / "adapter", model)
    (run / "metrics.jsonl").write_text("")
    write_manifest(run, "run", id="run-1", base_fingerprint=fingerprint_model(str(model)))
    return Recipe(name="t", work=str(tmp_path / "work"), generator=Generator(model=str(model), device="cpu"))


def test_both_models_answer_the_same_items(tuned, task_folder, monkeypatch):
    pytest.importorskip("lm_eval")
    seen = []
    summary = run_benchmark(tuned, ["ragtune_everyday", "my_task"], limit=8, task_folder=task_folder,
                            report=lambda *told: seen.append(told))
    lines = {(line.task, line.metric): line for line in summary.lines}
    assert lines["ragtune_everyday", "acc"].n == 8
    assert lines["my_task", "acc"].n == 2
    assert set(lines["ragtune_everyday", "acc_norm"].figures) == {"base", "tuned"}
    assert all(line.comparison is not None for line in summary.lines)
    assert seen[-1][1] == seen[-1][2] > 0
    folder = tuned.work + "/t/benchmark"
    with open(f"{folder}/base-my_task.json") as file:
        assert len(json.load(file)["scores"]["acc"]) == 2
    monkeypatch.setattr("ragtune.stages.benchmark.run_task", None)  # nothing is asked again
    again = run_benchmark(tuned, ["ragtune_everyday", "my_task"], limit=8, task_folder=task_folder)
    assert again.lines == summary.lines


def test_the_bundled_model_does_the_shipped_tasks(tmp_path, capsys):
    pytest.importorskip("lm_eval")
    import torch

    torch.set_num_threads(1)
    code = run_guarded(ragtune, ["benchmark", "--recipe", "demo", "--set", f"work={tmp_path}", "--limit", "4",
                                 "--set", "generator.device=cpu", "--models", "base"])
    shown = capsys.readouterr()
    assert code == 0
    assert "ragtune_everyday acc_norm" in shown.out
    assert "ragtune_sums exact_match,last_number" in shown.out
    assert NO_RUN not in shown.err
    assert "requests" not in shown.err


def test_wrong_options_are_wrong_usage(capsys):
    assert run_guarded(ragtune, ["benchmark", "--recipe", "demo", "--models", "best"]) == 2
    assert run_guarded(ragtune, ["benchmark", "--recipe", "demo", "--tasks", ","]) == 2


def test_an_unknown_task_is_told_with_the_nearest_and_nothing_else_is_read(task_folder, monkeypatch):
    pytest.importorskip("lm_eval")
    opened = count_managers(monkeypatch)
    for names, folder, near in ((["my_taks"], task_folder, "my_task"), (["my_task", "hellswag"], task_folder, "hellaswag"),
                                (["hellswag"], None, "hellaswag")):
        with pytest.raises(RunError, match=f"no task '{names[-1]}'.*Did you mean '{near}'"):
            Tasks(names, folder)
    assert [(len(paths), defaults) for paths, defaults in opened] == [(1, False), (1, False), (0, False)]


def count_managers(monkeypatch):
    """Note of each TaskManager how many folders it reads, and whether the harness's own thousands are among them."""
    import lm_eval.tasks

    opened, real = [], lm_eval.tasks.TaskManager

    def manager(include_path=None, include_defaults=True):
        opened.append((include_path, include_defaults))
        return real(include_path=include_path, include_defaults=include_defaults)

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", manager)
    return opened


def test_a_task_of_the_harness_is_found_without_reading_all_of_them(task_folder, monkeypatch):
    pytest.importorskip("lm_eval")
    opened = count_managers(monkeypatch)
    (task_folder / "several.yaml").write_text("group: several\ntask: [my_task, {group: inner, task: [gsm8k]}, piqa, glue]\n")
    (task_folder / "mmlu.yaml").write_text(TASK.replace("my_task", "hellaswag").replace("FILE", "none"))
    tasks = Tasks(["several", "hellaswag", "ragtune_sums"], task_folder)
    known = tasks._manager.task_index
    assert {"my_task", "gsm8k", "piqa", "glue", "hellaswag"} <= set(known)
    assert known["hellaswag"].yaml_path == task_folder / "mmlu.yaml"  # the user's own goes first
    assert len(known) < 100
    assert not any(defaults for _, defaults in opened)
    assert {"my_task", "gsm8k"} <= reached_names(known, ["several"])


def test_an_error_that_is_not_of_the_data_keeps_its_own_words(task_folder):
    pytest.importorskip("lm_eval")
    bad = TASK.replace("my_task", "bad_task").replace("FILE", str(task_folder / "items.jsonl"))
    (task_folder / "bad.yaml").write_text(bad.replace("output_type: multiple_choice", "output_type: guess"))
    with pytest.raises(RunError, match=r"cannot set up the task 'bad_task' \(\w+: .*Mend its YAML") as caught:
        Tasks(["bad_task"], task_folder).load("bad_task")
    assert "HF_HOME" not in str(caught.value)
