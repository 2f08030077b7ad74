"""Upstream accounts, and the public names that route to them."""

from typing import ClassVar

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from tenants.models import Identified, Tenant


class Provider(Identified):
    """An account at an upstream: where it is and how to speak to it. `tenant` null: shared by all."""

    name = models.CharField(max_length=128)
    kind = models.CharField(max_length=32)
    base_url = models.CharField(max_length=512, blank=True, default="")
    deployment = models.CharField(max_length=64, blank=True, default="")
    api_version = models.CharField(max_length=32, blank=True, default="")
    tenant = models.ForeignKey(
        Tenant, null=True, on_delete=models.CASCADE, related_name="providers"
    )
    is_tenant_default = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)

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
        ]

    def __str__(self) -> str:
        return self.name


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


class Model(Identified):
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
    """What a model costs from a date on: integer nano-USD per million tokens. A price is never changed, only followed."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="prices")
    effective_from = models.DateTimeField()
    input_nano_per_mtok = models.BigIntegerField()
    output_nano_per_mtok = models.BigIntegerField()
    cached_input_nano_per_mtok = models.BigIntegerField(null=True, default=None)
    reasoning_nano_per_mtok = models.BigIntegerField(null=True, default=None)
    per_request_nano = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["model", "effective_from"], name="price_once_per_moment"),
            CheckConstraint(
                condition=Q(
                    input_nano_per_mtok__gte=0, output_nano_per_mtok__gte=0, per_request_nano__gte=0
                )
                & (
                    Q(cached_input_nano_per_mtok__isnull=True)
                    | Q(cached_input_nano_per_mtok__gte=0)
                )
                & (Q(reasoning_nano_per_mtok__isnull=True) | Q(reasoning_nano_per_mtok__gte=0)),
                name="price_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"from {self.effective_from:%Y-%m-%d %H:%M}"
