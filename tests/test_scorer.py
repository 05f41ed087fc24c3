"""The parts of the answer scorer: claims, content, derived figures, signs, weights, likeness, and the bench."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.evaluation.scoring import answers as answers_module
from ragtune.evaluation.scoring import weigh as weigh_module
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.evaluation.scoring.claims import affirms, balance, core_of, read_claims
from ragtune.evaluation.scoring.content import head_of, read_content, share_held, weigh_words
from ragtune.evaluation.scoring.figures import is_derived
from ragtune.evaluation.scoring.numbers import parse_numbers
from ragtune.evaluation.scoring.rules import is_short, judge_by_rules, said_polarity
from ragtune.evaluation.scoring.signs import read_signs
from ragtune.evaluation.scoring.weigh import Regression, Weighed, load_weights, weigh
from ragtune.evaluation.scoring.wording import find_choice, is_firm_refusal
from ragtune.records import Question

ROOT = Path(__file__).parents[1]
GROWTH = "Is Acme a fast growing company in 2021 (growing by more than 10%)? If growth is no useful measure, say why."


def signs_of(question: str, gold: str, answer: str) -> dict[str, float]:
    asked = Question("q", question, gold)
    return read_signs(asked, answer, judge_by_rules(asked, answer))


@pytest.mark.parametrize(
    ("answer", "says_yes"),
    [
        ("Acme is a fast growing company.", True),
        ("Acme is not a fast growing company.", False),
        ("While Acme is not large, Acme is a fast growing company.", True),
        ("Acme shows the growth of a mature company rather than a fast growing company.", False),
        ("A fast growing company would typically not pay dividends. Acme is a fast growing company.", True),
        ("Acme is not only a fast growing company but also a large one.", True),
        ("If Acme grows, it is not a slow company. Acme is a growing company.", True),
        ("Yes. Acme is growing.", True),
    ],
)
def test_claims_affirm_or_deny(answer: str, says_yes: bool) -> None:
    assert (balance(read_claims(answer, GROWTH)) > 0) == says_yes
    assert said_polarity(answer, GROWTH) == says_yes


@pytest.mark.parametrize(
    ("clause", "question", "says_yes"),
    [
        ("its working capital is negative", "Does Acme have positive working capital", False),
        ("its margins fluctuated widely", "Are Acme's margins consistent", False),
        ("its margins were stable", "Are Acme's margins consistent", True),
        ("sales fell", "Did sales increase", False),
        ("sales did not fall", "Did sales fall", False),
    ],
)
def test_opposites_turn_a_claim(clause: str, question: str, says_yes: bool) -> None:
    assert affirms(clause, question) == says_yes


def test_what_is_said_to_lack_is_no_claim() -> None:
    assert read_claims("The filing does not provide whether Acme is a fast growing company.", GROWTH) == ()
    assert balance(()) == 0.0
    assert core_of(GROWTH).split() == "Is Acme a fast growing company in 2021".split()


def test_content_weighs_names_and_the_head() -> None:
    weights = weigh_words("It was Zephrine Bank that sold assets.")
    assert weights["zephrin"] > weights["sold"]
    assert head_of("The consumer segment, because of lower volume.") == "The consumer segment"
    found = read_content("Which segment fell?", "The consumer segment, because of lower volume.", "It was consumer.")
    assert found["head_recall"] == 1.0
    assert 0 < found["recall"] < 1
    assert share_held({}, []) == 1.0


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=200))
def test_shares_stay_between_nothing_and_all(question: str, gold: str, answer: str) -> None:
    for name, value in read_content(question, gold, answer).items():
        assert 0 <= value <= 1, name


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("$2.5bn", "debt went from $49.8 billion to $47.2 billion", True),  # 2.6, but each is rounded
        ("$2.5bn", "debt went from $49.8 billion to $46.2 billion", False),
        ("42%", "cash fell from $1,874 million to $1,093 million", True),
        ("42%", "cash fell from $1,874 million to $1,500 million", False),
        ("2.2%", "the margin fell from 36.8% to 34.6%", True),
        ("$5", "it was $5", False),
    ],
)
def test_figures_that_follow_from_two_others(gold: str, answer: str, expected: bool) -> None:
    assert is_derived(parse_numbers(gold)[0], parse_numbers(answer)) is expected


def test_the_option_is_read_where_the_question_is_restated() -> None:
    question = "Among operations, investing, and financing activities, which brought in the most cash flow for Acme?"
    gold = "Acme's operations brought in the most."
    said = ("As the financial statements show, operating activities brought in the most cash flow for Acme. Investing "
            "activities used less, and financing activities had the largest outflow.")
    assert find_choice(question, gold, said) == ("oper", "oper")


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("Every 500 operating hours", "500 hours", "correct"),
        ("Every 500 operating hours", "every 250 hours", "wrong"),
        ("The consumer segment shrank organically.", "The consumer segment [1]", "correct"),
        ("The consumer segment shrank organically.", "Health care [1]", "wrong"),
        ("Acme sells valves and pumps.", "Acme sells no valves.", "wrong"),
    ],
)
def test_a_few_words_are_judged_by_what_they_say(gold: str, answer: str, expected: str) -> None:
    assert is_short(answer)
    assert score_answer(Question("q", "What is it that Acme reports?", gold), answer).outcome == expected


@pytest.mark.parametrize(
    "text", ["I don't know the answer.", "It is not possible to determine the margin.", "I am unable to provide the figure"]
)
def test_firm_refusals(text: str) -> None:
    assert is_firm_refusal(text)
    assert not is_firm_refusal("The margin could not be better: 40%.")


def test_an_outright_contradiction_is_never_correct() -> None:
    question, gold = "Did equity decrease?", "No, equity rose from $1,341 million to $1,510 million."
    assert signs_of(question, gold, "Yes, equity rose from $1,341 million to $1,510 million.")["contradicts"] == 1
    assert signs_of(question, gold, gold)["contradicts"] == 0
    weights = {"text": Regression(9.0, {}, {}), "refused": Regression(0.0, {}, {})}
    assert weigh(weights, "text", {}).outcome == "correct"
    assert weigh(weights, "text", {"contradicts": 1.0}).outcome != "correct"


def test_a_copied_document_is_no_answer() -> None:
    said = "UNITED STATES\nSECURITIES AND EXCHANGE COMMISSION\nFORM 10-K\nACME CORP " + "Acme sells valves and pumps. " * 20
    score = score_answer(Question("q", "What does Acme sell?", "Valves and pumps"), said)
    assert (score.outcome, score.reason) == ("wrong", "begins as a document's title page, not as an answer")
    assert score_answer(Question("q", "Who made it?", "ACME CORP"), "ACME CORP").outcome == "correct"


def test_rules_decide_numbers_and_few_words() -> None:
    weights = {"number": Regression(-9.0, {}, {}), "text": Regression(-9.0, {}, {}), "refused": Regression(0.0, {}, {})}
    assert weigh(weights, "number", {"rules_correct": 1.0}).outcome == "correct"
    assert weigh(weights, "text", {"rules_correct": 1.0}).outcome != "correct"
    assert weigh(weights, "text", {"rules_correct": 1.0, "short": 1.0}).outcome == "correct"


def test_a_regression_is_the_logistic_of_its_sum() -> None:
    regression = Regression(0.5, {"alike": 2.0, "refuses": -3.0}, {"alike": 0.5, "refuses": 0.0})
    assert regression.probability({"alike": 0.25}) == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert regression.strongest({"alike": 0.9, "refuses": 1.0}, is_for=False) == ("it sounds like a refusal",)
    assert regression.strongest({"alike": 0.9}, is_for=True) == ("the reference's meaning is met",)
    assert Weighed(0.3, 0.5, ()).outcome == "refused"
    assert Weighed(0.3, 0.2, ()).outcome == "wrong"
    assert Weighed(0.3, 0.2, ()).confidence == 0.7


def test_the_weights_are_plain_data_and_name_signs_that_exist() -> None:
    stored = json.loads((ROOT / "ragtune/evaluation/scoring" / weigh_module.FILE).read_text())
    assert set(stored["sets"]) == {"alike", "plain"}
    known = set(signs_of("Did sales grow by 5%?", "Yes, by 5%", "Yes, by 5%"))
    known |= {"choice_agrees", *signs_of("Sales?", "$5", "$5"), "alike", "alike_place", "alike_asked"}
    for regressions in load_weights().values():
        assert set(regressions) == {"number", "yes_no", "text", "refused"}
        for regression in regressions.values():
            assert set(regression.weights) <= known
            assert set(regression.weights) == set(regression.means)
    for kind in ("yes_no", "text"):  # what speaks for an answer may not speak against it
        assert load_weights()["alike"][kind].weights["rules_correct"] > 0
        assert load_weights()["alike"][kind].weights["alike_place"] > 0
        assert load_weights()["alike"][kind].weights["figures_contradicted"] < 0


def test_without_the_embedder_it_scores_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "open_likeness", lambda: None)
    question = Question("q", "What drove growth?", "Higher volume in the consumer segment.")
    told = "The growth was driven by a higher volume, which came from the consumer segment in the first place."
    assert score_answer(question, told).outcome == "correct"
    assert score_answer(question, "It was driven by nothing but currency translation, which the report explains in detail "
                                  "on several pages.").outcome == "wrong"


def test_likeness_meets_other_words_for_the_same() -> None:
    likeness = answers_module.open_likeness()
    assert likeness is not None
    question, gold = "What drove growth?", "Purchases of new firms"
    same = likeness.read(question, gold, "The acquisition of companies")
    other = likeness.read(question, gold, "The weather in spring")
    assert same["alike"] > other["alike"]
    assert likeness.read(question, gold, gold)["alike"] == pytest.approx(1.0, abs=1e-5)
    assert likeness.layers(list(range(1000, 1600))).shape == (3, 600, 384)
    assert likeness.read(question, gold, "")["alike"] < 1


@given(st.text(max_size=200), st.sampled_from(["$5 million", "Yes, 5%", "the consumer segment, down 4%", ""]))
def test_any_answer_gets_a_confidence_and_a_reason(answer: str, gold: str) -> None:
    score = score_answer(Question("q", "Has it grown to 5 (in USD millions)?", gold), answer)
    assert score.confidence is not None
    assert 0.5 <= score.confidence <= 1
    assert score.reason


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ["no ", "a, but ", "(", "1 to 2 ", "among a and b, ", "which of ", "\n1. x "])
def test_long_nonsense_is_scored_in_time(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "open_likeness", lambda: None)
    question = "Among operations, investing and financing, which brought in the most in 2021?"
    assert score_answer(Question("q", question, "operations, by 5%"), unit * (20_000 // len(unit))).outcome


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import scripts.bench_scorer as module

    yield module
    sys.modules.pop("scripts.bench_scorer", None)


def test_bench_kappa_is_defined_for_one_label_too(bench) -> None:
    assert bench.kappa(["a", "b", "a", "b"], ["a", "b", "a", "b"]) == 1.0
    assert bench.kappa(["a", "a", "b", "b"], ["a", "b", "a", "b"]) == 0.0
    assert bench.kappa(["a", "a"], ["a", "a"]) == 1.0


def test_bench_folds_keep_a_question_together_and_left_out(bench) -> None:
    rows = [bench.Labelled(Question(f"q{n % 20}", "Sales?", "$5"), "$5" if n % 3 else "$7", "correct" if n % 3 else "wrong",
                           f"run{n % 2}", f"f{n % 2}", "number", "correct" if n % 3 else "wrong",
                           {"rules_correct": float(bool(n % 3))}) for n in range(120)]
    folds = bench.folds_of(rows, 0)
    assert len({(row.question.id, fold) for row, fold in zip(rows, folds)}) == 20
    verdicts = bench.cross_validate([*rows], [], False)
    assert bench.agreement(rows, verdicts)["all"]["correct_or_not"] == 1.0


@pytest.mark.real
def test_agreement_with_people_on_unseen_questions(bench) -> None:
    data = Path(os.environ.get("RAGTUNE_FINANCEBENCH", ROOT.parent / "shared" / "financebench"))
    if not (data / "completions").is_dir():
        pytest.skip("no labelled completions")
    likeness = answers_module.open_likeness()
    rows = bench.read_labelled(data / "completions", likeness)
    found = bench.agreement(rows, bench.cross_validate(rows, bench.build_rows(rows, likeness), True))
    assert found["all"]["correct_or_not"] >= 0.86
    assert found["all"]["three_way"] >= 0.84
    assert found["yes_no"]["correct_or_not"] >= 0.75
    assert found["all"]["accuracy_at_80"] >= 0.97
