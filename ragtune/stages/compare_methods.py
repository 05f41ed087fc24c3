"""Compare methods: the same rows, budget and questions for each, every one in a process of its own; one table."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.datasets.questions import read_questions, save_questions
from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import ModelError, RagtuneError, RecipeError, RunError
from ragtune.evaluation.statistics.detectable import describe_detectable
from ragtune.files import building_folder, hash_text, installed_packages, read_manifest, write_json, write_manifest
from ragtune.models.language import UNTUNABLE
from ragtune.models.remote import is_remote
from ragtune.recipe.places import comparison_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Record, Setting
from ragtune.seams import Report
from ragtune.stages.bench import Bench, find_material, needs_start, start_method
from ragtune.stages.comparison_report import draw_standing, render_comparison
from ragtune.stages.method_process import LOG, PRELOADED, RESULT, TASK, MethodResult, MethodTask, run_logged
from ragtune.stages.outcomes import Outcomes, read_outcomes
from ragtune.stages.standing import BASE, MethodRow, Standing, find_standing
from ragtune.stages.trials import read_result
from ragtune.training.methods import METHODS, RETRIEVER, find_method
from ragtune.training.search import describe_failure

ALL = "all"
"""Stands for every method that leaves something which answers."""
SCORES_ONLY = ("it scores answers and gives none, so there is no share correct; it serves the reward 'model' of ppo, grpo "
               "and rloo.")
LOG_LINES = 3


@dataclass(frozen=True)
class Budget(Record):
    """What each method may spend: optimizer steps or passes over its rows (None: the recipe's), and seconds at most."""

    steps: int | None = None
    epochs: float | None = None
    seconds: float | None = None

    def sentence(self, recipe: Recipe) -> str:
        """Return the budget in words."""
        steps = self.steps or (recipe.training.max_steps if recipe.training.max_steps > 0 and not self.epochs else None)
        told = f"{steps} steps" if steps else f"{self.epochs or recipe.training.epochs:g} passes over its rows"
        told += f" of {recipe.training.batch_size * recipe.training.accumulation} rows a step"
        return told + (f", {self.seconds:g} seconds at most" if self.seconds else "")


@dataclass(frozen=True)
class ComparisonSummary(Record):
    """What a comparison found: the table (standing), on which rung and how many questions, with which budget."""

    name: str
    folder: str
    setting: str
    questions: int
    budget: str
    standing: Standing
    start: str = ""
    notes: tuple[str, ...] = ()
    confidence: float = 0.95
    seconds: float = 0.0


@in_recipe_pack
def run_compare_methods(
    recipe: Recipe, methods: Sequence[str], budget: Budget = Budget(), limit: int = 0, out: Path | None = None,
    index: Path | None = None, dataset: Path | None = None, report: Report | None = None,
) -> ComparisonSummary:
    """Tune by each method, ask the test questions and write the comparison folder; finished methods are not run again.

    ``limit`` questions are taken evenly from all (0: all). Methods that go on from a supervised run get one, made once and
    counted in their time; where it is among ``methods`` it is that one. A method that fails is a row that says why. Raises
    RecipeError for unknown methods or a budget that names steps and epochs, ModelError for a model that cannot be tuned.
    """
    begun = time.perf_counter()
    methods = list(dict.fromkeys(method for method in methods if method != BASE))
    if methods == [ALL]:
        methods = [name for name, method in METHODS.items() if method.loop not in ("reward", RETRIEVER)]
    _check(recipe, methods, budget)
    target = out or comparison_folder(recipe)
    index, dataset = find_material(recipe, index, dataset, report)
    with building_folder(target, keep_partial=True) as folder:
        _take_up(folder, target)
        asked = _choose_questions(recipe, dataset, folder, limit)
        runner = _Runner(_measured(recipe, folder, asked), index, dataset, folder, budget)
        results: dict[str, MethodResult] = {}
        order = _order(recipe, methods)
        for done, name in enumerate(order):
            if report:
                report(f"methods ({name})", done, len(order))
            results[name] = runner.run(name, is_asked=name in (BASE, *methods))
        if report:
            report("methods", len(order), len(order))
        summary = _summarise(runner, target, methods, results, len(asked), time.perf_counter() - begun)
        _write(folder, recipe, summary, runner.facts)
    return summary


def _check(recipe: Recipe, methods: Sequence[str], budget: Budget) -> None:
    if not methods:
        raise RecipeError("there is no method to compare. Do: --methods lora,dora,full (ragtune methods lists them)")
    for method in methods:
        find_method(method)
    if budget.steps and budget.epochs:
        raise RecipeError("a budget is so many steps or so many epochs. Name one of --steps and --epochs.")
    model = recipe.generator.model
    if model in UNTUNABLE or is_remote(model):
        raise ModelError(f"'{model}' cannot be tuned here. Set generator.model to bundled, a folder or a Hugging Face name.")


def _take_up(folder: Path, target: Path) -> None:
    """Leave in ``folder`` what an earlier start did, a finished one too."""
    if not (folder / "methods").is_dir() and (target / "methods").is_dir():
        shutil.rmtree(folder)
        shutil.copytree(target, folder)
        (folder / "manifest.json").unlink(missing_ok=True)


def _choose_questions(recipe: Recipe, dataset: Path, folder: Path, limit: int) -> list[str]:
    """Write the questions that all methods are asked and return their ids: ``limit`` of them, evenly from the file, so that
    they are about as many documents as can be."""
    path = Path(recipe.evaluation.questions) if recipe.evaluation.questions else dataset / "questions_test.jsonl"
    if not path.is_file():
        raise RunError(f"no questions at {path}. Set dataset.test_share above 0, or evaluation.questions.")
    questions = read_questions(path)
    if 0 < limit < len(questions):
        questions = [questions[place * len(questions) // limit] for place in range(limit)]
    save_questions(folder / "questions.jsonl", questions)
    return [question.id for question in questions]


def _measured(recipe: Recipe, folder: Path, asked: Sequence[str]) -> Recipe:
    """Return the recipe that all methods are measured by: one rung, no baselines."""
    settings = recipe.evaluation.settings
    setting: Setting = "retrieval" if "retrieval" in settings else settings[0]
    evaluation = {"settings": (setting,), "baselines": (), "questions": str(folder / "questions.jsonl"), "limit": 0,
                  "folder": None}
    return recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=evaluation)})


def _order(recipe: Recipe, methods: Sequence[str]) -> list[str]:
    """Return what is run, one after the other: the base, the supervised run that others start from, the methods."""
    start = [start_method(recipe)] if any(needs_start(name) for name in methods) else []
    return list(dict.fromkeys([BASE, *start, *methods]))


class _Runner:
    """Runs methods, each in a process; remembers what is finished by what it depends on."""

    def __init__(self, recipe: Recipe, index: Path, dataset: Path, folder: Path, budget: Budget) -> None:
        self.recipe, self.index, self.dataset, self.folder, self.budget = recipe, index, dataset, folder, budget
        self.bench = Bench(recipe, index, dataset, folder)
        self.rows_seconds: dict[str, float] = {}
        self.facts = {
            "index_id": read_manifest(index, "index", check_files=False).get("id"),
            "dataset_id": read_manifest(dataset, "dataset").get("id"), "packages": installed_packages(),
            "questions": hash_text((folder / "questions.jsonl").read_text(encoding="utf-8")), "budget": budget.to_dict(),
        }

    def run(self, name: str, is_asked: bool) -> MethodResult:
        """Return what comes of a method, from an earlier start where it is finished and nothing has changed."""
        place = self.folder / "methods" / name
        try:
            task = self._task(name, place, is_asked)
        except RagtuneError as error:
            return MethodResult(name, "", "failed", describe_failure(error))
        known = read_result(place, RESULT)
        if known is not None and known.get("key") == task.key and known.get("state") == "finished":
            return MethodResult.from_dict(known)
        place.mkdir(parents=True, exist_ok=True)
        (place / RESULT).unlink(missing_ok=True)
        write_json(place / TASK, task.to_dict())
        return _run_process(task, place)

    def _task(self, name: str, place: Path, is_asked: bool) -> MethodTask:
        training = self.recipe.training
        update: dict[str, Any] = {"folder": None, "start": None}
        rows, start_key = self.dataset, ""
        if name != BASE:
            method = find_method(name)
            if method.loop == "reward":
                raise RunError(SCORES_ONLY)
            update["method"] = name
            if name != training.method:
                update["lr"] = None  # each learns by its own rate; the recipe's is for the recipe's method
            if method.shape == "prompt_completion":
                update["weights"] = None
            if self.budget.steps or self.budget.epochs:
                update |= {"max_steps": self.budget.steps or -1, "epochs": self.budget.epochs or training.epochs}
            rows, seconds = self.bench.rows(method)
            self.rows_seconds[name] = max(seconds, self._known_seconds(rows, seconds))
            if needs_start(name):
                start = self.folder / "methods" / start_method(self.recipe)
                found = read_result(start, RESULT) or {}
                if found.get("state") != "finished":
                    raise RunError(f"the supervised run it goes on from ({start.name}) failed: {found.get('reason')}")
                update["start"], start_key = str(start / "run"), str(found.get("key"))
        recipe = self.recipe.model_copy(update={
            "work": str(self.folder), "name": "none",  # so that no run of the recipe's own is found and started from
            "training": training.model_copy(update=update)})
        values = recipe.model_dump(mode="json", exclude={"work": True, "name": True, "description": True, "tune": True,
                                                         "evaluation": {"questions"}, "training": {"start"}})
        if name == BASE:
            values.pop("training")
        rows_id = json.loads((rows / "manifest.json").read_text(encoding="utf-8")).get("id")
        key = hash_text(json.dumps([values, self.facts, rows_id, start_key, is_asked], sort_keys=True, default=str))
        return MethodTask(name, recipe.model_dump(mode="json", exclude={"server"}), str(self.index), str(self.dataset),
                          str(rows), str(place), key, self.budget.seconds, is_asked)

    def _known_seconds(self, rows: Path, seconds: float) -> float:
        """Keep how long rows took to make, for starts that find them there."""
        if rows == self.dataset:
            return 0.0
        file = rows.with_name(rows.name + "_seconds.json")
        if seconds:
            write_json(file, {"seconds": round(seconds, 1)})
        return float((read_result(file.parent, file.name) or {}).get("seconds", 0.0))


def _context() -> Any:
    """Return how processes are started: each a fresh Python, or, where nothing has a GPU that a fork would share, copies of
    one that has read the libraries and nothing else, which saves each method some ten seconds."""
    if sys.platform != "linux" or Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _run_process(task: MethodTask, place: Path) -> MethodResult:
    """Run one task in a new Python and return its result; where it died without one, how."""
    process = _context().Process(target=run_logged, args=(str(place / TASK), str(place / LOG)))
    process.start()
    try:
        process.join()
    finally:
        if process.is_alive():
            process.kill()
            process.join()
    code = process.exitcode or 0
    found = read_result(place, RESULT)
    if found is not None:
        return MethodResult.from_dict(found)
    if code < 0:
        reason = f"its process was ended by signal {-code}" + (", most likely for want of memory" if code == -9 else "")
    else:
        lines = (place / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = " / ".join(line.strip() for line in lines[-LOG_LINES:]) or f"its process ended with {code}"
    failed = MethodResult(task.method, task.key, "failed", reason[:300])
    write_json(place / RESULT, failed.to_dict())
    return failed


def _summarise(
    runner: _Runner, target: Path, methods: Sequence[str], results: Mapping[str, MethodResult], questions: int,
    seconds: float,
) -> ComparisonSummary:
    recipe, setting = runner.recipe, runner.recipe.evaluation.settings[0]
    start = start_method(recipe)
    rows, outcomes = [], dict[str, Outcomes]()
    for name in (BASE, *methods):
        result = results[name]
        started = results[start].seconds if name != BASE and needs_start(name) and start in results else 0.0
        made = runner.rows_seconds.get(name, 0.0)
        total = results[BASE].parameters
        rows.append(MethodRow(
            name, result.state, result.reason, "" if name == BASE else find_method(name).family,
            seconds=round(result.seconds + started + made, 1), start_seconds=started, rows_seconds=made,
            evaluation_seconds=result.evaluation_seconds, cpu_seconds=result.cpu_seconds, steps=result.steps,
            is_out_of_time=result.is_out_of_time,
            peak_memory_mb=result.peak_memory_mb, trainable_parameters=result.trainable_parameters,
            trainable_share=round(result.trainable_parameters / total, 6) if total else 0.0,
            adapter_bytes=result.adapter_bytes))
        if result.state == "finished":
            model = "base" if name == BASE else "tuned"
            outcomes[name] = read_outcomes(runner.folder / "methods" / name / "evaluation", model, setting)
    standing = find_standing(rows, outcomes, recipe.evaluation.confidence)
    started_from = start if any(needs_start(name) for name in methods) else ""
    return ComparisonSummary(recipe.name, str(target), setting, questions, runner.budget.sentence(recipe), standing,
                             started_from, tuple(_notes(standing, started_from, recipe.evaluation.confidence)),
                             recipe.evaluation.confidence, round(seconds, 1))


def _notes(standing: Standing, start: str, confidence: float) -> list[str]:
    notes = []
    tests = [row.against_best for row in standing.rows if row.against_best is not None]
    if tests:
        typical = sorted(test.discordant for test in tests)[len(tests) // 2]
        notes.append("What the tests can tell: " + describe_detectable(tests[0].n, typical, confidence=confidence)
                     + " That is for one test; corrected as many it takes more.")
        notes.append("The best was picked by these same questions, so its share correct is somewhat flattered.")
    if start:
        notes.append(f"Methods of preferences and reinforcement go on from the run '{start}'; its seconds are in theirs.")
    if any(row.is_out_of_time for row in standing.rows):
        notes.append("Methods marked * were ended by the time, before their steps were done.")
    return notes


def _write(folder: Path, recipe: Recipe, summary: ComparisonSummary, facts: Mapping[str, Any]) -> None:
    """Leave table, picture, and each method's run and evaluation; what is not in the table goes."""
    kept = {row.method for row in summary.standing.rows} | {summary.start}
    for path in list((folder / "methods").iterdir()):
        if path.name not in kept:
            shutil.rmtree(path)
        else:
            for name in (TASK, LOG):
                (path / name).unlink(missing_ok=True)
    picture = draw_standing(summary.standing, summary.questions)
    (folder / "methods.png").write_bytes(picture)
    values = summary.to_dict()
    write_json(folder / "summary.json", values)
    (folder / "report.md").write_text(
        render_comparison(summary.standing, summary.name, summary.setting, summary.questions, summary.budget, summary.notes,
                          summary.confidence), encoding="utf-8")
    write_manifest(folder, "comparison", recipe=recipe.model_dump(mode="json"), best=summary.standing.best,
                   cheapest=summary.standing.cheapest, facts=dict(facts))
