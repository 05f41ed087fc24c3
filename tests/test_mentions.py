"""Mentions: which names a question speaks of, and which it only seems to."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.names import Alias, aliases_of
from ragtune.documents.pack import open_pack
from ragtune.retrieval.mentions import NameTable, is_near

FINANCE = open_pack().names
NAMES = [
    "Apple",
    "Target",
    "Gap",
    "3M",
    "Johnson & Johnson",
    "Johnson Controls",
    "PG&E",
    "Coca-Cola",
    "American Express",
    "Advanced Micro Devices",
    "MGM Resorts International",
    "Best Buy",
    "Microsoft",
    "Block",
    "McDonald's",
    "JPMorgan Chase",
    "Oracle",
    "Wells Fargo",
]
ALIASES = {name: aliases_of(name, FINANCE) for name in NAMES} | {"Ticking": (Alias("tick", 0.9, "upper"),)}
TABLE = NameTable(ALIASES, FINANCE.terms)


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("What is 3M's capex?", ["3M"]),
        ("is a $3M loss material?", []),
        ("what is 3m users", ["3M"]),
        ("What is 3m of it", []),
        ("Apple's revenue", ["Apple"]),
        ("an apple a day is What", []),
        ("What was target's revenue?", ["Target"]),
        ("What was the target for sales?", []),
        ("What did Target sell?", ["Target"]),
        ("What is the gap in Gap margins?", ["Gap"]),
        ("Compare Johnson & Johnson with JnJ and J&J", ["Johnson & Johnson"] * 3),
        ("Johnson and Johnson’s sales", ["Johnson & Johnson"]),
        ("What of Johnson?", ["Johnson & Johnson", "Johnson Controls"]),
        ("Johnson Controls", ["Johnson Controls"]),
        ("PG&E", ["PG&E"]),
        ("PG and E", ["PG&E"]),
        ("P&G", []),
        ("Coca Cola", ["Coca-Cola"]),
        ("COCACOLA", ["Coca-Cola"]),
        ("does coke pay?", ["Coca-Cola"]),
        ("AMEX", ["American Express"]),
        ("Amex", ["American Express"]),
        ("AMD", ["Advanced Micro Devices"]),
        ("What is Amd", []),
        ("MGM Resorts", ["MGM Resorts International"]),
        ("MGM", ["MGM Resorts International"]),
        ("What is the best buy?", []),
        ("Did Best Buy grow?", ["Best Buy"]),
        ("Microsft and Coca-Cloa", ["Coca-Cola"]),
        ("Did Microsft grow?", ["Microsoft"]),
        ("Did MSFT grow?", ["Microsoft"]),
        ("Did ORCL grow?", ["Oracle"]),
        ("ROE and EPS", []),
        ("McDonalds' sales", ["McDonald's"]),
        ("mcdonald's", ["McDonald's"]),
        ("JPMorgan", ["JPMorgan Chase"]),
        ("Fargo", ["Wells Fargo"]),
        ("J.P. Morgan", ["JPMorgan Chase"]),
        ("TICK", ["Ticking"]),
        ("tick What", []),
        ("what is the target?", []),
        ("does target grow?", ["Target"]),
        ("What was the target's reach?", []),
        ("see 3M_2018_10K", ["3M"]),
        ("", []),
        ("?!", []),
        ("Что такое Apple?", ["Apple"]),
        ("什么是 3M 的收入", ["3M"]),
    ],
)
def test_names_in_questions(question: str, names: list[str]) -> None:
    assert [mention.name for mention in TABLE.find(question)] == names


def test_strengths_say_how_sure_a_name_is() -> None:
    def strength(question: str) -> float:
        return TABLE.find(question)[0].strength

    assert strength("Did Apple grow?") == 1
    assert strength("did apple grow?") < strength("Block by block?") < 1
    assert strength("Did AMEX grow?") < 1
    assert TABLE.find("Did Microsft grow?")[0].is_misspelt
    assert not TABLE.find("Did Microsoft grow?")[0].is_misspelt


def test_places_point_into_the_question() -> None:
    question = "Compare Coca Cola's and MGM's margins"
    assert [question[m.start : m.end] for m in TABLE.find(question)] == ["Coca Cola's", "MGM's"]


@pytest.mark.parametrize(
    ("left", "right", "is_it"),
    [
        ("oracle", "orcale", True),
        ("oracle", "oracl", True),
        ("oracle", "oraclee", True),
        ("oracle", "oragle", True),
        ("oracle", "oracle", False),
        ("oracle", "orlace", False),
        ("ab", "ba", True),
        ("", "a", True),
        ("abc", "", False),
    ],
)
def test_near_words(left: str, right: str, is_it: bool) -> None:
    assert is_near(left, right) is is_near(right, left) is is_it


@given(st.text(max_size=60) | st.lists(st.sampled_from([*NAMES, "and", "&", "the", "'s", "$"]), max_size=8).map(" ".join))
def test_mentions_do_not_overlap(question: str) -> None:
    spans = sorted({(mention.start, mention.end) for mention in TABLE.find(question)})
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


def test_no_names_no_mentions() -> None:
    assert NameTable({}).find("Did Apple grow?") == []
