"""What a key used, by calendar month (UTC), read from the monthly sums."""

from datetime import datetime
from typing import Any, Final

from gateway.api.bodies.common import usd
from keys.models import APIKey
from usage import spending
from usage.spending import Spent

_EARLIER_MONTHS: Final = 12


def key_usage_body(key: APIKey, now: datetime) -> dict[str, Any]:
    """The running month and up to twelve before it.

    `remaining` is of the tokens of the month: what is neither used nor set aside for calls in flight. `cost_usd` is the sum of
    what had a price; `unpriced_requests` says how many calls it leaves out.
    """
    standing = spending.standing_of(key.id, now, _EARLIER_MONTHS, key.limit_set)
    running, budget = standing.spent, standing.budget("tokens", "month")
    return {
        "key_id": str(key.id),
        "current_period": running.month,
        "tokens_in": running.tokens_in,
        "tokens_out": running.tokens_out,
        "tokens_total": running.tokens,
        "tokens_budget": key.tokens_budget,
        "remaining": budget.remaining if budget else None,
        "cost_usd": usd(running.cost_nano_usd),
        "cost_budget_usd": key.cost_budget_usd,
        "held_usd": usd(standing.held.nano_usd),
        "requests_this_month": running.requests,
        "unpriced_requests": running.unpriced_requests,
        "rate_limit_rpm": key.rate_limit_rpm,
        "history": [_month_body(month) for month in standing.earlier],
    }


def _month_body(spent: Spent) -> dict[str, Any]:
    return {
        "period": spent.month,
        "tokens_in": spent.tokens_in,
        "tokens_out": spent.tokens_out,
        "requests": spent.requests,
        "unpriced_requests": spent.unpriced_requests,
        "cost_usd": usd(spent.cost_nano_usd),
    }
