"""A budget of another gateway with what was used of it: which of our budgets it is, and what that leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from gateway.imports import amounts
from gateway.imports.plan import Plan, Used
from tenants.models import MAX_BUDGET_NANO
from usage.money import usd_text

_FIELDS: Final = {
    "day": "cost_budget_day_usd",
    "month": "cost_budget_usd",
    "total": "cost_budget_total_usd",
}


@dataclass(slots=True)
class Budget:
    """`most` None: no budget. `stops`: it lets nothing through, which no budget of ours says."""

    fields: dict[str, Any] = field(default_factory=dict)
    used: list[Used] = field(default_factory=list)
    most: int | None = None
    renews: bool = False
    stops: bool = False


def read(plan: Plan, whose: str, values: Mapping[str, Any], now: datetime) -> Budget:
    """By LiteLLM's names: `max_budget`, `budget_duration`, `budget_reset_at`, `spend`. Raises `Invalid`."""
    most = amounts.nano("max_budget", values.get("max_budget"), up=False)
    if most is None:
        return Budget()
    if most <= 0:
        plan.leave(whose, "max_budget", "of 0 lets nothing through, so it comes as paused.")
        return Budget(stops=True)
    duration = values.get("budget_duration")
    window, is_as_long = amounts.window("budget_duration", duration)
    if not is_as_long:
        plan.leave(
            whose,
            f"budget_duration {duration}",
            f"there is no such window here: the same amount is for "
            f"{'all time' if window == 'total' else f'a {window}'}, which is stricter.",
        )
    if most > MAX_BUDGET_NANO:
        plan.leave(whose, "max_budget", "is more than any budget here, so it is none.")
        return Budget()
    spent = amounts.nano("spend", values.get("spend"), up=True) or 0
    ended = amounts.moment("budget_reset_at", values.get("budget_reset_at"))
    renews = not amounts.is_nothing(duration)
    if renews and ended is not None and ended <= now:
        spent = 0  # of a period that is over; nobody had come to begin the next one
    used = [Used(window, spent)] if spent > 0 else []
    return Budget({_FIELDS[window]: usd_text(most)}, used, most, renews)
