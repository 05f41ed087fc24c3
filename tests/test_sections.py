"""Which sections a question points to, and which of them a page begins."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.pack import open_pack
from ragtune.documents.sections import sections_of_page, sections_of_pages

BALANCE = """Acme Tools, Inc. and Subsidiaries
CONSOLIDATED BALANCE SHEETS
(In millions, except par value)
December 31, 2021 2020
Cash and cash equivalents $ 120 $ 110
Total current assets 900 850
Goodwill 40 40
Total assets $ 2,100 $ 2,000
Accounts payable 210 205
Total current liabilities 400 390
Retained earnings 700 650
"""
CASH = """Acme Tools, Inc.
Consolidated Statements of Cash Flow s (Continued)
Years ended December 31, 2021 2020 2019
Net income $ 210 $ 190 $ 180
Depreciation and amortization 55 50 49
Net cash provided by operating activities 330 310 290
Purchases of property, plant and equipment (90) (80) (70)
Net cash used in investing activities (95) (85) (80)
Net cash used in financing activities (200) (210) (190)
Cash and cash equivalents at end of year $ 120 $ 110 $ 95
"""
CASH_SECOND_PAGE = CASH.split("2019\n", 1)[1]
INCOME = """STATEMENT OF CONSOLIDATED OPERATIONS
(Millions) 2021 2020
Net sales $ 4,210 $ 3,900
Cost of sales 2,100 1,900
Operating income 500 450
Interest expense 20 18
Income before income taxes 480 432
Provision for income taxes 100 90
Net income $ 380 $ 342
Diluted earnings per share $ 3.05 $ 2.75
"""
PROSE = """LIQUIDITY AND CAPITAL RESOURCES
Net cash provided by operating activities was $330 million, see the Consolidated Statements of Cash Flows.
We refer you to the Consolidated Balance Sheets in Item 8. Financial Statements and
Supplementary Data. Purchases of property, plant and equipment were $90 million.
"""
CONTENTS = """Table of Contents
Item 1. Business 3
Item 1A. Risk Factors 9
Item 2. Properties 18
Item 3. Legal Proceedings 19
Item 7. Management's Discussion and Analysis 24
Consolidated Balance Sheets 40
Consolidated Statements of Cash Flows 42
"""
COVER = """UNITED STATES SECURITIES AND EXCHANGE COMMISSION
Washington, D.C. 20549
FORM 10-K
Commission file number: 1-2345
ACME TOOLS, INC.
(Exact name of registrant as specified in its charter)
Securities registered pursuant to Section 12(b) of the Act:
"""


@pytest.mark.parametrize(("text", "wanted"), [
    (BALANCE, ("balance sheet",)), (CASH, ("cash flow statement",)), (CASH_SECOND_PAGE, ("cash flow statement",)),
    (INCOME, ("income statement",)), (CONTENTS, ("table of contents",)), (COVER, ("cover page",)),
    (PROSE, ("liquidity and capital resources",)), ("", ()),
    (BALANCE.replace("BALANCE SHEETS", "STATEMENTS OF\nFINANCIAL POSITION"), ("balance sheet",)),
    (CASH.replace("Consolidated Statements of Cash Flow s (Continued)", "CASH FLOWS STATEMENTS"), ("cash flow statement",)),
    (INCOME.replace("STATEMENT OF CONSOLIDATED OPERATIONS", "Acme Inc. Consolidated Statements of Profit or Loss"),
     ("income statement",)),
    ("Item 5.07 Submission of Matters to a Vote of Security Holders.\nThe annual meeting was held.",
     ("shareholder vote report",)),
    ("Pension and Other Post-Retirement Benefit Plans\nWe have plans.", ("pension note",)),
    ("Item 3. Legal Proceedings\nSee Note 12.", ("legal proceedings",)),
    ("PART II\nITEM 7: MANAGEMENT’S DISCUSSION AND ANALYSIS OF FINANCIAL CONDITION AND RESULTS OF OPERATIONS",
     ("management's discussion",)),
    ("NOTES TO CONSOLIDATED FINANCIAL STATEMENTS—(Continued)\nNote 9 – Income Taxes\nThe provision was as follows.",
     ("notes to the statements", "tax note")),
    ("Consolidated Statements of Cash Flows\nare described in this section, which says little.", ()),
    ("See accompanying\nConsolidated Balance Sheets\n", ()),
])
def test_sections_of_a_page(text: str, wanted: tuple[str, ...]) -> None:
    assert sections_of_page(text) == wanted


def test_statements_of_the_parent_alone_are_others() -> None:
    assert "balance sheet" in sections_of_page(BALANCE)
    assert "balance sheet" not in sections_of_page(f"SCHEDULE I — CONDENSED FINANCIAL INFORMATION OF PARENT\n{BALANCE}")


def test_a_section_lasts_until_the_next_of_its_level() -> None:
    pages = ["Item 1A. Risk Factors\nWe face risks.", "More risks.", "Item 3. Legal Proceedings\nNone.", "Still none.",
             BALANCE, "Words.", "NOTES TO CONSOLIDATED FINANCIAL STATEMENTS\nNote 1. Debt\nNotes are due.",
             "They are due later."]
    assert sections_of_pages(pages) == [
        ("risk factors",), ("risk factors",), ("legal proceedings",), ("legal proceedings",),
        ("balance sheet",), (), ("notes to the statements", "debt note"),
        ("notes to the statements", "debt note")]


def test_another_pack_knows_other_sections() -> None:
    plain = open_pack("plain")
    assert sections_of_page("# Introduction\nWords.", plain) == ("introduction",)
    assert sections_of_page(BALANCE, plain) == ()


@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    names = {section.name for section in open_pack().sections}
    assert set(sections_of_page(text)) <= names
    assert len(sections_of_pages(text.split("\f"))) == len(text.split("\f"))


@pytest.mark.real
def test_the_statements_of_real_filings_are_found() -> None:
    """Pages looked up by hand; filings of the train split only."""
    from ragtune.documents.read import read_documents
    from ragtune.recipe.schema import Documents

    folder = Path(os.environ.get("RAGTUNE_FINANCEBENCH") or Path(__file__).parents[2] / "shared" / "financebench") / "pdfs"
    if not folder.is_dir():
        pytest.skip(f"no filings at {folder}")
    for name, balance, income, cash in (
        ("APPLE_2020_10K", [36], [34], [38]), ("FEDEX_2023_10K", [79, 80], [81], [83]), ("INTEL_2020_10K", [78], [76], [79]),
        ("EBAY_2022_10K", [58], [59], [62, 63]), ("SALESFORCE_2023_10K", [60], [61], [64]),
    ):
        read = read_documents(Documents(folder=str(folder), include=(f"{name}.pdf",), workers=1)).documents[0]
        found = [sections_of_page(page.text) for page in read.pages]
        for section, pages in (("balance sheet", balance), ("income statement", income), ("cash flow statement", cash)):
            assert [page for page, sections in enumerate(found, start=1) if section in sections] == pages, (name, section)
