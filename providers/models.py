"""Upstream accounts, and the public names that route to them; and the stores of tenants."""

from functools import reduce
from operator import and_
from typing import ClassVar, Final

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.db.models.functions import Lower

from tenants.models import Identified, Limited, Tenant, limit_check, limit_checks

#: Seconds that a provider may be given for one call: a day.
MAX_TIMEOUT: Final = 86_400


def _null_or_not_negative(*names: str) -> Q:
    """Each of them is null, or 0 and more."""
    rules = (Q(**{f"{name}__isnull": True}) | Q(**{f"{name}__gte": 0}) for name in names)
    return reduce(and_, rules)


class Granted(models.Model):
    """What is shared by all tenants or, `is_restricted`, by those alone that it is granted to (providers/grants.py)."""

    is_restricted = models.BooleanField(default=False)
    granted = models.ManyToManyField(Tenant, related_name="+")

    class Meta:
        abstract = True


class Provider(Identified, Limited, Granted):
    """An account at an upstream: where it is and how to speak to it. `tenant` null: shared by all."""

    class DisconnectPolicy(models.TextChoices):
        """What becomes of a call whose caller leaves: closed at once, or read on to the usage that the provider reports."""

        CANCEL = "cancel"
        DRAIN = "drain"

    name = models.CharField(max_length=128)
    kind = models.CharField(max_length=32)
    base_url = models.CharField(max_length=512, blank=True, default="")
    deployment = models.CharField(max_length=64, blank=True, default="")
    api_version = models.CharField(max_length=32, blank=True, default="")
    disconnect_policy = models.CharField(
        max_length=8, choices=DisconnectPolicy, default=DisconnectPolicy.CANCEL
    )
    tenant = models.ForeignKey(
        Tenant, null=True, on_delete=models.CASCADE, related_name="providers"
    )
    is_tenant_default = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    timeout_seconds = models.PositiveIntegerField(null=True, default=None)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(
                fields=["name"], condition=Q(tenant__isnull=True), name="provider_name_shared"
            ),
            UniqueConstraint(
                fields=["tenant", "name"],
                condition=Q(tenant__isnull=False),
                name="provider_name_in_tenant",
            ),
            UniqueConstraint(
                fields=["tenant"],
                condition=Q(is_tenant_default=True),
                name="provider_one_default_per_tenant",
            ),
            CheckConstraint(
                condition=Q(is_tenant_default=False) | Q(tenant__isnull=False),
                name="provider_default_has_tenant",
            ),
            CheckConstraint(
                condition=Q(disconnect_policy__in=["cancel", "drain"]),
                name="provider_disconnect_policy",
            ),
            CheckConstraint(
                condition=Q(is_restricted=False) | Q(tenant__isnull=True),
                name="provider_granted_is_shared",
            ),
            limit_check("timeout_seconds", "provider_timeout", MAX_TIMEOUT),
            *limit_checks("provider"),
        ]

    def __str__(self) -> str:
        return self.name


class ProviderHealth(models.Model):
    """What came of asking a provider last (providers/health.py). `last_error` is cleaned, and empty while it is up."""

    class State(models.TextChoices):
        UP = "up"
        DEGRADED = "degraded"
        DOWN = "down"

    provider = models.OneToOneField(
        Provider, primary_key=True, on_delete=models.CASCADE, related_name="health"
    )
    state = models.CharField(max_length=16, choices=State)
    checked_at = models.DateTimeField()
    latency_ms = models.PositiveIntegerField()
    status = models.PositiveIntegerField(null=True, default=None)
    last_error = models.CharField(max_length=300, blank=True, default="")

    def __str__(self) -> str:
        return self.state


class Credential(Identified):
    """A sealed credential of a provider. `binding` (kind and origin) is authenticated: it opens nowhere else."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="credentials")
    version = models.PositiveIntegerField(default=1)
    sealed = models.BinaryField()
    binding = models.CharField(max_length=600)
    retired_at = models.DateTimeField(null=True, default=None)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["provider", "version"], name="credential_version"),
            UniqueConstraint(
                fields=["provider"],
                condition=Q(retired_at__isnull=True),
                name="credential_one_current",
            ),
        ]

    def __str__(self) -> str:
        return f"credential {self.version}"


class Model(Identified, Limited, Granted):
    """The public name that a caller uses. `tenant` null: shared; a tenant's own of the same name wins for it.

    A name that ends in `*` passes every name with that prefix through.
    """

    class Capability(models.TextChoices):
        CHAT = "chat"
        EMBEDDING = "embedding"

    name = models.CharField(max_length=128)
    tenant = models.ForeignKey(
        Tenant, null=True, on_delete=models.CASCADE, related_name="own_models"
    )
    capability = models.CharField(max_length=16, choices=Capability, default=Capability.CHAT)
    context_window = models.BigIntegerField(null=True, default=None)
    max_output_tokens = models.BigIntegerField(null=True, default=None)
    is_active = models.BooleanField(default=True)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(
                fields=["name"], condition=Q(tenant__isnull=True), name="model_name_shared"
            ),
            UniqueConstraint(
                fields=["tenant", "name"],
                condition=Q(tenant__isnull=False),
                name="model_name_in_tenant",
            ),
            CheckConstraint(
                condition=Q(context_window__isnull=True)
                | Q(context_window__gte=1, context_window__lte=10**12),
                name="model_context_window",
            ),
            CheckConstraint(
                condition=Q(max_output_tokens__isnull=True)
                | Q(max_output_tokens__gte=1, max_output_tokens__lte=10**12),
                name="model_max_output_tokens",
            ),
            CheckConstraint(
                condition=Q(is_restricted=False) | Q(tenant__isnull=True),
                name="model_granted_is_shared",
            ),
            *limit_checks("model"),
        ]

    def __str__(self) -> str:
        return self.name


class Target(Identified):
    """One way to serve a model, tried in order of `priority` (lowest first). Without a provider it serves nothing."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="targets")
    provider = models.ForeignKey(
        Provider, null=True, on_delete=models.SET_NULL, related_name="targets"
    )
    upstream_model = models.CharField(max_length=256)
    priority = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(
                fields=["model", "provider", "upstream_model"], name="target_once_per_model"
            )
        ]

    def __str__(self) -> str:
        return self.upstream_model


class Price(Identified):
    """What a model costs from a date on. A price is never changed, only followed.

    Integer nano-USD: per million tokens, per request, per image, per minute of sound. Null costs what it is part of; a call with
    more than `long_context_from_tokens` input tokens costs the `long_context_*` prices, where they are set. `tenant`: for this
    tenant only, in place of what the others pay for a shared model.
    """

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="prices")
    tenant = models.ForeignKey(
        Tenant, null=True, default=None, on_delete=models.CASCADE, related_name="own_prices"
    )
    effective_from = models.DateTimeField()
    input_nano_per_mtok = models.BigIntegerField()
    output_nano_per_mtok = models.BigIntegerField()
    cached_input_nano_per_mtok = models.BigIntegerField(null=True, default=None)
    cache_write_nano_per_mtok = models.BigIntegerField(null=True, default=None)
    reasoning_nano_per_mtok = models.BigIntegerField(null=True, default=None)
    long_context_from_tokens = models.BigIntegerField(null=True, default=None)
    long_context_input_nano_per_mtok = models.BigIntegerField(null=True, default=None)
    long_context_output_nano_per_mtok = models.BigIntegerField(null=True, default=None)
    long_context_cached_input_nano_per_mtok = models.BigIntegerField(null=True, default=None)
    long_context_cache_write_nano_per_mtok = models.BigIntegerField(null=True, default=None)
    per_request_nano = models.BigIntegerField(default=0)
    per_image_nano = models.BigIntegerField(default=0)
    per_minute_nano = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(
                fields=["model", "effective_from"],
                condition=Q(tenant__isnull=True),
                name="price_once_per_moment",
            ),
            UniqueConstraint(
                fields=["model", "tenant", "effective_from"],
                condition=Q(tenant__isnull=False),
                name="price_once_per_tenant_moment",
            ),
            CheckConstraint(
                condition=Q(
                    input_nano_per_mtok__gte=0,
                    output_nano_per_mtok__gte=0,
                    per_request_nano__gte=0,
                    per_image_nano__gte=0,
                    per_minute_nano__gte=0,
                )
                & _null_or_not_negative(
                    "cached_input_nano_per_mtok",
                    "cache_write_nano_per_mtok",
                    "reasoning_nano_per_mtok",
                    "long_context_input_nano_per_mtok",
                    "long_context_output_nano_per_mtok",
                    "long_context_cached_input_nano_per_mtok",
                    "long_context_cache_write_nano_per_mtok",
                ),
                name="price_not_negative",
            ),
            CheckConstraint(
                condition=Q(long_context_from_tokens__isnull=True)
                | Q(long_context_from_tokens__gte=1, long_context_from_tokens__lte=10**12),
                name="price_long_context",
            ),
        ]

    def __str__(self) -> str:
        return f"from {self.effective_from:%Y-%m-%d %H:%M}"


class Store(Identified):
    """A shop of a tenant's, which tools will work on. `sealed` is its credential (null: none) of that version, good for
    the origin of `base_url` alone.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="stores")
    store_id = models.CharField(max_length=128)
    name = models.CharField(max_length=128)
    label = models.CharField(max_length=128, blank=True, default="")
    base_url = models.CharField(max_length=512, blank=True, default="")
    sealed = models.BinaryField(null=True, default=None)
    sealed_version = models.PositiveIntegerField(default=0)
    is_active = models.BooleanField(default=True)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["tenant", "store_id"], name="store_id_in_tenant"),
            UniqueConstraint("tenant", Lower("name"), name="store_name_in_tenant"),
        ]

    def __str__(self) -> str:
        return self.name
