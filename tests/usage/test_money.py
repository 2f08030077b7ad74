from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage.money import (
    MAX_USD,
    NotMoney,
    parse_usd,
    parse_usd_per_mtok,
    usd_per_mtok_text,
    usd_text,
)

AMOUNTS = st.integers(min_value=0, max_value=MAX_USD * 10**9)


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (12_000, "0.000012"),
        (5_000_000_000, "5"),
        (1, "0.000000001"),
        (100 * 10**9, "100"),
        (-1_500_000_000, "-1.5"),
        (2**63 - 1, "9223372036.854775807"),
    ],
)
def test_an_amount_is_written_exactly_and_without_exponent(nano: int, text: str) -> None:
    assert usd_text(nano) == text


@given(AMOUNTS)
def test_what_is_written_reads_back_the_same(nano: int) -> None:
    assert parse_usd(usd_text(nano)) == nano
    assert parse_usd(usd_text(-nano), negative=True) == -nano


@given(AMOUNTS)
def test_the_text_means_the_same_number_to_decimal(nano: int) -> None:
    assert Decimal(usd_text(nano)) * 10**9 == nano


def test_an_integer_is_whole_dollars() -> None:
    assert parse_usd(5) == 5_000_000_000


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        10.0,
        True,
        None,
        [],
        Decimal(1),
        "",
        " 1",
        "1 ",
        "1\n",
        "+1",
        "1e3",
        "NaN",
        "Infinity",
        "1.",
        ".5",
        "1_000",
        "1,5",
        "٣",
        "0x10",
        "0.0000000001",
        "1000000000.000000001",
        10**9 + 1,
        10**5000,
        "9" * 5000,
        "-1",
        -1,
    ],
    ids=lambda value: repr(value)[:24] if not isinstance(value, int) else "integer",
)
def test_what_is_no_exact_amount_is_refused(value: object) -> None:
    with pytest.raises(NotMoney):
        parse_usd(value)


def test_a_correction_may_be_negative_where_it_is_asked_for() -> None:
    assert parse_usd("-0.5", negative=True) == -500_000_000
    assert parse_usd(-2, negative=True) == -2_000_000_000


def test_a_price_has_its_own_highest_value() -> None:
    assert parse_usd_per_mtok("0.15") == 150_000_000
    assert usd_per_mtok_text(150_000_000) == "0.15"
    with pytest.raises(NotMoney):
        parse_usd_per_mtok("4000.01")
