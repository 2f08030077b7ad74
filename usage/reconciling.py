"""Whether the books agree: money lines, monthly sums, the log, and the balances of budgets. Reads only, from one moment."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db.models import Count, F, Min, Q, Sum
from django.db.models.functions import Coalesce

from tenants.limits import Unit
from tenants.moments import one_moment
from usage import windows
from usage.budget_books import MOST
from usage.budget_starts import LEVEL_COLUMNS
from usage.models import Balance, Credit, HoldSlice, LedgerEntry, RequestLog, Rollup
from usage.openings import opening_of

#: Differences that are named; the others are counted.
_NAMED: Final = 100
_PAGE: Final = 2_000
_SUMS: Final = ("tokens_in", "tokens_out", "cost_nano_usd")


class Difference(NamedTuple):
    """`what` disagrees: it says `found`, and the money lines come to `expected`."""

    what: str
    expected: int
    found: int


@dataclass(slots=True)
class Verdict:
    """What was compared, and where it did not agree: `count` differences, the first of them named."""

    months: tuple[str, ...]
    rollups: int = 0
    balances: int = 0
    calls: int = 0
    count: int = 0
    differences: list[Difference] = field(default_factory=list)

    def compare(self, what: str, expected: int, found: int) -> None:
        if expected != found:
            self.count += 1
            if len(self.differences) < _NAMED:
                self.differences.append(Difference(what, expected, found))


def reconcile(months: Sequence[str]) -> Verdict:
    """Compares all that concerns these months (`YYYY-MM`), and the balances that have no end."""
    verdict = Verdict(tuple(months))
    with one_moment():
        for month in months:
            _rollups(verdict, month)
            _logs(verdict, month)
        _balances(verdict)
    return verdict


def _rollups(verdict: Verdict, month: str) -> None:
    """Monthly sums, per caller, model and provider."""
    place = ("tenant_id", "project_id", "account_id", "key_id", "model", "model_id", "provider_id")
    lines: Any = LedgerEntry.objects.filter(month=month).values(*place)
    totals = {name: Coalesce(Sum(name), 0) for name in _SUMS}
    lines = lines.annotate(requests=Count("id", filter=Q(line=1)), **totals)
    sums: Any = Rollup.objects.filter(month=month).values(*place).annotate(**totals)
    sums = sums.annotate(requests=Coalesce(Sum("requests"), 0))
    # Both sides at most one row per caller and model: what a month's page of figures holds as well.
    expected = {tuple(row[name] for name in place): row for row in lines}
    found = {tuple(row[name] for name in place): row for row in sums}
    for where in sorted(expected.keys() | found.keys(), key=str):
        verdict.rollups += 1
        for name in ("requests", *_SUMS):
            what = f"sum of {name}, {month}, key {where[3]}, model {where[4]}"
            left, right = expected.get(where), found.get(where)
            verdict.compare(what, left[name] if left else 0, right[name] if right else 0)


def _logs(verdict: Verdict, month: str) -> None:
    """Cost and tokens of the log against the lines of each call, for as long as the log is kept. A page at a time."""
    last: UUID | None = None
    while True:
        lines: Any = LedgerEntry.objects.filter(month=month)
        lines = lines if last is None else lines.filter(request_id__gt=last)
        lines = lines.values("request_id").order_by("request_id")
        page = list(
            lines.annotate(**{name: Sum(name) for name in _SUMS}, first=Min("line"))[:_PAGE]
        )
        if not page:
            return
        ids = [row["request_id"] for row in page]
        logs: Any = RequestLog.objects.filter(
            month=month, request_id__gte=ids[0], request_id__lte=ids[-1]
        )
        of = {row["request_id"]: row for row in logs.values("request_id", *_SUMS)}
        for row in page:
            verdict.calls += 1
            verdict.compare(f"first line of call {row['request_id']}", 1, row["first"])
            log: Any = of.get(row["request_id"])
            for name in _SUMS if log else ():
                # None is "never rated", and no amount.
                left, right = (-1 if each is None else each for each in (row[name], log[name]))
                verdict.compare(f"{name} of call {row['request_id']} in the log", left, right)
        last = ids[-1]


def _balances(verdict: Verdict) -> None:
    """Spent: the lines of its window, what was used before it came here, and what was written off. Held: the slices. Paid in: the
    credits.
    """
    slices: Any = HoldSlice.objects.values_list("balance_id")
    alive = dict(slices.filter(written_off_at=None).annotate(amount_of_all=Sum("amount")))
    lost = dict(slices.exclude(written_off_at=None).annotate(amount_of_all=Sum("amount")))
    rows: Any = Balance.objects.order_by("id")
    for balance in rows.iterator(_PAGE):
        name, _, when = balance.window.partition(":")
        if name in {"day", "month"} and when[:7] not in verdict.months:
            continue
        verdict.balances += 1
        unit: Unit = "tokens" if balance.unit == "tokens" else "nano_usd"
        verdict.compare(f"held, {balance}", alive.get(balance.id, 0), balance.held)
        before = opening_of(balance.level_id, balance.window, unit)
        used = min(before + _used(balance, name, when), MOST)
        verdict.compare(f"spent, {balance}", used + lost.get(balance.id, 0), balance.spent)
        if name == windows.PREPAID:
            entered = Credit.objects.filter(account_id=balance.level_id)
            paid: Any = entered.aggregate(paid=Sum("nano_usd", default=0))
            verdict.compare(f"credited, {balance}", paid["paid"], balance.credited)


def _used(balance: Balance, name: str, when: str) -> int:
    """The lines themselves for a day or a month; all time from the monthly sums, which were compared with them."""
    of_level = {LEVEL_COLUMNS[balance.level_kind]: balance.level_id}
    of = F("tokens_in") + F("tokens_out") if balance.unit == "tokens" else F("cost_nano_usd")
    rows: Any = Rollup.objects.filter(**of_level)
    if name == "day":
        rows = LedgerEntry.objects.filter(**of_level, month=when[:7], day=when)
    elif name == "month":
        rows = LedgerEntry.objects.filter(**of_level, month=when)
    total: Any = rows.aggregate(used=Sum(of, default=0))
    return int(total["used"])
