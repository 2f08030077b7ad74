"""Amounts, windows and lists of other gateways: exact, and never wider than they were."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.imports import amounts, files
from gateway.imports.model_lists import both
from tenants.errors import Invalid

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
OURS = {"day": 86_400, "month": 28 * 86_400, "total": 10**12}
NAMES = st.lists(st.sampled_from(["a", "ab", "abc", "b", "a*", "ab*", "abc*", "*"]), max_size=4)


def allows(patterns: list[str] | None, name: str) -> bool:
    return patterns is None or any(
        name.startswith(it[:-1]) if it.endswith("*") else name == it for it in patterns
    )


@given(st.none() | NAMES, st.none() | NAMES, st.text("abc", min_size=1, max_size=5))
def test_of_two_lists_exactly_what_both_allow_is_left(one, other, name):
    assert allows(both(one, other), name) == (allows(one, name) and allows(other, name))


@given(st.integers(1, 99), st.sampled_from(sorted(SECONDS)))
def test_a_budgets_window_is_never_shorter_than_it_was(count, unit):
    window, is_as_long = amounts.window("budget_duration", f"{count}{unit}")
    seconds = count * SECONDS[unit]
    # Thirty days are what others call a month.
    assert OURS[window] >= min(seconds, 28 * 86_400) or window == "total"
    assert is_as_long <= (seconds in {86_400, 30 * 86_400, 31 * 86_400})
    assert amounts.window("budget_duration", "1mo") == ("month", True)
    assert amounts.window("budget_duration", None) == ("total", True)


@given(st.floats(0, 1e6))
def test_what_was_spent_is_rounded_up_and_what_may_be_spent_down(usd):
    up, down = amounts.nano("x", usd, up=True), amounts.nano("x", usd, up=False)
    assert up is not None
    assert down is not None
    assert down <= Decimal(repr(usd)) * 10**9 <= up <= down + 1
    assert amounts.nano("x", f"{usd!r}", up=True) == up, "the same, written as a text"


@pytest.mark.parametrize("value", ["x", "1e999", "NaN", float("inf"), True, [1]])
def test_what_is_no_number_is_refused(value: Any):
    with pytest.raises(Invalid):
        amounts.number("x", value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("{}", []),
        ('{a,"b,c"}', ["a", "b,c"]),
        ('["a"]', ["a"]),
        (["a"], ["a"]),
        (None, []),
    ],
)
def test_lists_are_read_in_every_form_that_databases_write(value: Any, found: list[str]):
    assert amounts.texts("models", value) == found


@pytest.mark.parametrize(
    "text",
    ["a,b\n1\n", "a,a\n1,2\n", '[{"hash": 1}, 2]', '{"hash": 1}\nnonsense', "[" * 100_000, '"'],
)
def test_a_file_that_is_no_table_is_refused(text: str, tmp_path):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(Invalid):
        files.read_rows(str(path), "file")


def test_a_file_that_is_too_large_or_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_ROWS", 3)
    path = tmp_path / "file.csv"
    path.write_text("hash\n" + "x\n" * 4)
    with pytest.raises(Invalid, match="more than 3 rows"):
        files.read_rows(str(path), "file")
    monkeypatch.setattr(files, "MAX_BYTES", 4)
    with pytest.raises(Invalid, match="larger"):
        files.read_rows(str(path), "file")
    with pytest.raises(Invalid, match="cannot be read"):
        files.read_rows(str(tmp_path / "nowhere"), "file")
