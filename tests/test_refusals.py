"""Refusals where they should be and where not, and the curve of surer and surer answers."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import RunError
from ragtune.evaluation.grounding.refusals import (
    RefusalCase,
    build_refusal_curve,
    count_refusals,
    judge_refusal,
    should_answer,
)
from ragtune.evaluation.ladder.graded import Graded, Shown
from ragtune.evaluation.reporting.plots import draw_refusal_curve
from ragtune.records import Chunk, Evidence, Question

ASKED = Question("q", "text", "5", (Evidence("A", 1), Evidence("A", 2)))
CASES = [
    RefusalCase("1", "answer", "right"), RefusalCase("2", "answer", "wrong"), RefusalCase("3", "answer", "refused"),
    RefusalCase("4", "refuse", "wrong"), RefusalCase("5", "refuse", "refused"), RefusalCase("6", "refuse", "right"),
    RefusalCase("7", "either", "wrong"), RefusalCase("8", "answer", "right"),
]  # fmt: skip


@pytest.mark.parametrize(("shown", "should"), [
    ({("A", 1), ("A", 2), ("B", 1)}, "answer"), ({("A", 1)}, "either"), ({("B", 1)}, "refuse"), (set(), "refuse"),
])  # fmt: skip
def test_the_pages_in_the_prompt_say_what_to_do(shown: set, should: str) -> None:
    assert should_answer(ASKED, shown) == should
    assert should_answer(Question("q", "text"), shown) == "refuse"
    assert should_answer(Question("q", "text", "5"), shown) == "either"


def row(outcome: str, *pages: int, setting: str = "retrieval") -> Graded:
    passages = tuple(Shown(n, "A", page, n, f"c{page}") for n, page in enumerate(pages, 1))
    return Graded("base", setting, "q", "", outcome, "", "text", "5", "", is_refusal=outcome == "refused", passages=passages)


def test_lines_of_the_log_are_judged() -> None:
    assert judge_refusal(ASKED, row("correct", 1, 2)) == RefusalCase("q", "answer", "right")
    assert judge_refusal(ASKED, row("refused", 1, 2)) == RefusalCase("q", "answer", "refused")
    assert judge_refusal(ASKED, row("wrong", 5)) == RefusalCase("q", "refuse", "wrong")
    assert judge_refusal(ASKED, row("wrong", setting="closed_book")) is None
    # an unanswerable question refused is 'correct' in the log
    refused = Graded("base", "retrieval", "u", "", "correct", "", "text", "", "", is_refusal=True)
    assert judge_refusal(Question("u", "text"), refused) == RefusalCase("u", "refuse", "refused")
    over_two = judge_refusal(ASKED, row("wrong", 1), lambda name: Chunk(name, "d", "A", "", 1, 2, 0, 0))
    assert over_two == RefusalCase("q", "answer", "wrong")


def test_refusals_out_of_place_are_counted() -> None:
    found = count_refusals(CASES)
    assert (found.over_answering.count, found.over_answering.of) == (1, 3)
    assert (found.over_refusal.count, found.over_refusal.of) == (1, 4)
    assert (found.lucky, found.either) == (1, 1)


def test_the_curve_by_hand() -> None:
    curve = build_refusal_curve(CASES, [0.9, 0.5, 0.0, 0.5, 0.0, 0.7, 0.2, 0.8])
    told = [(p.threshold, p.coverage, p.risk, p.over_answering, p.over_refusal) for p in curve.points]
    assert told == [
        (None, 0.0, None, 0.0, 1.0), (0.9, 1 / 8, 0.0, 0.0, 0.75), (0.8, 2 / 8, 0.0, 0.0, 0.5), (0.7, 3 / 8, 0.0, 0.0, 0.5),
        (0.5, 5 / 8, 2 / 5, 1 / 3, 0.25), (0.2, 6 / 8, 3 / 6, 1 / 3, 0.25),
    ]  # fmt: skip
    assert curve.area == pytest.approx((0 + 0 + 0 + 1 / 4 + 2 / 5 + 3 / 6) / 6)
    assert curve.area_random == 0.5
    assert curve.area_best == curve.area  # all right ones come first
    json.dumps(curve.to_dict(), allow_nan=False)


answers = st.lists(st.tuples(st.sampled_from(["answer", "refuse", "either"]), st.sampled_from(["right", "wrong", "refused"]),
                             st.sampled_from([0.1, 0.5, 0.9])), min_size=1, max_size=20)  # fmt: skip


@given(answers)
def test_surer_answers_trade_one_mistake_for_the_other(drawn) -> None:
    cases = [RefusalCase(str(n), should, did) for n, (should, did, _) in enumerate(drawn)]
    curve = build_refusal_curve(cases, [confidence for *_, confidence in drawn])
    for surer, looser in zip(curve.points, curve.points[1:]):
        assert surer.coverage < looser.coverage
        assert surer.over_answering is None or surer.over_answering <= looser.over_answering
        assert surer.over_refusal is None or surer.over_refusal >= looser.over_refusal
    counts, end = count_refusals(cases), curve.points[-1]
    assert end.over_answering == pytest.approx(counts.over_answering.value)
    assert end.over_refusal == pytest.approx(counts.over_refusal.value)
    if curve.area is not None:
        assert curve.area_best - 1e-12 <= curve.area <= 1
        blind = build_refusal_curve(cases, [0.5] * len(cases))
        assert blind.area == pytest.approx(blind.area_random)


def test_the_drawing_says_its_figures() -> None:
    svg = draw_refusal_curve(build_refusal_curve(CASES, [0.9, 0.5, 0.0, 0.5, 0.0, 0.7, 0.2, 0.8]))
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "answering 75% of 8 questions: answers that are wrong 50%" in svg
    assert svg == draw_refusal_curve(build_refusal_curve(CASES, [0.9, 0.5, 0.0, 0.5, 0.0, 0.7, 0.2, 0.8]))
    nothing = draw_refusal_curve(build_refusal_curve([RefusalCase("1", "either", "refused")], [0.0]))
    assert "answering 0% of 1 questions" in nothing


def test_bad_input_is_said() -> None:
    with pytest.raises(RunError, match="no answers to judge"):
        count_refusals([])
    with pytest.raises(RunError, match="1 confidences for 8"):
        build_refusal_curve(CASES, [1.0])
    with pytest.raises(RunError, match="the confidences hold nan at place 1"):
        build_refusal_curve(CASES, [float("nan")] * 8)
    build_refusal_curve(CASES[2:3], [float("nan")])  # a refusal's is not looked at
