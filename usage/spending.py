"""What a key has spent and what it has set aside, read from the tables, and how every level stands with its budgets.

Days and months are those of the calendar in UTC.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from django.db.models import F, OuterRef, QuerySet, Subquery, Sum

from tenants.clock import from_unix_us, to_unix_us
from tenants.limits import NO_LIMITS, LimitSet, Unit, Window
from usage.levels import Kind, Level
from usage.models import Balance, Hold, LedgerEntry, RequestLog, Rollup
from usage.openings import opened_with
from usage.windows import ends_at, window_at

_COLUMNS: Final = ("requests", "tokens_in", "tokens_out", "cost_nano_usd", "unpriced_requests")


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums of one month (`YYYY-MM`). `cost_nano_usd` is of what had a price; `unpriced_requests` says how many it leaves out."""

    month: str
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_nano_usd: int = 0
    unpriced_requests: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True, slots=True)
class Held:
    """What calls in flight may still use, at most."""

    tokens: int
    nano_usd: int


@dataclass(frozen=True, slots=True)
class Budget:
    """How one budget of one level stands. `held`: what workers have set aside of it for calls in flight.

    `window` is `prepaid` for an account's balance; then `limit` is what was paid in. `resets_at` null: never.
    """

    kind: Kind
    unit: Unit
    window: Window | Literal["prepaid"]
    limit: int
    spent: int
    held: int
    resets_at: datetime | None

    @property
    def remaining(self) -> int:
        """What is neither spent nor held; never less than nothing, though a bill may have passed the limit."""
        return max(0, self.limit - self.spent - self.held)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands in the running month, with its budgets, and the earlier months that were asked for, newest first."""

    spent: Spent
    held: Held
    earlier: tuple[Spent, ...]
    budgets: tuple[Budget, ...] = ()

    def budget(self, unit: Unit, window: Window) -> Budget | None:
        return next((it for it in self.budgets if (it.unit, it.window) == (unit, window)), None)


def standing_of(
    key_id: UUID, now: datetime, earlier: int = 0, limits: LimitSet = NO_LIMITS
) -> Standing:
    """The running month's sums of a key and its open holds; at most so many earlier months in which it was used; and of its
    `limits` the budgets.
    """
    month = f"{now:%Y-%m}"
    months = list(_months(key_id, "" if earlier else month, month, earlier + 1))
    spent = months.pop(0) if months and months[0].month == month else Spent(month)
    held = Hold.objects.filter(key_id=key_id).aggregate(
        tokens=Sum("tokens", default=0), nano_usd=Sum("nano_usd", default=0)
    )
    budgets = budgets_of([Level("key", key_id, limits)], now)
    return Standing(spent, Held(**held), tuple(months[:earlier]), tuple(budgets))


def budgets_of(levels: Iterable[Level], now: datetime) -> list[Budget]:
    """How the budgets of these levels stand, in their order; an account's balance comes before its budgets.

    One query for all that calls have drawn on already. What nobody has drawn on yet has no balance and is summed up: a query
    for each kind of level and window.
    """
    wanted = [
        _Wanted(level, *budget)
        for level in levels
        for budget in (*_prepaid(level), *level.limits.budgets)
    ]
    if not wanted:
        return []
    found = _balances(wanted, to_unix_us(now))
    missing = [each for each in wanted if each not in found]
    found |= _summed_up(missing, now)
    return [_budget(each, found[each], now) for each in wanted]


def next_month(now: datetime) -> datetime:
    """When the running month's sums begin anew."""
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return first.replace(year=year, month=month)


class _Wanted(NamedTuple):
    """A budget of a level. `most` is of no account's balance: there it is what was paid in."""

    level: Level
    unit: Unit
    window: Window | Literal["prepaid"]
    most: int


class _Used(NamedTuple):
    spent: int
    held: int = 0
    credited: int = 0


def _prepaid(level: Level) -> tuple[tuple[Unit, Literal["prepaid"], int], ...]:
    return (("nano_usd", "prepaid", 0),) if level.is_prepaid else ()


def _balances(wanted: Sequence[_Wanted], at: int) -> dict[_Wanted, _Used]:
    rows = Balance.objects.filter(
        level_id__in={each.level.id for each in wanted},
        window__in={window_at(each.window, at) for each in wanted},
    )
    columns = ("level_id", "unit", "window", "spent", "held", "credited")
    found = {(row[0], row[1], row[2]): _Used(*row[3:]) for row in rows.values_list(*columns)}
    names = {each: (each.level.id, each.unit, window_at(each.window, at)) for each in wanted}
    return {each: found[name] for each, name in names.items() if name in found}


def _budget(wanted: _Wanted, used: _Used, now: datetime) -> Budget:
    ends = ends_at(window_at(wanted.window, to_unix_us(now)))
    return Budget(
        wanted.level.kind,
        wanted.unit,
        wanted.window,
        used.credited if wanted.window == "prepaid" else wanted.most,
        used.spent,
        used.held,
        None if ends is None else from_unix_us(ends),
    )


def _summed_up(wanted: Sequence[_Wanted], now: datetime) -> dict[_Wanted, _Used]:
    """What these levels have used in the running windows: their calls, from the monthly sums and, for a day, the log; and what
    they had used before they came here.
    """
    found: dict[_Wanted, _Used] = {}
    for kind, window in sorted({(each.level.kind, each.window) for each in wanted}):
        alike = [each for each in wanted if (each.level.kind, each.window) == (kind, window)]
        sums: dict[UUID, tuple[int, int]] = {}
        if window != "prepaid":
            owner = f"{kind}_id"
            rows = _rows(kind, window, now).filter(
                **{f"{owner}__in": {each.level.id for each in alike}}
            )
            amounts = Sum("cost_nano_usd", default=0), Sum(F("tokens_in") + F("tokens_out"))
            summed = rows.order_by().values(owner).annotate(usd=amounts[0], tokens=amounts[1])
            sums = {row[owner]: (int(row["usd"]), int(row["tokens"])) for row in summed}
        before = opened_with({each.level.id for each in alike}, window_at(window, to_unix_us(now)))
        for each in alike:
            usd, tokens = sums.get(each.level.id, (0, 0))
            here = max(0, usd if each.unit == "nano_usd" else tokens)
            found[each] = _Used(here + before.get((each.level.id, each.unit), 0))
    return found


def _rows(kind: Kind, window: Window | Literal["prepaid"], now: datetime) -> QuerySet[Any]:
    """The log names no model by its id, so that comes from the money lines."""
    if window == "day":
        first = now.replace(hour=0, minute=0, second=0, microsecond=0)
        logs = RequestLog.objects.filter(
            created_at__gte=first, created_at__lt=first + timedelta(days=1)
        )
        if kind != "model":
            return logs
        lines = LedgerEntry.objects.filter(
            month=OuterRef("month"), request_id=OuterRef("request_id"), line=1
        )
        return logs.annotate(model_id=Subquery(lines.values("model_id")[:1]))
    sums = Rollup.objects.all()
    return sums.filter(month=f"{now:%Y-%m}") if window == "month" else sums


def _months(key_id: UUID, first: str, last: str, most: int) -> Iterator[Spent]:
    """Newest first. A month has a row per model, and per project or account that the key belonged to."""
    rows = (
        Rollup.objects.filter(key_id=key_id, month__gte=first, month__lte=last)
        .values("month")
        .annotate(**{name: Sum(name) for name in _COLUMNS})
        .order_by("-month")[:most]
    )
    return (Spent(**row) for row in rows)
