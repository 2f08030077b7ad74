"""What may be forgotten of people and of the house itself: sessions that are over, tickets, changes that everybody knows."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db.models import Max

from tenants import audit_prune, setting_services, tickets
from tenants.chores import Chore, Pile, Sweep
from tenants.errors import ServiceError
from tenants.models import ConfigChange, Invitation, Session

logger = logging.getLogger(__name__)

#: Seconds to be counted for a segment of audit rows: the pause after it is longer.
_REST_SECONDS: Final = 0.05
#: Lines of the change log that stay. A worker that was away for longer reads everything anew, as it does for any gap.
_CHANGES_KEPT: Final = 10_000


def _sessions(now: datetime) -> Iterable[Pile]:
    """A session that was ended early has its row for as long as one that was not."""
    before = now - timedelta(days=setting_services.value_of("session_retention_days"))
    yield Pile(Session.objects.filter(expires_at__lt=before).order_by("expires_at"))


def _invitations(now: datetime) -> Iterable[Pile]:
    """Taken up, taken back or not: when its day is over nobody comes in by one."""
    before = now - timedelta(days=setting_services.value_of("session_retention_days"))
    yield Pile(Invitation.objects.filter(expires_at__lt=before).order_by("expires_at"))


def _tickets(now: datetime) -> Iterable[Pile]:
    yield Pile(tickets.over(now).order_by("created_at"))


def _changes(now: datetime) -> Iterable[Pile]:
    newest = ConfigChange.objects.aggregate(newest=Max("seq"))["newest"] or 0
    yield Pile(ConfigChange.objects.filter(seq__lte=newest - _CHANGES_KEPT).order_by("seq"))


@dataclass(frozen=True, slots=True)
class _AuditRows(Chore):
    """Not deleted but taken out, by a segment each (tenants/audit_prune.py), if there is a folder for them and a time."""

    def count(self, now: datetime) -> int:
        before = _audit_before(now)
        return sum(each.rows for each in audit_prune.old(before)) if before else 0

    def do(self, sweep: Sweep, now: datetime) -> None:
        before = _audit_before(now)
        refused = self._prune(sweep, before) if before is not None else {}
        for scope, sentence in refused.items():
            logger.error("The audit log of %s was not pruned: %s", scope, sentence)

    def _prune(self, sweep: Sweep, before: datetime) -> dict[str, str]:
        """Why something was not, by scope."""
        try:
            outcome = audit_prune.prune(
                actor=sweep.actor,
                before=before,
                folder=Path(settings.AUDIT_SEGMENTS),
                goes_on=sweep.goes_on,
                progress=lambda mark: sweep.deleted(self.name, mark.rows, _REST_SECONDS),
            )
        except ServiceError as refusal:
            return {"everybody": refusal.message}
        return outcome.refused


def _audit_before(now: datetime) -> datetime | None:
    days = setting_services.value_of("audit_retention_days")
    return now - timedelta(days=days) if days and settings.AUDIT_SEGMENTS else None


def _nothing(now: datetime) -> Iterable[Pile]:
    return ()


CHORES: Final = (
    _AuditRows("audit", "audit rows, into files that verify", _nothing),
    Chore("sessions", "sessions that are long over", _sessions),
    Chore("invitations", "invitations whose day is long over", _invitations),
    Chore("tickets", "forms of the console that were sent", _tickets, is_frequent=True),
    Chore("changes", "lines of the change log that every worker has seen", _changes),
)
