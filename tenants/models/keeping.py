"""What the house keeps for itself: root secrets, the log of changes that workers compare theirs with, and whose turn it is to do
what one of them does for all.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q, UniqueConstraint
from django.db.models.functions import Now

from tenants.models.base import Identified
from tenants.models.tenancy import Tenant


class RootSecret(Identified):
    """A random 32-byte secret, wrapped by the KEK: a tenant's own, or one of the platform's (pepper, audit, sign-in).

    Rotating the KEK rewrites these rows and no ciphertext; deleting a tenant's row shreds what was sealed for it.
    """

    purpose = models.CharField(max_length=32)
    tenant = models.ForeignKey(Tenant, null=True, on_delete=models.CASCADE, related_name="+")
    version = models.PositiveIntegerField(default=1)
    salt = models.BinaryField(max_length=32)
    wrapped = models.BinaryField(max_length=256)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(
                fields=["purpose", "tenant", "version"],
                condition=Q(tenant__isnull=False),
                name="root_secret_of_tenant",
            ),
            UniqueConstraint(
                fields=["purpose", "version"],
                condition=Q(tenant__isnull=True),
                name="root_secret_of_platform",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.version}"


class ConfigChange(models.Model):
    """One line per configuration change; the newest `seq` is the epoch that workers compare theirs with.

    `seq` is made under a lock, so that it rises without gaps in the order of commits: a reader that saw n has missed none below.
    `kind` and `object_id` say what to drop; `tenant_id` narrows it to one tenant's, null means everybody's.
    """

    seq = models.BigIntegerField(primary_key=True)
    kind = models.CharField(max_length=32)
    object_id = models.UUIDField()
    tenant_id = models.UUIDField(null=True, default=None)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.seq}: {self.kind} {self.object_id}"


class Duty(models.Model):
    """What one process does for all, such as housekeeping: whose turn it is until when (tenants/duties.py), and when it was done.

    A holder that dies loses its turn when `until` has passed.
    """

    name = models.CharField(max_length=64, primary_key=True)
    holder = models.CharField(max_length=64, blank=True, default="")
    until = models.DateTimeField(null=True, default=None)
    done_at = models.DateTimeField(null=True, default=None)

    def __str__(self) -> str:
        return self.name
