"""Leaks: training questions that are asked again for evaluation are found and named, like ones of others are not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.leaks import check_leaks, check_repeats, find_leaks, find_repeats, leave_out
from ragtune.errors import QuestionError
from ragtune.records import Evidence, Question


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
    (CAPEX.format(2021).replace("Acme", "Bolt"), "", False),  # but the names tell it
    (CAPEX.format(2021).replace("Acme", "ACME Inc."), "", True),
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


@pytest.mark.parametrize(("text", "fields", "is_repeat"), [
    (CAPEX.format(2021), {}, True),
    (CAPEX.format(2021).replace("What was the", "what is the"), {}, True),
    (CAPEX.format(2020), {}, False),  # the same look-up of another year, company, segment, quarter or number is another
    (CAPEX.format(2020), {"answer": "$2 million"}, False),
    (CAPEX.format(2021).replace("Acme", "Bolt"), {"metadata": {"company": "Bolt"}}, False),
    (CAPEX.format(2021).replace("of Acme", "of Acme's Pumps"), {}, False),
    (CAPEX.format(2021), {"metadata": {"company": "Bolt"}}, False),
    (CAPEX.format(2021).replace("fiscal 2021", "Q2 of fiscal 2021"), {}, False),
    (CAPEX.format(2021).replace("equipment of", "equipment (FY) of"), {}, True),
    ("What were the net sales of Acme in fiscal 2021?", {}, False),
])
def test_what_asks_once_more_within_the_training_side(text: str, fields: dict[str, Any], is_repeat: bool) -> None:
    first = ask("first", CAPEX.format(2021))
    other = dataclasses.replace(ask("other", text), **fields)
    assert find_repeats([first, other]) == ([(other, first)] if is_repeat else [])


@pytest.mark.parametrize(("one", "other"), [
    ("Acme", "Bolt"), ("Acme Corp", "Bolt Corp"), ("Acme Q1", "Acme Q2"), ("top 5 plants", "top 10 plants"),
    ("Class A shares", "Class B shares"), ("the 10-K of Acme", "the 10-Q of Acme")])
def test_the_same_words_about_others_stay_though_no_owner_is_known(one: str, other: str) -> None:
    text = "What was the whole capital expenditure on property, plant and equipment by {} in fiscal 2021 (in USD millions)?"
    asked = [ask(name, text.format(name), company="") for name in (one, other)]
    assert find_repeats(asked) == []
    assert find_repeats([*asked, dataclasses.replace(asked[0], id="again")]) == [
        (dataclasses.replace(asked[0], id="again"), asked[0])]


def test_the_same_words_about_other_pages_stay_and_opposite_verdicts_do() -> None:
    pages = [dataclasses.replace(ask(f"p{n}", "What is said about the weather?", ""), answer=said,
                                 evidence=(Evidence(f"D{n}", 1),)) for n, said in enumerate(("Rain.", "Sun.", "Rain."))]
    assert find_repeats(pages) == []
    again = dataclasses.replace(pages[0], id="again")
    assert find_repeats([*pages, again]) == [(again, pages[0])]
    text = "Did the capital expenditure on property, plant and equipment of Acme {} in fiscal 2021 over fiscal 2020?"
    text_of = "By {} did the capital expenditure on property, plant and equipment of Acme change in fiscal 2021?"
    kinds = [dataclasses.replace(ask(kind, text_of.format(words)), kind=kind, answer="0.0%")
             for kind, words in (("growth", "what percentage"), ("difference", "how much"))]
    assert find_repeats(kinds) == []
    verdicts = [dataclasses.replace(ask(word, text.format(word)), answer=said)
                for word, said in (("rise", "Yes"), ("fall", "No"))]
    assert find_repeats(verdicts) == []


def test_repeats_are_named_or_left_out_the_first_of_each_stays() -> None:
    asked = [ask(f"t{number}", CAPEX.format(2021)) for number in range(7)]
    with pytest.raises(QuestionError, match=r"6 training question.* 't1' is like 't0'.*and 1 more.*near_duplicates=drop"):
        check_repeats(asked)
    assert leave_out(asked, find_repeats(asked)) == asked[:1]
    check_repeats(asked[:1])


def test_all_wordings_of_many_look_ups_stay() -> None:
    text = "What {} the {} of {} in fiscal {} (in USD millions)?"
    asked = [ask(f"{company}{year}{line}", text.format(verb, line, company, year), company)
             for company in ("Acme", "Bolt", "Corvex") for year in range(2015, 2023)
             for verb, line in (("was", "capital expenditure"), ("were", "net sales"), ("was", "operating income"))]
    assert find_repeats(asked) == []


@given(st.lists(st.sampled_from([ask(str(n), text) for n, text in enumerate(
    [CAPEX.format(2021), CAPEX.format(2020), CAPEX.format(2021).upper(), "Who?", "", "What were net sales?"])]), max_size=8))
def test_what_is_left_repeats_nothing(asked: list[Question]) -> None:
    asked = [dataclasses.replace(question, id=str(number)) for number, question in enumerate(asked)]
    left = leave_out(asked, find_repeats(asked))
    assert find_repeats(left) == []
    assert {question.text.lower() for question in left} == {question.text.lower() for question in asked}
