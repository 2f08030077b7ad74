"""What a key used, by calendar month (UTC), read from the monthly sums."""

from datetime import datetime
from typing import Any, Final

from django.db.models import Sum

from gateway.api.bodies.common import usd
from keys.models import APIKey
from usage.models import Hold, Rollup

_EARLIER_MONTHS: Final = 12
_SUMS: Final = ("tokens_in", "tokens_out", "requests", "cost_nano_usd", "unpriced_requests")
_NOTHING: Final[dict[str, Any]] = dict.fromkeys(_SUMS, 0)


def key_usage_body(key: APIKey, now: datetime) -> dict[str, Any]:
    """The running month and up to twelve before it. No budget is enforced yet, so there is none to show, nor a remainder.

    `cost_usd` is the sum of what had a price; `unpriced_requests` says how many calls it leaves out.
    """
    current = f"{now:%Y-%m}"
    months: dict[str, dict[str, Any]] = {
        row["month"]: dict(row)
        for row in Rollup.objects.filter(key_id=key.id, month__lte=current)
        .values("month")
        .annotate(**{name: Sum(name) for name in _SUMS})
        .order_by("-month")[: _EARLIER_MONTHS + 1]
    }
    running = months.pop(current, _NOTHING)
    held = Hold.objects.filter(key_id=key.id).aggregate(nano=Sum("nano_usd"))["nano"] or 0
    return {
        "key_id": str(key.id),
        "current_period": current,
        "tokens_in": running["tokens_in"],
        "tokens_out": running["tokens_out"],
        "tokens_total": running["tokens_in"] + running["tokens_out"],
        "tokens_budget": None,
        "remaining": None,
        "cost_usd": usd(running["cost_nano_usd"]),
        "cost_budget_usd": None,
        "held_usd": usd(held),
        "requests_this_month": running["requests"],
        "unpriced_requests": running["unpriced_requests"],
        "rate_limit_rpm": key.rate_limit_rpm,
        "history": [
            _month_body(row)
            for row in sorted(months.values(), key=lambda row: row["month"], reverse=True)[
                :_EARLIER_MONTHS
            ]
        ],
    }


def _month_body(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "period": row["month"],
        "tokens_in": row["tokens_in"],
        "tokens_out": row["tokens_out"],
        "requests": row["requests"],
        "unpriced_requests": row["unpriced_requests"],
        "cost_usd": usd(row["cost_nano_usd"]),
    }
