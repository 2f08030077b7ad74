"""What may be forgotten of people and of the house itself: sessions that are over, tickets, changes that everybody knows."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Max

from tenants import setting_services, tickets
from tenants.chores import Chore, Pile
from tenants.models import ConfigChange, Session

#: Lines of the change log that stay. A worker that was away for longer reads everything anew, as it does for any gap.
_CHANGES_KEPT: Final = 10_000


def _sessions(now: datetime) -> Iterable[Pile]:
    """A session that was ended early has its row for as long as one that was not."""
    before = now - timedelta(days=setting_services.value_of("session_retention_days"))
    yield Pile(Session.objects.filter(expires_at__lt=before).order_by("expires_at"))


def _tickets(now: datetime) -> Iterable[Pile]:
    yield Pile(tickets.over(now).order_by("created_at"))


def _changes(now: datetime) -> Iterable[Pile]:
    newest = ConfigChange.objects.aggregate(newest=Max("seq"))["newest"] or 0
    yield Pile(ConfigChange.objects.filter(seq__lte=newest - _CHANGES_KEPT).order_by("seq"))


CHORES: Final = (
    Chore("sessions", "sessions that are long over", _sessions),
    Chore("tickets", "forms of the console that were sent", _tickets, is_frequent=True),
    Chore("changes", "lines of the change log that every worker has seen", _changes),
)
