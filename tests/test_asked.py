"""What a question asks for: line items, the sections they stand in, the words that documents use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.pack import open_pack
from ragtune.retrieval.asked import read_asked


@pytest.mark.parametrize(("question", "section"), [
    ("What is the FY2018 capex of Acme?", "cash flow statement"),
    ("What was Acme's net income in 2020?", "income statement"),
    ("What are the year-end FY2021 inventories of Acme?", "balance sheet"),
    ("Is Acme in any legal battles?", "legal proceedings"),
    ("Which securities of Acme are registered on a national exchange?", "cover page"),
    ("What was Acme's effective tax rate?", "tax note"),
    ("Who leads Acme's competition?", "competition"),
    ("What does Item 1A of Acme's 10-K say?", "risk factors"),
    ("How did the balance sheet of Acme change?", "balance sheet"),
    ("Did shareholders vote for the nominees?", "shareholder vote report"),
])
def test_the_section_a_question_points_to_stands_among_the_first(question: str, section: str) -> None:
    asked, pack = read_asked(question, open_pack()), open_pack()
    found = {pack.sections[place].name: weight for kind in (asked.of_topics, asked.of_terms, asked.named)
             for place, weight in kind.items()}
    assert found[section] == 1.0
    assert all(0 < weight <= 1 for weight in found.values())


def added(question: str, pack: str = "finance") -> tuple[str, ...]:
    return read_asked(question, open_pack(pack)).added


def test_phrases_to_add_are_what_documents_say() -> None:
    assert added("What is the FY2018 capex of Acme?")[0] == "purchases of property, plant and equipment"
    assert "litigation" in added("Is Acme facing legal battles?")
    assert "total current liabilities" in added("What is the quick ratio of Acme?")
    assert added("Hello there") == ()
    assert added("What is the capex?", "plain") == ()


@given(st.text(max_size=300))
def test_any_text_asks_for_something_known(text: str) -> None:
    asked = read_asked(text, open_pack())
    assert all(0 <= place < len(open_pack().sections) for place in (*asked.named, *asked.of_terms, *asked.of_topics))
