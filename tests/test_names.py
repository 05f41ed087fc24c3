"""Names: the ways to write one, and names and tickers read from covers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.metadata import read_metadata
from ragtune.documents.names import (
    aliases_of,
    find_company,
    fold_name,
    is_symbol,
    read_aliases,
    read_common_words,
    split_name,
    strip_legal,
)
from ragtune.documents.pack import open_pack

FINANCE = open_pack().names


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Coca-Cola", "COCACOLA"),
        ("Coca Cola", "CocaCola"),
        ("Johnson & Johnson", "Johnson and Johnson"),
        ("J.P. Morgan", "JPMorgan"),
        ("McDonald’s", "McDonald's"),
        ("Nestlé", "Nestle"),
        ("PG&E", "PG & E"),
        ("JOHNSON_JOHNSON", "Johnson & Johnson"),
    ],
)
def test_spellings_fold_to_the_same(left: str, right: str) -> None:
    assert fold_name(left.replace("_", " ")) == fold_name(right)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("The Acme Tools Company, Inc.", ["Acme", "Tools"]),
        ("Johnson & Johnson", ["Johnson", "&", "Johnson"]),
        ("JPMorgan Chase & Co.", ["JPMorgan", "Chase"]),
        ("Amcor plc", ["Amcor"]),
        ("LyondellBasell Industries N.V.", ["LyondellBasell", "Industries"]),
        ("Mattel Inc /DE/", ["Mattel"]),
        ("Co", ["Co"]),
        ("", []),
        ("Amazon.com, Inc.", ["Amazon"]),
    ],
)
def test_legal_forms_are_dropped(name: str, words: list[str]) -> None:
    assert split_name(name, FINANCE) == words


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("Advanced Micro Devices, Inc.", {"advancedmicrodevices", "advancedmicrodevicesinc", "amd", "advancedmicro"}),
        ("Johnson & Johnson", {"johnsonjohnson", "jj", "jnj", "johnson"}),
        ("American Express", {"americanexpress", "amex"}),
        ("MGM Resorts International", {"mgmresorts", "mgm", "mri"}),
        ("PepsiCo", {"pepsico", "pepsi"}),
        ("Procter & Gamble", {"pg", "proctergamble", "procter"}),
        ("Lockheed Martin", {"lockheed"}),
        ("Coca-Cola", {"cocacola", "coke"}),
        ("General Motors", {"generalmotors", "gm"}),
    ],
)
def test_ways_to_write_a_name(name: str, keys: set[str]) -> None:
    assert keys <= {alias.key for alias in aliases_of(name, FINANCE)}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("American Express", {"american", "express"}),
        ("General Motors", {"general", "motors"}),
        ("Best Buy", {"best", "buy"}),
        ("Return On Equity Partners", {"roe"}),
        ("American Water Works", {"american", "works"}),
        ("3M", {"3"}),
    ],
)
def test_common_words_are_no_names(name: str, keys: set[str]) -> None:
    assert not keys & {alias.key for alias in aliases_of(name, FINANCE)}


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("Target", "capital"),
        ("Best Buy", "capital"),
        ("Gap", "capital"),
        ("Block, Inc.", "capital"),
        ("Apple", "capital"),
        ("Ball Corporation", "capital"),
        ("Visa", "capital"),
        ("Netflix", "any"),
        ("3M", "upper"),
        ("HP", "upper"),
        ("Foot Locker", "capital"),
    ],
)
def test_how_a_name_must_be_written(name: str, case: str) -> None:
    assert aliases_of(name, FINANCE)[0].case == case


def test_the_list_of_common_words_is_clean() -> None:
    words = read_common_words()
    assert 2000 < len(words) < 5000
    assert all(word.isalpha() and word == word.lower() for word in words)


@given(st.text(max_size=40))
def test_any_name_has_aliases_in_order(name: str) -> None:
    found = aliases_of(name, FINANCE)
    assert all(0 < alias.strength <= 1 and alias.key == fold_name(alias.key) for alias in found)
    assert len({alias.key for alias in found}) == len(found)


@pytest.mark.parametrize(
    ("cover", "registrants", "company", "wanted"),
    [
        ("Common Stock, $0.01 par value ACM New York Stock Exchange", [], "Acme", "ACM"),
        ("Title of each class\nClass A Common Stock, no par value ACMT The NASDAQ Stock Market LLC", [], "Acme", "ACMT"),
        ("Acme Tools (NYSE: ACM) today reported", [], "Acme", "ACM"),
        ("Ordinary shares\nACM\nNew York", [], "Acme", "ACM"),
        ("Common Stock LLC New York Stock Exchange", [], "Acme", None),
        ("Bolt Inc. (formerly known as Nut, Inc.)", [], "Bolt", "Nut"),
        ("", ["ACME INC."], "Acme", None),
        ("", ["WAYNE ENTERPRISES, INC."], "Batco", "WAYNE ENTERPRISES, INC."),
        ("", [], "", None),
        ("Common Stock V New York", [], "Visa", None),
    ],
)
def test_aliases_of_a_cover(cover: str, registrants: list[str], company: str, wanted: str | None) -> None:
    assert read_aliases(cover, registrants, company, FINANCE) == wanted


@pytest.mark.parametrize(
    ("cover", "is_filing", "wanted"),
    [
        ("1-0042 ACME ENERGY CORPORATION Delaware 94-3234914\n1-0043 ACME GAS COMPANY Ohio 94-1111111", True, "ACME ENERGY"),
        ("001-32853 Acme Energy Corporation (a Delaware corporation) 20-2777218", True, "Acme Energy"),
        ("1-3525 Acme Power Texas 13-4922640", True, "Acme Power"),
        ("SECURITIES AND EXCHANGE COMMISSION\nForm 8-K\nACME TOOLS, INC.\nDelaware", True, "ACME TOOLS"),
        ("ACME TOOLS, INC.\nDelaware", False, None),
        ("Acme Tools Reports Second-Quarter 2021 Results", False, "Acme Tools"),
        ("Acme Announces Full-Year Earnings", True, "Acme"),
        ("Acme reports a fire", False, None),
        ("", True, None),
        ("Ministry reports on fish", False, None),
    ],
)
def test_company_of_a_cover_without_the_usual_line(cover: str, is_filing: bool, wanted: str | None) -> None:
    assert find_company(cover, is_filing, FINANCE) == wanted


def test_metadata_has_names_from_the_cover() -> None:
    cover = (
        "FORM 10-K\nFor the fiscal year ended December 31, 2020\n1-0042 ACME ENERGY CORPORATION Delaware 94-3234914\n"
        "Common stock, no par value ACM The New York Stock Exchange\n"
    )
    assert read_metadata(Path("scan.pdf"), [cover]) == {
        "company": "Acme Energy",
        "aliases": "ACM",
        "fiscal_year": 2020,
        "form": "10-K",
    }
    assert read_metadata(Path("scan.pdf"), [cover], {"aliases": "Big A"})["aliases"] == "Big A"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Acme, Inc.", "Acme"),
        ("Coca-Cola Company", "Coca-Cola"),
        ("Chase & Co.", "Chase"),
        ("Inc", "Inc"),
        ("Group Co", "Group"),
    ],
)
def test_strip_legal(name: str, plain: str) -> None:
    assert strip_legal(name, FINANCE) == plain


def test_terms_are_no_symbols() -> None:
    assert [text for text in ("ACM", "EPS", "V", "Acm", "TOOLONG", "LLC") if is_symbol(text, FINANCE)] == ["ACM"]
