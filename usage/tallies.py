"""Sums and histograms of log rows, counted by the database, by whatever they are grouped by. Two queries."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import add
from typing import Any, Final, NamedTuple, TypeVar

from django.db import OperationalError
from django.db.models import (
    Case,
    Count,
    F,
    IntegerField,
    Q,
    QuerySet,
    Sum,
    Value,
    When,
)
from django.db.models.functions import Least

from usage.histograms import DECADE, DECADES, Histogram, Times
from usage.models import WENT_WRONG, RequestLog

Calls = QuerySet[RequestLog]

#: The log's times, in the order in which figures tell them.
TIMES: Final = ("duration_us", "ttfb_us", "overhead_us")
#: Rows of a histogram fetched at once.
_CHUNK: Final = 2_000
#: Where a number is cut in two, for each part to be added up by itself.
_PART: Final = 10**9


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

    def plus(self, other: Iterable[int]) -> "Sums":
        return Sums(*map(add, self, other))

    @property
    def error_rate(self) -> float:
        """The share of calls that went wrong; 0 of none."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def estimated_share(self) -> float:
        """The share of calls whose tokens nobody counted."""
        return self.estimated / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """`latency`: from a call's head to its end. `ttfb`: from its body to the answer's first byte. `overhead`: what was ours."""

    sums: Sums
    latency: Times
    ttfb: Times
    overhead: Times


@dataclass(slots=True)
class Tally:
    """What some calls come to, and can be added to what others do. `times`: a histogram of each of `TIMES`."""

    sums: Sums = field(default_factory=Sums)
    times: tuple[Histogram, Histogram, Histogram] = field(
        default_factory=lambda: (Histogram(), Histogram(), Histogram())
    )

    def add(self, other: "Tally") -> None:
        self.sums = self.sums.plus(other.sums)
        for mine, its in zip(self.times, other.times, strict=True):
            mine.merge(its)

    def figures(self) -> Figures:
        latency, ttfb, overhead = self.times
        return Figures(self.sums, latency.times(), ttfb.times(), overhead.times())


class Tallies(dict[Any, Tally]):
    """By what calls were grouped by."""

    def __missing__(self, key: Any) -> Tally:
        made = self[key] = Tally()
        return made


def _whole(value: Any, expression: object, connection: object) -> int | None:
    """A number of any size, from its two parts where it came as text."""
    if not isinstance(value, str):
        return None if value is None else int(value)
    high, low = map(int, value.split())
    return high * _PART + low


class _AnySum(Sum):
    """A sum of whole numbers, however large. SQLite's own ends in an error beyond 2^63 - 1; in parts it takes twice as long."""

    #: In place of Django's conversion to the type of the column.
    convert_value = staticmethod(_whole)

    def as_sqlite(
        self, compiler: Any, connection: Any, **extra: Any
    ) -> tuple[str, tuple[Any, ...]]:
        number, params = compiler.compile(self.get_source_expressions()[0])
        which = ""
        if self.filter is not None:
            condition, more = compiler.compile(self.filter)
            which, params = f" FILTER (WHERE {condition})", (*params, *more)
        high, low = (f"SUM(({number}) {by} {_PART}){which}" for by in ("/", "%%"))
        return f"({high} || ' ' || {low})", (*params, *params)


T = TypeVar("T")


def _summed(found: Callable[[type[Sum]], T]) -> T:
    """`found` with the database's own sums, or, where one is too large for them, with ours."""
    try:
        return found(Sum)
    except OperationalError as fault:
        if "integer overflow" not in str(fault):
            raise
    return found(_AnySum)


def sums_of(calls: Calls) -> Sums:
    """One query; two where a sum is beyond 2^63."""
    row: dict[str, Any] = _summed(lambda adds: calls.aggregate(**_sums(adds)))
    return Sums(*(int(row[name] or 0) for name in Sums._fields))


def tallies(calls: Calls, **groups: Any) -> Tallies:
    """Of each group, by a tuple of its `groups`: name → expression. Two queries; the histograms of all groups are in memory."""
    grouped = calls.order_by().annotate(**groups)
    found = Tallies()
    rows: list[Any] = _summed(lambda adds: list(grouped.values(*groups).annotate(**_sums(adds))))
    for row in rows:
        key = tuple(row[name] for name in groups)
        found[key].sums = Sums(*(int(row[name] or 0) for name in Sums._fields))
    first, *others = (_bins(grouped, number, tuple(groups)) for number in range(len(TIMES)))
    for *key, which, number, count, total in first.union(*others, all=True).iterator(
        chunk_size=_CHUNK
    ):
        found[tuple(key)].times[which].add(int(number), int(count), int(total))
    return found


def _bins(grouped: Calls, which: int, names: tuple[str, ...]) -> "QuerySet[Any, Any]":
    """The histogram of one time, of each group."""
    column = TIMES[which]
    found: QuerySet[Any, Any] = (
        grouped.filter(**{f"{column}__isnull": False})
        .annotate(which=Value(which, output_field=IntegerField()), bin=_bin(column))
        .values(*names, "which", "bin")
        .annotate(calls=Count("*"), total=Sum(column))
        .values_list(*names, "which", "bin", "calls", "total")
    )
    return found


def _sums(adds: type[Sum]) -> dict[str, Any]:
    """Counts come before the sum that takes its column's name."""
    return {
        "requests": Count("*"),
        "errors": Count("id", filter=WENT_WRONG),
        "unpriced": Count("id", filter=Q(cost_nano_usd__isnull=True)),
        "estimated": Count("id", filter=Q(usage_source="estimated")),
        "unpriced_in": adds("tokens_in", filter=Q(cost_nano_usd__isnull=True)),
        "unpriced_out": adds("tokens_out", filter=Q(cost_nano_usd__isnull=True)),
        "tokens_in": adds("tokens_in"),
        "tokens_cached": adds("tokens_cached"),
        "tokens_out": adds("tokens_out"),
        "cost_nano_usd": adds("cost_nano_usd"),
    }


def _bin(column: str) -> Case:
    """The number of a time's bin: itself under 1000, then 900 for each power of ten."""
    return Case(
        When(**{f"{column}__lt": 1_000}, then=F(column)),
        *(
            When(
                **{f"{column}__lt": 10 ** (decade + 3)},
                then=Value(DECADE * decade) + F(column) / Value(10**decade),
            )
            for decade in range(1, DECADES)
        ),
        default=Value(DECADE * DECADES) + Least(F(column) / Value(10**DECADES), Value(DECADE + 99)),
        output_field=IntegerField(),
    )
