"""Splitting: no group is on both sides, whatever hangs together stays together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.split import group_by, split_by_groups, split_questions
from ragtune.errors import QuestionError
from ragtune.records import Evidence, Question

DOCUMENTS = {f"D{n}": {"company": f"C{n // 2}", "fiscal_year": 2020 + n % 2} for n in range(10)}


def ask(number: int, *documents: str, **metadata: str) -> Question:
    return Question(f"q{number}", "?", "5", tuple(Evidence(name, 1) for name in documents), metadata=metadata)


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=2), min_size=6, max_size=40),
    st.sampled_from(["document", "company", "fiscal_year"]), st.floats(0.05, 0.9), st.integers(0, 5),
)
def test_no_group_is_on_both_sides(picks: list[list[int]], by: str, share: float, seed: int) -> None:
    questions = [ask(n, *(f"D{d}" for d in documents)) for n, documents in enumerate(picks)]
    groups = group_by(by, DOCUMENTS)
    try:
        train, test = split_questions(questions, by, share, seed, groups)
    except QuestionError:
        return  # everything hung together
    assert train
    assert test
    assert sorted(q.id for q in train + test) == sorted(q.id for q in questions)
    assert not {g for q in train for g in groups(q)} & {g for q in test for g in groups(q)}
    assert (train, test) == split_questions(questions, by, share, seed, groups)


def test_share_counts_groups_and_the_seed_chooses_them() -> None:
    questions = [ask(n, f"D{n % 10}") for n in range(50)]
    groups = group_by("document", DOCUMENTS)
    sides = {seed: {q.evidence[0].document for q in split_questions(questions, "document", 0.3, seed, groups)[1]}
             for seed in range(5)}
    assert all(len(documents) == 3 for documents in sides.values())
    assert len({tuple(sorted(s)) for s in sides.values()}) > 1


def test_question_about_two_documents_joins_them() -> None:
    questions = [ask(0, "D0", "D2"), ask(1, "D2", "D4"), ask(2, "D4"), ask(3, "D6"), ask(4, "D0")]
    for seed in range(8):
        train, test = split_questions(questions, "document", 0.25, seed, group_by("document", DOCUMENTS))
        assert {q.id for q in train} in ({"q3"}, {"q0", "q1", "q2", "q4"})
        assert test


def test_unanswerable_question_goes_with_the_document_its_metadata_name() -> None:
    groups = group_by("company", DOCUMENTS)
    assert groups(ask(0, document="D5", company="elsewhere")) == ["C2"]
    assert groups(ask(0, company="elsewhere")) == ["elsewhere"]
    assert group_by("document", DOCUMENTS)(ask(7)) == ["question q7"]


def test_no_share_keeps_all_for_training() -> None:
    questions = [ask(n, "D0") for n in range(3)]
    assert split_questions(questions, "document", 0.0, 0, group_by("document", DOCUMENTS)) == (questions, [])


def test_what_cannot_be_split_is_an_error() -> None:
    with pytest.raises(QuestionError, match=r"one group only.*test_share=0"):
        split_questions([ask(0, "D0"), ask(1, "D0")], "document", 0.3, 0, group_by("document", DOCUMENTS))
    with pytest.raises(QuestionError, match=r"'q1' has no 'sector'.*split_by=document"):
        split_questions([ask(1, "D0")], "sector", 0.3, 0, group_by("sector", DOCUMENTS))


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=2), min_size=2, max_size=30),
    st.sets(st.integers(0, 4), min_size=1),
)
def test_named_groups_are_the_test_side_with_all_that_hangs_on_them(picks: list[list[int]], named: set[int]) -> None:
    questions = [ask(n, *(f"D{d}" for d in documents)) for n, documents in enumerate(picks)]
    groups, tested = group_by("company", DOCUMENTS), {f"C{n}" for n in named}
    try:
        train, test = split_by_groups(questions, tested, groups)
    except QuestionError:
        return  # one side would be empty
    assert train
    assert test
    assert [q for q in questions if q in train or q in test] == questions
    sides = [{g for q in side for g in groups(q)} for side in (train, test)]
    assert not sides[0] & (sides[1] | tested)


@pytest.mark.parametrize("tested", [{"C9"}, {f"C{n}" for n in range(5)}])
def test_a_side_without_questions_is_an_error_that_names_the_filter(tested: set[str]) -> None:
    questions = [ask(n, f"D{n}") for n in range(10)]
    with pytest.raises(QuestionError, match=r"dataset\.test_where puts (0|10) of 10 questions"):
        split_by_groups(questions, tested, group_by("company", DOCUMENTS))
