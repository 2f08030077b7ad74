"""What was used: holds in flight, the money lines, the tries behind them, one log row per call, the monthly sums, and the
balances of budgets.

These tables have no foreign keys to others: they copy ids and names, so they outlive what they describe. `(month, request_id)`
names a call in all of them; `month` (`YYYY-MM`, UTC) is fixed when the call begins.
"""

import uuid
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import Any, ClassVar, Final

from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint

# Django finds models here.
from usage.quarter_models import Quarter as Quarter
from usage.quarter_models import QuarterSum as QuarterSum

#: Stands for "none" inside a unique key, where NULLs would all be different.
NOBODY = uuid.UUID(int=0)
#: The day of money lines from before days were kept.
UNKNOWN_DAY = date(1970, 1, 1)
#: An answer's status from which on a call has failed.
FAILED: Final = 400
#: Calls that have: refused or answered with an error, or a stream that broke off after its 200.
WENT_WRONG: Final = Q(status__gte=FAILED) | Q(error_code__gt="")
#: Which rows of the log an index by a column holds: those that say something in it. SQLite takes such an index only for a query
#: that asks for this in these words.
SAID: Final[Mapping[str, Mapping[str, Any]]] = {
    "status": {"status__gte": FAILED},
    "provider": {"provider__gt": ""},
    "project_id": {"project_id__gt": NOBODY},
    "account_id": {"account_id__gt": NOBODY},
    "team": {"team__gt": ""},
}


class OfACall(models.Model):
    month = models.CharField(max_length=7)
    request_id = models.UUIDField()

    class Meta:
        abstract = True


class OfACaller(models.Model):
    """Copied from the caller: ids to join by while they exist, names to read when they no longer do."""

    tenant_id = models.UUIDField()
    tenant = models.CharField(max_length=128)
    project_id = models.UUIDField(default=NOBODY)
    project = models.CharField(max_length=128, blank=True, default="")
    account_id = models.UUIDField(default=NOBODY)
    account = models.CharField(max_length=128, blank=True, default="")
    key_id = models.UUIDField()
    key_prefix = models.CharField(max_length=16)
    team = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        abstract = True


class Hold(OfACall, OfACaller):
    """What a call in flight may still use, at most. Gone when the call is settled. `provider_id`: who had it when the row was
    written.
    """

    created_at = models.DateTimeField()
    tokens = models.BigIntegerField()
    nano_usd = models.BigIntegerField()
    model = models.CharField(max_length=256)
    provider_id = models.UUIDField(default=NOBODY)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["month", "request_id"], name="hold_once_per_call"),
            CheckConstraint(condition=Q(tokens__gte=0, nano_usd__gte=0), name="hold_not_negative"),
        ]

    def __str__(self) -> str:
        return str(self.request_id)


class LedgerEntry(OfACall, OfACaller):
    """A money line. `line` 1 is what the call itself cost; corrections follow with higher numbers, nothing is rewritten.

    `cost_nano_usd` is null when no price was known: to be rated later, never silently nothing. A correction holds differences.
    `day` is the UTC day on which the call came: with `month` it says which budgets the line belongs to. `provider_id` is that of
    the last attempt. `overrun`: the provider passed what the call could use at most.
    """

    class Source(models.TextChoices):
        PROVIDER = "provider"
        ESTIMATED = "estimated"
        NONE = "none"

    line = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    day = models.DateField(default=UNKNOWN_DAY)
    model = models.CharField(max_length=256)
    model_id = models.UUIDField(default=NOBODY)
    provider_id = models.UUIDField(default=NOBODY)
    tokens_in = models.BigIntegerField()
    tokens_cached = models.BigIntegerField()
    tokens_out = models.BigIntegerField()
    tokens_reasoning = models.BigIntegerField()
    tokens_cache_write = models.BigIntegerField(default=0)
    images = models.BigIntegerField(default=0)
    audio_ms = models.BigIntegerField(default=0)
    cost_nano_usd = models.BigIntegerField(null=True)
    price_id = models.UUIDField(null=True)
    usage_source = models.CharField(max_length=16, choices=Source)
    dispatched = models.CharField(max_length=8)
    overrun = models.BooleanField(default=False)
    correction_id = models.UUIDField(default=NOBODY)
    reason = models.CharField(max_length=256, blank=True, default="")
    corrected_by = models.CharField(max_length=128, blank=True, default="")

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["month", "request_id", "line"], name="ledger_line_once"),
            UniqueConstraint(
                fields=["month", "request_id", "correction_id"],
                condition=Q(line__gt=1),
                name="ledger_corrected_once",
            ),
            CheckConstraint(
                condition=Q(line__gt=1)
                | Q(
                    tokens_in__gte=0,
                    tokens_cached__gte=0,
                    tokens_out__gte=0,
                    tokens_reasoning__gte=0,
                    tokens_cache_write__gte=0,
                    images__gte=0,
                    audio_ms__gte=0,
                ),
                name="ledger_tokens_not_negative",
            ),
            CheckConstraint(
                condition=Q(line__gt=1) | Q(cost_nano_usd__isnull=True) | Q(cost_nano_usd__gte=0),
                name="ledger_cost_not_negative",
            ),
            CheckConstraint(
                condition=Q(dispatched__in=["yes", "unknown"]), name="ledger_dispatched"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["key_id", "month"], name="ledger_by_key")]

    def __str__(self) -> str:
        return f"{self.month} {self.request_id} {self.line}"


class Attempt(OfACall):
    """One try at one target. `outcome` `unknown`: the worker died while it was open."""

    n = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    provider_id = models.UUIDField()
    provider = models.CharField(max_length=128)
    target = models.CharField(max_length=256)
    dialect_out = models.CharField(max_length=32)
    credential_id = models.UUIDField(null=True)
    price_id = models.UUIDField(null=True)
    outcome = models.CharField(max_length=32)
    status = models.PositiveIntegerField(null=True)
    duration_us = models.BigIntegerField(null=True)
    ttfb_us = models.BigIntegerField(null=True)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["month", "request_id", "n"], name="attempt_once")
        ]

    def __str__(self) -> str:
        return f"{self.request_id} {self.n}"


class RequestLog(OfACall, OfACaller):
    """One row per call of a known caller, refused ones included. `correlation_id` is the request id the caller saw. `trace_id` is
    the caller's own, of a trace to which other calls may belong; most have none.
    """

    correlation_id = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    kind = models.CharField(max_length=8, default="model")
    model = models.CharField(max_length=256, blank=True, default="")
    provider_id = models.UUIDField(default=NOBODY)
    provider = models.CharField(max_length=128, blank=True, default="")
    target = models.CharField(max_length=256, blank=True, default="")
    dialect_in = models.CharField(max_length=32)
    dialect_out = models.CharField(max_length=32, blank=True, default="")
    stream = models.BooleanField()
    status = models.PositiveIntegerField()
    error_code = models.CharField(max_length=64, blank=True, default="")
    dispatched = models.CharField(max_length=8)
    attempts = models.PositiveIntegerField(default=0)
    tokens_in = models.BigIntegerField(default=0)
    tokens_cached = models.BigIntegerField(default=0)
    tokens_out = models.BigIntegerField(default=0)
    tokens_reasoning = models.BigIntegerField(default=0)
    cost_nano_usd = models.BigIntegerField(null=True)
    usage_source = models.CharField(max_length=16)
    duration_us = models.BigIntegerField()
    ttfb_us = models.BigIntegerField(null=True)
    overhead_us = models.BigIntegerField(null=True)
    idempotent_replay = models.BooleanField(default=False)
    #: What was asked on its way in, as JSON (usage/records.py, `Why`); empty where nothing was kept.
    why = models.TextField(blank=True, default="")
    trace_id = models.UUIDField(null=True, default=None)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["month", "request_id"], name="log_once_per_call"),
            CheckConstraint(
                condition=Q(dispatched__in=["yes", "no", "unknown"]),
                name="log_dispatched",
            ),
        ]
        indexes: ClassVar = [
            # By time; and with what figures over a time need (usage/analytics.py), so that they read no row.
            models.Index(
                fields=[
                    *("created_at", "request_id", "status", "tokens_in", "tokens_cached"),
                    *("tokens_out", "cost_nano_usd", "usage_source"),
                    *("duration_us", "ttfb_us", "overhead_us", "error_code"),
                ],
                name="log_figures",
            ),
            models.Index(fields=["tenant_id", "created_at"], name="log_by_tenant"),
            models.Index(fields=["key_id", "created_at"], name="log_by_key"),
            models.Index(fields=["correlation_id"], name="log_by_correlation"),
            models.Index(
                fields=["trace_id", "created_at"],
                condition=Q(trace_id__isnull=False),
                name="log_by_trace",
            ),
            # What filters may find next to nothing of: with the whole order of a list, so that SQLite, which knows nothing of how
            # many rows a value has, prefers it to `log_figures`. Each costs every call that it holds.
            models.Index(
                fields=["created_at", "request_id", "status", "error_code"],
                condition=WENT_WRONG,
                name="log_failed",
            ),
            models.Index(fields=["model", "created_at"], name="log_by_model"),
            *(
                models.Index(
                    fields=[name, "created_at"], condition=Q(**SAID[name]), name=f"log_by_{name}"
                )
                for name in ("provider", "project_id", "account_id", "team")
            ),
        ]

    def __str__(self) -> str:
        return self.correlation_id

    @property
    def has_failed(self) -> bool:
        """As `WENT_WRONG`."""
        return self.status >= FAILED or bool(self.error_code)


class RequestContent(OfACall):
    """Sealed bodies of a call whose key and tenant both asked for them to be kept."""

    tenant_id = models.UUIDField()
    created_at = models.DateTimeField()
    sealed = models.BinaryField()

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["month", "request_id"], name="content_once_per_call")
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "created_at"], name="content_by_tenant")
        ]

    def __str__(self) -> str:
        return str(self.request_id)


class Rollup(OfACaller):
    """Sums of one month, per key, model and provider (and what the key belonged to then). Charts and budgets read these."""

    month = models.CharField(max_length=7)
    model = models.CharField(max_length=256)
    model_id = models.UUIDField(default=NOBODY)
    provider_id = models.UUIDField(default=NOBODY)
    requests = models.BigIntegerField()
    tokens_in = models.BigIntegerField()
    tokens_cached = models.BigIntegerField()
    tokens_out = models.BigIntegerField()
    tokens_reasoning = models.BigIntegerField()
    cost_nano_usd = models.BigIntegerField()
    unpriced_requests = models.BigIntegerField()
    estimated_requests = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(
                fields=[
                    "month",
                    "tenant_id",
                    "project_id",
                    "account_id",
                    "key_id",
                    "model",
                    "model_id",
                    "provider_id",
                ],
                name="rollup_once",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["key_id", "month"], name="rollup_by_key")]

    def __str__(self) -> str:
        return f"{self.month} {self.key_id} {self.model}"


class Balance(models.Model):
    """What one level has used of one budget, and what workers hold for calls in flight: `spent + held <= ceiling`, always.

    `level_kind` and `level_id` name the level (usage/levels.py), `unit` is `nano_usd` or `tokens`, `window` is `month:2026-11`,
    `day:2026-11-22`, `total` or `prepaid`. There is a row only where a budget is or was set. `ceiling` is the limit that the last
    loan was measured by, or what was used where that was more; `credited` is what was paid into an account.
    """

    level_kind = models.CharField(max_length=8)
    level_id = models.UUIDField()
    unit = models.CharField(max_length=8)
    window = models.CharField(max_length=16)
    spent = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    ceiling = models.BigIntegerField(default=0)
    credited = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["level_id", "window", "unit"], name="balance_once"),
            CheckConstraint(
                condition=Q(credited__gte=0, held__gte=0, spent__gte=0), name="balance_not_negative"
            ),
            CheckConstraint(
                condition=Q(ceiling__gte=F("spent") + F("held")), name="balance_within_ceiling"
            ),
            CheckConstraint(condition=Q(unit__in=["nano_usd", "tokens"]), name="balance_unit"),
        ]

    def __str__(self) -> str:
        return f"{self.level_kind} {self.level_id} {self.unit} {self.window}"


class SharedLimit(models.Model):
    """What the workers have taken of one level's rates and slots (usage/buckets.py). Deleted once `idle_at` (µs since 1970) has
    passed: nothing in it counts any more. The row `redis` says until when a Redis may hold such counts.
    """

    name = models.CharField(max_length=64, primary_key=True)
    state = models.BinaryField()
    idle_at = models.BigIntegerField(default=0)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["idle_at"], name="shared_limit_idle")]

    def __str__(self) -> str:
        return self.name


class HoldSlice(models.Model):
    """What one worker (`boot` is its journal's uuid) has borrowed of a balance. `amount` is what is left of it in our books.

    `lent`: everything ever lent in this row less everything given back. Written off: the worker was not heard of in time, so the
    amount counts as spent, until its journal tells the truth.
    """

    boot = models.UUIDField()
    balance_id = models.BigIntegerField()
    amount = models.BigIntegerField()
    lent = models.BigIntegerField()
    deadline = models.DateTimeField()
    written_off_at = models.DateTimeField(null=True, default=None)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["boot", "balance_id"], name="slice_once"),
            CheckConstraint(condition=Q(amount__gte=0), name="slice_not_negative"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["balance_id"], name="slice_by_balance"),
            models.Index(fields=["deadline"], name="slice_by_deadline"),
        ]

    def __str__(self) -> str:
        return f"{self.boot} {self.balance_id}"

    @cached_property
    def balance(self) -> Balance:
        """A query, unless whoever read several slices has set it."""
        return Balance.objects.get(pk=self.balance_id)


class Credit(models.Model):
    """What was paid into an account, or taken back out of it (negative). Never changed; their sum is the balance's `credited`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant_id = models.UUIDField()
    account_id = models.UUIDField()
    created_at = models.DateTimeField()
    nano_usd = models.BigIntegerField()
    note = models.CharField(max_length=256, blank=True, default="")
    actor_type = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=128)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["account_id", "created_at"], name="credit_by_account")
        ]

    def __str__(self) -> str:
        return str(self.id)


class Opening(models.Model):
    """What a level had used of a budget, in that window, before it came here (usage/openings.py). Never changed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    level_kind = models.CharField(max_length=8)
    level_id = models.UUIDField()
    unit = models.CharField(max_length=8)
    window = models.CharField(max_length=16)
    amount = models.BigIntegerField()
    created_at = models.DateTimeField()
    note = models.CharField(max_length=256, blank=True, default="")
    actor_type = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=128)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["level_id", "window", "unit"], name="opening_once"),
            CheckConstraint(condition=Q(amount__gte=1), name="opening_is_something"),
            CheckConstraint(condition=Q(unit__in=["nano_usd", "tokens"]), name="opening_unit"),
        ]

    def __str__(self) -> str:
        return f"{self.level_kind} {self.level_id} {self.unit} {self.window}"


class IdempotentCall(models.Model):
    """An Idempotency-Key that a key used, as a MAC, and what became of the call. `boot` names the journal that will tell.

    `sealed`: the answer. Closed without one: it cannot be given again. Of a change over the admin API, `key_id` stands for who
    made it, and `tenant_id` is zero.
    """

    class State(models.TextChoices):
        OPEN = "open"
        CLOSED = "closed"

    id = models.UUIDField(primary_key=True, editable=False)
    tenant_id = models.UUIDField()
    key_id = models.UUIDField()
    name = models.BinaryField(max_length=32)
    body = models.BinaryField(max_length=32)
    boot = models.UUIDField()
    request_id = models.UUIDField()
    created_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    sealed = models.BinaryField(null=True, default=None)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["key_id", "name"], name="idempotent_once_per_key"),
            CheckConstraint(condition=Q(state__in=["open", "closed"]), name="idempotent_state"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["created_at"], name="idempotent_by_time"),
            models.Index(fields=["boot", "state"], name="idempotent_by_boot"),
        ]

    def __str__(self) -> str:
        return str(self.id)
