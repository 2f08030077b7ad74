"""How much of its budgets each key has used, asked of the database when somebody scrapes: so a key that has ended is not in it.

At most `MOST` keys, those that have used most: nothing else of the metrics has a series for each key. A handful of queries.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from django.db.models import (
    BigIntegerField,
    Case,
    F,
    FloatField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Cast
from prometheus_client.metrics_core import GaugeMetricFamily

from gateway.checks import Outcome, State
from keys.models import APIKey
from keys.services import current_prefix
from tenants.clock import SYSTEM, to_unix_us
from tenants.models import BUDGETS, Tenant
from usage import spending
from usage.levels import Level
from usage.models import Balance
from usage.windows import window_at

MOST: Final = 200


def look_at_key_budgets() -> Outcome:
    now = SYSTEM.now()
    return State.OK, "The keys' budgets can be read.", {"ratios": ratios(now)}


def family(found: Iterable[tuple[str, str, float]]) -> GaugeMetricFamily:
    made = GaugeMetricFamily(
        "gatehouse_key_budget_used_ratio",
        "What a key has spent of the budget of which it has used most, keys with the largest first.",
        labels=["team", "key_prefix"],
    )
    for team, prefix, ratio in found:
        made.add_metric([team, prefix], ratio)
    return made


def ratios(now: datetime) -> list[tuple[str, str, float]]:
    """(team, the current secret's prefix, spent ÷ limit) of live keys with a budget, the largest first."""
    keys = list(_with_budgets(now).filter(pk__in=_largest(now)))
    if len(keys) < MOST:
        others = _with_budgets(now).exclude(pk__in=[key.pk for key in keys])
        keys += others.order_by("-created_at", "-pk")[: MOST - len(keys)]
    used: dict[Any, float] = {}
    for level, budget in _budgets(keys, now):
        used[level.id] = max(used.get(level.id, 0.0), budget.spent / budget.limit)
    # Two keys may look alike; a series must be there once.
    found: dict[tuple[str, str], float] = {}
    for key in keys:
        label = (key.team, current_prefix(key))
        found[label] = max(found.get(label, 0.0), used.get(key.pk, 0.0))
    rows = [(team, prefix, ratio) for (team, prefix), ratio in found.items()]
    return sorted(rows, key=lambda row: (-row[2], row[:2]))[:MOST]


def _with_budgets(now: datetime) -> "QuerySet[APIKey]":
    """Live keys that have one."""
    has_one = Q()
    for column in BUDGETS:
        has_one |= Q(**{f"{column}__isnull": False})
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    live = Q(revoked_at__isnull=True, is_active=True, tenant__status=Tenant.Status.ACTIVE)
    return APIKey.objects.filter(live & unexpired & has_one).prefetch_related("secrets")


def _budgets(keys: Iterable[APIKey], now: datetime) -> Iterable[tuple[Level, spending.Budget]]:
    levels = [Level("key", key.pk, key.limit_set) for key in keys]
    owners = [level for level in levels for _ in level.limits.budgets]
    return zip(owners, spending.budgets_of(levels, now), strict=True)


def _largest(now: datetime) -> list[Any]:
    """The keys of those balances of which most is used; one key has at most as many as there are sorts of budgets."""
    at = to_unix_us(now)
    keys = APIKey.objects.filter(pk=OuterRef("level_id"), revoked_at__isnull=True, is_active=True)
    limits = [
        When(unit=unit, window=window_at(window, at), then=Subquery(keys.values(column)))
        for column, (unit, window) in BUDGETS.items()
    ]
    windows = {window_at(window, at) for _, window in BUDGETS.values()}
    rows = (
        Balance.objects.filter(level_kind="key", window__in=windows)
        .annotate(limit=Case(*limits, default=Value(None), output_field=BigIntegerField()))
        .filter(limit__isnull=False)
        .annotate(ratio=Cast(F("spent"), FloatField()) / Cast(F("limit"), FloatField()))
        .order_by("-ratio", "pk")
        .values_list("level_id", flat=True)
    )
    return list(dict.fromkeys(rows[: MOST * len(BUDGETS)]))[:MOST]
