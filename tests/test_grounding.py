"""Grounding: what an answer cites, and whether its numbers and claims stand there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import RunError
from ragtune.evaluation.grounding.citations import (
    Grounding,
    Share,
    Source,
    count_share,
    ground_answer,
    ground_row,
    score_grounding,
    split_claims,
    summarise_grounding,
)
from ragtune.evaluation.ladder.graded import Graded, Shown, grade
from ragtune.records import Answer, Chunk, Citation, Evidence, Passage, Question

ASKED = Question("q1", "What was the operating margin of Acme in 2021?", "17.4%", (Evidence("ACME", 7),))
ROWS = "Net sales 2021: 4,210\nOperating income 2021: 733"
SOURCES = (
    Source(1, f"Acme 10-K, page 7\n{ROWS}", "ACME", 7, 7),
    Source(2, "Acme 10-K, page 3\nThe board met in March 2021 and elected a chairman.", "ACME", 3, 3),
    Source(3, "Acme 10-K, page 6\nThe margin is operating income over net sales.", "ACME", 6, 7),
)
REASONING = "Operating income 2021: 733 [1]\nNet sales 2021: 4,210 [1]\n733 / 4,210 = 17.4%"


def ground(answer: str, reasoning: str, *cited: int, question: Question = ASKED) -> Grounding:
    return score_grounding(question, answer, reasoning, dict.fromkeys(cited, False), SOURCES)


def test_a_derived_answer_on_the_right_page() -> None:
    found = ground("17.4%", REASONING, 1)
    assert (found.citations, found.supporting, found.on_evidence) == (1, 1, 1)
    assert (found.evidence, found.evidence_cited) == (1, 1)
    assert (found.numbers, found.printed, found.derived) == (1, 0, 1)
    assert (found.claims, found.unsupported_claims) == (4, ())
    assert found.support == 1.0


def test_a_number_from_nowhere_is_named() -> None:
    found = ground("The margin was 19.2% on income of 733.", "Operating income 2021: 733 [1]", 1)
    assert (found.numbers, found.printed, found.derived) == (2, 1, 0)
    assert found.unsupported_numbers == ("19.2",)
    assert found.unsupported_claims == ("The margin was 19.2% on income of 733.",)
    assert found.claims == 2
    assert found.support == 0.5


def test_a_wrong_calculation_supports_nothing() -> None:
    found = ground("18.0%", REASONING.replace("17.4%", "18.0%"), 1)
    assert found.derived == 0
    assert found.unsupported_claims == ("733 / 4,210 = 18.0%", "18.0%")


def test_a_citation_that_says_nothing_of_it_lowers_precision() -> None:
    found = ground("17.4%", REASONING, 1, 2)
    assert (found.citations, found.supporting, found.on_evidence) == (2, 1, 1)


def test_a_line_is_checked_against_the_passage_it_cites_itself() -> None:
    found = ground("17.4%", "Operating income 2021: 733 [2]\nNet sales 2021: 4,210 [1]\n733 / 4,210 = 17.4%", 1, 2)
    assert found.unsupported_claims == ("Operating income 2021: 733 [2]",)


def test_nothing_cited_supports_nothing() -> None:
    found = ground("17.4%", REASONING)
    assert (found.citations, found.evidence_cited, found.printed, found.derived) == (0, 0, 0, 0)
    assert len(found.unsupported_claims) == found.claims == 4
    assert found.support == 0.0


def test_a_passage_over_two_pages_lies_on_the_evidence_page() -> None:
    assert ground("17.4%", "", 3).evidence_cited == 1


def test_a_cited_passage_that_is_not_there_is_counted() -> None:
    found = ground("17.4%", REASONING, 1, 9)
    assert (found.citations, found.supporting, found.on_evidence) == (2, 1, 1)


def test_words_carry_a_claim_without_numbers() -> None:
    asked = Question("q2", "What did the board of Acme do?", "It elected a chairman.", (Evidence("ACME", 3),))
    assert ground("It elected a chairman.", "", 2, question=asked).unsupported_claims == ()
    lost = ground("It approved dividends and buybacks.", "", 2, question=asked)
    assert lost.unsupported_claims == ("It approved dividends and buybacks.",)
    assert lost.supporting == 0


def test_what_the_question_says_and_a_bare_yes_are_no_claims() -> None:
    assert split_claims("Yes. Operating margin of Acme in 2021.", "", ASKED.text) == []
    assert split_claims("No, it fell to 12%.", "Net sales 2021: 4,210 [1]", ASKED.text) == [
        "Net sales 2021: 4,210 [1]", "No, it fell to 12%."]  # fmt: skip


def chunk_of(chunk_id: str) -> Chunk:
    return Chunk(chunk_id, "d", "ACME", ROWS, 7, 7, 0, len(ROWS))


def row(**changes) -> Graded:
    values = {"model": "base", "setting": "retrieval", "question_id": "q1", "kind": "", "outcome": "correct", "reason": "",
              "question": ASKED.text, "gold": "17.4%", "answer": "17.4%", "reasoning": REASONING,
              "citations": (Citation(1, "ACME", 7, "c7", 0, 9, "", True),), "passages": (Shown(1, "ACME", 7, 1, "c7"),)}
    return Graded(**{**values, **changes})


def test_a_line_of_the_log_is_grounded_by_the_index() -> None:
    found = ground_row(ASKED, row(), chunk_of)
    assert found is not None
    assert (found.on_evidence, found.derived, found.inferred, found.unsupported_claims) == (1, 1, 1, ())
    assert ground_row(ASKED, row(is_refusal=True, outcome="refused"), chunk_of) is None
    assert ground_row(ASKED, row(passages=(), citations=(), setting="closed_book"), chunk_of) is None
    with pytest.raises(RunError, match="names passages without chunks"):
        ground_row(ASKED, row(passages=(Shown(1, "ACME", 7, 1),)), chunk_of)


def test_an_answer_is_grounded_by_its_own_passages() -> None:
    passage = Passage(1, ROWS, "c7", "ACME", 7, 0, 9, "Acme")
    answer = Answer(ASKED.text, "17.4%", (Citation(1, "ACME", 7, "c7", 0, 9, ""),), (passage,), reasoning=REASONING)
    found = ground_answer(ASKED, answer)
    assert found is not None
    assert found == ground_row(ASKED, row(citations=answer.citations), chunk_of)
    logged = grade(ASKED, answer, "base", "retrieval")
    assert ground_row(ASKED, logged, chunk_of) == found
    assert ground_answer(ASKED, Answer(ASKED.text, "17.4%")) is None


def test_a_summary_adds_up_and_leaves_out_what_is_not_asked() -> None:
    groundings = [ground("17.4%", REASONING, 1), ground("17.4%", REASONING, 1, 2), ground("9%", "", question=Question(
        "q3", "What?", "9%"))]
    found = summarise_grounding(groundings)
    assert found.n == 3
    assert (found.citation_precision.count, found.citation_precision.of) == (2, 3)
    assert (found.citation_recall.count, found.citation_recall.of) == (2, 2)
    assert (found.number_support.count, found.number_support.of) == (2, 3)
    assert (found.unsupported_claims.count, found.unsupported_claims.of) == (1, 9)
    assert (found.uncited.count, found.uncited.of) == (1, 3)
    assert found.unsupported_claims.interval[0] <= 1 / 9 <= found.unsupported_claims.interval[1]
    with pytest.raises(RunError, match="no answer to ground"):
        summarise_grounding([])


def test_shares() -> None:
    assert count_share([]) == Share(0, 0)
    assert Share(0, 0).value is None
    apart = count_share([(str(i), i % 2, 1) for i in range(40)])
    together = count_share([(str(i % 8), i % 2, 1) for i in range(40)])
    assert apart.value == together.value == 0.5
    assert together.interval[1] - together.interval[0] > apart.interval[1] - apart.interval[0]


@given(st.text(max_size=60), st.text(max_size=60), st.sets(st.integers(1, 4)))
def test_counts_hold_together_whatever_is_said(answer: str, reasoning: str, cited: set[int]) -> None:
    found = ground(answer, reasoning, *cited)
    assert 0 <= found.supporting <= found.citations
    assert 0 <= found.on_evidence <= found.citations
    assert found.printed + found.derived + len(found.unsupported_numbers) == found.numbers
    assert len(found.unsupported_claims) <= found.claims
    assert 0 <= found.support <= 1
