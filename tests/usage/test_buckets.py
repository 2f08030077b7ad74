"""The arithmetic of shared limits, whatever leases do with what they were given."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.limits import LimitSet, Rate
from usage.buckets import State, work
from usage.rate_terms import (
    DAY,
    MAX_LIFE,
    MINUTE,
    SECOND,
    SLOT_LIFE,
    Answer,
    Ask,
    Batch,
    Having,
    Part,
    Return,
    Rules,
    Window,
    rules_of,
)

NOON = 20_000 * DAY + DAY // 2
LIFE = SECOND // 10


def part(rules: Rules, holder: str = "w", held: int = 0) -> Part:
    return Part("key:k", rules, holder, held)


def ask(
    state: State, rules: Rules, now: int, *tokens: int, like: int = 0, life: int = LIFE, **of: Any
) -> Answer:
    """So many calls of one level (each with its tokens)."""
    one = Ask((part(rules, **of),), tokens, like, like, life)
    (answer,) = work({"key:k": state}, Batch((), (), (one,)), now, now)
    return answer


def per_minute(most: int, burst: int = 0) -> Rules:
    return Rules((Window(MINUTE, most, burst),))


# --- what limits mean ---------------------------------------------------------------------------------------------------


def test_what_the_columns_mean() -> None:
    limits = LimitSet(rates=(Rate(60, 60), Rate(50, 60), Rate(9, 1)), daily=5, concurrency=2)
    assert rules_of(limits) == Rules((Window(SECOND, 9, 0), Window(MINUTE, 50, 10)), 5, 0, 2)
    assert rules_of(LimitSet(rates=(Rate(120, 60),))).windows == (Window(MINUTE, 120, 20),)
    assert rules_of(LimitSet(rates=(Rate(3, 60),))).windows == (Window(MINUTE, 3, 0),)
    assert rules_of(LimitSet(rates=(Rate(60, 60),), burst=99)).windows == (Window(MINUTE, 60, 0),)


# --- windows ------------------------------------------------------------------------------------------------------------


def test_sixty_of_sixty_come_in_the_first_minute() -> None:
    state, passed = State(), 0
    for tenth in range(600):
        passed += ask(state, per_minute(60, 10), NOON + tenth * SECOND // 10, 0).calls
    assert passed == 60


def test_a_sixth_may_come_at_once_and_the_rest_one_by_one() -> None:
    state, rules = State(), per_minute(60, 10)
    assert ask(state, rules, NOON, *[0] * 12).calls == 10
    refused = ask(state, rules, NOON, 0)
    assert (refused.calls, refused.reason, refused.limit) == (0, 0, 60)
    assert ask(state, rules, NOON + refused.wait, 0).calls == 1


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """(µs since the step before, calls, taken ahead, life)"""
    steps = st.tuples(
        st.sampled_from([0, 1, 1000, SECOND // 3, SECOND, 7 * SECOND, MINUTE - 1, MINUTE]),
        st.integers(0, 8),
        st.integers(0, 400),
        st.sampled_from([LIFE, SECOND, MAX_LIFE]),
    )
    return draw(st.lists(steps, min_size=1, max_size=60))


@settings(max_examples=150)
@given(histories(), st.integers(1, 300), st.sampled_from([SECOND, MINUTE]), st.data())
def test_no_window_holds_more_than_the_limit_whatever_leases_do(
    history: list[tuple[int, int, int, int]], most: int, period: int, data: st.DataObject
) -> None:
    """What is leased is spent at any moment of its life, or goes back unspent."""
    state, rules = State(), Rules((Window(period, most, 0),))
    now, spent = NOON, list[tuple[int, int]]()
    for gap, calls, like, life in history:
        now += gap
        answer = ask(state, rules, now, *[0] * calls, like=like, life=life)
        (got,) = answer.parts
        unused = data.draw(st.integers(0, got.requests))
        if unused:
            back = Return("key:k", got.end, got.day, unused, 0)
            work({"key:k": state}, Batch((back,), (), ()), now, now)
        if got.requests > unused:
            spent.append((now + data.draw(st.integers(0, life)), got.requests - unused))
        assert len(state.windows) <= 1
        assert all(len(used.runs) <= 64 for used in state.windows)
    for start, _ in spent:
        assert sum(n for at, n in spent if start <= at < start + period) <= most


@given(histories(), st.integers(1, 40), st.integers(1, 10))
def test_who_waits_as_told_gets_through(
    history: list[tuple[int, int, int, int]], most: int, burst: int
) -> None:
    state, now = State(), NOON
    rules = Rules((Window(SECOND, most, 0), Window(MINUTE, 2 * most, min(burst, most))), 10**6)
    for gap, calls, _, life in history:
        now += gap
        answer = ask(state, rules, now, *[0] * calls, life=life)
        if answer.calls < calls:
            now += answer.wait
            assert ask(state, rules, now, 0, life=life).calls == 1


@pytest.mark.parametrize("jump", [SECOND, -SECOND, 365 * DAY, -365 * DAY])
def test_a_clock_that_jumps_neither_locks_out_nor_lets_more_than_twice_through(jump: int) -> None:
    state, rules = State(), Rules((Window(MINUTE, 10, 0),), daily=30, tokens=100, slots=3)
    assert ask(state, rules, NOON, *[1] * 20).calls == 3, "slots"
    assert ask(state, rules, NOON, *[1] * 20, holder="x").calls == 0
    now = NOON + jump
    again = ask(state, rules, now, *[1] * 20)
    assert again.calls <= 3
    later = now + MINUTE + MAX_LIFE
    assert ask(state, rules, later, *[1] * 20).calls == 3, "a minute later everything is as new"


def test_a_day_counts_what_may_be_spent_on_either_side_of_midnight() -> None:
    state, rules, midnight = State(), Rules(daily=10), 20_001 * DAY
    assert ask(state, rules, midnight - SECOND, *[0] * 6, life=MAX_LIFE).calls == 6
    refused = ask(state, rules, midnight - SECOND // 2, *[0] * 6)
    assert (refused.calls, refused.reason, refused.wait) == (4, 1, SECOND // 2)
    assert ask(state, rules, midnight + 1, *[0] * 6).calls == 4


# --- tokens and slots ---------------------------------------------------------------------------------------------------


def test_tokens_are_corrected_both_ways() -> None:
    state, rules = State(), Rules(tokens=100)
    first = ask(state, rules, NOON, 60, 60)
    assert (first.calls, first.reason) == (1, 2)
    less = Return("key:k", first.parts[0].end, 0, 0, 50)
    work({"key:k": state}, Batch((less,), (), ()), NOON, NOON)
    assert ask(state, rules, NOON + 1, 60).calls == 1
    more = Return("key:k", first.parts[0].end, 0, 0, -1000)
    work({"key:k": state}, Batch((more,), (), ()), NOON + SECOND, NOON + SECOND)
    assert ask(state, rules, NOON + MINUTE, 1).calls == 0
    assert ask(state, rules, NOON + MINUTE + SECOND, 1).calls == 1


def test_what_left_the_window_cannot_be_taken_out_of_what_others_used() -> None:
    state, rules = State(), Rules(tokens=100)
    old = ask(state, rules, NOON, 60).parts[0]
    now = NOON + MINUTE + SECOND
    assert ask(state, rules, now, 80).calls == 1
    late = Return("key:k", old.end, 0, 0, 60)
    assert work({"key:k": state}, Batch((late,), (), ()), now, now) == []
    assert ask(state, rules, now, 21).calls == 0


def test_slots_belong_to_who_says_so_and_to_nobody_who_is_silent() -> None:
    state, rules = State(), Rules(slots=3)
    assert ask(state, rules, NOON, 0, 0, holder="a").parts[0].slots == 2
    assert ask(state, rules, NOON, 0, 0, holder="b").calls == 1
    silent = NOON + SLOT_LIFE
    again = Having("key:k", "a", 2)
    work({"key:k": state}, Batch((), (again,), ()), silent - 1, silent - 1)
    answer = ask(state, rules, silent, 0, 0, holder="c")
    assert (answer.calls, answer.reason) == (1, 3), "b has not said that it still has one"
    done = Having("key:k", "a", 0)
    work({"key:k": state}, Batch((), (done,), ()), silent, silent)
    assert ask(state, rules, silent, 0, 0, holder="d").calls == 2


# --- several levels -----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(0, 5)), max_size=40))
def test_a_refusal_takes_nothing_of_any_level(steps: list[tuple[int, int]]) -> None:
    """Beside states that are asked for every call, states that hear of granted ones only: they must come out the same."""
    names, now = ("a", "b"), NOON
    asked, told = ({name: State() for name in names} for _ in range(2))
    rules = {"a": Rules((Window(MINUTE, 9, 3),), slots=20), "b": Rules((), 0, 300)}
    for gap, calls in steps:
        now += gap
        parts = tuple(Part(name, rules[name], "w", 0) for name in names)
        wanted = Ask(parts, tuple(40 + n for n in range(calls)), 0, 0, LIFE)
        (answer,) = work(asked, Batch((), (), (wanted,)), now, now)
        granted = wanted._replace(calls=wanted.calls[: answer.calls])
        (same,) = work(told, Batch((), (), (granted,)), now, now)
        assert same.calls == answer.calls
        assert asked == told


def test_near_the_limit_nothing_is_taken_ahead() -> None:
    state, rules = State(), per_minute(1600)
    assert ask(state, rules, NOON, 0, like=500).parts[0].requests == 1 + 1599 // 16
    for _ in range(200):
        ask(state, rules, NOON, 0, like=500)
    left = ask(state, rules, NOON, 0, like=500)
    assert left.parts[0].requests <= 2
