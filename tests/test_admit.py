"""Which proposals and questions are let in, and why the others are not."""

from __future__ import annotations

import random

import numpy as np
import pytest
from dataset_fakes import ACME, ZENITH, MemoryPages
from hypothesis import given
from hypothesis import strategies as st

from ragtune.datasets.admit import Admission, Proposal, Rejected, check_proposal
from ragtune.datasets.ask import ask_questions
from ragtune.models.fake import HashEmbedder
from ragtune.records import Evidence, Question

ROW = "Net sales $ 4,210 $ 3,900"


def embed(texts):
    return HashEmbedder().embed_questions(texts)


def never(texts):
    raise AssertionError(f"nothing is to be embedded: {texts}")


def question(text: str, answer: str = "", page: int = 1, document: str = "D") -> Question:
    evidence = (Evidence(document, page, answer),) if answer else ()
    return Question(text, text, answer, evidence)


def admitted(*questions: Question, **settings) -> list[str]:
    admission = Admission(settings.pop("embed", embed), **settings)
    admission.admit(questions)
    assert len(admission.admitted) + len(admission.rejected) == len(questions)
    return [each.text for each in admission.admitted]


def test_a_good_proposal_becomes_a_question_with_its_evidence() -> None:
    proposal = Proposal("What was the revenue of Acme in fiscal 2020?", "$3,900 million", "Net sales $4,210 $3,900")
    found = check_proposal(proposal, ACME, ACME.pages[1], "bundled")
    assert isinstance(found, Question)
    assert (found.kind, found.justification) == ("lookup", "Net sales 2020: 3,900")
    assert found.evidence == (Evidence("ACME_2021_10K", 2, ROW),)
    assert found.metadata == {"company": "Acme", "document": "ACME_2021_10K", "fiscal_year": 2021, "asked_by": "bundled"}
    proposal = Proposal("What do customers choose on?", "Quality, price and service",
                        "customers choose on quality, price and service.")
    prose = check_proposal(proposal, ACME, ACME.pages[0])
    assert isinstance(prose, Question)
    assert prose.text == "For Acme in fiscal 2021, what do customers choose on?"
    assert (prose.kind, prose.evidence[0].text) == ("text", "customers\nchoose on quality, price and service.")


@pytest.mark.parametrize(("proposal", "reason"), [
    (Proposal("What was the revenue of Acme in fiscal 2020?", "$3,900 million", "Net sales were 4,210"), "quote is not on"),
    (Proposal("What was the revenue of Acme in fiscal 2020?", "$3,901 million", ROW), "answer is not in the quote"),
    (Proposal("Did Acme sell for 3,900 in fiscal 2020?", "$3,900 million", ROW), "gives its answer away"),
    (Proposal("What does this table show of 2020?", "$3,900 million", ROW), "speaks of the page"),
    (Proposal("What " + "very " * 90 + "large sales?", "$3,900 million", ROW), "longer than 400"),
    (Proposal("", "$3,900 million", ROW), "no question with an answer"),
    (Proposal("What was the revenue?", " ", ROW), "no question with an answer"),
])
def test_a_proposal_is_rejected_with_the_reason(proposal: Proposal, reason: str) -> None:
    found = check_proposal(proposal, ACME, ACME.pages[1])
    assert isinstance(found, Rejected)
    assert reason in found.reason


@given(st.builds(Proposal, st.text(max_size=200), st.text(max_size=80), st.text(max_size=200)))
def test_any_proposal_is_judged(proposal: Proposal) -> None:
    found = check_proposal(proposal, ACME, ACME.pages[0])
    assert isinstance(found, Rejected) or found.evidence[0].text in ACME.pages[0].text


SALES = "What were the net sales of Acme in fiscal 2021?"


@pytest.mark.parametrize("other", [
    question("What was the cost of sales of Acme in fiscal 2021?", "$2,600 million"),
    question("What were the net sales of Acme in fiscal 2020?", "$4,210 million"),
    question("Why did the net sales of Acme rise in fiscal 2021?", "higher volumes"),
    question("What were the net sales of Zenith in fiscal 2021?", "$4,210 million"),
])
def test_questions_on_other_figures_are_no_duplicates(other: Question) -> None:
    assert admitted(question(SALES, "$4,210 million"), other) == [SALES, other.text]


@pytest.mark.parametrize("other", [
    question("What were the net sales of Acme in fiscal 2021", "$5 million"),
    question("What were Acme's net sales in fiscal 2021? What were the net sales of Acme in fiscal 2021?", "4,210"),
    question("In fiscal 2021, what were the net sales of Acme?", "4,210 million"),
])
def test_the_same_question_in_like_words_is_let_in_once(other: Question) -> None:
    assert admitted(question(SALES, "$4,210 million"), other) == [SALES]
    admission = Admission(embed)
    assert admission.admit([question(SALES, "$4,210 million")]) == 1
    assert admission.admit([other]) == 0, "across batches, too"
    assert admission.reasons == {"like another question": 1}


def test_meaning_counts_beside_words() -> None:
    other = question("What were the total net revenues of Acme in fiscal 2021?", "$4,210 million")
    same = {SALES: 0.0, other.text: 0.1}

    def near(texts):
        return np.array([[np.cos(same[text]), np.sin(same[text])] for text in texts])

    def far(texts):
        return np.array([[np.cos(9 * same[text]), np.sin(9 * same[text])] for text in texts])

    assert admitted(question(SALES, "$4,210 million"), other, embed=near) == [SALES]
    assert admitted(question(SALES, "$4,210 million"), other, embed=far) == [SALES, other.text]


def test_answers_in_other_words_from_another_page_are_no_duplicates() -> None:
    texts = ("Why did the net sales of Acme rise in fiscal 2021?", "In fiscal 2021, why did the net sales of Acme rise?")
    one = question(texts[0], "higher volumes of pumps", 1)
    assert admitted(one, question(texts[1], "a weak dollar", 2)) == list(texts)
    assert admitted(one, question(texts[1], "a weak dollar", 1)) == [texts[0]]
    assert admitted(one, question(texts[1], "volumes of pumps rose", 2)) == [texts[0]]


def test_a_page_gives_its_share() -> None:
    asked = [question(f"What was {name} of Acme in fiscal 2021?", f"{number}00", page)
             for number, (name, page) in enumerate([("debt", 1), ("cash", 1), ("goodwill", 1), ("rent", 2)], start=1)]
    assert len(admitted(*asked, per_page=2)) == 3
    admission = Admission(never, per_page=2)
    admission.admit(asked)
    assert admission.reasons == {"more than 2 a page": 1}


@pytest.mark.parametrize(("text", "is_kept"), [
    ("What were the net sales of Acme in fiscal 2021?", False),
    ("What were Acme's net sales in FY21?", False),
    ("What were the net sales of Acme in fiscal 2020?", True),
    ("What were the net sales of Zenith in fiscal 2021?", True),
    ("What was the goodwill of Acme in fiscal 2021?", True),
])
def test_what_is_kept_apart_is_not_asked_again(text: str, is_kept: bool) -> None:
    apart = [Question("e", "What were the net sales of Acme in FY2021? Answer in USD millions.")]
    assert admitted(question(text, "7,777"), kept_apart=apart) == ([text] if is_kept else [])


def test_offline_questions_pass_with_few_losses_and_twice_the_same() -> None:
    asked = ask_questions(MemoryPages(ACME, ZENITH), 120, 3)
    texts = admitted(*asked)
    assert len(texts) >= 0.9 * len(asked)
    admission = Admission(embed)
    for start in range(0, len(asked), 7):
        admission.admit(asked[start : start + 7])
    assert [each.text for each in admission.admitted] == texts, "batches make no difference"


@given(st.lists(st.text(max_size=60), max_size=8), st.integers(0, 99))
def test_any_questions_are_judged_and_none_is_let_in_twice(texts: list[str], seed: int) -> None:
    asked = [question(text, "an answer") for text in texts]
    random.Random(seed).shuffle(asked)
    kept = admitted(*asked, *asked)
    assert len(set(kept)) == len(kept)
