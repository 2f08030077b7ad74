"""What may be forgotten of calls: log rows with their attempts, bodies, answers for repetitions, balances of windows long past.

Money lines, monthly sums, credits, closed days and the sums of quarters are not among them: they are kept for ever.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db.models import Exists, Min, OuterRef, Q

from tenants import setting_services
from tenants.chores import Chore, Found, Pile
from tenants.models import Tenant
from usage import idempotency, quarters, rows, windows
from usage.models import Balance, HoldSlice, RequestContent, RequestLog
from usage.quarters import QUARTER

#: A window of the calendar that began before so many days is older than the twelve months that are shown.
_WINDOW_DAYS: Final = 400
_CALL: Final = ("pk", "month", "request_id")


def _logs(now: datetime) -> Iterable[Pile]:
    days = setting_services.value_of("log_retention_days")
    if days is None:
        return
    before = now - timedelta(days=days)
    old = RequestLog.objects.filter(created_at__lt=before)
    oldest: datetime | None = old.aggregate(oldest=Min("created_at"))["oldest"]
    if oldest is None:
        return
    start = quarters.start_of(oldest)
    while start < before:
        in_it = old.filter(created_at__gte=start, created_at__lt=start + QUARTER)
        yield Pile(in_it.order_by("created_at"), _CALL, partial(_delete_logs, start))
        start += QUARTER


def _delete_logs(start: datetime, found: Found) -> int:
    """Of one quarter of a day: not before it is summed up, so that what figures tell does not depend on what the log still knows.
    What led to a call, and what is kept of its bodies, is found by its log row alone, and goes with it.
    """
    if not quarters.keep_sums(start):
        quarters.close(start)
        if not quarters.keep_sums(start):
            return 0
    months: dict[str, list[UUID]] = defaultdict(list)
    for _, month, request_id in found:
        months[month].append(request_id)
    for month, ids in months.items():
        rows.ATTEMPTS.delete(month, ids)
        rows.CONTENTS.delete(month, ids)
    return int(RequestLog.objects.filter(pk__in=[row[0] for row in found]).delete()[0])


def _bodies(now: datetime) -> Iterable[Pile]:
    """Of each tenant by its own time; of one that is gone at once, for nobody can open them."""
    days: dict[UUID, int] = dict(Tenant.objects.values_list("id", "content_retention_days"))
    owners: Any = RequestContent.objects.order_by().values_list("tenant_id", flat=True).distinct()
    for tenant_id in owners:
        of_tenant = RequestContent.objects.filter(tenant_id=tenant_id)
        if tenant_id in days:
            before = now - timedelta(days=days[tenant_id])
            of_tenant = of_tenant.filter(created_at__lt=before)
        # They may be large.
        yield Pile(of_tenant.order_by("created_at"), first=10)


def _answers(now: datetime) -> Iterable[Pile]:
    yield Pile(idempotency.expired(now).order_by("created_at"), first=10)


def _balances(now: datetime) -> Iterable[Pile]:
    """Of days and months. One of which a worker still holds something stays."""
    before = now - timedelta(days=_WINDOW_DAYS)
    day, month = windows.day_window(f"{before:%Y-%m-%d}"), windows.month_window(f"{before:%Y-%m}")
    past = Q(window__startswith="day:", window__lt=day) | Q(
        window__startswith="month:", window__lt=month
    )
    held = HoldSlice.objects.filter(balance_id=OuterRef("pk"), written_off_at=None)
    yield Pile(
        Balance.objects.filter(past, ~Exists(held), held=0).order_by("id"), delete=_delete_balances
    )


def _delete_balances(found: Found) -> int:
    """With what was written off there: who turns up after a year finds nothing to take back."""
    ids = [row[0] for row in found]
    HoldSlice.objects.filter(balance_id__in=ids, written_off_at__isnull=False).delete()
    return int(Balance.objects.filter(pk__in=ids, held=0).delete()[0])


CHORES: Final = (
    Chore("bodies", "bodies of calls past their tenant's time", _bodies),
    Chore("logs", "log rows of calls, with their attempts and whatever bodies are left", _logs),
    Chore("answers", "answers kept for repetitions, after a day", _answers, is_frequent=True),
    Chore("balances", "balances of days and months more than 400 days ago", _balances),
)
