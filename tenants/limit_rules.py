"""The rules of limits, in one place: keys, projects, accounts, tenants, models and providers have the same ones.

A rule takes a limit by the contract's name and returns what `tenants.models.Limited` stores under that name; null is no limit.
"""

from typing import Final

from tenants import validation
from tenants.errors import Invalid
from tenants.limits import read_rate
from tenants.models import MAX_BUDGET_NANO, MAX_REQUESTS, MAX_TOKENS
from tenants.validation import Rule
from usage import money

MAX_RATES: Final = 8
_PERIODS: Final = "s, m, h or d"


def _rates(field: str, value: object) -> list[str] | None:
    """Null, or 1 to 8 texts `count/period`, each period once: of two windows of one length only the smaller would count."""
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_RATES:
        raise Invalid.field(field, f'must be null or a list of 1 to {MAX_RATES} texts like "60/m".')
    periods = set()
    for text in value:
        rate = read_rate(text) if isinstance(text, str) else None
        if rate is None or rate.count > MAX_REQUESTS:
            raise Invalid.field(
                field,
                f'each must be a text like "60/m": 1 to {MAX_REQUESTS}, a slash, and {_PERIODS}.',
            )
        if rate.seconds in periods:
            raise Invalid.field(field, f"more than one is per {text[-1]}; keep the one you mean.")
        periods.add(rate.seconds)
    return value


def _tokens(field: str, value: object) -> int | None:
    return validation.limit(field, value, MAX_TOKENS)


def _usd(field: str, value: object) -> str | None:
    """Null, or a positive amount of USD as a decimal string, in its shortest form."""
    if value is None:
        return None
    try:
        nano = money.parse_usd(value, most_usd=MAX_BUDGET_NANO // money.NANO_PER_USD)
    except money.NotMoney as fault:
        raise Invalid.field(field, str(fault)) from None
    if nano == 0:
        raise Invalid.field(field, "must be more than 0 USD, or null for no limit.")
    return money.usd_text(nano)


def _clamps(field: str, value: object) -> bool:
    """Null is false: what a limit that is not set does."""
    return value is not None and validation.flag(field, value)


LIMIT_RULES: Final[dict[str, Rule]] = {
    "rate_limits": _rates,
    "rate_limit_rpm": validation.limit,
    "daily_limit": validation.limit,
    "burst": validation.limit,
    "rate_limit_tpm": _tokens,
    "max_concurrency": validation.limit,
    "tokens_budget": _tokens,
    "tokens_budget_day": _tokens,
    "tokens_budget_total": _tokens,
    "cost_budget_usd": _usd,
    "cost_budget_day_usd": _usd,
    "cost_budget_total_usd": _usd,
    "clamp_to_budget": _clamps,
}
#: Every limit by the contract's name; each is an attribute of a limited row, too.
LIMITS: Final = tuple(LIMIT_RULES)
