"""Questions get the name and the period they lack, and do not speak of the page."""

from __future__ import annotations

import pytest
from dataset_fakes import ACME, make_document
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.named import Owner, owner_of, stand_alone
from ragtune.documents.pack import use_pack

OWNER = Owner("Acme", "fiscal 2021")


@pytest.mark.parametrize(("text", "asked"), [
    ("What were Acme's net sales in 2021?", "What were Acme's net sales in 2021?"),
    ("What were the company's net sales in FY21?", "What were Acme's net sales in FY21?"),
    ("What does the Company make?", "In fiscal 2021, what does Acme make?"),
    ("What drove the rise in sales?", "For Acme in fiscal 2021, what drove the rise in sales?"),
    ("Why did Acme close its plants", "In fiscal 2021, why did Acme close its plants?"),
    ("EBITDA rose by how much in 2021?", "For Acme, EBITDA rose by how much in 2021?"),
    ("According to the table, what did Acme pay in 2021?", "What did Acme pay in 2021?"),
    ("What did Acme pay in 2021 as shown in the table above?", "What did Acme pay in 2021?"),
    ("What does this passage say about Acme in 2021?", ""),
    ("What is Acme?", "In fiscal 2021, what is Acme?"),
    ("Acme sales?", ""),
])
def test_who_and_when_are_added(text: str, asked: str) -> None:
    assert stand_alone(text, OWNER) == asked


@given(st.text(max_size=120))
def test_any_text_becomes_a_question_that_names_both_or_none(text: str) -> None:
    asked = stand_alone(text, OWNER)
    assert not asked or stand_alone(asked, OWNER) in (asked, "")


def test_the_owner_is_read_from_the_columns_as_the_pack_describes_them() -> None:
    assert owner_of(ACME) == OWNER
    quarter = make_document("Q", "", company="Acme", fiscal_year=2021, quarter=3, aliases="Acme Widgets")
    assert owner_of(quarter) == Owner("Acme", "Q3 of fiscal 2021", "Acme Widgets")
    assert owner_of(make_document("MY_FILE", "")) == Owner("MY FILE", "")
    assert stand_alone("What does the company make?", Owner("MY FILE", "")) == "What does MY FILE make?"
    with use_pack("plain"):
        manual = make_document("pump_manual", "", title="Pump X200", version="2", year=2020)
        assert owner_of(manual) == Owner("Pump X200", "2020")
