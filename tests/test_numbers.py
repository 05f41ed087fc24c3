"""Numbers in financial texts: what is read, what is left out, and that writing and reading agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.pack import use_pack
from ragtune.evaluation.scoring.numbers import parse_numbers, parse_scale


def read(text: str) -> list[tuple[float, float, bool]]:
    return [(number.value, number.scale, number.is_percent) for number in parse_numbers(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$1577.00", [(1577.0, 1, False)]),
        ("(1,577)", [(-1577.0, 1, False)]),
        ("$(1,577) million", [(-1577.0, 1e6, False)]),
        ("$ (1.2) bn", [(-1.2, 1e9, False)]),
        ("-$473 million", [(-473.0, 1e6, False)]),
        ("- $473 million", [(473.0, 1e6, False)]),  # a list bullet is no minus
        ("65.4%", [(65.4, 1, True)]),
        ("150 bps", [(1.5, 1, True)]),
        ("a rise of 2.2 percentage points", [(2.2, 1, True)]),
        ("124Mn, 3.5B and 12k", [(124.0, 1e6, False), (3.5, 1e9, False), (12.0, 1e3, False)]),
        ("5-10%", [(5.0, 1, False), (10.0, 1, True)]),
        (r"\frac{1,234}{5} = \$12.3 \text{ million}", [(1234.0, 1, False), (5.0, 1, False), (12.3, 1e6, False)]),
        ("0.96x", [(0.96, 1, False)]),
        ("982 stores", [(982.0, 1, False)]),
        ("2,018.5", [(2018.5, 1, False)]),
        ("$2018", [(2018.0, 1, False)]),
        (".5", [(0.5, 1, False)]),
    ],
)
def test_reads_amounts(text: str, expected: list[tuple[float, float, bool]]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    ["in 2018", "FY2018", "FY'22", "Q2 of 2023", "2Q23", "December 31, 2018", "31 December 2018", "12/31/2018", "2018-12-31",
     "the 10-K", "3M Company", "Note 12", "page 45 [3]", "[1, 2]", "COVID-19", "MMM26", "the 3rd of",
     "1. Net sales\n2) Costs", "fiscal years 2019-2021", ""],
)  # fmt: skip
def test_leaves_out_dates_and_labels(text: str) -> None:
    assert read(text) == []


def test_names_of_numbers_are_the_packs() -> None:
    said = "the 10-K, FY 18 and ASC 606 of 3M"
    assert read(said) == []
    with use_pack("plain"):
        assert [value for value, _, _ in read(said)] == [10.0, 18.0, 606.0, 3.0]
        assert read("Note 12 on page 45 [3]") == []
    assert read(said) == []


def test_years_are_kept_on_demand() -> None:
    assert [number.value for number in parse_numbers("in 2018", keep_years=True)] == [2018.0]


@pytest.mark.parametrize(
    ("text", "scale"),
    [("(in USD millions)", 1e6), ("Answer in USD billions.", 1e9), ("in thousands of dollars", 1e3), ("net sales?", 1.0)],
)
def test_scale_a_question_asks_for(text: str, scale: float) -> None:
    assert parse_scale(text) == scale


SCALES = {"": 1.0, " thousand": 1e3, " million": 1e6, " bn": 1e9, " billion": 1e9}


@given(
    cents=st.integers(min_value=0, max_value=10**11),
    is_negative=st.booleans(),
    style=st.sampled_from(["minus", "parentheses"]),
    currency=st.sampled_from(["", "$", "€", "US$"]),
    scale=st.sampled_from(sorted(SCALES)),
    before=st.sampled_from(["", "It was ", "Net sales: ", "= ", "FY2018: "]),
    after=st.sampled_from(["", ".", " in 2019.", ", up", " [1]"]),
)
def test_what_is_written_is_read(
    cents: int, is_negative: bool, style: str, currency: str, scale: str, before: str, after: str
) -> None:
    size = f"{cents / 100:,.2f}"
    written = size if not is_negative else f"({size})" if style == "parentheses" else f"-{size}"
    written = f"-{currency}{size}" if is_negative and style == "minus" else f"{currency}{written}"
    numbers = parse_numbers(f"{before}{written}{scale}{after}")
    assert len(numbers) == 1
    assert numbers[0].value == pytest.approx((-1 if is_negative else 1) * cents / 100)
    assert numbers[0].scale == SCALES[scale]
    assert numbers[0].has_currency == bool(currency)
    assert numbers[0].decimals == len(f"{cents / 100:.2f}".split(".")[1].rstrip("0"))


@given(st.text(alphabet="0123456789.,()$%- [milobnFYQ\n", max_size=60))
def test_any_text_is_read_without_error_and_spans_hold(text: str) -> None:
    for number in parse_numbers(text):
        assert 0 <= number.start < number.end <= len(text)
        assert any(character.isdigit() for character in text[number.start : number.end])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ["1", "1,", "(", "- ", "a1", " ", "\n", "$ ( ", "Q2 ", "1. "])
def test_long_nonsense_is_read_in_linear_time(unit: str) -> None:
    parse_numbers(unit * (60_000 // len(unit)))


@given(st.integers(min_value=-9999, max_value=9999))
def test_percentages_in_tenths(tenths: int) -> None:
    (number,) = parse_numbers(f"The margin was {tenths / 10:.1f}% that year.")
    assert number.is_percent
    assert number.value == pytest.approx(tenths / 10)
