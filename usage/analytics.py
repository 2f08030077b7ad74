"""Figures of many calls at once: sums over their log rows, and percentiles of their times, in a handful of queries each.

Whoever asks says which calls (`Asked`), so that what may be seen is decided where it is known. A window is a number of equal
buckets that begin at multiples of their length since 1970 in UTC, the last of them the running one: no zone, no summer time.

Of whole tenants, and of the house, what happened in quarters of a day that are closed (usage/quarters.py) is taken from their
sums, the rest from the log. Both count in the same way, so nobody can tell which it was, but that the sums know calls that the
log has forgotten. Percentiles are by nearest rank, from histograms (usage/histograms.py).
"""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Case, Count, F, IntegerField, Q, QuerySet, Value, When

from tenants.moments import one_moment
from usage import quarters
from usage.models import NOBODY
from usage.quarter_models import QuarterSum
from usage.quarters import BINS, QUARTER
from usage.tallies import TIMES, Calls, Figures, Sums, Tallies, sums_of, tallies

#: Seconds that a window's buckets are together, and those of one of them.
WINDOWS: Final = {
    "1h": (3_600, 300),
    "6h": (21_600, 1_800),
    "24h": (86_400, 3_600),
    "7d": (604_800, 21_600),
    "30d": (2_592_000, 86_400),
}
DEFAULT_WINDOW: Final = "24h"
#: Models that `by_model` tells of, those with the most calls first.
MOST_MODELS: Final = 50
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """The calls that figures are of: log rows, and whose sums say the same: `tenants`, `(NOBODY,)` for the whole house, null
    where no sums do.
    """

    calls: Calls
    tenants: tuple[UUID, ...] | None = None

    @classmethod
    def everything(cls, calls: Calls) -> "Asked":
        return cls(calls, (NOBODY,))


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
    """The window that ends with the running bucket. `window` is one of `WINDOWS`."""
    seconds, size = WINDOWS[window]
    bucket = timedelta(seconds=size)
    until = now - (now - _EPOCH) % bucket + bucket
    since = until - timedelta(seconds=seconds)
    return Span(since, until, tuple(since + bucket * number for number in range(seconds // size)))


@one_moment()
def totals(asked: Asked, span: Span | None = None) -> Sums:
    """Of a window; null: of all there is. Three queries at most."""
    parts = _parts(asked, span)
    found = sums_of(parts.calls)
    for row in parts.sums().values_list(*Sums._fields):
        found = found.plus(row)
    return found


@one_moment()
def summary(asked: Asked, span: Span) -> Figures:
    """Four queries at most."""
    found = _tallies(
        _parts(asked, span), Value(0, output_field=IntegerField()), lambda start, model: 0
    )
    return found[0].figures()


@one_moment()
def series(asked: Asked, span: Span) -> list[Figures]:
    """Of each bucket of `span`, empty ones too. Four queries at most."""
    marks = list(span.buckets)
    size = (span.until - span.since) // len(marks)
    # A quarter tells nothing of the parts that it is divided into.
    parts = _parts(asked if size % QUARTER == timedelta(0) else Asked(asked.calls), span)
    number = _bucket_number(marks, 0, len(marks))
    found = _tallies(parts, number, lambda start, model: (start - span.since) // size)
    return [found[bucket].figures() for bucket in range(len(marks))]


@one_moment()
def by_model(asked: Asked, span: Span) -> list[tuple[str, Figures]]:
    """Of the models with the most calls, at most `MOST_MODELS`. A name is what the caller asked for. Five queries at most."""
    parts = _parts(asked, span, is_whole=False)
    names = _busiest(parts)
    parts = parts.of_models(names)
    found = _tallies(parts, F("model"), lambda start, model: model)
    return [(name, found[name].figures()) for name in names]


# --- where it is read ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parts:
    """Log rows, and the closed quarters that stand for all others. `wanted`: which of their sums."""

    calls: Calls
    closed: frozenset[datetime]
    wanted: Q

    def sums(self) -> "QuerySet[QuarterSum]":
        """Those that are wanted, of closed quarters only: of one that was reopened others may stand there still."""
        return QuarterSum.objects.filter(self.wanted) if self.closed else QuarterSum.objects.none()

    def of_models(self, names: Collection[str]) -> "_Parts":
        return _Parts(
            self.calls.filter(model__in=names), self.closed, self.wanted & Q(model__in=names)
        )


def _parts(asked: Asked, span: Span | None, *, is_whole: bool = True) -> _Parts:
    since, until = (None, None) if span is None else (span.since, span.until)
    starts = [] if asked.tenants is None else quarters.closed(since, until)
    wanted = Q(tenant_id__in=asked.tenants or (), is_whole=is_whole)
    if starts:
        wanted &= Q(start__gte=starts[0], start__lte=starts[-1])
        if any(after - before > QUARTER for before, after in itertools.pairwise(starts)):
            wanted &= Q(start__in=starts)
    # An empty condition would get lost among others, so the past has a beginning.
    gaps = list(_gaps(starts, since or _EPOCH, until))
    rest = reduce(or_, (_between(*gap) for gap in gaps), Q(pk__in=[]))
    if len(gaps) > 1:
        # SQLite looks for no moment in an index by something else unless it is told from when to when, all together.
        rest &= _between(gaps[0][0], gaps[-1][1])
    return _Parts(asked.calls.filter(rest), frozenset(starts), wanted)


def _gaps(
    starts: Sequence[datetime], since: datetime, until: datetime | None
) -> Iterator[tuple[datetime, datetime | None]]:
    """What is not in the quarters that begin at `starts`, from `since` to `until`."""
    at = since
    for start in starts:
        if at < start:
            yield at, start
        at = start + QUARTER
    if until is None or at < until:
        yield at, until


def _between(first: datetime, after: datetime | None) -> Q:
    since = Q(created_at__gte=first)
    return since if after is None else since & Q(created_at__lt=after)


def _tallies(parts: _Parts, group: Any, key: Callable[[datetime, str], Any]) -> Tallies:
    """Of each group: `group` of a log row, `key` of a quarter's start and model."""
    found = Tallies()
    for (name,), tally in tallies(parts.calls, of_group=group).items():
        found[name] = tally
    rows = parts.sums().values_list("start", "model", *Sums._fields, *TIMES, *BINS)
    first, after = 2, 2 + len(Sums._fields)
    # Tuples: of thirty days by model there are thousands, and to make an object of each costs more than to add it.
    for row in rows.iterator():
        tally = found[key(row[0], row[1])]
        tally.sums = tally.sums.plus(row[first:after])
        times = zip(tally.times, row[after:], row[after + len(TIMES) :], strict=False)
        for histogram, total, packed in times:
            histogram.merge_packed(packed, total)
    return found


def _busiest(parts: _Parts) -> list[str]:
    """The names of the models with the most calls. The database adds them up: callers make up as many as they like."""
    calls = parts.calls.order_by().values("model").annotate(calls=Count("*"))
    told = (calls.values_list("model", "calls"), parts.sums().values_list("model", "requests"))
    texts: list[str] = []
    values: list[Any] = []
    for rows in told:
        with contextlib.suppress(EmptyResultSet):
            text, its_values = rows.query.sql_with_params()
            texts.append(text)
            values += its_values
    if not texts:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH parts (model, calls) AS ({' UNION ALL '.join(texts)})"  # noqa: S608 - made by Django
            " SELECT model FROM parts GROUP BY model ORDER BY sum(calls) DESC, model LIMIT %s",
            [*values, MOST_MODELS],
        )
        return [name for (name,) in cursor.fetchall()]


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
