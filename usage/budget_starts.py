"""Where a balance begins: the limit that it is measured by, and what was spent in its window before it had a row, here or before
it came here.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, QuerySet, Sum

from keys.models import APIKey
from providers.models import Model, Provider
from tenants.limits import Unit
from tenants.models import BUDGETS, Account, Project, Tenant
from usage import windows
from usage.budget_books import MOST, Key, making
from usage.levels import Kind
from usage.models import Balance, Credit, LedgerEntry, RequestLog, Rollup
from usage.openings import opening_of

#: The table of each kind of level, and how copied ids name it in money lines, logs and sums.
_TABLES: Final[Mapping[Kind, tuple[type[models.Model], str]]] = {
    "key": (APIKey, "key_id"),
    "project": (Project, "project_id"),
    "account": (Account, "account_id"),
    "tenant": (Tenant, "tenant_id"),
    "model": (Model, "model_id"),
    "provider": (Provider, "provider_id"),
}
#: Kind of level → column.
LEVEL_COLUMNS: Final[Mapping[str, str]] = {kind: column for kind, (_, column) in _TABLES.items()}
_COLUMN_OF: Final = {of: column for column, of in BUDGETS.items()}
#: Those whose rows are found by their tenant, for that is what the tables have an index for.
_IN_A_TENANT: Final = frozenset(("project", "account"))

Kinds = Mapping[UUID, Kind]


def limits_of(keys: Iterable[Key], kinds: Kinds) -> dict[Key, int | None]:
    """What the rows of the levels say now; None: no such limit. A level that is gone may use nothing.

    Prepaid ones are not in here: what was paid in stands in the balance.
    """
    asked: dict[Kind, set[Key]] = defaultdict(set)
    for key in keys:
        if key.window != windows.PREPAID:
            asked[kinds[key.level_id]].add(key)
    limits: dict[Key, int | None] = {}
    for kind, of_kind in asked.items():
        columns = sorted({_column(key) for key in of_kind})
        rows: Any = _TABLES[kind][0]._default_manager.filter(
            pk__in={key.level_id for key in of_kind}
        )
        found = {row["pk"]: row for row in rows.values("pk", *columns)}
        for key in of_kind:
            row = found.get(key.level_id)
            limits[key] = 0 if row is None else row[_column(key)]
    return limits


def _column(key: Key) -> str:
    kind = windows.kind_of(key.window)
    return _COLUMN_OF[key.unit, "day" if kind == "day" else "month" if kind == "month" else "total"]


def make(keys: Collection[Key], kinds: Kinds) -> None:
    """Rows for these balances, which begin with what was spent in their windows. What is there already stays.

    One transaction, in which no money line is written; inside another one no balance may be locked yet.
    """
    with transaction.atomic():
        making()
        rows = []
        for key in sorted(keys, key=str):
            before = opening_of(key.level_id, key.window, key.unit)
            spent = min(before + _spent(key, kinds[key.level_id]), MOST)
            credited = _credited(key.level_id) if key.window == windows.PREPAID else 0
            rows.append(
                Balance(
                    level_kind=kinds[key.level_id],
                    level_id=key.level_id,
                    unit=key.unit,
                    window=key.window,
                    spent=spent,
                    ceiling=max(spent, credited),
                    credited=credited,
                )
            )
        Balance.objects.bulk_create(rows, ignore_conflicts=True)


def _credited(account_id: UUID) -> int:
    paid = Credit.objects.filter(account_id=account_id).aggregate(paid=Sum("nano_usd", default=0))
    return max(0, int(paid["paid"]))


def _spent(key: Key, kind: Kind) -> int:
    name, _, when = key.window.partition(":")
    if name == "day":
        return _sum(_day(kind, key.level_id, when), key.unit)
    rollups = Rollup.objects.filter(**_owner(kind, key.level_id))
    return _sum(rollups.filter(month=when) if name == "month" else rollups, key.unit)


def _owner(kind: Kind, level_id: UUID) -> dict[str, UUID]:
    """What picks a level's rows out of a table."""
    table, column = _TABLES[kind]
    wanted = {column: level_id}
    if kind in _IN_A_TENANT:
        rows: Any = table._default_manager
        tenant_id = rows.filter(pk=level_id).values_list("tenant_id", flat=True).first()
        wanted |= {} if tenant_id is None else {"tenant_id": tenant_id}
    return wanted


def _day(kind: Kind, level_id: UUID, day: str) -> "QuerySet[RequestLog]":
    """The log of a day: unlike the money lines it has an index by time, and tells the same tokens and costs."""
    first = datetime.fromisoformat(day).replace(tzinfo=UTC)
    logs = RequestLog.objects.filter(
        created_at__gte=first, created_at__lt=first + timedelta(days=1)
    )
    if kind != "model":
        return logs.filter(**_owner(kind, level_id))
    lines = LedgerEntry.objects.filter(
        month=OuterRef("month"), request_id=OuterRef("request_id"), line=1, model_id=level_id
    )
    return logs.filter(Exists(lines))


def _sum(rows: "QuerySet[Any]", unit: Unit) -> int:
    of = F("tokens_in") + F("tokens_out") if unit == "tokens" else F("cost_nano_usd")
    return int(rows.aggregate(total=Sum(of, default=0))["total"])
