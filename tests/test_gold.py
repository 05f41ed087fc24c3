"""Which chunks hold the evidence, and which give the answer away."""

from __future__ import annotations

from dataset_fakes import ACME, CASH, STATEMENT, ZENITH, MemorySearcher, make_document

from ragtune.answering.prompt import number_passages
from ragtune.datasets.gold import find_needs, find_same_rows, holds_answer, holds_evidence
from ragtune.records import Evidence, Hit, Question

SALES = Question("q", "Acme net sales 2021?", "$4,210 million",
                 (Evidence("ACME_2021_10K", 2, "Net sales $ 4,210 $ 3,900"),), "lookup", "Net sales 2021: 4,210")


def test_evidence_is_found_in_the_chunk_that_holds_its_row() -> None:
    needs = find_needs(SALES, MemorySearcher(ACME, ZENITH))
    assert needs is not None
    assert [chunk.id for chunk in needs[0].chunks] == ["ACME_2021_10K:2:0"]
    assert needs[0].lines == ("Net sales 2021: 4,210",)


def test_spacing_of_the_row_does_not_matter() -> None:
    chunk = MemorySearcher(ACME).chunks_on_page("ACME_2021_10K", 2)[0]
    assert holds_evidence(chunk, Evidence("ACME_2021_10K", 2, "Net  sales\t$4,210 $3,900"))
    assert not holds_evidence(chunk, Evidence("ACME_2021_10K", 2, "Net sales 4,210 3,901"))


def test_without_text_any_chunk_of_the_page_will_do() -> None:
    question = Question("q", "?", "yes", (Evidence("ACME_2021_10K", 2),))
    needs = find_needs(question, MemorySearcher(ACME))
    assert needs is not None
    assert len(needs[0].chunks) == 3


def test_long_evidence_is_compared_by_its_words() -> None:
    laid_out = "  \n".join(STATEMENT.replace(" ", "\n").split("\n")) + "\n" + "more words of the page " * 5
    chunks = MemorySearcher(ACME).chunks_on_page("ACME_2021_10K", 2)
    assert holds_evidence(chunks[0], Evidence("ACME_2021_10K", 2, laid_out))
    assert not holds_evidence(MemorySearcher(ZENITH).chunks[0], Evidence("ACME_2021_10K", 2, laid_out))


def test_page_that_is_not_there_or_lacks_the_row_is_told() -> None:
    searcher = MemorySearcher(ACME)
    for evidence in (Evidence("ACME_2021_10K", 9), Evidence("NONE", 1), Evidence("ACME_2021_10K", 1, "Net sales 4,210")):
        assert find_needs(Question("q", "?", "5", (evidence,)), searcher) is None


def test_what_gives_the_answer_away_is_no_distractor() -> None:
    searcher = MemorySearcher(ACME, ZENITH)
    needs = find_needs(SALES, searcher) or ()
    prose = searcher.chunks_on_page("ACME_2021_10K", 1)
    assert holds_answer(needs[0].chunks[0], SALES, needs)
    assert holds_answer(prose[0], SALES, needs), "the number stands in the discussion"
    assert not holds_answer(prose[1], SALES, needs)
    assert not holds_answer(searcher.chunks_on_page("ACME_2021_10K", 3)[0], SALES, needs)


def test_number_of_another_company_gives_nothing_away() -> None:
    other = make_document("OTHER", "2021 2020\nGoodwill 4,210 3", company="Other")
    searcher = MemorySearcher(ACME, other)
    needs = find_needs(SALES, searcher) or ()
    assert not holds_answer(searcher.chunks_on_page("OTHER", 1)[0], SALES, needs)
    unknown = make_document("UNKNOWN", "2021 2020\nGoodwill 4,210 3")
    assert holds_answer(MemorySearcher(unknown).chunks[0], SALES, needs), "a company not known may be the same"


def test_short_numbers_count_only_with_their_row() -> None:
    question = Question("q", "?", "$31 million", (Evidence("ACME_2021_10K", 3, "Net change in cash 31 (12)"),), "lookup",
                        "Net change in cash 2021: 31")
    page = make_document("ACME_2020_10K", "2021 2020\nStores 31 12\n" + "x\n" * 4 + "2021 2020\nNet change in cash 31 (12)",
                         company="Acme")
    searcher = MemorySearcher(ACME, page)
    needs = find_needs(question, searcher) or ()
    first, second = searcher.chunks_on_page("ACME_2020_10K", 1)
    assert not holds_answer(first, question, needs)
    assert holds_answer(second, question, needs)


def test_answer_in_words_counts_where_it_is_quoted() -> None:
    question = Question("q", "What drove the increase?", "Higher volumes and by prices", (Evidence("ACME_2021_10K", 2),))
    searcher = MemorySearcher(ACME)
    assert holds_answer(searcher.chunks_on_page("ACME_2021_10K", 1)[0], question, ())
    assert not holds_answer(searcher.chunks_on_page("ACME_2021_10K", 1)[1], question, ())


def test_other_filing_of_the_company_with_the_same_row_is_gold_too() -> None:
    next_year = make_document("ACME_2022_10K", STATEMENT.replace("2021 2020", "2022 2021").replace(
        "$ 4,210 $ 3,900", "$ 4,500 $ 4,210"), company="Acme")
    rival = make_document("RIVAL", STATEMENT, company="Rival")
    searcher = MemorySearcher(ACME, next_year, rival)
    needs = find_needs(SALES, searcher) or ()
    wider = find_same_rows(SALES, needs, searcher.chunks)
    assert [chunk.id for chunk in wider[0].chunks] == ["ACME_2021_10K:2:0", "ACME_2022_10K:1:0"]


def test_shortened_passage_still_meets_the_need_only_with_its_line() -> None:
    needs = find_needs(SALES, MemorySearcher(ACME)) or ()
    chunk = needs[0].chunks[0]
    passage = number_passages([Hit(chunk, 1.0, 1, "memory")])[0]
    assert needs[0].is_met_by(passage)
    cut = type(passage).from_dict({**passage.to_dict(), "text": passage.text.split("\nNet sales")[0]})
    assert not needs[0].is_met_by(cut)
    assert "Cash" in CASH
