"""Credentials of callers. A key is what limits, spend and history belong to; a secret is what opens the door for a while."""

from typing import ClassVar

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.db.models.functions import Now

from tenants.models import Account, Identified, Limited, Project, Tenant, limit_checks


def default_scopes() -> list[str]:
    return ["inference", "usage"]


class APIKey(Identified, Limited):
    """A tenant's key. Rotation replaces its secret and nothing else."""

    class Source(models.TextChoices):
        ADMIN = "admin"
        CONFIG = "config"
        IMPORT = "import"
        SELF_SERVICE = "self-service"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="api_keys")
    project = models.ForeignKey(
        Project, null=True, on_delete=models.SET_NULL, related_name="api_keys"
    )
    account = models.ForeignKey(
        Account, null=True, on_delete=models.RESTRICT, related_name="api_keys"
    )
    name = models.CharField(max_length=128)
    team = models.CharField(max_length=64, blank=True, default="")
    source = models.CharField(max_length=16, choices=Source, default=Source.ADMIN)
    is_active = models.BooleanField(default=True)
    scopes = models.JSONField(default=default_scopes)
    allowed_models = models.JSONField(null=True, default=None)
    allowed_capabilities = models.JSONField(null=True, default=None)
    allowed_addresses = models.JSONField(null=True, default=None)
    log_content = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True, default=None)
    created_by_type = models.CharField(max_length=32)
    created_by_id = models.CharField(max_length=64)
    created_by_label = models.CharField(max_length=128)
    revoked_at = models.DateTimeField(null=True, default=None)
    revoked_by_type = models.CharField(max_length=32, blank=True, default="")
    revoked_by_id = models.CharField(max_length=64, blank=True, default="")
    revoked_by_label = models.CharField(max_length=128, blank=True, default="")
    revoked_reason = models.CharField(max_length=256, blank=True, default="")
    last_used_at = models.DateTimeField(null=True, default=None)

    class Meta:
        constraints: ClassVar = [
            CheckConstraint(condition=~Q(created_by_id=""), name="key_created_by_named"),
            CheckConstraint(
                condition=Q(revoked_at__isnull=True) | ~Q(revoked_by_id=""),
                name="key_revoked_by_named",
            ),
            CheckConstraint(
                condition=Q(source__in=["admin", "config", "import", "self-service"]),
                name="key_source",
            ),
            *limit_checks("key"),
        ]
        indexes: ClassVar = [models.Index(fields=["tenant", "created_at"], name="key_by_tenant")]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class KeySecret(Identified):
    """What opens the door: the HMAC of a credential under a pepper, or of its SHA-256 if another gateway made it, then with a
    mark before it (keys/tokens.py). `not_after` is set once a newer one took over.
    """

    key = models.ForeignKey(APIKey, on_delete=models.CASCADE, related_name="secrets")
    fingerprint = models.BinaryField(max_length=33, unique=True)
    pepper_version = models.PositiveIntegerField()
    prefix = models.CharField(max_length=16)
    not_after = models.DateTimeField(null=True, default=None)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(
                fields=["key"],
                condition=Q(not_after__isnull=True),
                name="key_has_one_current_secret",
            )
        ]

    def __str__(self) -> str:
        return self.prefix


class ImportedKey(models.Model):
    """A credential of another gateway that was taken over once. It outlives its secret and its key, so that no second import
    brings back what was rotated, revoked or deleted since; it goes with its tenant. `key_id` copies an id.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="imported_keys")
    fingerprint = models.BinaryField(max_length=33, unique=True)
    key_id = models.UUIDField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return str(self.key_id)
