"""Open sessions of people, to look at and to end."""

from uuid import UUID

from django.db.models import QuerySet

from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import change
from tenants.clock import SYSTEM
from tenants.errors import NotFound
from tenants.models import Session

KIND = "session"


def open_sessions() -> "QuerySet[Session]":
    """Those that still open something."""
    now = SYSTEM.now()
    found = Session.objects.select_related("user").filter(ended_at__isnull=True, expires_at__gt=now)
    return found.exclude(idle_ends_at__lte=now)


def end_session(*, actor: Actor, session_id: UUID, among: "QuerySet[Session]") -> None:
    """End one of these. Raises `NotFound` where it is not among them, or not open any more."""
    with change(actor, "session.ended", Target(KIND, str(session_id))) as it:
        session = among.filter(pk=session_id).first()
        if session is None:
            raise NotFound
        it.aim(Target(KIND, str(session.id), session.user.username))
        Session.objects.filter(pk=session.pk).update(ended_at=SYSTEM.now())
