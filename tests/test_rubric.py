"""Rubric files: the shipped ones are whole, a user's own are checked field by field."""

import pytest

from ragtune.errors import RunError
from ragtune.evaluation.judging.rubric import load_rubric, shipped_rubrics


def test_the_shipped_rubrics_can_be_read():
    found = {name: load_rubric(name) for name in shipped_rubrics()}
    assert set(found) == {"better", "better_cited", "correctness", "grounded", "quality"}
    assert all(rubric.name == name for name, rubric in found.items())
    assert found["correctness"].gives_outcomes
    assert found["correctness"].allowed == "correct, wrong or refused"
    assert found["quality"].allowed == "a whole number from 1 to 5"
    assert found["better"].verdicts == ("A", "B", "tie")
    assert len({rubric.hash for rubric in found.values()}) == 5


def test_a_file_of_the_users_is_read(tmp_path):
    (tmp_path / "polite.yaml").write_text("verdicts: ['yes', 'no']\nshows: [answer]\ntext: Is it polite?\n")
    rubric = load_rubric(str(tmp_path / "polite.yaml"))
    assert (rubric.name, rubric.asks, rubric.verdicts, rubric.shows) == ("polite", "answer", ("yes", "no"), ("answer",))
    assert not rubric.gives_outcomes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "found list"),
        ("text: [", "not YAML"),
        ("verdicts: [a, b]", "'text' holds no instructions"),
        ("text: t", "neither of 'verdicts' and 'scale'"),
        ("text: t\nverdicts: [a, b]\nscale: [1, 5]", "both of 'verdicts' and 'scale'"),
        ("text: t\nverdicts: [yes, no]", "quote 'yes' and 'no'"),
        ("text: t\nverdicts: [a, A]", "two different words"),
        ("text: t\nscale: [5, 1]", "lowest first"),
        ("text: t\nscale: [1, 2.5]", "two whole numbers"),
        ("text: t\nasks: pair\nscale: [1, 5]", "a pair has the verdicts A, B, tie"),
        ("text: t\nasks: all\nscale: [1, 5]", "Allowed: answer, pair"),
        ("text: t\nscale: [1, 5]\nshows: [question]", "with 'answer' in it"),
        ("text: t\nscales: [1, 5]", "Did you mean 'scale'"),
        ("text: t\nscale: [1, 5]\nname: ../x", "it names a folder"),
    ],
)
def test_a_wrong_rubric_is_told(tmp_path, text, said):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RunError, match=said.replace("[", "\\[")):
        load_rubric(str(tmp_path / "r.yaml"))


def test_an_unknown_rubric_is_told_with_the_nearest():
    with pytest.raises(RunError, match="Did you mean 'correctness'"):
        load_rubric("corectness")
