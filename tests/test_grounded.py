"""Whether quotes stand on pages, answers in quotes, and questions keep their answers to themselves."""

from __future__ import annotations

import pytest
from dataset_fakes import PROSE, STATEMENT
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.grounded import find_quote, gives_away, holds_answer, parse_amounts, restate_evidence


@pytest.mark.parametrize(("quote", "found"), [
    ("We are a maker of pumps with plants in three states.", "We are a maker of pumps with plants in three states."),
    ("customers choose  on quality,\nprice", "customers\nchoose on quality, price"),
    ("\"we ARE a maker of pumps...\"", "We are a maker of pumps"),
    ("We are a maker of valves", ""),
    ("pumps", ""),
    ("", ""),
])
def test_a_quote_comes_back_as_the_page_prints_it(quote: str, found: str) -> None:
    assert find_quote(PROSE, quote) == found


def test_marks_of_another_form_do_not_count_and_a_row_comes_whole() -> None:
    assert find_quote("The company’s “best” year – ever.", 'company\'s "best" year - ever') == "company’s “best” year – ever"
    assert find_quote(STATEMENT, "Net sales $ 4,210") == "Net sales $ 4,210 $ 3,900"


@given(st.text(max_size=300), st.integers(0, 300), st.integers(0, 300))
def test_any_long_piece_of_a_page_is_found_in_it(page: str, start: int, end: int) -> None:
    piece = page[start:end]
    found = find_quote(page, piece)
    assert found in page
    if sum(letter.isalnum() for letter in piece.strip().strip("\"'“”.…")) >= 20:
        assert found


@pytest.mark.parametrize(("evidence", "answer", "holds"), [
    ("Net sales $ 4,210 $ 3,900", "$4,210 million", True),
    ("Net sales $ 4,210 $ 3,900", "$4.21 billion", True),
    ("Net sales $ 4,210 $ 3,900", "$4.2 billion", True),
    ("Net sales $ 4,210 $ 3,900", "$4.3 billion", False),
    ("Net sales $ 4,210 $ 3,900", "$4,211 million", False),
    ("Net sales $ 4,210 $ 3,900", "$421 million", False),
    ("Net sales $ 4,210 $ 3,900", "They rose from $3,900 million in 2020 to $4,210 million.", False),
    ("Net sales rose from $3,900 in 2020 to $4,210", "They rose from $3,900 million in 2020 to $4,210 million.", True),
    ("Net sales were $1.5 million in 2021", "$1,500,000", True),
    ("Net loss (78)", "-$78", True),
    ("driven by higher volumes and by prices", "Higher volumes and prices", True),
    ("driven by higher volumes and by prices", "Lower costs of steel", False),
    ("driven by higher volumes and by prices", "Yes.", False),
    ("We have paid dividends in every quarter.", "Yes, it paid dividends in every quarter.", True),
])
def test_an_answer_is_held_by_value_or_by_its_words(evidence: str, answer: str, holds: bool) -> None:
    assert holds_answer(evidence, answer, "What about Acme in fiscal 2021?") == holds


@pytest.mark.parametrize(("question", "answer", "gives"), [
    ("What were Acme's net sales in 2021?", "$4,210 million", False),
    ("Were Acme's net sales 4,210 in 2021?", "$4,210 million", True),
    ("Did Acme's sales of $4.2 billion rise?", "4.2 billion", True),
    ("What was the rate of the 4.5% notes?", "4.5%", True),
    ("In which year did Acme buy Zenith?", "2019", False),
    ("In which year, 2019, did Acme buy Zenith?", "2019", True),
    ("Were sales higher in 2021?", "Yes, sales were higher in 2021.", False),
    ("Is Acme a maker of pumps?", "a maker of pumps", True),
    ("What does Acme make?", "Pumps, at plants in three states", False),
    ("Why did sales rise because of higher volumes of pumps and valves in 2021?",
     "Because of higher volumes of pumps and valves", True),
])
def test_a_question_that_holds_its_answer_gives_it_away(question: str, answer: str, gives: bool) -> None:
    assert gives_away(question, answer) == gives


def test_amounts_have_a_scale_and_words_count() -> None:
    assert [(a.value, a.scale) for a in parse_amounts("$1,234.5 million, 7% and three")] == [(1234.5, 1e6), (7, 1), (3, 1)]
    assert [a.text for a in parse_amounts("COVID19 in 2021")] == ["2021"]


def test_the_row_an_answer_reads_is_restated() -> None:
    row = "Net sales $ 4,210 $ 3,900"
    assert restate_evidence(STATEMENT, row, "$3,900 million", ()) == "Net sales 2020: 3,900"
    assert restate_evidence(STATEMENT, row, "$5 million", ()) == ""
    assert restate_evidence(STATEMENT, "no row", "$3,900 million", ()) == ""
    same = STATEMENT.replace("3,900", "4,210")
    assert restate_evidence(same, "Net sales $ 4,210 $ 4,210", "$4,210 million", ()) == ""
    assert restate_evidence(same, "Net sales $ 4,210 $ 4,210", "$4,210 million", ("2020",)) == "Net sales 2020: 4,210"


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_any_text_can_be_checked(one: str, two: str, three: str) -> None:
    assert holds_answer(one, two, three) in (True, False)
    assert gives_away(one, two) in (True, False)
    assert isinstance(restate_evidence(one, two, three, ("2021",)), str)
