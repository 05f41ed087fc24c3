"""The judge stage and its command: answers in, verdicts out, gone on with after a stop; no network, no model."""

import json

import pytest
from judge_fakes import by_figure, scripted
from ladder_fakes import questions

from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.errors import ModelError, RunError
from ragtune.evaluation.judging.judge import ModelJudge, ScorerJudge
from ragtune.evaluation.ladder.graded import grade
from ragtune.evaluation.ladder.log import LOG
from ragtune.files import read_jsonl, write_jsonl, write_manifest
from ragtune.records import Answer
from ragtune.stages import judge as stage
from ragtune.stages.judge import run_judge

LABELS = ("Correct Answer", "Incorrect Answer")


@pytest.fixture
def answers(tmp_path):
    """A file of six answers; the odd ones are wrong, people say so but for the last."""
    rows = [{"id": f"q{n}", "question": f"What is item {n}?", "gold_answer": f"{n}00 million",
             "model_answer": f"It is {n + n % 2}00 million.", "label": LABELS[n % 2 and n < 5]} for n in range(6)]
    write_jsonl(tmp_path / "answers.jsonl", rows)
    return tmp_path / "answers.jsonl"


@pytest.fixture
def evaluation(tmp_path):
    """An evaluation folder of two models in one setting; tuned is right, base wrong on every other question."""
    folder = tmp_path / "evaluation"
    folder.mkdir()
    asked = questions()[:6]
    rows = []
    for model in ("base", "tuned"):
        for n, question in enumerate(asked):
            text = question.answer if model == "tuned" or n % 2 else "$1 million"
            rows.append(grade(question, Answer(question.text, text), model, "retrieval").to_dict())
    write_jsonl(folder / LOG, rows)
    write_manifest(folder, "evaluation")
    return folder


@pytest.fixture
def judged_by(monkeypatch):
    """Lets a scripted chat model stand in for the one that is named."""
    def use(reply, timeout_s=5.0):
        def opened(name, rubric, *_):
            return ModelJudge(scripted(reply), rubric, 2, timeout_s) if name != "scorer" else ScorerJudge(rubric)

        monkeypatch.setattr(stage, "open_judge", opened)

    return use


def test_a_judge_is_measured_against_scorer_and_people(answers, judged_by):
    judged_by(by_figure)
    summary = run_judge(answers, "openai:judge")
    assert (summary.n, summary.read, summary.unparsed, summary.failed, summary.labelled) == (6, 6, 0, 0, 6)
    assert summary.tallies[0].counts == {"correct": 3, "wrong": 3, "refused": 0}
    found = {(a, b, what): agreement for a, b, what, agreement in summary.agreements}
    assert found["openai:judge", "scorer", "outcome"].kappa == 1.0
    assert found["openai:judge", "people", "correct or not"].share == pytest.approx(5 / 6)
    assert found["scorer", "people", "outcome"].n == 6
    assert "agree on 83% of 6 answers" in " ".join(summary.sentences())
    rows = [row for _, row in read_jsonl(answers.parent / "answers-judged/openai_judge-correctness/judged.jsonl")]
    assert [row["verdict"] for row in rows] == ["correct", "wrong"] * 3


def test_what_a_provider_lost_is_asked_again_and_nothing_else(answers, judged_by):
    asked = []

    def reply(prompt):
        asked.append(prompt)
        if len(asked) > 3:
            raise ConnectionError("gone")
        return by_figure(prompt)

    judged_by(reply)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "ROWS", 2)
        patch.setattr("ragtune.evaluation.judging.judge.MAX_IN_A_ROW", 3)
        with pytest.raises(ModelError, match="gone.*goes on from there"):
            run_judge(answers, "openai:judge")
        again = []
        judged_by(lambda prompt: again.append(prompt) or by_figure(prompt))
        summary = run_judge(answers, "openai:judge")
    assert summary.read == 6
    assert len(again) == 4  # two were judged before
    third = []
    judged_by(lambda prompt: third.append(prompt) or by_figure(prompt))
    assert run_judge(answers, "openai:judge").read == 6
    assert third == []


def test_single_failures_are_counted_and_said(answers, judged_by):
    def reply(prompt):
        if "item 4" in prompt:
            raise ConnectionError("odd")
        return "Hm." if "item 5" in prompt else by_figure(prompt)

    judged_by(reply)
    summary = run_judge(answers, "openai:judge")
    assert (summary.read, summary.unparsed, summary.failed) == (4, 1, 1)
    assert "No reply for 1" in summary.notes[0]
    assert all(agreement.n == 4 for _, _, _, agreement in summary.agreements)


def test_a_changed_answer_is_judged_anew(answers, judged_by):
    judged_by(by_figure)
    run_judge(answers, "openai:judge")
    answers.write_text(answers.read_text().replace("It is 600 million.", "It is 500 million."))
    asked = []
    judged_by(lambda prompt: asked.append(prompt) or by_figure(prompt))
    assert run_judge(answers, "openai:judge").tallies[0].counts["correct"] == 4
    assert len(asked) == 1


def test_models_of_an_evaluation_are_judged_in_pairs(evaluation, judged_by):
    def by_length(prompt):
        first, second = (prompt.partition(f"Answer {side}:\n| ")[2].partition("\n")[0] for side in "AB")
        return f"Verdict: {'tie' if first == second else 'A' if len(first) > len(second) else 'B'}"

    judged_by(by_length)
    summary = run_judge(evaluation, "openai:judge", against="base")
    assert summary.wins is not None
    assert (summary.wins.a, summary.wins.b, summary.wins.ties, summary.wins.turned) == (3, 0, 3, 0)
    assert summary.wins.difference == 0.5
    assert "tuned won 3, base 0" in summary.wins.sentence("tuned", "base")
    assert summary.agreements[0][3].share == 1.0
    judged_by(lambda _: "Verdict: A")
    turned = run_judge(evaluation, "openai:judge", against="base", out=evaluation.parent / "turned").wins
    assert (turned.ties, turned.turned, turned.first, turned.p) == (6, 6, 6, 1.0)
    alone = run_judge(evaluation, "scorer", model="base")
    assert [(tally.model, tally.counts["correct"]) for tally in alone.tallies] == [("base", 3)]


def test_an_evaluation_that_keeps_its_passages_can_be_judged_by_them(evaluation, judged_by):
    rows = [row for _, row in read_jsonl(evaluation / LOG)]
    shown = {"number": 1, "document": "ACME_2021_10K", "page": 1, "rank": 1, "chunk_id": "c1"}
    write_jsonl(evaluation / LOG, [{**row, "passages": [shown]} for row in rows])
    write_jsonl(evaluation / "passages.jsonl", [{"chunk_id": "c1", "text": "Net sales 2021: 4,210"}])
    write_manifest(evaluation, "evaluation")
    prompts = []
    judged_by(lambda prompt: prompts.append(prompt) or "Verdict: grounded")
    summary = run_judge(evaluation, "openai:judge", "grounded", model="tuned")
    assert summary.tallies[0].counts == {"grounded": 6, "ungrounded": 0}
    assert all("Passages:\n| [1] Net sales 2021: 4,210" in prompt for prompt in prompts)
    assert summary.agreements == ()


def test_labels_come_from_a_file(answers, tmp_path):
    (tmp_path / "labels.csv").write_text("id,label\nq0,correct\nq1,wrong\nq2,wrong\n")
    found = run_judge(answers, "scorer", labels=tmp_path / "labels.csv")
    assert found.labelled == 3
    assert found.agreements[0][3].share == pytest.approx(2 / 3)
    (tmp_path / "odd.csv").write_text("id,label\nq0,maybe\n")
    with pytest.raises(RunError, match="the label is 'maybe'. The rubric 'correctness' allows correct, wrong or refused"):
        run_judge(answers, "scorer", labels=tmp_path / "odd.csv")
    (tmp_path / "other.csv").write_text("id,label\nx,wrong\n")
    with pytest.raises(RunError, match="none of its 1 ids"):
        run_judge(answers, "scorer", labels=tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "none.jsonl"}, "no file or folder"),
        ({"rubric": "better"}, "name the others with --against"),
        ({"rubric": "quality", "against": "answers.jsonl"}, "leave --against out"),
        ({"rubric": "grounded", "judge": "openai:judge"}, "holds none. Give each line 'passages'"),
        ({"model": "base"}, "no models and settings"),
        ({"against": "tuned"}, "no file or folder tuned"),
    ],
)
def test_what_cannot_be_judged_is_said(answers, arguments, said, monkeypatch):
    monkeypatch.chdir(answers.parent)
    given = {"source": answers, "judge": "scorer", **arguments}
    given["source"] = answers.parent / given["source"]
    with pytest.raises(RunError, match=said):
        run_judge(**given)


def test_the_command_prints_verdicts_and_agreement(answers, capsys):
    assert run_guarded(ragtune, ["judge", str(answers)]) == 0
    shown = capsys.readouterr().out
    assert "all: correct 3 (50%" in shown
    assert "scorer and people agree on 83% of 6 answers" in shown
    assert run_guarded(ragtune, ["judge", str(answers), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["agreements"][0]["n"] == 6
    assert plain["tallies"][0]["counts"]["correct"] == 3
    assert run_guarded(ragtune, ["judge", str(answers), "--judge", "bundled"]) == 1
    assert "cannot judge" in capsys.readouterr().err
    assert run_guarded(ragtune, ["judge"]) == 2
