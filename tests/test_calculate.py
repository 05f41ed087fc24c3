"""The calculator: right on plain arithmetic, closed to everything else."""

import dataclasses
import operator
import re
from decimal import Decimal, DivisionByZero, InvalidOperation
from fractions import Fraction  # noqa: F401

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.calculate import (
    MAX_FORMULA_CHARACTERS,
    CalculationError,
    evaluate_formula,
    find_calculations,
    recompute,
)

numbers = st.integers(1, 10**7)


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("4,210 - 3,900", "310"),
        ("(1,577 - 1,373) / 204", "1"),
        ("(57) - 107", "-164"),
        ("2 * -3", "-6"),
        ("$4,210 ÷ $2", "2105"),
        ("10 − 4 – 3", "3"),
        ("5% * 200", "10"),
        ("8 / 2 / 2", "2"),
        ("2 + 3 * 4", "14"),
    ],
)
def test_formulas(formula, value):
    assert evaluate_formula(formula) == Decimal(value)


@pytest.mark.parametrize(
    "formula", ["", "1 / 0", "2 ** 3", "__import__('os')", "1 +", "(1 + 2", "1 2", "a + 1", "1" + " + 1" * 100]
)
def test_everything_else_is_refused(formula):
    with pytest.raises(CalculationError):
        evaluate_formula(formula)


@given(numbers, numbers, numbers)
def test_agrees_with_exact_arithmetic(a, b, c):
    assert evaluate_formula(f"({a:,} + {b:,}) * {c:,} - {a:,}") == (a + b) * c - a


@given(st.text(max_size=60))
def test_any_text_is_safe(text):
    assert isinstance(recompute(text)[0], str)


@given(numbers, numbers)
def test_a_right_result_is_left_alone(a, b):
    text = f"{a:,} - {b:,} = {a - b:,}\nAnswer: ${abs(a - b):,} million"
    assert recompute(text)[0] == text


def test_a_wrong_result_is_replaced_in_the_line_and_in_the_answer():
    text = "Net sales 2021: 4,210 [2]\n4,210 / 3,900 - 1 = 8.5%\nAnswer: 8.5%"
    mended, calculations = recompute(text)
    assert mended == "Net sales 2021: 4,210 [2]\n4,210 / 3,900 - 1 = 7.9%\nAnswer: 7.9%"
    assert [(c.shown, c.computed, c.is_right) for c in calculations] == [("8.5%", "7.9%", False)]


def test_a_computed_negative_takes_its_sign_before_the_currency():
    assert recompute("(57) - 107 = 50\nAnswer: $50 million")[0] == "(57) - 107 = -164\nAnswer: -$164 million"


def test_result_is_compared_at_its_shown_precision():
    assert find_calculations("1 / 3 = 0.33")[0].is_right
    assert not find_calculations("1 / 3 = 0.34")[0].is_right


@pytest.mark.parametrize(
    ("text", "computed", "is_right"),
    [
        ("(1,577 − 1,373) / 1,373 = 14.9%", "14.9%", True),
        ("(1,577 − 1,373) / 1,373 = 12%", "15%", False),
        ("(57) - 107 = (164)", "-164", True),
        ("(57) - 107 = −164", "-164", True),
        ("$(57) - $107 = -$164", "-$164", True),
        ("100 * (5.0)% = -5", "-5", True),
        ("1 / 8 = 0.13", "0.13", True),  # a half may go either way
        ("1 / 8 = 0.12", "0.13", True),
        ("4,210 / 3,900 - 1 = 7.9 %", "7.9%", True),
        ("4,210 / 3,900 - 1 = 7.9", "7.9", True),
        ("(4,210 / 3,900 - 1) * 100 = 7.9%", "7.9%", True),
        ("4,210 / 3,900 - 1 = 0.08%", "7.95%", False),  # a ratio is no percentage
        ("4,210 - 100 = $4.11 billion", "$4.11", True),
        ("4,210 - 100 = $4.12 billion", "$4.11", False),
        ("4,210 - 3,900 = 3 million", "310", False),
        ("Growth 2021: 4,210 / 3,900 - 1 ≈ 8%", "8%", True),
        ("- 4,210 - 3,900 = 310", "310", True),
        ("1. 4,210 - 3,900 = 310", "310", True),
        ("It grew. **4,210 - 3,900 = 310**", "310", True),
        ("-4,210 + 3,900 = -310", "-310", True),
        ("(1,577 − 1,373) / 1,373 = 204 / 1,373 = 14.9%", "14.9%", True),
    ],
)
def test_the_forms_in_which_people_and_models_write(text, computed, is_right):
    (found,) = find_calculations(text)
    assert (found.computed, found.is_right) == (computed, is_right)


@pytest.mark.parametrize("text", ["x = 5", "2021 = 2021", "a - b = 3", "1 / 0 = 0", "1 + 1 = ", "1 - 1 = 1,2345", "= 3",
                                  "1" + "+1" * 200 + " = 7", "1 + 1 = 0." + "0" * 2000])
def test_what_is_no_calculation_is_left_alone(text):
    assert recompute(text) == (text, ())


def test_a_wrong_step_is_carried_into_the_next():
    mended, calculations = recompute("4,210 - 3,900 = 300\n300 / 3,900 = 7.7%\nAnswer: 7.7%, up by $300 million")
    assert mended == "4,210 - 3,900 = 310\n310 / 3,900 = 7.9%\nAnswer: 7.9%, up by $310 million"
    assert [c.is_right for c in calculations] == [False, False]


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("100 - 400 = -200\nIt fell by 200.", "100 - 400 = -300\nIt fell by 300."),
        ("400 - 100 = -200\nAnswer: -$200", "400 - 100 = 300\nAnswer: $300"),
        ("400 - 100 = (200)\nAnswer: (200)", "400 - 100 = 300\nAnswer: 300"),
        ("100 - 400 = (200)\nAnswer: ($200)", "100 - 400 = (300)\nAnswer: ($300)"),
        ("400 - 100 = 200\nIn 1,200 or 200.5 or 12,200", "400 - 100 = 300\nIn 1,200 or 200.5 or 12,200"),
    ],
)
def test_signs_and_neighbours_of_a_replaced_result(text, mended):
    assert recompute(text)[0] == mended


OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
SPELLINGS = {"+": "+", "-": "-−–", "*": "*×", "/": "/÷"}


def amounts():
    """(text, value): plain, with dollars, as a percentage, in parentheses as statements print negatives."""
    sizes = st.decimals(0, 10**6, places=2)
    return st.builds(
        lambda size, form: (form.format(f"{size:,}"),
                            (-size if "(" in form else size) / (100 if "%" in form else 1)),
        sizes, st.sampled_from(["{}", "${}", "$ {}", "{}%", "({})", "(${})", "$({})", "({}%)", "({})%"]))


def joined(parts):
    """(text, value) of two parts and an operator; None as value where there is no finite one."""

    def join(left, right, sign, spelling):
        # "0 + " makes every part compound, so that its parentheses never mean a negative
        text = f"(0 + {left[0]}) {SPELLINGS[sign][spelling % len(SPELLINGS[sign])]} (0 + {right[0]})"
        try:
            return text, OPERATORS[sign](left[1], right[1])
        except (TypeError, DivisionByZero, InvalidOperation):
            return text, None

    return st.builds(join, parts, parts, st.sampled_from("+-*/"), st.integers(0, 2))


@given(st.recursive(amounts(), joined, max_leaves=6))
def test_random_formulas_agree_with_decimal(pair):
    text, value = pair
    if len(text) > MAX_FORMULA_CHARACTERS or value is None:
        with pytest.raises(CalculationError):
            evaluate_formula(text)
    else:
        assert evaluate_formula(text) == value


@given(st.lists(st.tuples(st.sampled_from("+-*/"), st.integers(1, 9999)), max_size=8), st.integers(1, 9999))
def test_precedence_agrees_with_python(steps, first):
    formula = str(first) + "".join(f" {sign} {number}" for sign, number in steps)
    exact = re.sub(r"\d+", r"Fraction(\g<0>)", formula)
    assert float(evaluate_formula(formula)) == pytest.approx(float(eval(exact)), rel=1e-12)  # eval: the oracle only


@pytest.mark.timeout(60)
@pytest.mark.parametrize("formula", ["(" * 10**5, "-" * 10**5 + "1", "1" * 10**5, "9" * 200 + "*9" * 20, "1 " * 10**5,
                                     "(" * 39 + "1" + ")" * 39 + "+1", "1+" * 10**5 + "1"])
def test_deep_and_huge_formulas_are_errors_or_numbers_at_once(formula):
    try:
        assert evaluate_formula(formula).is_finite()
    except CalculationError:
        assert len(formula) > 79


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", ["1+" * 10**4 + "1=2", "1+1=" * 10**4, "=" * 10**5, "1+1=3\n" * 10**4, "(" * 10**5 + "=1",
                                  "1-1=" + "9" * 10**5, "- " * 10**4 + "1 - 1 = 1"])
def test_huge_completions_do_not_hang(text):
    recompute(text)


@given(st.text("0123456789.,%$()+-*/=≈×÷−– \n", max_size=80))
def test_formula_like_text_is_safe_and_settled_at_once(text):
    mended, _ = recompute(text)
    assert isinstance(mended, str)
    assert find_calculations(text) == find_calculations(text)


@given(numbers, numbers, st.sampled_from(["-", "+", "*"]), st.integers(1, 10**6))
def test_every_wrong_result_is_mended(a, b, sign, off):
    value = OPERATORS[sign](a, b)
    mended, (found,) = recompute(f"{a:,} {sign} {b:,} = {value + off:,}")
    assert not found.is_right
    assert mended.endswith(f" = {value:,}")
    assert recompute(mended) == (mended, (dataclasses.replace(found, shown=f"{value:,}", is_right=True),))
