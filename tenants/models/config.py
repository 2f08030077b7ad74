"""What the configuration file said, revision by revision, and what takes the newest ones back."""

from typing import ClassVar

from django.db import models

from tenants.models.base import Identified


class ConfigRevision(Identified):
    """One configuration file that was applied and changed something. The newest that was not rolled back is in force.

    `document` is the file without its secrets. `owned` names the rows that the file answers for: [kind, id]. `undo` takes the
    revision back, and is null once it is too old for that; credentials in it are the sealed records that they always were, bound
    to their places.
    """

    number = models.PositiveIntegerField(unique=True)
    document = models.JSONField()
    digest = models.CharField(max_length=64)
    counts = models.JSONField()
    changes = models.JSONField()
    owned = models.JSONField()
    undo = models.JSONField(null=True, default=None)
    actor_type = models.CharField(max_length=32)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=128)
    applied_at = models.DateTimeField()
    rolled_back_at = models.DateTimeField(null=True, default=None)
    rolled_back_by = models.CharField(max_length=128, blank=True, default="")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["rolled_back_at", "number"], name="config_live")]

    def __str__(self) -> str:
        return f"revision {self.number}"
