"""Evidence without a page is found by its text, or its question loses it; nothing is invented."""

from __future__ import annotations

from collections import Counter

import pytest
from dataset_fakes import ACME, PROSE, STATEMENT, ZENITH, MemoryPages, make_document
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.benchmarks import FINQA
from ragtune.datasets.locate import EXACT, LOCATED, MISSING, OVERLAP, SEVERAL, SHORT, STATED, fold, locate_evidence
from ragtune.records import Document, Evidence, Question

PAGES = MemoryPages(ACME, ZENITH)
NAME = ACME.name


def locate(*evidence: Evidence, pages: MemoryPages = PAGES, **metadata: str) -> tuple[Question, Counter[str]]:
    found, counts = locate_evidence([Question("q", "What?", "5", evidence, metadata=metadata)], pages)
    return found[0], counts


@pytest.mark.parametrize(("document", "text", "page", "own"), [
    (NAME, "gross profit 1,610 1,450", 2, "Gross profit 1,610 1,450"),
    (NAME, "interest expense ( 52 ) ( 49 )", 2, "Interest expense (52) (49)"),
    (NAME, "customers choose on quality , price and service .", 1, "customers\nchoose on quality, price and service."),
    (NAME, "Acquisitions of businesses, net of cash acquired – ( 70 )", 3,
     "Acquisitions of businesses, net of cash acquired — (70)"),
    ("acme 2021_10k.pdf", "net sales $ 4,210 $ 3,900", 2, "Net sales $ 4,210 $ 3,900"),
    ("", "Net sales increased 7.9% to $4,210 million in fiscal 2021.", 1,
     "Net sales increased 7.9% to $4,210 million in fiscal 2021."),
])
def test_text_is_found_whatever_its_spaces_dashes_and_case(document: str, text: str, page: int, own: str) -> None:
    question, counts = locate(Evidence(document, 0, text))
    assert question.evidence == (Evidence(NAME, page, own),)
    assert counts == {EXACT: 1}


def test_worn_text_is_found_by_its_words_and_becomes_the_pages_own_lines() -> None:
    worn = "Risks include the weather, prices of steel, and also cyber attacks. We lease sites for three to fifteen years"
    question, counts = locate(Evidence(NAME, 0, worn))
    assert counts == {OVERLAP: 1}
    assert question.evidence[0].page == 1
    assert question.evidence[0].text == ("Risks include weather, prices of steel and cyber attacks.\n"
                                         "We lease most of our sites for three to fifteen years.")


def test_another_years_sentence_is_not_taken_for_it() -> None:
    wrong = "Net sales increased 5.1% to $3,900 million in fiscal 2020."
    for document in (NAME, ""):
        question, counts = locate(Evidence(document, 0, wrong))
        assert (question.evidence, counts) == ((), {MISSING: 1})


def test_a_number_or_word_is_never_found_within_another() -> None:
    pages = MemoryPages(make_document("D", "Grosser profit 11,610\nOther profit 42 10 and more"))
    for text in ("Gross profit", "profit 11,6", "r profit 11,610", "1,610 Other", "profit 4210"):
        assert locate(Evidence("D", 0, text), pages=pages)[1] == {MISSING: 1}, text
    assert locate(Evidence("D", 0, "profit 11,610"), pages=pages)[1] == {EXACT: 1}


def test_what_stands_in_several_documents_has_no_page_unless_other_evidence_tells() -> None:
    shared = Evidence("", 0, "Risks include weather, prices of steel and cyber attacks.")
    assert locate(shared)[1] == {SEVERAL: 1}
    question, counts = locate(shared, Evidence("", 0, "Net sales increased 7.9% to $9,876 million in fiscal 2021."))
    assert counts == {EXACT: 2}
    assert [(e.document, e.page) for e in question.evidence] == [(ZENITH.name, 1)] * 2


def test_short_text_is_looked_for_in_its_document_alone() -> None:
    assert locate(Evidence("", 0, "Net income $ 518"))[1] == {SHORT: 1}
    question, counts = locate(Evidence(NAME, 0, "Net income $ 518"), Evidence(NAME, 0, "Dividends paid (120)"))
    assert counts == {EXACT: 2}
    assert [e.page for e in question.evidence] == [3, 3]  # it stands on page 2 too; the other evidence tells
    assert locate(Evidence(NAME, 0, "518"))[1] == {SHORT: 1}


def test_a_question_with_a_piece_missing_loses_its_evidence_and_keeps_its_document() -> None:
    known, unknown = Evidence(NAME, 0, "Gross profit 1,610 1,450"), Evidence("acme-2021-10k", 0, "There are no unicorns")
    question, counts = locate(known, unknown)
    assert (question.evidence, question.metadata, question.answer) == ((), {"document": NAME}, "5")
    assert counts == {EXACT: 1, MISSING: 1}
    gone, _ = locate(Evidence("GONE_2020", 0, "There are no unicorns here"))
    assert gone.metadata == {"document": "GONE_2020"}


def test_stated_pages_stay_but_finqas_are_looked_up() -> None:
    wrong = Evidence(NAME, 1, "Gross profit 1,610 1,450")
    question, counts = locate(wrong)
    assert (question.evidence, counts) == ((wrong,), {STATED: 1})
    assert locate(Evidence("NEW_2022", 7))[0].evidence == (Evidence("NEW_2022", 7),)
    question, counts = locate(wrong, shape=FINQA)
    assert (question.evidence[0].page, counts) == (2, {EXACT: 1})
    assert [e.page for e in locate(Evidence(NAME, 4, "Net income $ 518 $ 470"), shape=FINQA)[0].evidence] == [3]
    assert locate(Evidence(NAME, 9), shape=FINQA)[1] == {STATED: 1}


def test_the_document_a_question_without_evidence_names_gets_the_index_name() -> None:
    assert locate(document="Acme 2021 10-K.pdf")[0].metadata == {"document": NAME}
    assert locate(document="Somebody")[0].metadata == {"document": "Somebody"}


def test_documents_are_opened_only_where_they_are_needed() -> None:
    opened: list[str] = []

    class Watched(MemoryPages):
        def document(self, name: str) -> Document:
            opened.append(name)
            return super().document(name)

    locate_evidence([Question("a", "?", "5", (Evidence(NAME, 2, "Gross profit"),)),
                     Question("b", "?", "5", (Evidence(NAME, 0, "Gross profit 1,610 1,450"),))] * 3, Watched(ACME, ZENITH))
    assert opened == [NAME]


@given(st.integers(0, len(STATEMENT) - 1), st.integers(8, 200), st.booleans())
def test_any_piece_of_a_page_is_found_there_as_it_stands(start: int, length: int, is_prose: bool) -> None:
    text = (PROSE if is_prose else STATEMENT)[start : start + length]
    question, counts = locate(Evidence(NAME, 0, text))
    for evidence in question.evidence:
        assert evidence.text in ACME.pages[evidence.page - 1].text
    if EXACT in counts:
        assert fold(question.evidence[0].text) == fold(text)


@given(st.lists(st.tuples(st.sampled_from(["", NAME, "x"]), st.integers(0, 4), st.text(max_size=60)), max_size=3))
def test_no_page_is_ever_zero_and_every_piece_is_counted(pieces: list[tuple[str, int, str]]) -> None:
    question, counts = locate(*(Evidence(*piece) for piece in pieces))
    assert sum(counts.values()) == len(pieces)
    assert set(counts) <= {*LOCATED, SEVERAL, SHORT, MISSING}
    assert all(evidence.page for evidence in question.evidence)
