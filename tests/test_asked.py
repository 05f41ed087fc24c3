"""What a question asks for: line items, the sections they stand in, the words that documents use."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.pack import open_pack
from ragtune.documents.packparts import Screen
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


QUESTION_WORDS = ["net", "sales", "gross", "margin", "Item", "8", "cash", "flow", "statement", "of", "income", "tax", "rate",
                  "risk", "factors", "in", "the", "inventory", "turnover", "segment", "segments", "balance", "sheet", "MD&A"]


@given(st.lists(st.sampled_from(QUESTION_WORDS), max_size=9).map(" ".join))
def test_a_screen_finds_what_each_pattern_finds(text: str) -> None:
    pack = open_pack("finance")
    patterns = [pattern for part in (pack.topics, pack.sections, pack.measures) for pattern in (one.asked for one in part)]
    patterns += [section.item for section in pack.sections]
    expected = [place for place, pattern in enumerate(patterns) if pattern and pattern.search(text)]
    assert Screen(patterns).find(text) == expected


def test_a_screen_keeps_patterns_apart_that_cannot_stand_in_one() -> None:
    patterns = [re.compile(r"(a)\1", re.IGNORECASE), None, re.compile(r"(?P<x>b)c", re.IGNORECASE),
                re.compile(r"(?P<x>D)$"), re.compile("a")]
    assert Screen(patterns).find("AA bc D") == [0, 2, 3]
    assert Screen(patterns).find("zz") == []
    assert Screen([]).find("a") == []
