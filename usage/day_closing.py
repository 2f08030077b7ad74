"""Closed days: what the money lines of a UTC day came to, noted in the audit log, whose chain nobody can rewrite unnoticed.

A closing covers the lines that were written after the one before it. Lines that come later (a journal that turned up, a
correction) are covered by a further closing of the same day, so what was closed once must come to the same for ever.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

from django.db.models import Count, Max, Sum
from django.db.models.functions import Coalesce

from tenants import audit
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import change
from tenants.clock import SYSTEM
from tenants.models import AuditEvent
from usage.budget_books import making
from usage.models import UNKNOWN_DAY, LedgerEntry

ACTION: Final = "ledger.day_closed"


class Closing(NamedTuple):
    """Lines with numbers in (`after`, `upto`] of one day; `digest` is of the totals per tenant."""

    day: str
    after: int
    upto: int
    requests: int
    tokens: int
    nano_usd: int
    digest: str


def close_days(actor: Actor, months: Sequence[str]) -> list[Closing]:
    """Closes what is not yet closed of the days in `months` that are over."""
    today, done = SYSTEM.now().date(), _upto(closings(months))
    ends = _ends(months, today)
    return [
        _close(actor, day, done.get(str(day), 0))
        for day, end in ends
        if end > done.get(str(day), 0)
    ]


def altered(months: Sequence[str]) -> list[str]:
    """The days of which something that was closed does not come to the same any more."""
    wrong = [
        each.day for each in closings(months) if _totals(each.day, each.after, each.upto) != each
    ]
    return sorted(set(wrong))


def closings(months: Sequence[str]) -> list[Closing]:
    """As the audit log has them, oldest first."""
    found: Any = AuditEvent.objects.filter(
        scope=audit.PLATFORM, action=ACTION, outcome=AuditEvent.Outcome.OK
    )
    details = found.order_by("seq").values_list("details", flat=True)
    return [
        Closing(*(each[name] for name in Closing._fields))
        for each in details.iterator()
        if each.get("day", "")[:7] in months
    ]


def _upto(known: Iterable[Closing]) -> dict[str, int]:
    upto: dict[str, int] = defaultdict(int)
    for each in known:
        upto[each.day] = max(upto[each.day], each.upto)
    return upto


def _ends(months: Sequence[str], today: date) -> list[tuple[date, int]]:
    """The days that are over, and the last line of each."""
    lines: Any = LedgerEntry.objects.filter(month__in=months, day__gt=UNKNOWN_DAY, day__lt=today)
    return list(lines.values_list("day").annotate(last=Max("id")).order_by("day"))


def _close(actor: Actor, day: date, after: int) -> Closing:
    target = Target("day", str(day))
    with change(actor, ACTION, target) as it:
        # No line is being written, so none with a lower number can appear later.
        making()
        upto = LedgerEntry.objects.aggregate(last=Max("id"))["last"] or 0
        closing = _totals(str(day), after, upto)
        it.detail(**closing._asdict())
    return closing


def _totals(day: str, after: int, upto: int) -> Closing:
    lines: Any = LedgerEntry.objects.filter(month=day[:7], day=day, id__gt=after, id__lte=upto)
    tenants: list[Any] = [
        [str(row[0]), *map(int, row[1:])]
        for row in lines.values_list("tenant_id")
        .annotate(
            requests=Count("id"),
            total_in=Coalesce(Sum("tokens_in"), 0),
            total_out=Coalesce(Sum("tokens_out"), 0),
            cost=Coalesce(Sum("cost_nano_usd"), 0),
        )
        .order_by("tenant_id")
    ]
    document = json.dumps(tenants, separators=(",", ":")).encode()
    return Closing(
        day,
        after,
        upto,
        sum(row[1] for row in tenants),
        sum(row[2] + row[3] for row in tenants),
        sum(row[4] for row in tenants),
        # In groups, as fingerprints are written: the audit log takes a longer word for a credential.
        hashlib.sha256(document).digest().hex(" ", 4),
    )
