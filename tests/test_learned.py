"""The glossary learned from documents: rows that share amounts, abbreviations, and the file beside the index."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import IndexFolderError
from ragtune.recipe.schema import Recipe
from ragtune.records import Document, Page
from ragtune.retrieval.index import Index, build_index, open_index
from ragtune.retrieval.learned import (
    Glossary,
    abbreviations,
    build_learned,
    learned_file,
    long_form,
    open_learned,
    plain_label,
    same_rows,
    save_learned,
)


def document(*pages: str) -> Document:
    return Document("id", "D", "D.pdf", tuple(Page(number, text) for number, text in enumerate(pages, start=1)))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    (tmp_path / "docs").mkdir()
    for number, company in enumerate(("Acme", "Bolt", "Cork"), start=1):
        spent = f"{number},577 {number},373"
        label = "Purchases of property, plant and equipment (see notes)" if company != "Cork" else "Bought machines"
        (tmp_path / "docs" / f"{company.upper()}_2020_10K.txt").write_text(
            f"Summary\nCapital expenditures $ {spent} 9\n\fOther page\n{label} ({spent.replace(' ', ') (')})\n"
            f"{company} reports under generally accepted principles (GAP).")
    recipe = Recipe.model_validate({"documents": {"folder": str(tmp_path / "docs"), "workers": 1},
                                    "index": {"embedder": "hash"}})
    build_index(recipe, tmp_path / "index")
    return open_index(tmp_path / "index")


def test_rows_with_the_same_amounts_teach_a_wording(index: Index) -> None:
    learned = build_learned(index)
    assert learned["capital expenditures"] == ("purchases of property plant and equipment",)
    assert learned["purchases of property plant and equipment"] == ("capital expenditures",)
    assert "bought machines" not in learned  # one document alone
    assert learned["gap"] == ("generally accepted principles",)
    assert build_learned(index, {"ACME_2020_10K"}) == {}
    asked = Glossary(learned).expand("How large was the Capital Expenditure?")
    assert asked == ("purchases of property plant and equipment",)


@pytest.mark.parametrize(("pages", "pairs"), [
    (("Capex 1,577 1,373", "Purchases (net) 1,577 1,373"), [("capex", "purchases")]),
    (("Capex 1,577 1,373\nPurchases 1,577 1,373",), []),  # one page: a total and its part
    (("Capex 577 373", "Purchases 577 373"), []),  # too few digits to be no chance
    (("Capex 1,577 1,577", "Purchases 1,577 1,577"), []),
    (("Net sales 1,577 1,373", "Total net sales 1,577 1,373"), []),  # the words are there already
    (("Capex 15.77% 13.73%", "Purchases 15.77% 13.73%"), []),
    (tuple(f"{word} sum 1,577 1,373" for word in ("One", "Two", "Three", "Red", "Blue")), []),
])
def test_which_rows_are_one_thing(pages: tuple[str, ...], pairs: list[tuple[str, str]]) -> None:
    assert list(same_rows(document(*pages))) == pairs


@pytest.mark.parametrize(("text", "pairs"), [
    ("property, plant and equipment (PP&E)", [("pp&e", "property plant and equipment")]),
    ("the Securities and Exchange\nCommission (SEC) said", [("sec", "securities and exchange commission")]),
    ("in millions (USD) and (a) or (IV) it is (LLC)", []),
])
def test_abbreviations(text: str, pairs: list[tuple[str, str]]) -> None:
    assert list(abbreviations(document(text))) == pairs


@given(st.text(alphabet="ABc&1", max_size=6), st.lists(st.text(alphabet="abc A&", max_size=6), max_size=6))
def test_a_long_form_spells_its_short_form(short: str, words: list[str]) -> None:
    found = long_form(short, words)
    rest = iter(found)
    assert not found or all(letter in rest for letter in (c for c in short.lower() if c.isalnum()))


def test_labels_are_made_plain() -> None:
    assert plain_label("Cost of sales (1)*") == "cost of sales"
    assert plain_label("Stockholders’ equity:") == "stockholders' equity"
    assert plain_label("2020") == plain_label("A") == plain_label("x" * 99) == ""


def test_the_longest_name_in_a_question_counts() -> None:
    glossary = Glossary({"net sales": ("revenue",), "sales": ("turnover",), "the of": ("x",)})
    assert glossary.expand("What were Acme's NET SALES?") == ("revenue",)
    assert glossary.expand("sales and net sales") == ("revenue", "turnover")
    assert glossary.expand("") == glossary.expand("什么") == Glossary({}).expand("sales") == ()


def test_the_glossary_lies_beside_the_index(index: Index, caplog: pytest.LogCaptureFixture) -> None:
    learned = open_learned(index)  # there is none, so it is learned
    path = learned_file(index.folder)
    assert path == index.folder.parent / "index.learned.json"
    assert learned.entries == build_learned(index)
    assert path == save_learned(index, {"sales": ["turnover"]})  # an edited one stays
    assert open_learned(index).entries == {"sales": ("turnover",)}
    path.write_text(json.dumps({**json.loads(path.read_text()), "index": "other"}))
    with caplog.at_level(logging.WARNING):
        assert open_learned(index).entries
    assert "another state" in caplog.text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"entries": 3}', '{"entries": {"a": 3}}', "\x00"])
def test_a_damaged_glossary_is_named(index: Index, text: str) -> None:
    learned_file(index.folder).write_text(text)
    with pytest.raises(IndexFolderError, match=r"index\.learned\.json is no learned glossary"):
        open_learned(index)
