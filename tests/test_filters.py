"""Filters: the language and its JSON form, against a plain-Python evaluator, and errors that point at the place."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.documents.pack import open_pack
from ragtune.errors import QuestionError
from ragtune.retrieval.conditions import Comparison, render_filter
from ragtune.retrieval.filters import Filter, parse_filter

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
        ("fiscal_year = 2.018e3", True),
        ("`fiscal_year` = 2018", True),
        ("`fiscal year` = 2018", False),
        ("`it\\`s` = null", True),
    ],
)
def test_language(text: str, passes: bool) -> None:
    assert parse_filter(text).matches(ROW) is passes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("company", "line 1, column 8: wanted one of = != < <= > >= in, found 'the end'"),
        ("company = 3M", "line 1, column 11: "),
        ("company = x", "quote it: 'x'"),
        ("company = 'x", "line 1, column 11: the quote is never"),
        ("company = 'x' company", "line 1, column 15: found 'company' after a whole filter"),
        ("company in 3", "line 1, column 12: wanted '('"),
        ("company in (3", "wanted ')', found 'the end'"),
        ("company in ()", "wanted a value, found ')'"),
        ("and company = 'x'", "line 1, column 1: wanted a column, found 'and'"),
        ("company = 'x' and", "wanted a column, found 'the end'"),
        ("(company = 'x'", "wanted ')'"),
        ("company < null", "compares numbers or strings"),
        ("company not = 'x'", "wanted one of"),
        ("; drop", "found '; drop'"),
        ("not " * 60 + "company = 'x'", "50 levels"),
        ("x" * 60000, "allowed are 50000"),
        ("company = 'x'\n  and yaer == ", "line 2, column 15: wanted a value, found 'the end'.\n"),
        ("company = " + "1" * 60, "a number of 60 digits"),
        ("company = 1e999", "is too large"),
        ("`` = 1", "the quote is never closed"),
        (["company"], "a text or a mapping, found a list"),
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
        ("compny = 'x'", "line 1, column 1: there is no column 'compny'. Did you mean 'company'? Columns here: audited, c"),
        ("company = 'x' and yaer = 3", "line 1, column 19: there is no column 'yaer'"),
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
        return found.casefold() == value.casefold()
    return (type(found) in (int, float) and type(value) in (int, float) and found == value) or found is value


def order(found: object, sign: str, value: object) -> bool:
    if isinstance(found, str) and isinstance(value, str):
        found, value = found.casefold(), value.casefold()
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
@settings(deadline=None, max_examples=200)
def test_against_plain_python(pair, row) -> None:
    text, wanted = pair
    assert parse_filter(text).matches(row) is bool(wanted(row)), text


@given(st.text(alphabet="ab12 ()=<>!'\",.andornotin\\", max_size=40))
@settings(max_examples=200)
def test_any_text_parses_or_raises_the_one_error(text: str) -> None:
    with contextlib.suppress(QuestionError):
        parse_filter(text).matches({})


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ({"company": "3M"}, "company = '3M'"),
        ({"company": "3M", "year": {"$in": [2017, 2018]}}, "company = '3M' and year in (2017, 2018)"),
        ({"year": [2017, 2018]}, "year in (2017, 2018)"),
        ({"year": {"$gte": 2017, "$lt": 2020}}, "year >= 2017 and year < 2020"),
        ({"year": {"$between": [2017, 2020]}}, "year >= 2017 and year <= 2020"),
        ({"a": {"$ne": None}, "b": {"$eq": True}}, "a != null and b = true"),
        ({"a": {"$nin": ["x"]}, "b": {"$nin": ["x", 1.5]}}, "a != 'x' and b not in ('x', 1.5)"),
        ({"a": {"$exists": True}, "b": {"$exists": False}}, "a != null and b = null"),
        ({"$or": [{"a": 1}, {"a": 2, "b": 3}]}, "a = 1 or a = 2 and b = 3"),
        ({"c": 0, "$or": [{"a": 1}, {"b": 3}]}, "c = 0 and (a = 1 or b = 3)"),
        ({"$and": [{"a": 1}, {"$or": [{"b": 2}, {"c": 3}]}]}, "a = 1 and (b = 2 or c = 3)"),
        ({"$not": {"a": 1, "b": 2}}, "not (a = 1 and b = 2)"),
        ({"$nor": [{"a": 1}, {"b": 2}]}, "not (a = 1 or b = 2)"),
        ({"a": {"$not": {"$gt": 5}}}, "not a > 5"),
        ({"$and": [{"a": 1}]}, "a = 1"),
        ({"fiscal year": 1, "not": "it's \\"}, r"`fiscal year` = 1 and `not` = 'it\'s \\'"),
    ],
)
def test_mappings_are_read_to_the_same_tree(mapping: dict, text: str) -> None:
    found = parse_filter(mapping)
    assert found.node == parse_filter(text).node == parse_filter(" " + json.dumps(mapping, indent=1)).node
    assert found.text == render_filter(found.node) == text


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        ({}, "filter, at its top: an empty mapping"),
        ({"$or": []}, "filter, at $or: wanted a list of at least one mapping, found a list of 0"),
        ({"$or": {"a": 1}}, "wanted a list of at least one mapping, found a dict"),
        ({"$or": [{"b": 1}, {"year": {"$gt": None}}]}, "at $or[1].year.$gt: '$gt' compares numbers or strings, found None"),
        ({"$or": [{"b": 1}, {"year": {}}]}, "at $or[1].year: an empty mapping"),
        ({"$or": [3]}, "at $or[0]: wanted a mapping, found 3"),
        ({"$an": [{"a": 1}]}, "'$an' stands where a column or one of $and, $or, $nor, $not is wanted. Did you mean '$and'?"),
        ({"a": {"$gtt": 1}}, "at a.$gtt: found '$gtt', allowed are $eq"),
        ({"a": {"b": 1}}, "at a.b: found 'b'"),
        ({"a": {"$in": []}}, "at a.$in: wanted a list of at least one value"),
        ({"a": {"$in": "x"}}, "at a.$in: wanted a list of at least one value, found 'x'"),
        ({"a": {"$in": [1, [2]]}}, "at a.$in: wanted a number, a string"),
        ({"a": {"$eq": {"b": 1}}}, "found a dict of 1"),
        ({"a": {"$exists": 1}}, "wanted true or false, found 1"),
        ({"a": {"$between": [1]}}, "wanted a list of two values"),
        ({1: 2}, "wanted a column's name as key, found 1"),
        ({"": 2}, "wanted a column's name as key, found ''"),
        ({"a": float("nan")}, "found nan"),
        ({"a": 10**60}, "a number of more than 50 digits"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('{"a": NaN}', "found NaN"),
        ('{"a": 1e999}', "found inf"),
        ('{"a": ' + "1" * 5000 + "}", "a number of 5000 digits"),
        ('{"a": 1,\n "b" 2}', "line 2, column 6: this is not JSON"),
        ("{'a': 1}", "JSON quotes names and strings with"),
        ('{"a": 1} and b = 2', "line 1, column 10: this is not JSON: extra data"),
        ("{", "this is not JSON"),
        ('{"a": ' + "[" * 10000, "more than 100 levels of brackets"),
        ('{"$not":' * 60 + '{"a":1}' + "}" * 60, "more than 50 levels"),
    ],
)
def test_mapping_errors_name_the_path(filter: object, words: str) -> None:
    with pytest.raises(QuestionError) as raised:
        parse_filter(filter)
    assert words in str(raised.value)


def test_what_is_nested_without_end_is_refused() -> None:
    endless: dict = {}
    endless["$not"] = endless
    levels: dict = {"a": 1}
    for _ in range(30):
        levels = {"$not": {"$or": [levels, {"b": 1}]}}
    for filter in (endless, levels, "(" * 20000 + "a = 1"):
        with pytest.raises(QuestionError, match="more than 50 levels"):
            parse_filter(filter)


@pytest.mark.parametrize(
    "filter",
    [
        "a = '" + "x" * 1_000_000 + "'",
        "not " * 250_000,
        "(" * 1_000_000,
        '{"$not":' * 125_000,
        {"a": "x" * 1_000_000},
        {"a": {"$in": list(range(1_000_000))}},
        {"x" * 1_000_000: 1},
        {f"column {number}": number for number in range(100_000)},
        {"$or": [{"a": number} for number in range(1_000_000)]},
        " " * 1_000_000 + "a = 1",
    ],
    ids=range(10),
)
def test_a_megabyte_is_refused_quickly_by_one_short_error(filter: object) -> None:
    start = time.perf_counter()
    with pytest.raises(QuestionError) as raised:
        parse_filter(filter)
    assert time.perf_counter() - start < 20  # a hang, not a slow machine
    assert "characters" in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_long_line_is_shown_around_the_place() -> None:
    text = "company in (" + "'abcdefgh', " * 500 + "oops)"
    with pytest.raises(QuestionError) as raised:
        parse_filter(text)
    first, line, caret = str(raised.value).split("\n")
    assert f"column {text.index('oops') + 1}" in first
    assert line[caret.index("^") :].startswith("oops)")
    assert len(line) < 150


@pytest.mark.parametrize(
    ("filter", "kinds", "wanted"),
    [
        ("year = 2018", {"fiscal_year": {"number"}}, "fiscal_year = 2018"),
        ("fiscal_year = 2018", {"year": {"number"}}, "year = 2018"),
        ("year = 2018", {"fiscal_year": {"number"}, "year": {"number"}}, "year = 2018"),
        ({"doc_type": "10-K", "$not": {"doc_name": "x"}}, {"form": {"string"}, "document": {"string"}},
         "form = '10-K' and not document = 'x'"),
    ],
)
def test_another_name_of_a_column_means_the_one_there_is(filter: object, kinds: dict, wanted: str) -> None:
    parsed = parse_filter(filter)
    bound = parsed.check(kinds, open_pack().metadata.sidecar)
    assert bound.node == parse_filter(wanted).node
    assert bound.text == parsed.text
    assert set(bound.columns) <= set(kinds)


def test_own_synonyms_and_their_error() -> None:
    kinds = {"jahr": {"number"}}
    assert set(parse_filter("year = 1").check(kinds, {"year": "jahr"}).columns) == {"jahr"}
    with pytest.raises(QuestionError, match="line 1, column 1: there is no column 'year'. Columns here: jahr"):
        parse_filter("year = 1").check(kinds)
    with pytest.raises(QuestionError, match=r"at \$or\[1\].year.\$gt: column 'year' holds number values, found the string"):
        either = parse_filter({"$or": [{"year": 1}, {"year": {"$gt": "3"}}]})
        either.check({"fiscal_year": {"number"}}, {"year": "fiscal_year"})


def test_a_filter_is_hashable_and_its_text_tells_it_apart() -> None:
    assert len({parse_filter("a = 1"), parse_filter("a = 1"), parse_filter({"a": 1}), parse_filter({"a": 2})}) == 2
    assert parse_filter({"a": 1}).text != parse_filter({"a": True}).text
    assert parse_filter("a = 1").columns == {"a": 0}
    assert isinstance(parse_filter("a = 1"), Filter)
    assert Comparison("a", "=", (1,)).matches({"a": 1}) is True


SCALARS = VALUES | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5) | st.integers(-(10**40), 10**40)
ORDERED = SCALARS.filter(lambda value: value is not None and not isinstance(value, bool))
KEYS = NAMES | st.text(min_size=1, max_size=6).filter(lambda name: name.strip() and not name.startswith("$"))
CONDITIONS = st.one_of(
    SCALARS,
    st.lists(SCALARS, min_size=1, max_size=3),
    st.fixed_dictionaries({}, optional={
        "$eq": SCALARS, "$ne": SCALARS, "$gt": ORDERED, "$gte": ORDERED, "$lt": ORDERED, "$lte": ORDERED,
        "$in": st.lists(SCALARS, min_size=1, max_size=3), "$nin": st.lists(SCALARS, min_size=1, max_size=3),
        "$exists": st.booleans(), "$not": st.fixed_dictionaries({"$gt": ORDERED})}).filter(bool),
)
MAPPINGS = st.recursive(
    st.dictionaries(KEYS, CONDITIONS, min_size=1, max_size=2),
    lambda inner: st.fixed_dictionaries({}, optional={
        "$and": st.lists(inner, min_size=1, max_size=3), "$or": st.lists(inner, min_size=1, max_size=3),
        "$nor": st.lists(inner, min_size=1, max_size=2), "$not": inner, "one": CONDITIONS}).filter(bool),
    max_leaves=6,
)


def holds(mapping: dict, row: dict) -> bool:
    """What a mapping of MongoDB's operators means, written another way than the module does."""
    def passes(found: object, condition: object) -> bool:
        if isinstance(condition, list):
            return any(same(found, value) for value in condition)
        if not isinstance(condition, dict):
            return same(found, condition)
        checks = {
            "$eq": lambda value: same(found, value), "$ne": lambda value: not same(found, value),
            "$in": lambda values: passes(found, values), "$nin": lambda values: not passes(found, values),
            "$exists": lambda value: (found is not None) == value, "$not": lambda inner: not passes(found, inner),
            "$gt": lambda value: order(found, ">", value), "$gte": lambda value: order(found, ">=", value),
            "$lt": lambda value: order(found, "<", value), "$lte": lambda value: order(found, "<=", value)}
        return all(checks[name](value) for name, value in condition.items())

    joins = {
        "$and": lambda parts: all(holds(part, row) for part in parts), "$not": lambda part: not holds(part, row),
        "$or": lambda parts: any(holds(part, row) for part in parts),
        "$nor": lambda parts: not any(holds(part, row) for part in parts)}
    return all(joins[name](value) if name in joins else passes(row.get(name), value) for name, value in mapping.items())


ROWS = st.lists(st.dictionaries(NAMES, SCALARS, max_size=3), max_size=6)


@given(mapping=MAPPINGS, rows=ROWS)
@settings(max_examples=200)
def test_mappings_equal_a_brute_force_scan(mapping, rows) -> None:
    mapping = json.loads(json.dumps(mapping))
    found = parse_filter(mapping)
    assert [found.matches(row) for row in rows] == [holds(mapping, row) for row in rows]


@given(mapping=MAPPINGS)
@settings(max_examples=200)
def test_what_is_rendered_is_read_as_the_same_tree(mapping) -> None:
    node = parse_filter(mapping).node
    again = parse_filter(render_filter(node)).node
    assert repr(again) == repr(node)  # 1, 1.0 and True are equal, and not the same
    assert repr(parse_filter(json.dumps(mapping)).node) == repr(node)


@given(pair=st.recursive(EQUALITIES | ORDERS | LISTS, combine, max_leaves=6))
@settings(max_examples=200)
def test_text_that_is_rendered_is_read_as_the_same_tree(pair) -> None:
    node = parse_filter(pair[0]).node
    assert repr(parse_filter(render_filter(node)).node) == repr(node)


JUNK = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["$and", "$or", "$not", "$gt", "$in", "$x", "a", ""]), inner, max_size=3),
                    max_leaves=8)


@given(JUNK)
@settings(max_examples=200)
def test_any_mapping_is_read_or_raises_the_one_error(junk) -> None:
    with contextlib.suppress(QuestionError):
        parse_filter(junk).matches({})
    with contextlib.suppress(QuestionError):
        parse_filter("{" + json.dumps(junk)[1:]).matches({})
