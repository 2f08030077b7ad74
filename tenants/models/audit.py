"""What was decided: the audit log's rows, the end of each chain, and what was taken off its beginning."""

import uuid
from typing import Any, ClassVar

from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint


class AuditHead(models.Model):
    """The end of each scope's chain: the row that writers of one scope queue on, and what a cut tail is noticed by."""

    scope = models.CharField(max_length=64, primary_key=True)
    seq = models.BigIntegerField(default=0)
    row_hash = models.BinaryField(max_length=32)

    def __str__(self) -> str:
        return f"{self.scope} {self.seq}"


class AuditEvent(models.Model):
    """One decision: who, by what means, did what to what, and how it ended. Chained per scope; only ever added.

    It names its target in text, so it survives it. `scope` is a tenant's id or `platform`.
    """

    class Outcome(models.TextChoices):
        OK = "ok"
        REFUSED = "refused"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    scope = models.CharField(max_length=64)
    seq = models.BigIntegerField()
    created_at = models.DateTimeField()
    actor_type = models.CharField(max_length=32)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=128)
    method = models.CharField(max_length=32)
    action = models.CharField(max_length=64)
    target_kind = models.CharField(max_length=32)
    target_id = models.CharField(max_length=64)
    target_label = models.CharField(max_length=256)
    outcome = models.CharField(max_length=16, choices=Outcome)
    error_code = models.CharField(max_length=64, blank=True, default="")
    duration_ms = models.BigIntegerField()
    details = models.JSONField(default=dict)
    details_salt = models.BinaryField(max_length=16)
    details_digest = models.BinaryField(max_length=32)
    request_id = models.CharField(max_length=64)
    source = models.CharField(max_length=16)
    address = models.CharField(max_length=64, blank=True, default="")
    user_agent = models.CharField(max_length=256, blank=True, default="")
    prev_hash = models.BinaryField(max_length=32)
    row_hash = models.BinaryField(max_length=32)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["scope", "seq"], name="audit_seq_in_scope"),
            CheckConstraint(
                condition=~Q(actor_type="") & ~Q(actor_id="") & ~Q(actor_label=""),
                name="audit_actor_named",
            ),
            CheckConstraint(
                condition=~Q(method="") & ~Q(request_id="") & Q(duration_ms__gte=0),
                name="audit_circumstances_named",
            ),
            CheckConstraint(
                condition=Q(outcome__in=["ok", "refused", "failed"]),
                name="audit_outcome",
            ),
            CheckConstraint(
                condition=Q(source__in=["api", "console", "command", "mcp", "system"]),
                name="audit_source",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["created_at", "id"], name="audit_by_time"),
            models.Index(fields=["action", "created_at"], name="audit_by_action"),
            models.Index(fields=["target_kind", "target_id"], name="audit_by_target"),
            models.Index(fields=["actor_id", "created_at"], name="audit_by_actor"),
            models.Index(fields=["request_id"], name="audit_by_request"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.seq}: {self.action}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("An audit event is not changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("An audit event is not deleted.")


class AuditPrune(models.Model):
    """A segment of a chain that went into a file and out of the table: rows `from_seq` to `to_seq`, the last of which had
    `head_hash`. The chain goes on from there.

    `digest` is the file's SHA-256; `noted_seq` is the row of the chain itself that tells of it. Signed by `mac`, which covers the
    mark before it as well, so that none can be made, changed or left out by whoever has not the key (tenants/audit_marks.py).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    scope = models.CharField(max_length=64)
    from_seq = models.BigIntegerField()
    to_seq = models.BigIntegerField()
    head_hash = models.BinaryField(max_length=32)
    file = models.CharField(max_length=256)
    digest = models.BinaryField(max_length=32)
    noted_seq = models.BigIntegerField()
    created_at = models.DateTimeField()
    actor_type = models.CharField(max_length=32)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=128)
    mac = models.BinaryField(max_length=32)

    class Meta:
        constraints: ClassVar = [
            UniqueConstraint(fields=["scope", "from_seq"], name="audit_prune_from"),
            UniqueConstraint(fields=["scope", "to_seq"], name="audit_prune_to"),
            CheckConstraint(
                condition=Q(from_seq__gte=1, to_seq__gte=F("from_seq"), noted_seq__gt=F("to_seq")),
                name="audit_prune_order",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.from_seq} to {self.to_seq}"

    @property
    def rows(self) -> int:
        return self.to_seq - self.from_seq + 1
