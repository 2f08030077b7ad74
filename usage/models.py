"""What was used: holds in flight, the money lines, the tries behind them, one log row per call, and the monthly sums.

These tables have no foreign keys: they copy ids and names, so they outlive what they describe. `(month, request_id)` names a
call in all of them; `month` (`YYYY-MM`, UTC) is fixed when the call begins.
"""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

#: Stands for "none" inside a unique key, where NULLs would all be different.
NOBODY = uuid.UUID(int=0)


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
    """What a call in flight may still use, at most. Gone when the call is settled."""

    created_at = models.DateTimeField()
    tokens = models.BigIntegerField()
    nano_usd = models.BigIntegerField()
    model = models.CharField(max_length=256)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["month", "request_id"], name="hold_once_per_call"),
            CheckConstraint(condition=Q(tokens__gte=0, nano_usd__gte=0), name="hold_not_negative"),
        ]

    def __str__(self) -> str:
        return str(self.request_id)


class LedgerEntry(OfACall, OfACaller):
    """A money line. `line` 1 is what the call itself cost; corrections follow with higher numbers, nothing is rewritten.

    `cost_nano_usd` is null when no price was known: to be rated later, never silently nothing.
    """

    class Source(models.TextChoices):
        PROVIDER = "provider"
        ESTIMATED = "estimated"
        NONE = "none"

    line = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    model = models.CharField(max_length=256)
    tokens_in = models.BigIntegerField()
    tokens_cached = models.BigIntegerField()
    tokens_out = models.BigIntegerField()
    tokens_reasoning = models.BigIntegerField()
    cost_nano_usd = models.BigIntegerField(null=True)
    price_id = models.UUIDField(null=True)
    usage_source = models.CharField(max_length=16, choices=Source)
    dispatched = models.CharField(max_length=8)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["month", "request_id", "line"], name="ledger_line_once"),
            CheckConstraint(
                condition=Q(line__gt=1)
                | Q(
                    tokens_in__gte=0,
                    tokens_cached__gte=0,
                    tokens_out__gte=0,
                    tokens_reasoning__gte=0,
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
    """One row per call of a known caller, refused ones included. `correlation_id` is the request id the caller saw."""

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

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["month", "request_id"], name="log_once_per_call"),
            CheckConstraint(
                condition=Q(dispatched__in=["yes", "no", "unknown"]),
                name="log_dispatched",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["created_at", "request_id"], name="log_by_time"),
            models.Index(fields=["tenant_id", "created_at"], name="log_by_tenant"),
            models.Index(fields=["key_id", "created_at"], name="log_by_key"),
            models.Index(fields=["correlation_id"], name="log_by_correlation"),
        ]

    def __str__(self) -> str:
        return self.correlation_id


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
    """Sums of one month, per key and model (and what the key belonged to then). Charts and budgets read these."""

    month = models.CharField(max_length=7)
    model = models.CharField(max_length=256)
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
                ],
                name="rollup_once",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["key_id", "month"], name="rollup_by_key")]

    def __str__(self) -> str:
        return f"{self.month} {self.key_id} {self.model}"
