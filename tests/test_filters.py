"""Filters: the language, against a plain-Python evaluator, and errors that point at the place."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.errors import QuestionError
from ragtune.retrieval.filters import parse_filter

COLUMNS = {
    "company": {"string"},
    "fiscal_year": {"number"},
    "audited": {"truth value"},
    "mixed": {"number", "string"},
    "empty": set(),
}
ROW = {"company": "3M", "fiscal_year": 2018, "audited": True}


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("company = '3M'", True),
        ('company == "3m"', True),
        ("company = '3M' and fiscal_year in (2017, 2018)", True),
        ("fiscal_year not in (2017, 2018)", False),
        ("company != '3M' or fiscal_year >= 2018", True),
        ("not company = '3M'", False),
        ("not not company = '3M'", True),
        ("fiscal_year <> 2018", False),
        ("fiscal_year > 2017 and fiscal_year < 2019", True),
        ("fiscal_year <= 2017.5", False),
        ("company < '4'", True),
        ("audited = true", True),
        ("audited = FALSE", False),
        ("form = null", True),
        ("company = null", False),
        ("form != null", False),
        ("form = '10-Q'", False),
        ("form != '10-Q'", True),
        ("form < '9'", False),
        ("not form < '9'", True),
        ("company = '3M' or fiscal_year = 1 and fiscal_year = 2", True),
        ("(company='3M' or fiscal_year=1) and fiscal_year=2", False),
        ("COMPANY = '3M'", False),
        ("company in ('x', '3m')", True),
        ("fiscal_year = -5", False),
        (r"company = 'it\'s'", False),
        ("audited = 1", False),
        ("fiscal_year = 2018.0", True),
    ],
)
def test_language(text: str, passes: bool) -> None:
    assert parse_filter(text).matches(ROW) is passes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("company", "character 8: wanted one of = != < <= > >= in, found 'the end'"),
        ("company = 3M", "character 11: "),
        ("company = x", "quote it: 'x'"),
        ("company = 'x", "character 11: the quote is never"),
        ("company = 'x' company", "character 15: found 'company' after a whole filter"),
        ("company in 3", "character 12: wanted '('"),
        ("company in (3", "wanted ')', found 'the end'"),
        ("company in ()", "wanted a value, found ')'"),
        ("and company = 'x'", "character 1: wanted a column, found 'and'"),
        ("company = 'x' and", "wanted a column, found 'the end'"),
        ("(company = 'x'", "wanted ')'"),
        ("company < null", "compares numbers or strings"),
        ("company not = 'x'", "wanted one of"),
        ("; drop", "found '; drop'"),
        ("not " * 60 + "company = 'x'", "50 levels"),
        ("x" * 20000, "allowed are 10000"),
        ("company = 'a' 'b'", "after a whole"),
        ("= 3", "wanted a column, found '='"),
        ("company = ,", "wanted a value, found ','"),
    ],
)
def test_errors_point_at_the_place(text: str, words: str) -> None:
    with pytest.raises(QuestionError) as raised:
        parse_filter(text)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("compny = 'x'", "character 1: there is no column 'compny'. Did you mean 'company'? Columns here: audited, company"),
        ("company = 'x' and yaer = 3", "character 19: there is no column 'yaer'"),
        ("fiscal_year = '2018'", "holds number values, found the string '2018'. Leave out the quotes"),
        ("company = 3", "holds string values, found the number 3. Quote it"),
        ("audited = 1", "holds truth value"),
    ],
)
def test_columns_are_checked(text: str, words: str) -> None:
    with pytest.raises(QuestionError) as raised:
        parse_filter(text).check(COLUMNS)
    assert words in str(raised.value)


@pytest.mark.parametrize("text", ["mixed = 1 or mixed = 'x'", "empty = 3", "company = null", "fiscal_year = 1.5"])
def test_columns_that_fit(text: str) -> None:
    parse_filter(text).check(COLUMNS)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0])
    | st.sampled_from(["a", "B", "b", "it's", ""])
)
NAMES = st.sampled_from(["one", "two", "three"])


def write(value: object) -> str:
    """Write a value as a filter writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "'" + value.replace("'", r"\'") + "'" if isinstance(value, str) else repr(value)


def same(found: object, value: object) -> bool:
    """Equality as documented, written another way than the module does."""
    if isinstance(found, str) and isinstance(value, str):
        return found.lower() == value.lower()
    return (type(found) in (int, float) and type(value) in (int, float) and found == value) or found is value


def order(found: object, sign: str, value: object) -> bool:
    if isinstance(found, str) and isinstance(value, str):
        found, value = found.lower(), value.lower()
    elif type(found) not in (int, float) or type(value) not in (int, float):
        return False
    return bool(eval("found" + sign + "value", {"found": found, "value": value}))


EQUALITIES = st.tuples(NAMES, st.sampled_from(["=", "!="]), VALUES).map(
    lambda t: (f"{t[0]} {t[1]} {write(t[2])}", lambda row: same(row.get(t[0]), t[2]) == (t[1] == "="))
)
ORDERS = st.tuples(
    NAMES, st.sampled_from(["<", "<=", ">", ">="]), VALUES.filter(lambda v: v is not None and v not in (True, False))
).map(lambda t: (f"{t[0]}{t[1]}{write(t[2])}", lambda row: order(row.get(t[0]), t[1], t[2])))
LISTS = st.tuples(NAMES, st.booleans(), st.lists(VALUES, min_size=1, max_size=3)).map(
    lambda t: (
        f"{t[0]} {'not in' if t[1] else 'in'} ({', '.join(map(write, t[2]))})",
        lambda row: any(same(row.get(t[0]), value) for value in t[2]) != t[1],
    )
)


def combine(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(
        st.tuples(inner, inner).map(
            lambda p: (
                f"({p[0][0]}) and {p[1][0]}" if " or " not in p[1][0] else f"({p[0][0]}) and ({p[1][0]})",
                lambda row: p[0][1](row) and p[1][1](row),
            )
        ),
        st.tuples(inner, inner)
        .map(lambda p: (f"{p[0][0]} OR {p[1][0]}", lambda row: p[0][1](row) or p[1][1](row)))
        .map(lambda p: (f"({p[0]})", p[1])),
        inner.map(lambda p: (f"not ({p[0]})", lambda row: not p[1](row))),
    )


@given(pair=st.recursive(EQUALITIES | ORDERS | LISTS, combine, max_leaves=6), row=st.dictionaries(NAMES, VALUES, max_size=3))
@settings(deadline=None, max_examples=300)
def test_against_plain_python(pair, row) -> None:
    text, wanted = pair
    assert parse_filter(text).matches(row) is bool(wanted(row)), text


@given(st.text(alphabet="ab12 ()=<>!'\",.andornotin\\", max_size=40))
@settings(max_examples=300)
def test_any_text_parses_or_raises_the_one_error(text: str) -> None:
    with contextlib.suppress(QuestionError):
        parse_filter(text).matches({})
