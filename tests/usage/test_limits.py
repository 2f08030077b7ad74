import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usage.limits import WINDOW, Lease, Level, Limits, Refused

KEY = Level("key", "k", rpm=60)


def admitted(answer: Lease | Refused) -> bool:
    return isinstance(answer, Lease)


def test_a_sixth_of_the_limit_may_come_at_once() -> None:
    limits = Limits()
    assert [admitted(limits.take([KEY], 0.0)) for _ in range(12)] == [True] * 10 + [False] * 2


def test_a_small_limit_lets_one_through_at_once() -> None:
    limits = Limits()
    level = Level("key", "k", rpm=3)
    assert admitted(limits.take([level], 0.0))
    refused = limits.take([level], 0.0)
    assert isinstance(refused, Refused)
    assert (refused.level_kind, refused.reason, refused.retry_after) == ("key", "requests", 20)
    assert (refused.limit, refused.remaining, refused.reset_seconds) == (3, 0, WINDOW)
    assert admitted(limits.take([level], 20.0))


def test_a_burst_can_be_as_large_as_the_limit() -> None:
    limits = Limits()
    level = Level("key", "k", rpm=5, burst=5)
    assert [admitted(limits.take([level], 0.0)) for _ in range(6)] == [True] * 5 + [False]


def test_the_whole_limit_is_there_for_a_steady_caller() -> None:
    limits = Limits()
    answers = [admitted(limits.take([KEY], float(second))) for second in range(600)]
    assert all(answers)


def test_the_edge_of_a_minute_cannot_be_used_twice() -> None:
    limits = Limits()
    times = [t / 10 for t in range(1200) if admitted(limits.take([KEY], t / 10))]
    for start in times:
        assert sum(start <= t < start + WINDOW for t in times) <= 60


LEVELS = st.builds(
    Level,
    kind=st.just("key"),
    id=st.sampled_from("ab"),
    rpm=st.integers(1, 40),
    burst=st.none() | st.integers(1, 60),
)


@settings(max_examples=200)
@given(LEVELS, st.lists(st.floats(0, 20), min_size=1, max_size=200))
def test_no_60_seconds_ever_hold_more_than_the_limit(level: Level, gaps: list[float]) -> None:
    limits, now, times = Limits(), 0.0, []
    for gap in gaps:
        now += gap / 8
        if admitted(limits.take([level], now)):
            times.append(now)
    assert level.rpm is not None
    for i, start in enumerate(times):
        assert sum(t - start < WINDOW for t in times[i:]) <= level.rpm


@given(LEVELS, st.lists(st.floats(0, 3), min_size=1, max_size=100))
def test_who_waits_as_told_gets_through(level: Level, gaps: list[float]) -> None:
    limits, now = Limits(), 0.0
    for gap in gaps:
        now += gap
        answer = limits.take([level], now)
        if isinstance(answer, Refused):
            now += answer.retry_after
            assert admitted(limits.take([level], now))


@given(
    st.integers(1, 30),
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=80),
)
def test_a_refusal_takes_nothing_of_any_level(
    rpm: int, slots: int, steps: list[tuple[float, bool]]
) -> None:
    """Beside limits that see every call, limits that are told only of admitted ones: they must answer the same."""
    asked, told, now = Limits(), Limits(), 0.0
    leases: list[tuple[Lease, Lease]] = []
    levels = [Level("key", "k", rpm=rpm), Level("tenant", "t", concurrency=slots)]
    for gap, release in steps:
        now += gap
        first = asked.take(levels, now)
        if isinstance(first, Lease):
            second = told.take(levels, now)
            assert isinstance(second, Lease)
            leases.append((first, second))
        if release and leases:
            for lease in leases.pop():
                lease.release()


def test_one_full_level_refuses_for_all() -> None:
    limits = Limits()
    tenant = Level("tenant", "t", rpm=600)
    assert admitted(limits.take([tenant, Level("key", "k", rpm=1)], 0.0))
    for _ in range(200):
        refused = limits.take([tenant, Level("key", "k", rpm=1)], 0.0)
        assert isinstance(refused, Refused)
        assert refused.level_kind == "key"
    assert [admitted(limits.take([tenant], 0.0)) for _ in range(100)] == [True] * 99 + [False]


def test_slots_come_back_once() -> None:
    limits = Limits()
    level = Level("key", "k", concurrency=2)
    first, second = limits.take([level], 0.0), limits.take([level], 0.0)
    assert isinstance(first, Lease)
    assert isinstance(second, Lease)
    assert (first.limit, first.remaining, first.reset_seconds) == (None, None, None)
    refused = limits.take([level], 0.0)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.limit, refused.retry_after) == ("concurrency", 2, 1)
    first.release()
    first.release()
    assert admitted(limits.take([level], 0.0))
    assert not admitted(limits.take([level], 0.0))


def test_the_lease_tells_of_the_level_with_the_least_left() -> None:
    lease = Limits().take([Level("tenant", "t", rpm=120), KEY], 5.0)
    assert isinstance(lease, Lease)
    assert (lease.limit, lease.remaining, lease.reset_seconds) == (60, 59, WINDOW)


def test_the_longest_wait_is_told() -> None:
    limits = Limits()
    levels = [Level("key", "k", rpm=60, burst=1), Level("tenant", "t", rpm=2)]
    assert admitted(limits.take(levels, 0.0))
    refused = limits.take(levels, 0.0)
    assert isinstance(refused, Refused)
    assert (refused.level_kind, refused.retry_after) == ("tenant", 30)


@pytest.mark.parametrize(
    ("before", "after", "at", "passes"),
    [(1, 600, 0.1, True), (600, 1, 61.0, True), (600, 1, 30.0, False)],
)
def test_a_changed_limit_counts_at_once(before: int, after: int, at: float, passes: bool) -> None:
    limits = Limits()
    for _ in range(50):
        limits.take([Level("key", "k", rpm=before)], 0.0)
    assert admitted(limits.take([Level("key", "k", rpm=after)], at)) is passes


def test_a_level_without_limits_is_free_and_remembered_nowhere() -> None:
    limits = Limits()
    for _ in range(1000):
        assert admitted(limits.take([Level("key", "k")], 0.0))
    assert len(limits) == 0


def test_idle_levels_are_forgotten_and_busy_ones_are_not() -> None:
    limits = Limits()
    busy = Level("key", "busy", concurrency=1)
    assert admitted(limits.take([busy], 0.0))
    for i in range(10_000):
        lease = limits.take([Level("key", str(i), rpm=10)], i / 10)
        assert isinstance(lease, Lease)
        lease.release()
    assert len(limits) < 700
    assert not admitted(limits.take([busy], 2000.0))


def test_a_busy_level_remembers_a_bounded_number_of_admissions() -> None:
    limits = Limits()
    level = Level("tenant", "t", rpm=10**6, burst=10**6)
    for i in range(100_000):
        limits.take([level], i / 1000)
    (meter,) = limits._meters.values()
    assert len(meter.runs) <= WINDOW * 4 + 2
