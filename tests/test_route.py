"""The router: candidates, weights, reasons and filters told from questions; fallbacks that are said."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.metadata import read_metadata
from ragtune.documents.pack import Pack, open_pack
from ragtune.records import Document
from ragtune.retrieval.filters import parse_filter
from ragtune.retrieval.route import Route, Router


def document(name: str, **metadata: object) -> Document:
    return Document(name, name, f"{name}.pdf", (), metadata)


def filing(
    company: str, year: int, form: str = "10-K", quarter: int | None = None, name: str = "", **more: object
) -> Document:
    key = "".join(letter for letter in company.upper() if letter.isalnum())
    name = name or f"{key}_{year}{f'Q{quarter}' if quarter else ''}_{form.replace('-', '')}"
    columns = {"company": company, "fiscal_year": year, "form": form} | ({"quarter": quarter} if quarter else {}) | more
    return document(name, **columns)


FILINGS = [
    *(filing("3M", year) for year in (2016, 2017, 2018, 2019, 2022)),
    filing("3M", 2018, "10-Q", 2),
    filing("3M", 2018, "10-Q", 3),
    *(filing("Coca-Cola", year) for year in (2017, 2018)),
    *(filing("Johnson & Johnson", year) for year in (2021, 2022)),
    filing("Johnson & Johnson", 2022, "8-K", name="JOHNSON_JOHNSON_2022_8K_dated-2022-08-30"),
    filing("Johnson & Johnson", 2022, "EARNINGS", 4),
    filing("Johnson Controls", 2022),
    filing("Target", 2020, aliases="TGT|Dayton Corporation"),
    filing("Advanced Micro Devices", 2019),
]
ROUTER = Router(FILINGS)
ROWS = {each.name: {**each.metadata, "document": each.name} for each in FILINGS}


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("What is 3M's capex in FY2018?", "3M_2018_10K"),
        ("3M's 3-year average margin FY2016 - FY2018", "3M_2018_10K"),
        ("3M sales in the second quarter of 2018", "3M_2018Q2_10Q"),
        ("What did 3M's 10-Q say for Q3 of FY2018?", "3M_2018Q3_10Q"),
        ("3M debt as of December 31, 2019", "3M_2019_10K"),
        ("What did 3M sell in fiscal year ended January 3, 2020?", "3M_2019_10K"),
        ("dividends of COCACOLA in FY17", "COCACOLA_2017_10K"),
        ("What is in the JnJ 8K dated 8/30/2022?", "JOHNSON_JOHNSON_2022_8K_dated-2022-08-30"),
        ("J&J earnings release of 2022", "JOHNSONJOHNSON_2022Q4_EARNINGS"),
        ("AMD's FY19 gross margin", "ADVANCEDMICRODEVICES_2019_10K"),
        ("Did TGT grow in 2020?", "TARGET_2020_10K"),
        ("Did Dayton grow in 2020?", "TARGET_2020_10K"),
        ("How much does Coca Cola owe?", "COCACOLA_2018_10K"),
    ],
)
def test_the_first_candidate(question: str, first: str) -> None:
    route = ROUTER.route(question)
    assert route.documents[0] == first
    assert not route.is_fallback


def test_one_sure_document_is_certain_and_its_neighbours_weigh_less() -> None:
    route = ROUTER.route("What is 3M's capex in FY2018?")
    weights = dict(zip(route.documents, route.weights))
    assert route.is_certain
    assert weights["3M_2018_10K"] == 1.0 > weights["3M_2019_10K"] > weights["3M_2017_10K"] > 0
    assert "3M_2022_10K" not in weights
    assert "3M_2016_10K" not in weights
    assert route.where == "company = '3M' and fiscal_year in (2017, 2018, 2019)"
    assert route.reasons == ("company 3M named in the question", "fiscal year 2018 matched documents of 3M")


def test_two_companies_bring_both_and_nothing_is_certain() -> None:
    route = ROUTER.route("Compare 3M with Coca-Cola in 2018")
    assert set(route.documents[:2]) == {"3M_2018_10K", "COCACOLA_2018_10K"}
    assert not route.is_certain
    assert "2 documents fit about equally: 3M_2018_10K, COCACOLA_2018_10K" in route.reasons


def test_a_name_of_two_companies_is_ambiguous() -> None:
    route = ROUTER.route("What did Johnson earn in 2022?")
    assert {"JOHNSONJOHNSON_2022_10K", "JOHNSONCONTROLS_2022_10K"} <= set(route.documents)
    assert not route.is_certain
    assert set(ROUTER.route("What did Johnson Controls earn?").documents) == {"JOHNSONCONTROLS_2022_10K"}


def test_a_release_may_hold_the_year_as_the_annual_report_does() -> None:
    route = ROUTER.route("What did Johnson & Johnson earn in 2022?")
    assert set(route.documents[:2]) == {"JOHNSONJOHNSON_2022_10K", "JOHNSONJOHNSON_2022Q4_EARNINGS"}
    assert not route.is_certain


@pytest.mark.parametrize(
    ("question", "documents", "reason"),
    [
        ("3M in 2021", {"3M_2022_10K", "3M_2019_10K"}, "no document of 2021 for 3M: fell back to"),
        ("3M in 2030", {"3M_2022_10K", "3M_2019_10K"}, "no document of 2030 for 3M: fell back to"),
        ("Coca-Cola in FY2015", {"COCACOLA_2017_10K", "COCACOLA_2018_10K"}, "fell back to 2017, 2018"),
        ("8-K of Coca-Cola in 2018", {"COCACOLA_2018_10K"}, "no event report among them"),
    ],
)
def test_what_is_missing_is_a_fallback_that_is_said(question: str, documents: set[str], reason: str) -> None:
    route = ROUTER.route(question)
    assert route.is_fallback
    assert not route.is_certain
    assert documents <= set(route.documents)
    assert any(reason in said for said in route.reasons), route.reasons
    assert len(route.documents) <= 5


def test_without_a_year_the_latest_is_a_little_ahead() -> None:
    route = ROUTER.route("What drives Coca-Cola?")
    assert route.documents == ("COCACOLA_2018_10K", "COCACOLA_2017_10K")
    assert route.weights[0] > route.weights[1] >= 0.5
    assert route.where == "company = 'Coca-Cola'"


@pytest.mark.parametrize(
    "question", ["What was revenue in 2018?", "What was Netflix's revenue?", "", "what is the target?", "总收入"]
)
def test_no_name_no_restriction(question: str) -> None:
    assert ROUTER.route(question) == Route(reasons=("no company of this index is named: all documents are searched",))


def test_one_company_alone_needs_no_name() -> None:
    router = Router([filing("Acme", 2019), filing("Acme, Inc.", 2020)])
    route = router.route("What was revenue in 2019?")
    assert route.documents[0] == "ACME_2019_10K"
    assert route.reasons[0] == "all documents are of one company, Acme"
    assert route.where == "company in ('Acme', 'Acme, Inc.')"


def test_documents_without_a_company_are_found_by_their_names() -> None:
    router = Router([document("ACME_report"), document("unrelated"), filing("Acme", 2019)])
    assert set(router.route("What did Acme earn?").documents) == {"ACME_report", "ACME_2019_10K"}
    manuals = Router([document("systemd.unit.manual"), document("grub_guide", title="Grub: the boot loader"), document("b")])
    route = manuals.route("How does systemd start a unit?")
    assert route.documents == ("systemd.unit.manual",)
    assert route.weights[0] <= 0.6
    assert (route.where, route.is_certain) == ("", False)
    assert "systemd" in route.reasons[0]
    assert manuals.route("What is love?").reasons == ("no document has a company: all documents are searched",)


def own_pack(folder: Path) -> Pack:
    """A pack of another field: makers, editions, and manuals that questions call handbooks."""
    (folder / "pack.yaml").write_text(
        "name: tools\nmetadata: {owner: {column: maker}, year: edition, kind: sort}\n"
        "names: {legal: [works], nicknames: {bolty: [bolt]}}\n"
        "reports:\n  manual: {forms: [Manual], phrases: [handbook]}\n"
        "  notice: {forms: [Notice], phrases: [notice], covers: moment}\n"
    )
    return open_pack(folder)


def test_kinds_of_report_and_names_of_another_field(tmp_path: Path) -> None:
    router = Router(
        [document("b1", maker="Bolt Works", edition=2020, sort="Manual"),
         document("b2", maker="Bolt Works", edition=2020, sort="Notice"), document("n", maker="Nut", edition=2020)],
        own_pack(tmp_path),
    )
    assert router.route("What does Bolty's handbook of 2020 say?").documents[0] == "b1"
    route = router.route("What does the notice of Bolt say, 2020?")
    assert route.documents == ("b2", "b1")
    assert "notice report asked for" in route.reasons
    assert "edition 2020 matched documents of Bolt Works" in route.reasons
    assert not any("10-K" in reason for reason in router.route("Bolt's 10-K of 2020").reasons)


def test_other_columns_and_odd_values(tmp_path: Path) -> None:
    router = Router(
        [
            document("a", maker="Bolt Works", edition="FY2018"),
            document("b", maker="Bolt Works", edition=None),
            document("c", maker="Nut"),
            document("d", maker=7, edition=True),
        ],
        own_pack(tmp_path),
    )
    route = router.route("What did Bolt Works sell in 2018?")
    assert route.documents == ("a", "b")
    assert "maker Bolt Works named" in route.reasons[0]
    assert Router([]).route("What did Acme earn?").documents == ()


def kept_by(where: str, rows: dict[str, dict]) -> set[str]:
    return {name for name, row in rows.items() if parse_filter(where).matches(row)}


QUESTIONS = st.lists(
    st.sampled_from(
        [
            "3M",
            "Johnson",
            "JnJ",
            "Coca Cola's",
            "Target",
            "target",
            "AMD",
            "FY2018",
            "2019",
            "2016 to 2018",
            "Q2",
            "10-K",
            "8K",
            "2025",
            "January 2, 2020",
            "8/30/2022",
            "earnings release",
            "?",
            "the",
            "and",
        ]
    ),
    min_size=1,
    max_size=7,
).map(" ".join)


@given(QUESTIONS)
def test_the_filter_keeps_just_the_candidates(question: str) -> None:
    route = ROUTER.route(question)
    assert len(route.documents) == len(set(route.documents)) == len(route.weights)
    assert all(0 < weight <= 1 for weight in route.weights)
    assert list(route.weights) == sorted(route.weights, reverse=True)
    assert route.reasons
    assert bool(route.where) == bool(route.documents)
    if route.where:
        assert kept_by(route.where, ROWS) == set(route.documents)
    assert Route.from_dict(json.loads(json.dumps(route.to_dict()))) == route


@given(st.text(max_size=80))
def test_any_question_has_a_route(question: str) -> None:
    assert ROUTER.route(question).reasons


def test_routes_are_fast() -> None:
    many = [
        filing(f"{chr(65 + number % 26)}ompany{number} Foods", year, aliases=f"TK{chr(65 + number % 26)}")
        for number in range(1000)
        for year in range(2012, 2022)
    ]
    start = time.perf_counter()
    router = Router(many)
    built_s = time.perf_counter() - start
    start = time.perf_counter()
    for number in range(100):
        assert router.route(
            f"What did {many[10 * number].metadata['company']} spend on plants and equipment in FY2018?"
        ).documents
    assert built_s < 20
    assert (time.perf_counter() - start) / 100 < 0.02  # 0.2 ms on a quiet machine
    assert router.route("x 3M " * 20_000).documents == ()


FOLDER = Path(os.environ.get("RAGTUNE_FINANCEBENCH", Path(__file__).parents[2] / "shared/financebench"))


@pytest.mark.real
def test_routes_of_real_questions() -> None:
    if not (FOLDER / "questions.jsonl").is_file():
        pytest.skip("no FinanceBench here")
    rows = [json.loads(line) for line in (FOLDER / "documents.jsonl").read_text().splitlines()]
    sides = {row["doc_name"]: {"company": row["company"]} for row in rows}
    documents = [document(name, **read_metadata(Path(f"{name}.pdf"), [], side)) for name, side in sides.items()]
    router = Router(documents)
    asked = [json.loads(line) for line in (FOLDER / "questions.jsonl").read_text().splitlines()]
    asked = [row for row in asked if row["doc_name"] in sides]
    routes = [(router.route(row["question"]), row["doc_name"]) for row in asked]
    assert sum(name in route.documents for route, name in routes) >= 0.95 * len(routes)
    assert sum(name == route.documents[:1][0] for route, name in routes if route.documents) >= 0.85 * len(routes)
