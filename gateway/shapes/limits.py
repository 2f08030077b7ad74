"""Limits, which keys, projects, accounts, tenants, models and providers have alike: tenants/limit_rules.py has their rules."""

from typing import Any, Final

from gateway.openapi.schemas import FLAG, Schema, array, fitting, maybe, told
from gateway.shapes.fields import MAYBE_USD, amount, limit
from tenants.limit_rules import LIMITS, MAX_RATES
from tenants.limits import PERIODS
from tenants.models import MAX_BUDGET_NANO, MAX_REQUESTS, MAX_TOKENS
from usage.money import NANO_PER_USD

_DIGITS: Final = len(str(MAX_REQUESTS)) - 1
_RATE: Final = rf"(?:[1-9][0-9]{{0,{_DIGITS - 1}}}|{MAX_REQUESTS})/[{''.join(PERIODS)}]"
_RATES: Final[Schema] = {
    **maybe(array(fitting(_RATE), least=1, most=MAX_RATES)),
    # Each period once.
    "allOf": [
        {"contains": {"pattern": f"/{period}$"}, "minContains": 0, "maxContains": 1}
        for period in PERIODS
    ],
    "description": "Requests in any second, minute, hour or day: `60/m`. Each period once, and all of them count.",
    "examples": [["60/m", "5000/d"]],
}


def _usd(meaning: str) -> Schema:
    taken = amount(MAX_BUDGET_NANO // NANO_PER_USD, is_positive=True, example="250")
    return told(maybe(taken), f"US dollars {meaning}.")


_TAKEN: Final[dict[str, Schema]] = {
    "rate_limits": _RATES,
    "rate_limit_rpm": limit(MAX_REQUESTS, "Requests in any minute.", 120),
    "daily_limit": limit(MAX_REQUESTS, "Requests of a UTC day.", 10_000),
    "burst": limit(MAX_REQUESTS, "Requests at once.", 20),
    "rate_limit_tpm": limit(MAX_TOKENS, "Tokens in any minute.", 200_000),
    "max_concurrency": limit(MAX_REQUESTS, "Calls at a time.", 8),
    "tokens_budget": limit(MAX_TOKENS, "Tokens of a calendar month, UTC.", 50_000_000),
    "tokens_budget_day": limit(MAX_TOKENS, "Tokens of a UTC day.", 2_000_000),
    "tokens_budget_total": limit(MAX_TOKENS, "Tokens in all.", 900_000_000),
    "cost_budget_usd": _usd("in a calendar month, UTC"),
    "cost_budget_day_usd": _usd("in a UTC day"),
    "cost_budget_total_usd": _usd("in all"),
    "clamp_to_budget": told(
        maybe(FLAG), "Whether an answer is shortened to what the budgets leave; null is no."
    ),
}


def _answered(name: str) -> Schema:
    schema = _TAKEN[name]
    if name == "clamp_to_budget":
        return told(FLAG, schema["description"])
    return (
        told(MAYBE_USD, schema["description"])
        if "integer" in schema["type"] and "pattern" in (schema)
        else schema
    )


#: As a body may give them, each of them optional; null: none.
LIMITS_TAKEN: Final[dict[str, Schema]] = {name: _TAKEN[name] for name in LIMITS}
#: As every answer has them, flat.
LIMITS_TOLD: Final[dict[str, Any]] = {name: _answered(name) for name in LIMITS}
