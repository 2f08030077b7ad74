"""Whose turn it is to do what one process does for all: a lease row each, taken by comparing and setting it in one statement.

Nobody waits for anybody: who does not get it goes on, and asks again later. A holder says now and then that it is still there;
one that died, or was stopped for longer than its lease, has lost its turn to whoever asks next, and learns so when it renews.
"""

from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q

from tenants.models import Duty

#: How long a holder that says nothing is still believed to be at work.
LEASE: Final = timedelta(minutes=5)


def take(name: str, holder: str, now: datetime, every: timedelta) -> bool:
    """Whether it is due, at most once in `every`, and the turn is `holder`'s now."""
    Duty.objects.bulk_create([Duty(name=name)], ignore_conflicts=True)
    # A clock that was put back must not stop it for as long as it was ahead.
    is_free = Q(until__isnull=True) | Q(until__lte=now) | Q(until__gt=now + 2 * LEASE)
    is_due = Q(done_at__isnull=True) | Q(done_at__lte=now - every) | Q(done_at__gt=now + LEASE)
    free = Duty.objects.filter(is_free, is_due, name=name)
    return free.update(holder=holder, until=now + LEASE) == 1


def renew(name: str, holder: str, now: datetime) -> bool:
    """False: it is somebody else's turn by now."""
    mine = Duty.objects.filter(name=name, holder=holder, until__isnull=False)
    return mine.update(until=now + LEASE) == 1


def done(name: str, holder: str, now: datetime) -> None:
    """Done until the next time. If it is somebody else's turn by now, theirs is left alone."""
    Duty.objects.filter(name=name, holder=holder).update(until=None, done_at=now)


def note_done(name: str, now: datetime) -> None:
    """It was done by somebody who asked for no turn: an operator, or cron."""
    Duty.objects.update_or_create(name=name, defaults={"done_at": now})


def ask(name: str) -> None:
    """It is due at once."""
    Duty.objects.filter(name=name).update(done_at=None)


def done_at(name: str) -> datetime | None:
    return Duty.objects.filter(name=name).values_list("done_at", flat=True).first()
