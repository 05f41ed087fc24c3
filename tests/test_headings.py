"""Headings: known by form and place, not fooled by tables, contents and running heads; their paths."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.documents.headings import find_headings, is_contents

PROSE = ("The company sells many things in many places, and this is said at length\n"
         "so that a paragraph of two lines stands here.")


def paths(*pages: str) -> list[str]:
    return [heading.path for heading in find_headings(pages)]


@pytest.mark.parametrize("heading", [
    "Item 7. Management's Discussion", "ITEM 1A: RISK FACTORS", "Part II", "Note 12. Debt", "NOTE 3: LEASES",
    "Note 5 : Contract Liabilities",
    "Chapter 3: Installing", "Appendix B", "3.2 Configuring the server", "3.2.1 Ports", "5. PROPERTY, PLANT AND EQUIPMENT",
    "LIQUIDITY", "Critical Accounting Policies and Estimates", "Revenue recognition", "1 Introduction",
])
def test_forms(heading: str) -> None:
    assert paths(f"{PROSE}\n{heading}\n{PROSE}") == [heading]


@pytest.mark.parametrize("line", [
    "Item 7 of this report says more", "Note 12 to the Financial Statements", "see below", "Item 8.)",
    "the end of a paragraph.",
    "Total assets 5,000 4,000", "December 31, 2021",
    "1. Open the box and take out what is in it, with both hands, and slowly",
    "Sold to:", "• Phones", "/s/ JANE DOE", "4.02 Indenture dated January 13, 2006", "Item 7. Discussion 31",
])
def test_no_headings(line: str) -> None:
    assert paths(f"{PROSE}\n{line}\n{PROSE}") == []


def test_a_line_that_goes_on_with_a_sentence_is_none() -> None:
    assert paths(f"More is said on the matters of the company in the report, see\nItem 3. Legal Proceedings\n{PROSE}") == []


def test_list_items_are_none() -> None:
    assert paths(f"{PROSE}\n1. Open Box\n2. Take Phone\n3. Close Box\n{PROSE}") in ([], ["3. Close Box"])


def test_labels_in_tables_are_none() -> None:
    table = "(in millions) 2021 2020\nASSETS\nCurrent Assets\nCash 5 4\nLIABILITIES\nDebt 5 4\nEquity\nTotal 5 4"
    assert paths(f"{PROSE}\n{table}\n{PROSE}") == []
    assert paths(f"CONSOLIDATED BALANCE SHEETS\n{table}") == ["CONSOLIDATED BALANCE SHEETS"]


def test_paths() -> None:
    page = "\n".join(["Part II", "Item 7. Discussion", PROSE, "LIQUIDITY", PROSE, "Cash Flows", PROSE, "RESULTS", PROSE,
                      "Item 8. Statements", PROSE, "Note 1. Policies", PROSE, "Use of Estimates", PROSE,
                      "Note 2. Debt", PROSE])
    assert paths(page) == [
        "Part II", "Item 7. Discussion", "Item 7. Discussion > LIQUIDITY", "Item 7. Discussion > LIQUIDITY > Cash Flows",
        "Item 7. Discussion > RESULTS", "Item 8. Statements", "Item 8. Statements > Note 1. Policies",
        "Item 8. Statements > Note 1. Policies > Use of Estimates", "Item 8. Statements > Note 2. Debt"]
    manual = f"3 Configuring\n{PROSE}\n3.1 Network\n{PROSE}\n3.1.1 Ports\n{PROSE}\n3.2 Disks\n{PROSE}\n4 Running\n{PROSE}"
    assert paths(manual) == ["3 Configuring", "3 Configuring > 3.1 Network", "3 Configuring > 3.1 Network > 3.1.1 Ports",
                             "3 Configuring > 3.2 Disks", "4 Running"]


def test_markdown_rules_alone_where_it_is_used() -> None:
    assert paths(f"# One\n\nTwo Words Here\n{PROSE}\n## Three\n{PROSE}\n# Four") == ["One", "One > Three", "Four"]


def test_comments_of_programs_are_no_headings() -> None:
    text = f"1. SETTING UP\n{PROSE}\n# start the server.\nserver --start\n# if it runs\nstop\n2. RUNNING\n{PROSE}"
    assert paths(text) == ["1. SETTING UP", "2. RUNNING"]
    assert paths(f"# One\n\n```\n# Comment\n```\n\n# Two\n{PROSE}") == ["One", "Two"]


def test_a_heading_of_two_lines() -> None:
    joined = "Item 7. Discussion and Analysis of Operations"
    assert paths(f"Item 7. Discussion and Analysis of\nOperations\n{PROSE}") == [joined]
    assert paths(f"{PROSE}\nItem 7.\nDiscussion\n{PROSE}") == ["Item 7. Discussion"]


def test_running_heads() -> None:
    pages = [f"ACME CORPORATION\nNOTES TO STATEMENTS (continued)\n{PROSE}\n{n}. DEBT{n}\n{PROSE}" for n in range(1, 7)]
    found = paths("Cover", *pages)
    assert found[:3] == ["NOTES TO STATEMENTS", "NOTES TO STATEMENTS > 1. DEBT1", "NOTES TO STATEMENTS > 2. DEBT2"]
    assert len(found) == 7


def test_contents_pages() -> None:
    dotted = "\n".join(f"Chapter about {letter} ..... {n}" for n, letter in enumerate("ABCDEFG", start=1))
    rows = "\n".join(f"Sales of {letter} {n}" for letter, n in zip("ABCDEFG", [9, 3, 7, 1, 8, 2, 4]))
    assert is_contents(f"TABLE OF CONTENTS\n{dotted}")
    assert is_contents("\n".join(f"Item {n}. Something" for n in range(1, 10)))
    assert not is_contents(rows)
    assert not is_contents(f"{PROSE}\nSales 5\nCosts 6\n{PROSE}")
    assert not is_contents("")
    assert paths(f"TABLE OF CONTENTS\n{dotted}") == []


LINES = st.sampled_from(["Item 7. Sales", "", "LOUD", PROSE, "Sales 5 4", "2021 2020", "1.2 Ports", "# One", "Of"])


@given(st.lists(st.lists(LINES | st.text(max_size=40), max_size=12).map("\n".join), min_size=1, max_size=5))
@settings(deadline=None, max_examples=150)
def test_headings_stand_where_they_say(pages: list[str]) -> None:
    pages = [page.replace("\f", " ") for page in pages]
    text = "\f".join(pages)
    found = find_headings(pages)
    starts = [heading.start for heading in found]
    assert starts == sorted(set(starts))
    for heading in found:
        assert heading.start == 0 or text[heading.start - 1] in "\n\f"
        assert heading.text.split()[0] in text[heading.start :]
        assert heading.path.split(" > ")[-1].startswith(heading.text[:20])
        assert heading.path.count(" > ") <= 2
    assert find_headings(pages) == found


@pytest.mark.parametrize("line", [
    "a " * 200, "1." * 100, "A" * 5000, "Note 1 " * 200, "# " + "#" * 3000, "." * 3000 + " 1", "x" + " ." * 2000])
def test_hostile_lines_take_no_time(line: str) -> None:
    started = time.perf_counter()
    find_headings([f"{line}\n" * 10])
    is_contents(f"{line}\n" * 10)
    assert time.perf_counter() - started < 1.0
