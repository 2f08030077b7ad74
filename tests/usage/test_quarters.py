"""Figures from the sums of quarters and from the log together are those of the log alone, whatever came late and when."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
import time_machine
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from msgspec.structs import replace

from gateway import housekeeping
from tenants.actor import system_actor
from tenants.chores import Sweep
from tests.gateway.api.calls import log_row
from tests.usage.samples import settled
from usage import analytics, quarters
from usage.analytics import Asked
from usage.calls import Call
from usage.histograms import Histogram, pack, unpack
from usage.ledger import apply
from usage.models import NOBODY, Quarter, QuarterSum, RequestLog
from usage.quarters import CLOSING, QUARTER
from usage.tallies import tallies

NOW: Final = datetime(2026, 3, 1, 13, 7, 31, 5, tzinfo=UTC)
TENANTS: Final = (UUID(int=1), UUID(int=2), UUID(int=3))
DAY: Final = timedelta(days=1)


def close_all(now: datetime = NOW) -> int:
    sweep = Sweep(system_actor("tests"), rest=lambda seconds: None)
    sweep.do(CLOSING, now)
    return sweep.rows["quarters"]


@pytest.fixture(autouse=True)
def _now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def asked(tenants: tuple[UUID, ...]) -> tuple[Asked, Asked]:
    """By sums and log, and by the log alone."""
    calls = RequestLog.objects.all()
    if tenants != (NOBODY,):
        calls = calls.filter(tenant_id__in=tenants)
    return Asked(calls, tenants), Asked(calls)


def figures_of(which: Asked) -> dict[str, Any]:
    """Of all, and of the windows that are longer than a quarter."""
    found: dict[str, Any] = {"all": analytics.totals(which)}
    for window in ("24h", "7d", "30d"):
        span = analytics.span_of(window, NOW)
        found[f"totals {window}"] = analytics.totals(which, span)
        found[f"summary {window}"] = analytics.summary(which, span)
        found[f"series {window}"] = analytics.series(which, span)
        found[f"models {window}"] = analytics.by_model(which, span)
    return found


def check() -> None:
    for tenants in ((NOBODY,), TENANTS[1:]):
        by_both, by_log = asked(tenants)
        assert figures_of(by_both) == figures_of(by_log)


def came(number: int, moment: datetime) -> Call:
    item = settled(number)
    received_at = int(moment.timestamp() * 1_000_000)
    return replace(item, intent=replace(item.intent, received_at=received_at))


def call(dice: random.Random, moment: datetime) -> RequestLog:
    return log_row(
        created_at=moment,
        tenant_id=dice.choice(TENANTS),
        model=dice.choice(["a", "b", "*", ""]),
        status=dice.choice([200, 200, 429, 502]),
        tokens_in=dice.randrange(5_000),
        tokens_cached=dice.randrange(100),
        cost_nano_usd=dice.choice([None, 0, dice.randrange(10**10)]),
        usage_source=dice.choice(["provider", "estimated", "none"]),
        duration_us=int(10 ** dice.uniform(0, 12)),
        ttfb_us=dice.choice([None, int(10 ** dice.uniform(0, 8))]),
        overhead_us=dice.choice([None, dice.randrange(2_000)]),
    )


class Stories(TestCase):
    @settings(max_examples=5)
    @given(st.randoms(use_true_random=False), st.integers(0, 15))
    def test_figures_by_sums_and_log_are_those_of_the_log_alone(
        self, dice: random.Random, calls: int
    ) -> None:
        """Some quarters are closed in any order, calls come late, and in the end all is closed."""
        with time_machine.travel(NOW, tick=False):
            edge = quarters.start_of(NOW) - 3 * QUARTER
            moments = [edge, edge - timedelta(microseconds=1), edge + QUARTER]
            moments += [NOW - timedelta(days=40 * dice.random() ** 3) for _ in range(calls)]
            for moment in moments:
                call(dice, moment)
            over = sorted({quarters.start_of(it) for it in moments if it < NOW - 2 * QUARTER})
            for start in dice.sample(over, dice.randrange(len(over) + 1)):
                quarters.close(start)
            check()
            late = [call(dice, dice.choice(moments)).created_at for _ in range(3)]
            with transaction.atomic():
                quarters.reopen_late([int(it.timestamp() * 1_000_000) for it in late])
            check()
            close_all()
            check()


def test_a_quarter_is_closed_half_an_hour_after_its_end_and_once(db: None) -> None:
    end = datetime(2026, 3, 1, 12, tzinfo=UTC)
    log_row(created_at=end - timedelta(hours=7))
    assert CLOSING.count(end + timedelta(minutes=29)) == 1
    assert CLOSING.count(end + timedelta(minutes=30)) == 2
    assert close_all(end + timedelta(minutes=30)) == 2
    assert close_all(end + timedelta(minutes=30)) == 0
    assert [it.start.hour for it in Quarter.objects.filter(is_closed=True).order_by("start")] == [
        0,
        6,
    ]
    assert {it.start.hour for it in QuarterSum.objects.all()} == {0}


def test_a_call_that_is_settled_late_is_counted_and_one_in_time_reopens_nothing(db: None) -> None:
    log_row(created_at=NOW - DAY)
    closed = close_all()
    apply([came(1, NOW - timedelta(hours=9))])
    assert Quarter.objects.filter(is_closed=True).count() == closed - 1
    check()
    assert close_all() == 1
    check()
    apply([came(2, NOW)])
    assert Quarter.objects.filter(is_closed=True).count() == closed


def test_what_the_log_forgets_stays_in_the_figures(db: None, settings: Any) -> None:
    dice = random.Random(3)
    for hours in range(0, 27 * 24, 5):
        call(dice, NOW - timedelta(hours=hours))
    before = {tenants: figures_of(asked(tenants)[0]) for tenants in ((NOBODY,), TENANTS[:2])}
    number = RequestLog.objects.count()
    settings.SET_BY_ENVIRONMENT, settings.RETENTION_DAYS = frozenset(), 7
    logs = [chore for chore in housekeeping.CHORES if chore.name == "logs"]
    housekeeping.run(Sweep(system_actor("tests"), rest=lambda seconds: None), logs)
    assert 0 < RequestLog.objects.count() < number / 2
    for tenants, figures in before.items():
        now = figures_of(asked(tenants)[0])
        assert now["all"] == figures["all"]
        assert all(now[name] == figures[name] for name in now if "7d" in name or "30d" in name)
    # A call of a pruned quarter that comes now must not undo its sums.
    old = NOW - timedelta(days=10)
    with transaction.atomic():
        quarters.reopen_late([int(old.timestamp() * 1_000_000)])
    assert analytics.totals(asked((NOBODY,))[0]) == before[NOBODY,]["all"]


def test_a_batch_that_comes_while_a_quarter_is_summed_up_stops_its_closing(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = quarters.start_of(NOW - DAY)
    log_row(created_at=start)
    really = tallies

    def beside(*arguments: Any, **groups: Any) -> Any:
        found = really(*arguments, **groups)
        log_row(created_at=start)
        quarters.reopen([start])
        return found

    monkeypatch.setattr("usage.quarters.tallies", beside)
    quarters.close(start)
    assert not Quarter.objects.exists()
    assert not QuarterSum.objects.exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_late_batch_that_is_not_yet_committed_is_waited_for() -> None:
    start = quarters.start_of(NOW - DAY)
    log_row(created_at=start)

    def close() -> None:
        try:
            quarters.close(start)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            log_row(created_at=start)
            quarters.reopen([start])
            closing = other.submit(close)
            with pytest.raises(TimeoutError):
                closing.result(0.5)
        closing.result(30)
    assert QuarterSum.objects.get(tenant_id=NOBODY, is_whole=True).requests == 2
    assert Quarter.objects.get().is_closed


@given(st.dictionaries(st.integers(0, 8_199), st.integers(1, 2**40), max_size=40))
def test_a_histogram_comes_back_as_it_was_packed(bins: dict[int, int]) -> None:
    packed = pack(bins)
    assert dict(zip(*(unpack(packed) if packed else ((), ())), strict=True)) == bins
    found = Histogram()
    for _ in range(2):
        found.merge_packed(packed, 3)
    assert found.bins == {number: 2 * calls for number, calls in bins.items()}
