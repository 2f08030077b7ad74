"""Figures of many calls at once: sums over their log rows, and percentiles of their times, in a handful of queries each.

Whoever asks brings the rows (`calls`: a query set of log rows), so that what may be seen is decided where it is known. A window
is a number of seconds before a moment, cut into equal buckets: no calendar, no zone, no summer time.

Percentiles are by nearest rank, from a histogram that the database counts: a time under a millisecond falls into its own
microsecond, a longer one into its first three digits. So what is told is the true value cut to three digits, never more than
1 % under it, and a histogram has at most some 8,000 bins however many calls there were.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.db.models import Case, Count, F, IntegerField, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Least

from usage.models import FAILED, RequestLog

#: Seconds that a window reaches back, and those of one of its buckets.
WINDOWS: Final = {
    "1h": (3_600, 300),
    "6h": (21_600, 1_800),
    "24h": (86_400, 3_600),
    "7d": (604_800, 21_600),
    "30d": (2_592_000, 86_400),
}
DEFAULT_WINDOW: Final = "24h"
PERCENTS: Final = (50, 95, 99)
#: Models that `by_model` tells of, those with the most calls first.
MOST_MODELS: Final = 50

Calls = QuerySet[RequestLog]

_TIMES: Final = ("duration_us", "ttfb_us", "overhead_us")
#: Bins of one power of ten: 100 to 999.
_DECADE: Final = 900
#: Longer times (27 hours and more) share the last decade's bins.
_DECADES: Final = 8
_MINUTE: Final = timedelta(minutes=1)
#: Rows of a histogram fetched at once.
_CHUNK: Final = 2_000


@dataclass(frozen=True, slots=True)
class Span:
    """`since` is within, `until` is not; `buckets` are the beginnings of equal parts, oldest first."""

    since: datetime
    until: datetime
    buckets: tuple[datetime, ...]

    @property
    def within(self) -> Q:
        return Q(created_at__gte=self.since, created_at__lt=self.until)


def span_of(window: str, now: datetime) -> Span:
    """The window that ends with the running minute. `window` is one of `WINDOWS`."""
    seconds, size = WINDOWS[window]
    until = now.replace(second=0, microsecond=0) + _MINUTE
    since = until - timedelta(seconds=seconds)
    starts = range(0, seconds, size)
    return Span(since, until, tuple(since + timedelta(seconds=start) for start in starts))


class Sums(NamedTuple):
    """Of some calls. `cost_nano_usd` is of what had a price; `unpriced` says how many calls it leaves out, `unpriced_in` and
    `unpriced_out` how many tokens.
    """

    requests: int = 0
    errors: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    cost_nano_usd: int = 0
    unpriced: int = 0
    estimated: int = 0
    unpriced_in: int = 0
    unpriced_out: int = 0

    @property
    def error_rate(self) -> float:
        """The share of calls that were answered with an error; 0 of none."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def estimated_share(self) -> float:
        """The share of calls whose tokens nobody counted."""
        return self.estimated / self.requests if self.requests else 0.0


class Times(NamedTuple):
    """Microseconds; null where no call had such a time."""

    avg: float | None = None
    p50: int | None = None
    p95: int | None = None
    p99: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """`latency`: from a call's head to its end. `ttfb`: from its body to the answer's first byte. `overhead`: what was ours."""

    sums: Sums
    latency: Times
    ttfb: Times
    overhead: Times


def totals(calls: Calls) -> Sums:
    """One query."""
    row: dict[str, Any] = calls.aggregate(**_sums())
    return Sums(*(int(row[name] or 0) for name in Sums._fields))


def summary(calls: Calls) -> Figures:
    """Four queries."""
    return _figures_by(calls, None, [0])[0]


def series(calls: Calls, span: Span) -> list[Figures]:
    """Of each bucket of `span`, empty ones too. Four queries."""
    marks = list(span.buckets)
    number = _bucket_number(marks, 0, len(marks))
    return _figures_by(calls.filter(span.within), number, range(len(marks)))


def by_model(calls: Calls) -> list[tuple[str, Figures]]:
    """Of the models with the most calls, at most `MOST_MODELS`. A name is what the caller asked for. Five queries."""
    counted = calls.values("model").annotate(calls=Count("*")).order_by("-calls", "model")
    names = [row["model"] for row in counted[:MOST_MODELS]]
    found = _figures_by(calls.filter(model__in=names), F("model"), names)
    return list(zip(names, found, strict=True))


# --- queries ----------------------------------------------------------------------------------------------------------


def _sums() -> dict[str, Any]:
    """In the order of `Sums`. Counts come before the sum that takes its column's name."""
    return {
        "requests": Count("*"),
        "errors": Count("id", filter=Q(status__gte=FAILED)),
        "unpriced": Count("id", filter=Q(cost_nano_usd__isnull=True)),
        "estimated": Count("id", filter=Q(usage_source="estimated")),
        "unpriced_in": Sum("tokens_in", filter=Q(cost_nano_usd__isnull=True)),
        "unpriced_out": Sum("tokens_out", filter=Q(cost_nano_usd__isnull=True)),
        "tokens_in": Sum("tokens_in"),
        "tokens_cached": Sum("tokens_cached"),
        "tokens_out": Sum("tokens_out"),
        "cost_nano_usd": Sum("cost_nano_usd"),
    }


def _figures_by(calls: Calls, group: Any, keys: Sequence[Any] | range) -> list[Figures]:
    """The figures of each group in `keys`, in their order. `group` null: all calls are the one group 0."""
    grouped = calls.order_by().annotate(group=Value(0) if group is None else group)
    sums = dict.fromkeys(keys, Sums())
    rows: Iterable[Any] = grouped.values("group").annotate(**_sums())
    for row in rows:
        sums[row["group"]] = Sums(*(int(row[name] or 0) for name in Sums._fields))
    latency, ttfb, overhead = (dict(_times(grouped, column)) for column in _TIMES)
    none = Times()
    return [
        Figures(sums[key], latency.get(key, none), ttfb.get(key, none), overhead.get(key, none))
        for key in keys
    ]


def _times(grouped: Calls, column: str) -> Iterator[tuple[Any, Times]]:
    """Each group with its times. One query; in memory is one group's histogram at a time."""
    rows = (
        grouped.filter(**{f"{column}__isnull": False})
        .annotate(bin=_bin(column))
        .values("group", "bin")
        .annotate(calls=Count("*"), total=Sum(column))
        .order_by("group", "bin")
        .values_list("group", "bin", "calls", "total")
    )
    group: Any = None
    bins: list[tuple[int, int, int]] = []
    for key, *one in rows.iterator(chunk_size=_CHUNK):
        if bins and key != group:
            yield group, _times_of(bins)
            bins = []
        group = key
        bins.append((int(one[0]), int(one[1]), int(one[2])))
    if bins:
        yield group, _times_of(bins)


def _bin(column: str) -> Case:
    """The number of a time's bin: itself under 1000, then 900 for each power of ten."""
    return Case(
        When(**{f"{column}__lt": 1_000}, then=F(column)),
        *(
            When(
                **{f"{column}__lt": 10 ** (decade + 3)},
                then=Value(_DECADE * decade) + F(column) / Value(10**decade),
            )
            for decade in range(1, _DECADES)
        ),
        default=Value(_DECADE * _DECADES)
        + Least(F(column) / Value(10**_DECADES), Value(_DECADE + 99)),
        output_field=IntegerField(),
    )


def _bucket_number(marks: Sequence[datetime], first: int, after: int) -> Any:
    """Which of the buckets `first` … `after` - 1 a call is in: a search by halves, for each row is searched for."""
    if after - first == 1:
        return Value(first, output_field=IntegerField())
    middle = (first + after) // 2
    return Case(
        When(created_at__lt=marks[middle], then=_bucket_number(marks, first, middle)),
        default=_bucket_number(marks, middle, after),
        output_field=IntegerField(),
    )


# --- percentiles ------------------------------------------------------------------------------------------------------


def value_of(number: int) -> int:
    """The least time in a bin."""
    decade = (number - 100) // _DECADE if number >= 1_000 else 0
    scale: int = 10**decade
    return (number - _DECADE * decade) * scale


def _times_of(bins: Iterable[tuple[int, int, int]]) -> Times:
    """Of a histogram: (bin, calls, their sum), by rising bins."""
    rows = list(bins)
    count = sum(calls for _, calls, _ in rows)
    ranks = [-(-percent * count // 100) for percent in PERCENTS]
    found: list[int] = []
    seen = 0
    for number, calls, _ in rows:
        seen += calls
        while len(found) < len(ranks) and ranks[len(found)] <= seen:
            found.append(value_of(number))
    return Times(sum(total for *_, total in rows) / count, *found)
