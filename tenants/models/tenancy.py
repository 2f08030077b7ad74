"""Who is served: tenants, and what each groups by."""

from typing import ClassVar

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.db.models.functions import Lower

from tenants.models.base import Identified, Limited, limit_checks


class Tenant(Identified, Limited):
    """An organisation. Everything that a caller can reach belongs to exactly one."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        INACTIVE = "inactive"

    name = models.CharField(max_length=128)
    slug = models.SlugField(max_length=64, unique=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    rate_limit_rpm = models.BigIntegerField(null=True, default=120)
    allowed_models = models.JSONField(null=True, default=None)
    allowed_addresses = models.JSONField(null=True, default=None)
    content_logging = models.BooleanField(default=False)
    content_retention_days = models.PositiveIntegerField(default=30)

    class Meta:
        constraints: ClassVar = [
            CheckConstraint(condition=Q(status__in=["active", "inactive"]), name="tenant_status"),
            CheckConstraint(
                condition=Q(content_retention_days__gte=1, content_retention_days__lte=3650),
                name="tenant_content_retention",
            ),
            *limit_checks("tenant"),
        ]

    def __str__(self) -> str:
        return self.slug


class Project(Identified, Limited):
    """A group of keys inside a tenant."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="projects")
    name = models.CharField(max_length=128)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint("tenant", Lower("name"), name="project_name_in_tenant"),
            *limit_checks("project"),
        ]

    def __str__(self) -> str:
        return self.name


class Account(Identified, Limited):
    """A payer inside a tenant. Inactive or deleted: its keys answer 401."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="accounts")
    username = models.CharField(max_length=128)
    email = models.EmailField(blank=True, default="")
    organization = models.CharField(max_length=128, blank=True, default="")
    is_active = models.BooleanField(default=True)
    deleted_at = models.DateTimeField(null=True, default=None)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint("tenant", Lower("username"), name="account_username_in_tenant"),
            *limit_checks("account"),
        ]

    def __str__(self) -> str:
        return self.username
