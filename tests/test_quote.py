"""Misquoted rows are set right from the page they name; everything else is left as it is."""

import re

from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.quote import (
    Misquote,
    Requoted,
    find_unprinted_quotes,
    find_unprinted_rows,
    mend_rows,
    verify_citations,
    verify_quotes,
)
from ragtune.records import Passage

ROWS = "Net sales 2021: 4,210\nNet sales 2020: 3,900\nNet loss 2021: (310)\nOther 2021: —"


def passages(*texts: str) -> list[Passage]:
    return [Passage(n, text, f"c{n}", "ACME_2021_10K", n, 0, 1, title="Acme") for n, text in enumerate(texts, 1)]


def test_a_misread_amount_becomes_what_the_row_prints_there_and_later_on() -> None:
    said = "Net sales 2021: 4,120 [1]\nNet sales 2020: 3,900 [1]\n4,120 / 3,900 - 1 = 5.6%\nAnswer: 5.6% to $4,120 million"
    text, misquotes = mend_rows(said, passages(ROWS))
    assert text == said.replace("4,120", "4,210")
    assert misquotes == (Misquote("Net sales 2021", "4,120", "4,210", 1),)


def test_the_cited_passage_decides_where_two_hold_the_row() -> None:
    other = "Net sales 2021: 999"
    assert mend_rows("Net sales 2021: 4,120 [2]", passages(ROWS, other))[0] == "Net sales 2021: 999 [2]"
    assert mend_rows("Net sales 2021: 999 [1]", passages(ROWS, other)) == ("Net sales 2021: 999 [1]", ())  # a wrong citation
    assert mend_rows("Net sales 2021: 4,120 [7]", passages(ROWS, other))[1] == ()  # nothing says which one is meant
    assert mend_rows("Net sales 2021: 4,120 [7]", passages(ROWS, ROWS))[0] == "Net sales 2021: 4,210 [7]"


def test_what_names_no_row_is_left_alone() -> None:
    for said in ("Net income 2021: 4,120 [1]", "Net sales 2019: 4,120 [1]", "Net sales 2021: 4,210.0 [1]",
                 "Net loss 2021: 310 [1]", "Other 2021: 5 [1]", "Answer: $4,120 million", "Net sales 2021: $4.2 billion"):
        assert mend_rows(said, passages(ROWS)) == (said, ()) or said.endswith("billion")


def test_a_cited_row_must_be_printed_with_its_year_and_amount_under_a_like_label() -> None:
    shown = passages("Interest expense 2021: 46", "Research and development 2021: 143")
    for good in ("Interest expense 2021: 46 [1]", "interest expense 2021: $46 [2]", "Interest expenses, net 2021: 46 [1]",
                 "Interest expense 2021: 46", "Interest expense 2021: 46 [1], 2020: 44", "46 / 143 = 0.32 [1]"):
        assert find_unprinted_rows(good, shown) == []
    for bad in ("Research and in$inInterest expense 2021: 46", "Interest expense 2020: 46", "Interest expense 2021: 47",
                "Income taxes 2021: 46"):
        assert find_unprinted_rows(f"{bad} [1]\nAnswer: $46 million", shown) == [bad]


def test_longer_numbers_that_hold_the_misread_one_stay() -> None:
    text, _ = mend_rows("Net sales 2021: 20 [1]\n20 + 4,120.20 + 1,20 = 120\nAnswer: 20.", passages("Net sales 2021: 21"))
    assert text == "Net sales 2021: 21 [1]\n21 + 4,120.20 + 1,20 = 120\nAnswer: 21."


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_read_and_a_right_quote_never_changes(text: str, passage: str) -> None:
    mended, misquotes = mend_rows(text, passages(passage, ROWS))
    assert misquotes or mended == text
    assert mend_rows(ROWS, passages(ROWS)) == (ROWS, ())
    assert re.sub(r"\[\d+\]", "", verify_citations(text, passages(passage))[0]) == re.sub(r"\[\d+\]", "", text)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_misquote_of_any_size_is_mended(printed: int, said: int) -> None:
    text, misquotes = mend_rows(f"Cash 2021: {said:,} [1]\nAnswer: ${said:,} million", passages(f"Cash 2021: {printed:,}"))
    assert bool(misquotes) == (said != printed)
    assert text == f"Cash 2021: {printed:,} [1]\nAnswer: ${printed:,} million"


def test_quotes_are_set_as_printed_and_cited_where_they_stand() -> None:
    shown = passages("Sales rose – in all\nthree “big” markets.", "Prices fell by 4,210.5 points.")
    said = '"sales rose - in all three "big" markets." [2]\n"Prices fell by" [2]\nAnswer: all three [1]'
    text, requoted = verify_quotes(said, shown)
    assert text == '"Sales rose – in all\nthree “big” markets." [1]\n"Prices fell by" [2]\nAnswer: all three [1]'
    printed = "Sales rose – in all\nthree “big” markets."
    assert requoted == (Requoted('sales rose - in all three "big" markets.', 2, printed, 1),)
    assert verify_quotes(text, shown) == (text, ())
    assert find_unprinted_quotes(text, shown) == []


def test_quotes_that_stand_nowhere_or_cut_a_word_or_number_are_told() -> None:
    shown = passages("Prices fell by 14,210.5 points in 2021.")
    for bad in ("Prices rose", "4,210.5 points", "by 14,210", "rices fell", "points in 2"):
        assert find_unprinted_quotes(f'"{bad}" [1]\nAnswer: x', shown) == [bad]
        assert verify_quotes(f'"{bad}" [1]\nAnswer: x', shown) == (f'"{bad}" [1]\nAnswer: x', ())
    assert find_unprinted_quotes('"Prices rose", it says [1]\nAnswer: x', shown) == []  # no quote on a line of its own


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_with_quotes_is_read_and_stays_mended(text: str, passage: str) -> None:
    shown = passages(passage, ROWS)
    said = f'"{text}" [1]\nAnswer: x'
    mended, _ = verify_quotes(said, shown)
    assert mended.endswith("Answer: x")
    assert find_unprinted_quotes(mended, shown) == find_unprinted_quotes(said, shown)
