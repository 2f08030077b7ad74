"""Figures over the log are those that one would add up by hand."""

import random
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.gateway.api.calls import log_row
from usage import analytics
from usage.analytics import Asked, Span
from usage.histograms import Times, value_of
from usage.models import RequestLog
from usage.tallies import Figures, Sums

NOW: Final = datetime(2026, 3, 1, 0, 7, 31, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
#: Longer than any window.
LONG: Final = Span(NOW - timedelta(days=60), NOW + 5 * MINUTE, ())


def percentile(values: Sequence[int], percent: int) -> int | None:
    """Nearest rank, cut to three digits (a microsecond at the least)."""
    if not values:
        return None
    ranked = sorted(values)
    text = str(ranked[-(-percent * len(ranked) // 100) - 1])
    return int(text[:3].ljust(len(text), "0"))


def times(values: Sequence[int | None]) -> Times:
    known = [value for value in values if value is not None]
    if not known:
        return Times()
    ranks = (percentile(known, percent) for percent in (50, 95, 99))
    return Times(sum(known) / len(known), *ranks)


def by_hand(rows: Sequence[RequestLog]) -> Figures:
    return Figures(
        Sums(
            requests=len(rows),
            errors=sum(row.status >= 400 or row.error_code != "" for row in rows),
            tokens_in=sum(row.tokens_in for row in rows),
            tokens_cached=sum(row.tokens_cached for row in rows),
            tokens_out=sum(row.tokens_out for row in rows),
            cost_nano_usd=sum(row.cost_nano_usd or 0 for row in rows),
            unpriced=sum(row.cost_nano_usd is None for row in rows),
            estimated=sum(row.usage_source == "estimated" for row in rows),
            unpriced_in=sum(row.tokens_in for row in rows if row.cost_nano_usd is None),
            unpriced_out=sum(row.tokens_out for row in rows if row.cost_nano_usd is None),
        ),
        times([row.duration_us for row in rows]),
        times([row.ttfb_us for row in rows]),
        times([row.overhead_us for row in rows]),
    )


def within(rows: Sequence[RequestLog], since: datetime, until: datetime) -> list[RequestLog]:
    return [row for row in rows if since <= row.created_at < until]


def alike(found: Figures, expected: Figures) -> bool:
    """Equal but for the last digits of an average."""

    def rounded(figures: Figures) -> tuple[Any, ...]:
        measured = (figures.latency, figures.ttfb, figures.overhead)
        means = [it._replace(avg=it.avg and round(it.avg, 3)) for it in measured]
        return (figures.sums, *means)

    return rounded(found) == rounded(expected)


@pytest.fixture
def rows(db: None) -> list[RequestLog]:
    """Calls of the 31 days before `NOW`, more of them lately, some on the edges of buckets and windows."""
    dice = random.Random(7)
    span = analytics.span_of("1h", NOW)
    edges = [NOW, *span.buckets, span.until - timedelta(microseconds=1)]
    edges += [analytics.span_of(name, NOW).since for name in analytics.WINDOWS]
    edges += [edge - timedelta(microseconds=1) for edge in edges[:4]]
    moments = edges + [
        NOW - timedelta(seconds=dice.random() ** 6 * 31 * 86_400) for _ in range(160)
    ]
    return [_call(dice, moment) for moment in moments]


def _call(dice: random.Random, moment: datetime) -> RequestLog:
    served = dice.random() < 0.8
    return log_row(
        created_at=moment,
        model=dice.choice(["a", "a", "b", "c", ""]),
        status=200 if served else dice.choice([400, 429, 499, 502]),
        # A stream may break off after its 200.
        error_code=dice.choice(["", "upstream_error"]),
        tokens_in=dice.randrange(5_000),
        tokens_cached=dice.randrange(100),
        tokens_out=dice.randrange(900),
        cost_nano_usd=dice.choice([None, 0, dice.randrange(10**10)]),
        usage_source=dice.choice(["provider", "estimated", "none"]),
        duration_us=int(10 ** dice.uniform(0, 10.99)),
        ttfb_us=int(10 ** dice.uniform(0, 8)) if served else None,
        overhead_us=dice.randrange(2_000) if dice.random() < 0.9 else None,
    )


def test_every_window_and_bucket_is_what_one_adds_up_by_hand(rows: list[RequestLog]) -> None:
    asked = Asked(RequestLog.objects.all())
    for name, (seconds, size) in analytics.WINDOWS.items():
        span = analytics.span_of(name, NOW)
        inside = within(rows, span.since, span.until)
        assert inside
        assert analytics.totals(asked, span) == by_hand(inside).sums
        assert alike(analytics.summary(asked, span), by_hand(inside)), name
        found = analytics.series(asked, span)
        ends = (*span.buckets[1:], span.until)
        assert len(found) == len(span.buckets) == seconds // size
        for figures, start, end in zip(found, span.buckets, ends, strict=True):
            assert end - start == timedelta(seconds=size)
            assert alike(figures, by_hand(within(rows, start, end))), (name, start)
        parts = zip(*(figures.sums for figures in found), strict=True)
        assert tuple(sum(part) for part in parts) == by_hand(inside).sums


def test_each_model_has_its_own_and_the_busiest_is_first(rows: list[RequestLog]) -> None:
    found = analytics.by_model(_all(), LONG)
    for name, figures in found:
        assert alike(figures, by_hand([row for row in rows if row.model == name])), name
    counts = [figures.sums.requests for _, figures in found]
    assert sorted(counts, reverse=True) == counts
    assert sum(counts) == len(rows)


def test_names_that_callers_made_up_are_not_all_told(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analytics, "MOST_MODELS", 3)
    for name in ("a", "a", "b", "b", "c", "d", "e"):
        log_row(model=name, created_at=NOW)
    assert [name for name, _ in analytics.by_model(_all(), LONG)] == ["a", "b", "c"]


def test_of_no_calls_everything_is_nothing(db: None) -> None:
    asked, nothing = Asked(RequestLog.objects.all()), Figures(Sums(), Times(), Times(), Times())
    span = analytics.span_of("6h", NOW)
    assert analytics.summary(asked, span) == nothing
    assert analytics.by_model(asked, span) == []
    assert analytics.series(asked, span) == [nothing] * 12
    assert (Sums().error_rate, Sums().estimated_share) == (0.0, 0.0)


def test_beyond_a_day_a_time_is_only_long(db: None) -> None:
    log_row(duration_us=10**12, ttfb_us=2**62, overhead_us=99_900_000_000, created_at=NOW)
    found = analytics.summary(_all(), LONG)
    assert [it.p99 for it in (found.latency, found.ttfb, found.overhead)] == [99_900_000_000] * 3


@pytest.mark.parametrize(
    ("ask", "most"),
    [
        (analytics.totals, 3),
        (analytics.summary, 4),
        (analytics.series, 4),
        (analytics.by_model, 5),
    ],
    ids=["totals", "summary", "series", "models"],
)
def test_however_many_calls_the_questions_are_few(
    ask: Callable[[Asked, Span], Any], most: int, rows: list[RequestLog]
) -> None:
    with CaptureQueriesContext(connection) as asked:
        ask(Asked.everything(RequestLog.objects.all()), analytics.span_of("30d", NOW))
    assert len(asked) <= most


@pytest.mark.parametrize(
    "now",
    [
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),  # Berlin's clocks go forward
        datetime(2026, 11, 1, 6, 0, tzinfo=UTC),  # New York's go back
        datetime(2028, 3, 1, 0, 0, 30, tzinfo=UTC),  # after a leap day
        datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
    ids=["spring", "autumn", "leap", "new-year"],
)
def test_windows_know_neither_zones_nor_months(now: datetime, db: None) -> None:
    spans: dict[str, Span] = {}
    for zone in ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Chatham"):
        with timezone.override(zone):
            spans[zone] = span = analytics.span_of("30d", now)
            log_row(created_at=span.buckets[3] + MINUTE)
            found = [figures.sums.requests for figures in analytics.series(_all(), span)]
        assert found == [0, 0, 0, len(spans), *[0] * 26]
    assert len(set(spans.values())) == 1
    assert span.until - span.since == timedelta(days=30)
    assert timedelta() < span.until - now <= timedelta(days=1)
    assert f"{span.until:%H:%M:%S.%f}" == "00:00:00.000000"


def _all() -> Asked:
    return Asked(RequestLog.objects.all())


def test_a_time_is_told_to_three_digits_and_never_too_long() -> None:
    for number in (0, 1, 999, 1_000, 1_899, 1_900, 8_199, 8_299):
        assert value_of(number) < value_of(number + 1)
    assert [value_of(number) for number in (0, 999, 1_000, 1_001, 1_899, 1_900)] == [
        *(0, 999, 1_000, 1_010, 9_990),
        10_000,
    ]


def test_sums_beyond_what_a_database_adds_up_are_told_all_the_same(db: None) -> None:
    """A provider may report a thousand million tokens a call, and is believed."""
    most = 2**63 - 1
    figures = {"cost_nano_usd": most, "tokens_in": most - 1, "tokens_out": 5}
    for number in range(3):
        log_row(created_at=NOW, model="dear", status=200, **figures).save()
        log_row(created_at=NOW, model=f"m{number}", cost_nano_usd=None, tokens_in=most).save()
    log_row(
        created_at=NOW, model="dear", status=200, cost_nano_usd=-7, tokens_in=1, tokens_out=0
    ).save()
    asked, span = Asked(RequestLog.objects.all()), analytics.span_of("1h", NOW)
    found = analytics.totals(asked, span)
    assert found.cost_nano_usd == 3 * most - 7
    assert (found.tokens_in, found.unpriced_in) == (3 * (most - 1) + 3 * most + 1, 3 * most)
    assert analytics.summary(asked, span).sums == found
    (name, dear), *_ = analytics.by_model(asked, span)
    assert (name, dear.sums.cost_nano_usd, dear.sums.tokens_out) == ("dear", 3 * most - 7, 15)


@pytest.mark.django_db(transaction=True)
def test_a_call_that_comes_between_two_queries_is_in_all_figures_or_in_none() -> None:
    """Its row is written by somebody else right after the first look at the log."""
    wrote: list[bool] = []

    def write() -> None:
        try:
            log_row(created_at=NOW, status=200, duration_us=1_000).save()
        finally:
            connections.close_all()

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        answer = execute(sql, params, many, context)
        if "usage_requestlog" in sql and not wrote:
            wrote.append(True)
            other = threading.Thread(target=write)
            other.start()
            other.join()
        return answer

    asked = Asked(RequestLog.objects.all())
    with connection.execute_wrapper(watch):
        found = analytics.summary(asked, analytics.span_of("1h", NOW))
    assert wrote
    assert (found.sums.requests, found.latency.p50) == (0, None)
    again = analytics.summary(asked, analytics.span_of("1h", NOW))
    assert (again.sums.requests, again.latency.p50) == (1, 1_000)
