"""Evaluations side by side: common questions, tests of every pair, the page; and the gate that fails where it is worse."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from ladder_fakes import MemorySearcher, ReadingGenerator, questions
from test_evaluate import RECIPE, Page

from ragtune.cli.answers import WORSE
from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.errors import RunError
from ragtune.evaluation.ladder.graded import Graded
from ragtune.evaluation.reporting.regression import judge_regression
from ragtune.evaluation.reporting.sides import find_common, read_side, read_sides
from ragtune.evaluation.reporting.versus import compare_sides
from ragtune.files import read_manifest, write_manifest
from ragtune.records import Evidence, Question
from ragtune.stages.evaluate import evaluate_models
from ragtune.stages.report import run_report


def measure(folder: Path, asked: list[Question] | None = None, slip: int = 0, **tuned: ReadingGenerator) -> Path:
    """Evaluate the fake reader; each ``slip``-th answer is wrong."""
    openers = {"base": lambda: ReadingGenerator(slip=slip), **{k: (lambda g=g: g) for k, g in tuned.items()}}
    evaluate_models(RECIPE, asked or questions(), MemorySearcher(), openers, folder, "index-1")
    return folder


def renamed(prefix: str) -> list[Question]:
    return [dataclasses.replace(question, id=f"{prefix}{question.id}") for question in questions()]


def test_two_evaluations_side_by_side(tmp_path: Path) -> None:
    a, b = measure(tmp_path / "a" / "e", slip=2), measure(tmp_path / "b" / "e")
    versus = run_report([a, b], tmp_path / "report")
    assert versus.labels == ["a", "b"]
    assert versus.common == 14  # q-lost is asked closed book
    rungs = {(rung.model, rung.setting): rung for rung in versus.ladder}
    wrong = rungs["a", "retrieval"].wrong
    assert wrong > 0
    assert (rungs["b", "retrieval"].correct, rungs["b", "retrieval"].n) == (13, 13)
    tests = {test.setting: test.comparison for test in versus.tests}
    assert len(tests) == 3
    assert (tests["retrieval"].only_a, tests["retrieval"].only_b) == (0, wrong)
    assert all(test.adjusted_p >= test.p for test in tests.values())
    assert {test.correction for test in tests.values()} == {"holm"}
    assert any("left out 1 of the common questions on the rung retrieval" in note for note in versus.notes)
    assert {waterfall.model for waterfall in versus.waterfalls} == {"a", "b"}
    manifest = read_manifest(tmp_path / "report", "report")
    assert set(manifest["files"]) == {"report.html", "report.md", "report.json"}
    told = json.loads((tmp_path / "report" / "report.json").read_text())
    assert told["questions"][0]["outcomes"]["retrieval"].keys() == {"a", "b"}
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "Holm's method for 3 tests" in markdown
    assert "| retrieval | q01" in markdown or "| retrieval | q" in markdown


def test_every_pair_of_three_is_tested_together(tmp_path: Path) -> None:
    folders = [measure(tmp_path / name / "e", slip=slip) for name, slip in (("a", 2), ("b", 3), ("c", 0))]
    versus = run_report(folders)
    assert [(test.a, test.b) for test in versus.tests if test.setting == "oracle"] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert len(versus.tests) == 9


def test_models_are_chosen(tmp_path: Path) -> None:
    a = measure(tmp_path / "a", tuned=ReadingGenerator())
    b = measure(tmp_path / "b", slip=2)
    assert [model for _, _, model in run_report([a, b]).columns] == ["tuned", "base"]
    assert [label for label, _, _ in run_report([a, b], models=("base",)).columns] == ["a", "b"]
    with pytest.raises(RunError, match="no answers of 'tuned', it has base"):
        run_report([a, b], models=("tuned",))
    both = run_report([a, measure(tmp_path / "c", tuned=ReadingGenerator())], models=("base", "tuned"))
    assert both.labels == ["a base", "a tuned", "c base", "c tuned"]
    assert len(both.tests) == 6 * 3


def test_only_common_questions_count_and_the_rest_is_told(tmp_path: Path) -> None:
    own = questions()
    other = [*own[:6], dataclasses.replace(own[6], answer="$9 million"),
             dataclasses.replace(own[7], text="What is something else?"),
             Question("new", "What are clocks?", "5", (Evidence("ACME_2021_10K", 1),))]
    versus = run_report([measure(tmp_path / "a"), measure(tmp_path / "b", other)])
    assert versus.common == 6
    notes = " ".join(versus.notes)
    assert "6 questions are common to all" in notes
    assert ("8 questions of a are left out: 6 not asked there, 1 with another reference there, "
            "1 with another text under the same id there.") in notes
    assert "3 questions of b are left out: 1 not asked there" in notes
    assert max(rung.n for rung in versus.ladder) == 6


def test_other_ids_of_the_same_questions_are_matched(tmp_path: Path) -> None:
    versus = run_report([measure(tmp_path / "a", slip=2), measure(tmp_path / "b", renamed("x-"))])
    assert versus.common == 14
    assert not any("left out: " in note for note in versus.notes)


def test_questions_with_one_text_are_told_apart_by_id(tmp_path: Path) -> None:
    twins = [Question(f"t{n}", "What were Net sales?", "$4,210 million", (Evidence("ACME_2021_10K", 1),)) for n in range(3)]
    sides = read_sides([measure(tmp_path / "a", twins), measure(tmp_path / "b", twins[1:])])
    assert find_common(sides).ids == (("t1", "t1"), ("t2", "t2"))


def test_no_common_question_is_one_error(tmp_path: Path) -> None:
    a = measure(tmp_path / "a", questions()[:3])
    b = measure(tmp_path / "b", questions()[4:6])
    with pytest.raises(RunError, match=r"no question in common \(questions asked: a 3, b 2\)"):
        run_report([a, b], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_folders_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    a = measure(tmp_path / "a")
    with pytest.raises(RunError, match="found 1 evaluation folder"):
        run_report([a])
    with pytest.raises(RunError, match="is named twice"):
        run_report([a, tmp_path / "x" / ".." / "a"])
    with pytest.raises(RunError, match="no evaluation folder at"):
        run_report([a, tmp_path / "nowhere"])
    (tmp_path / "b.partial").mkdir()
    shutil.copy(a / "answers.jsonl", tmp_path / "b.partial")
    with pytest.raises(RunError, match="unfinished"):
        run_report([a, tmp_path / "b"])
    b = measure(tmp_path / "b")
    (b / "answers.jsonl").write_bytes((b / "answers.jsonl").read_bytes()[:-30])
    with pytest.raises(RunError, match=r"answers.jsonl is not what the manifest says"):
        run_report([a, b])


def rewrite(folder: Path, change) -> None:
    """Change every answer of a finished evaluation, and its manifest with it."""
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    (folder / "answers.jsonl").write_text("".join(json.dumps(change(row)) + "\n" for row in rows))
    manifest = read_manifest(folder, "evaluation", check_files=False)
    write_manifest(folder, "evaluation", **{key: manifest[key] for key in ("recipe", "index_id", "models", "prompt_hash")})


def test_an_older_folder_is_read_and_judged_by_todays_scorer(tmp_path: Path) -> None:
    a, b = measure(tmp_path / "a"), measure(tmp_path / "b")
    (b / "questions.jsonl").unlink()
    (b / "passages.jsonl").unlink()
    new = ("confidence", "lost_at", "lost_why")
    rewrite(b, lambda row: {**{k: v for k, v in row.items() if k not in new}, "outcome": "wrong"})
    versus = run_report([a, b], tmp_path / "report")
    assert all(test.comparison.difference == 0 for test in versus.tests)
    assert any("40 answers of b were judged otherwise" in note for note in versus.notes)
    (side,) = (side for side in read_sides([a, b]) if side.label == "b")
    assert side.asked == {}


def test_nan_is_no_score(tmp_path: Path) -> None:
    a, b = measure(tmp_path / "a"), measure(tmp_path / "b")
    rewrite(b, lambda row: {**row, "confidence": float("nan"), "seconds": float("nan")})
    versus = run_report([a, b], tmp_path / "report")
    assert {row.confidence for row in versus.graded} <= {None} | {r.confidence for r in read_side(a).rows}
    json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_the_page_is_self_contained_and_escapes(tmp_path: Path) -> None:
    evil = [Question("<script>alert(1)</script>", "What were <b>Net sales</b> of ACME_2021_10K?'\"", "$4,210 million",
                     (Evidence("ACME_2021_10K", 1),), "<i>kind</i>")]
    folder = tmp_path / "<i>$x$ 'a\""
    run_report([measure(folder / "e", evil, slip=1), measure(tmp_path / "b" / "e", evil)], tmp_path / "report")
    text = (tmp_path / "report" / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(reference.startswith("#") for reference in page.references)
    assert text.count("<script") == 1
    assert "<b>Net" not in text
    assert "<i>" not in text
    facts = re.search(r"data-facts='([^']*)'", text)
    assert facts
    assert json.loads(facts[1])["id"] == "<script>alert(1)</script>"
    for outside in ("http://", "https://"):
        assert outside not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "<script" not in (tmp_path / "report" / "report.md").read_text()


def test_the_policy_names_the_scripts_own_hash(tmp_path: Path) -> None:
    import base64
    import hashlib

    text = (measure(tmp_path / "e") / "report.html").read_text()
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def wrong_ones(folder: Path, base: Path, count: int) -> Path:
    """Copy an evaluation with that many right answers with retrieval made wrong."""
    shutil.copytree(base, folder)
    right = [row.question_id for row in read_side(base).rows if row.setting == "retrieval" and row.outcome == "correct"]

    def change(row: dict) -> dict:
        is_hit = row["question_id"] in right[:count] and row["setting"] == "retrieval"
        return {**row, "answer": "$1 million", "is_refusal": False} if is_hit else row

    rewrite(folder, change)
    return folder


def test_the_gate_tells_worse_from_luck(tmp_path: Path) -> None:
    single = [dataclasses.replace(q, evidence=(Evidence("ACME_2021_10K", 1),)) for q in questions() if q.answer][:12]
    before = measure(tmp_path / "before", single)
    worse, little = wrong_ones(tmp_path / "worse", before, 9), wrong_ones(tmp_path / "little", before, 2)
    found = judge_regression(read_side(before), read_side(worse))
    assert found.is_worse
    assert found.sentence().startswith("Worse: base of ")
    assert "12 common questions (retrieval), -75.0 points" in found.sentence()
    assert not judge_regression(read_side(before), read_side(little)).is_worse
    assert judge_regression(read_side(before), read_side(little)).sentence().startswith("Not shown to be worse")
    better = judge_regression(read_side(worse), read_side(before))
    assert not better.is_worse
    assert better.sentence().startswith("Better")


def test_the_gate_says_which_questions_count(tmp_path: Path) -> None:
    found = judge_regression(read_side(measure(tmp_path / "a")), read_side(measure(tmp_path / "b", questions()[:5])))
    assert found.comparison.n == 5
    assert any("5 questions are common" in note for note in found.notes)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an index, twelve questions and a recipe on the extractive reader."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()
    rows = [f"Item {letter} 2021: {n},210" for n, letter in enumerate("ABCDEFGHIJKL", start=1)]
    (tmp_path / "documents" / "ACME_2021_10K.txt").write_text("\n".join(rows))
    asked = [Question(f"q{n}", f"What was item {letter} in 2021?", f"{n},210", (Evidence("ACME_2021_10K", 1),))
             for n, letter in enumerate("ABCDEFGHIJKL", start=1)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(q.to_dict()) + "\n" for q in asked))
    (tmp_path / "r.yaml").write_text(
        "name: t\nindex: {embedder: hash}\ngenerator: {model: echo}\nanswering: {guard: none}\n"
        "evaluation: {questions: q.jsonl, settings: [retrieval], baselines: []}\n")
    assert run_guarded(ragtune, ["index", "--recipe", "r.yaml"]) == 0
    return tmp_path


def test_the_gates_exit_code(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = ["evaluate", "--recipe", "r.yaml"]
    assert run_guarded(ragtune, evaluate) == 0
    now = place / "work" / "t" / "evaluation"
    best = place / "best"
    shutil.copytree(now, best)
    rewrite(best, lambda row: {**row, "answer": row["gold"], "is_refusal": False})
    capsys.readouterr()
    assert run_guarded(ragtune, [*evaluate, "--against", "best", "--fail-if-worse"]) == WORSE == 3
    out = capsys.readouterr().out
    assert "Worse: base of work/t/evaluation against base of best on 12 common questions" in out
    assert run_guarded(ragtune, [*evaluate, "--against", "best"]) == 0
    assert run_guarded(ragtune, [*evaluate, "--against", str(now), "--fail-if-worse"]) == 0
    capsys.readouterr()
    assert run_guarded(ragtune, [*evaluate, "--against", "best", "--fail-if-worse", "--json"]) == WORSE
    out, err = capsys.readouterr()
    assert json.loads(out)["against"]["is_worse"] is True
    assert "Worse: " in err
    assert run_guarded(ragtune, [*evaluate, "--fail-if-worse"]) == 2
    assert run_guarded(ragtune, [*evaluate, "--against", "nowhere"]) == 1
    assert "no folder at nowhere" in capsys.readouterr().err
    assert run_guarded(ragtune, [*evaluate, "--against", "work/t/index"]) == 1
    assert "kind 'index', wanted 'evaluation'" in capsys.readouterr().err
    help_text = run_guarded(ragtune, ["evaluate", "--help"]), capsys.readouterr().out
    assert "3 worse than --against" in re.sub(r"\s+", " ", help_text[1])


def test_the_report_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(place / "a", slip=2)
    measure(place / "b")
    capsys.readouterr()
    assert run_guarded(ragtune, ["report", "a", "b", "--out", "c"]) == 0
    out = capsys.readouterr().out
    assert "14 common questions" in out
    assert "Report: c/report.html" in out
    assert run_guarded(ragtune, ["report", "a", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["common"] == 14
    assert run_guarded(ragtune, ["report", "a"]) == 1
    assert run_guarded(ragtune, ["report"]) == 2


def test_sides_are_compared_in_a_fixed_order(tmp_path: Path) -> None:
    sides = read_sides([measure(tmp_path / "a", slip=2), measure(tmp_path / "b")])
    assert compare_sides(sides).to_dict() == compare_sides(sides).to_dict()
    assert isinstance(sides[0].rows[0], Graded)
