"""Yes and no follow from the figures an answer states; what does not say a direction is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.verdict import set_verdict_right

ROWS = "Total equity 2019: 1,510 [2]\nTotal equity 2018: 1,341 [2]"


@pytest.mark.parametrize(
    ("question", "said", "found"),
    [
        ("Did equity decrease from FY2018 to FY2019?", "Yes, total equity rose from $1,341 million to $1,510 million.",
         "No, total equity rose from $1,341 million to $1,510 million."),
        ("Did equity decrease in 2019?", "Yes, total equity fell from $1,341 million to $1,510 million.",
         "No, total equity rose from $1,341 million to $1,510 million."),
        ("Was equity higher in 2019 than in 2018?", "No, total equity fell from $1,510 million to $1,341 million.",
         "Yes, total equity rose from $1,341 million to $1,510 million."),
        ("Was cash greater than long-term debt?", "Yes, cash of $10 million was above long-term debt of $12 million.",
         "No, cash of $10 million was below long-term debt of $12 million."),
        ("Did margins grow?", "No, margins declined from 10.1% to 12.0%.", "Yes, margins grew from 10.1% to 12.0%."),
    ],
)
def test_verdicts_are_set_right(question: str, said: str, found: str) -> None:
    verdict = set_verdict_right(question, said, ROWS)
    assert verdict is not None
    assert verdict.found == found
    assert set_verdict_right(question, found, ROWS) is None


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Did equity increase in 2019?", "Yes, total equity rose from $1,341 million to $1,510 million."),
        ("Did equity increase or decrease?", "Yes, total equity fell from $1 million to $2 million."),  # no one direction
        ("Did equity increase?", "Yes, the loss rose from -$1 million to -$2 million."),  # a larger loss: not said by size
        ("Did equity increase?", "Yes, equity rose from $2 million to $1 billion."),
        ("Did equity increase?", "Yes."),
        ("Did equity increase?", "No, equity fell from $1 million to $1 million."),
        ("Was debt greater than cash?", "Yes, cash of $10 million was below debt of $12 million."),  # not in the order asked
        ("What were sales?", "$4,210 million"),
    ],
)
def test_what_is_right_or_not_decided_by_size_stays(question: str, said: str) -> None:
    assert set_verdict_right(question, said, ROWS) is None


@given(st.text(max_size=80), st.text(max_size=120), st.text(max_size=80))
def test_any_text_is_read(question: str, answer: str, reasoning: str) -> None:
    verdict = set_verdict_right(question, answer, reasoning)
    assert verdict is None or verdict.found != verdict.said


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.booleans(), st.sampled_from(("rose", "fell")), st.booleans())
def test_the_verdict_is_the_sizes(old: int, new: int, says_yes: bool, move: str, asks_up: bool) -> None:
    said = f"{'Yes' if says_yes else 'No'}, sales {move} from ${old:,} million to ${new:,} million."
    verdict = set_verdict_right(f"Did sales {'increase' if asks_up else 'decrease'}?", said, "")
    if old != new:
        found = verdict.found if verdict else said
        assert found.startswith("Yes" if (new > old) == asks_up else "No")
        assert ("rose" in found) == (new > old)
