"""How the last test of each provider went, read from the audit log: that is where a test is written down."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import F, Window
from django.db.models.functions import RowNumber

from providers.services import KIND
from tenants.models import AuditEvent


@dataclass(frozen=True, slots=True)
class LastTest:
    """`status` is the upstream's own, null when there was none."""

    at: datetime
    by: str
    ok: bool
    status: int | None
    latency_ms: int


def last_tests(provider_ids: Collection[UUID]) -> dict[UUID, LastTest]:
    """Of those that were ever tested."""
    tests = AuditEvent.objects.filter(
        target_kind=KIND,
        target_id__in=[str(each) for each in provider_ids],
        action="provider.tested",
    ).annotate(
        place=Window(
            RowNumber(),
            partition_by=F("target_id"),
            order_by=[F("created_at").desc(), F("seq").desc()],
        )
    )
    return {UUID(event.target_id): _read(event) for event in tests.filter(place=1)}


def _read(event: AuditEvent) -> LastTest:
    status = event.details.get("status") if isinstance(event.details, dict) else None
    return LastTest(
        at=event.created_at,
        by=event.actor_label,
        ok=event.outcome == AuditEvent.Outcome.OK,
        status=status if isinstance(status, int) else None,
        latency_ms=event.duration_ms,
    )
