"""Leaks: training questions that are asked again for evaluation are found and named, like ones of others are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.leaks import check_leaks, find_leaks
from ragtune.errors import QuestionError
from ragtune.records import Question


def ask(name: str, text: str, company: str = "Acme") -> Question:
    return Question(name, text, "$1 million", metadata={"company": company} if company else {})


CAPEX = "What was the capital expenditure on property, plant and equipment of Acme in fiscal {} (in USD millions)?"


@pytest.mark.parametrize(("text", "company", "leaks"), [
    (CAPEX.format(2021), "Acme", True),
    (CAPEX.format(2021).upper(), "Acme", True),
    (CAPEX.format(2021).replace("(in USD millions)", "in USD millions"), "Acme", True),
    (CAPEX.format(2021).replace("What was the", "Tell me the"), "", True),  # an unknown owner counts as the same
    (CAPEX.format(2020), "Acme", False),
    (CAPEX.format(2021).replace("Acme", "Bolt"), "Bolt", False),
    ("What were the net sales of Acme in fiscal 2021?", "Acme", False),
])
def test_what_is_asked_again(text: str, company: str, leaks: bool) -> None:
    kept = [ask("kept", CAPEX.format(2021))]
    assert bool(find_leaks([ask("train", text, company)], kept)) == leaks


def test_the_error_names_the_questions_and_what_to_do() -> None:
    train = [ask(f"t{number}", CAPEX.format(2021)) for number in range(7)]
    with pytest.raises(QuestionError, match=r"7 training question\(s\) .* 't0' is like 'k'.*and 2 more.*--not-in"):
        check_leaks(train, [ask("k", CAPEX.format(2021))], "the test questions")
    check_leaks(train, [], "the test questions")


@given(st.lists(st.text(max_size=40), max_size=5), st.lists(st.text(max_size=40), max_size=5))
def test_every_equal_text_is_found(train: list[str], kept: list[str]) -> None:
    found = {one.text for one, _ in find_leaks([ask("t", text) for text in train], [ask("k", text) for text in kept])}
    assert {text for text in train if text in kept} <= found
