"""What rows are made of: an id made here, and limits."""

import uuid
from typing import Final

from django.db import models
from django.db.models import CheckConstraint, Q
from django.db.models.functions import Now

from tenants.limits import BudgetLimit, LimitSet, Rate, Unit, Window, read_rate
from usage import money

MAX_REQUESTS = 10**6


def limit_check(field: str, name: str, most: int) -> CheckConstraint:
    """A limit is null (none) or between 1 and `most`, in the database as well."""
    return CheckConstraint(
        condition=Q(**{f"{field}__isnull": True})
        | Q(**{f"{field}__gte": 1, f"{field}__lte": most}),
        name=name,
    )


class Identified(models.Model):
    """A row whose id is made here, before the insert: sealing binds to it, and no database hands out guessable ones."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        abstract = True


#: Requests, tokens, and nano-USD that a limit may say at most.
MAX_TOKENS = 10**12
MAX_BUDGET_NANO = 10**18
#: Budget columns: which unit, and over which window of the calendar.
BUDGETS: Final[dict[str, tuple[Unit, Window]]] = {
    "tokens_budget": ("tokens", "month"),
    "tokens_budget_day": ("tokens", "day"),
    "tokens_budget_total": ("tokens", "total"),
    "cost_budget_nano": ("nano_usd", "month"),
    "cost_budget_day_nano": ("nano_usd", "day"),
    "cost_budget_total_nano": ("nano_usd", "total"),
}
TOKEN_BUDGETS: Final = tuple(name for name, (unit, _) in BUDGETS.items() if unit == "tokens")
MONEY_BUDGETS: Final = tuple(name for name, (unit, _) in BUDGETS.items() if unit == "nano_usd")


def _usd_of(column: str) -> property:
    """An amount by the contract's name: a decimal string of USD where the column holds nano-USD, null where it is null."""

    def read(row: models.Model) -> str | None:
        nano = getattr(row, column)
        return None if nano is None else money.usd_text(nano)

    def write(row: models.Model, usd: str | None) -> None:
        setattr(row, column, None if usd is None else money.parse_usd(usd))

    return property(read, write)


class Limited(models.Model):
    """A row that can limit the calls that belong to it. Null: no limit of that sort."""

    rate_limits = models.JSONField(null=True, default=None)
    rate_limit_rpm = models.BigIntegerField(null=True, default=None)
    daily_limit = models.BigIntegerField(null=True, default=None)
    burst = models.BigIntegerField(null=True, default=None)
    rate_limit_tpm = models.BigIntegerField(null=True, default=None)
    max_concurrency = models.BigIntegerField(null=True, default=None)
    tokens_budget = models.BigIntegerField(null=True, default=None)
    tokens_budget_day = models.BigIntegerField(null=True, default=None)
    tokens_budget_total = models.BigIntegerField(null=True, default=None)
    cost_budget_nano = models.BigIntegerField(null=True, default=None)
    cost_budget_day_nano = models.BigIntegerField(null=True, default=None)
    cost_budget_total_nano = models.BigIntegerField(null=True, default=None)
    clamp_to_budget = models.BooleanField(default=False)

    cost_budget_usd = _usd_of("cost_budget_nano")
    cost_budget_day_usd = _usd_of("cost_budget_day_nano")
    cost_budget_total_usd = _usd_of("cost_budget_total_nano")

    class Meta:
        abstract = True

    @property
    def limit_set(self) -> LimitSet:
        """What this row says. A text among the rates that means nothing is none; the services let none in."""
        texts = [read_rate(text) for text in self.rate_limits or ()]
        rates = [rate for rate in texts if rate is not None]
        if self.rate_limit_rpm is not None:
            rates.insert(0, Rate(self.rate_limit_rpm, 60))
        return LimitSet(
            rates=tuple(rates),
            daily=self.daily_limit,
            burst=self.burst,
            tokens_per_minute=self.rate_limit_tpm,
            concurrency=self.max_concurrency,
            budgets=tuple(
                BudgetLimit(unit, window, getattr(self, name))
                for name, (unit, window) in BUDGETS.items()
                if getattr(self, name) is not None
            ),
            clamps=self.clamp_to_budget,
        )


def limit_checks(prefix: str) -> list[CheckConstraint]:
    """The bounds of every limit, in the database as well. `prefix` begins the names of the constraints."""
    highest = {
        **dict.fromkeys(
            ("rate_limit_rpm", "daily_limit", "burst", "max_concurrency"), MAX_REQUESTS
        ),
        **dict.fromkeys(("rate_limit_tpm", *TOKEN_BUDGETS), MAX_TOKENS),
        **dict.fromkeys(MONEY_BUDGETS, MAX_BUDGET_NANO),
    }
    return [limit_check(field, f"{prefix}_{field}", most) for field, most in highest.items()]
