"""The answer scorer: outcome and reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.prompt import REFUSAL
from ragtune.documents.pack import use_pack
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.evaluation.scoring.wording import content_words, is_refusal_text, polarity_of, refusal_signs, speaks_of_less
from ragtune.records import Question

CAPEX = "What is the FY2018 capital expenditure amount (in USD millions) for 3M?"
MARGIN = "What is the FY2018 net margin, in percent?"


def outcome(gold: str, answer: str, question: str = "What were net sales in 2018?") -> str | None:
    return score_answer(Question("q", question, gold), answer).outcome


@pytest.mark.parametrize(
    ("question", "gold", "answer", "expected"),
    [
        (CAPEX, "$1577.00", "$1,577 million", "correct"),
        (CAPEX, "$1577.00", "Purchases of PP&E 2018: (1,577) [1]\nAnswer: $1,577 million [1]", "correct"),
        (CAPEX, "$1577.00", "(1,577)", "correct"),  # an outflow printed as negative
        (CAPEX, "$1577.00", "$1.577 billion", "correct"),
        (CAPEX, "$1577.00", "$1.58 billion", "correct"),  # rounded in a larger scale, three digits at least
        (CAPEX, "$1577.00", "$1.57 billion", "wrong"),
        (CAPEX, "$1577.00", "$1.6 billion", "wrong"),
        (CAPEX, "$1577.00", "$1,580 million", "wrong"),
        (CAPEX, "$1577.00", "1,577,000,000", "correct"),
        (CAPEX, "$1577.00", "$1,577 billion", "wrong"),
        (CAPEX, "$1577.00", "1,576", "wrong"),
        (CAPEX, "$1577.00", "In 2018 it was $1,577 million. In total that makes $9,000 million.", "wrong"),
        (CAPEX, "$1577.00", "The 10-K of FY2018 says so on page 1577.", "wrong"),
        (MARGIN, "65.4%", "65.4%", "correct"),
        (MARGIN, "65.4%", "65.38 percent", "correct"),
        (MARGIN, "65.4%", "0.654", "correct"),
        (MARGIN, "65.4%", "65.4", "correct"),
        (MARGIN, "65.4%", "6,540 bps", "correct"),
        (MARGIN, "65.4%", "65.6%", "wrong"),
        (MARGIN, "65.4%", "654%", "wrong"),
        (MARGIN, "-5.0%", "5.0%", "wrong"),
        (MARGIN, "-5.0%", "It fell by 5.0%.", "correct"),
        (MARGIN, "5.0%", "-5.0%", "wrong"),
        ("By how much did sales change?", "-$4 million", "$4 million", "wrong"),
        ("By how much did sales change?", "-$4 million", "-$4 million", "correct"),
        ("By how much did sales change?", "-$4 million", "They fell by $4 million.", "correct"),
        ("By how much did sales change?", "-$4 million", "They rose by $4 million.", "wrong"),
        ("By how much did sales change?", "$4 million", "$(4) million", "wrong"),
        ("How much higher or lower were sales in 2021?", "-$4 million", "$4 million", "wrong"),
        ("By how much did sales fall?", "$4 million", "-$4 million", "correct"),
        ("What were net sales in 2018?", "$4,210 million", "4,210", "correct"),
        ("What were net sales in 2018?", "$4,210 million", "$4.21 billion", "correct"),
        ("What were net sales in 2018?", "$4,210 million", "$4,210 thousand", "wrong"),
        ("What were net sales in 2018?", "$4,210 million", "", "refused"),
        ("What were net sales in 2018?", "$4,210 million", REFUSAL, "refused"),
        ("What is the ratio? Round to two decimals.", "0.66", "0.6613", "correct"),
        ("What is the ratio? Round to two decimals.", "0.66", "0.67", "wrong"),
        ("In which year did sales peak?", "2019", "Sales peaked in 2019.", "correct"),
        ("In which year did sales peak?", "2019", "Sales peaked in 2018.", "wrong"),
    ],
)
def test_numbers(question: str, gold: str, answer: str, expected: str) -> None:
    assert outcome(gold, answer, question) == expected


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("Yes", "Yes, it did.", "correct"),
        ("Yes", "Answer: No", "wrong"),
        ("No. It decreased.", "The debt of Acme has not increased in 2018.", "correct"),
        ("No. It decreased.", "Acme decreased its debt in 2018.", "correct"),
        ("Yes, by 5%", "Yes, the debt of Acme increased by 5%.", "correct"),
        ("Yes, by 5%", "Yes, the debt of Acme increased by 9%.", "wrong"),
    ],
)
def test_yes_and_no(gold: str, answer: str, expected: str) -> None:
    assert outcome(gold, answer, "Has Acme increased its debt in 2018?") == expected


def test_words_of_the_field_are_the_packs() -> None:
    sent = "I cannot say; I do not have access. Please check the company's annual report."
    assert (refusal_signs(sent), speaks_of_less("a net outflow"), content_words("fiscal pumps")) == (4, True, {"pump"})
    with use_pack("plain"):
        assert (refusal_signs(sent), speaks_of_less("a net outflow")) == (3, False)
        assert content_words("fiscal pumps") == {"fiscal", "pump"}
        assert refusal_signs(sent.replace("company's annual report", "official website")) == 4
        assert outcome("4.2 bar", "It was 4.2 bar.", "What was the pressure?") == "correct"
        assert outcome("Yes", "No, it fell.", "Did the pressure rise?") == "wrong"


def test_free_text_by_its_words() -> None:
    gold = "The consumer segment shrank organically."
    said = "It was the consumer business, which shrank organically."
    assert outcome(gold, said, "Which one dragged growth?") == "correct"
    assert outcome(gold, "Health care.", "Which one dragged growth?") == "wrong"


def test_choice_between_named_options() -> None:
    question = "Among operations, investing, and financing activities, which brought in the most cash flow for Nike?"
    gold = "Among the three, cash flow from operations was the highest."
    assert outcome(gold, "Operating activities brought in the most cash.", question) == "correct"
    assert outcome(gold, "Financing activities brought in the most cash.", question) == "wrong"


def test_unanswerable_question_wants_a_refusal() -> None:
    question = Question("q", "How many unicorns are there?", "")
    refused = score_answer(question, REFUSAL)
    assert (refused.outcome, refused.value) == ("correct", 1.0)
    assert score_answer(question, "There are 12.").outcome == "wrong"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The documents do not contain information about unicorns.", "correct"),
        ("The number of unicorns is not stated in the 10-K [1].", "correct"),
        ("I cannot determine this from the context.", "correct"),
        ("I don't know.", "correct"),
        ("", "correct"),
        ("Acme keeps them in Springfield.", "wrong"),
        ("The filing does not state it outright, but there are 12.", "wrong"),
    ],
)
def test_refusals_of_an_unanswerable_question(answer: str, expected: str) -> None:
    assert outcome("", answer, "How many unicorns are there?") == expected


def test_declared_refusal_wins_over_the_text() -> None:
    assert score_answer(Question("q", "Sales?", "$5"), "$5", is_refusal=True).outcome == "refused"


def test_refusals_in_other_words() -> None:
    apology = ("I'm sorry, but I don't have access to real-time data. You would need to look at the company's 10-K, which "
               "is available on the SEC's EDGAR database. If you provide the figures, I can help.")
    assert is_refusal_text(apology)
    assert not is_refusal_text("Net sales are not shown separately, but the total is $5 million.")


def test_the_reason_names_both_sides() -> None:
    score = score_answer(Question("q7", "Net sales (in USD millions)?", "$1577.00"), "$1,600 million")
    assert score.question_id == "q7"
    assert "$1,600 million" in score.reason
    assert "$1577.00" in score.reason


def test_polarity_is_unknown_where_nothing_restates_the_question() -> None:
    assert polarity_of("Bananas are yellow.", "Has Acme increased its debt in 2018?") is None


@given(st.integers(min_value=1, max_value=10**9), st.integers(min_value=0, max_value=3))
def test_a_gold_agrees_with_itself_and_not_with_its_neighbour(value: int, decimals: int) -> None:
    gold = f"${value / 10**decimals:,.{decimals}f} million"
    assert outcome(gold, f"Answer: {gold} [1]") == "correct"
    shown = len(gold.removesuffix(" million").partition(".")[2].rstrip("0"))
    other = f"${value / 10**decimals + 1.01 * 10**-shown:,.{decimals + 3}f} million"
    assert outcome(gold, other) == "wrong"


@given(st.text(max_size=120), st.sampled_from(["$5 million", "Yes, 5%", "the consumer segment", ""]))
def test_any_answer_gets_an_outcome(answer: str, gold: str) -> None:
    assert outcome(gold, answer, "Has it grown to 5 (in USD millions)?") in ("correct", "wrong", "refused")


def test_a_move_that_its_own_figures_contradict_is_wrong():
    question = Question("q", "Did equity decrease?", "No, equity rose from $1,341 million to $1,510 million.")
    assert score_answer(question, "No, equity rose from $1,341 million to $1,510 million.").outcome == "correct"
    score = score_answer(question, "No, equity fell from $1,341 million to $1,510 million.")
    assert score.outcome == "wrong"
    assert "fell from $1,341 million to $1,510 million" in score.reason
