"""When a key was last used, to the minute. It is told in passing: no epoch moves, and nothing waits for it."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from keys.models import APIKey
from tenants.clock import from_unix_us
from usage.calls import Item
from usage.records import Refusal

_EVERY_US: Final = 60_000_000
#: Keys remembered as written; beyond it all are forgotten, and written once more than needed.
_MAX_KEYS: Final = 50_000


class LastUsed:
    """Writes `last_used_at` of the keys in batches, at most once a minute per key."""

    def __init__(self) -> None:
        self._written: dict[UUID, int] = {}
        self._due: dict[UUID, int] = {}

    def write(self) -> None:
        """What was heard of, in a transaction of its own. Raises database errors, and then it is due the next time.

        A key that somebody else has locked is left for its next call: who deletes a tenant locks its keys in any order, and
        two who wait for each other's would both be stopped.
        """
        due = self._due
        if not due:
            return
        with transaction.atomic():
            free = APIKey.objects.select_for_update(skip_locked=True).filter(id__in=due)
            ours = set(free.values_list("id", flat=True))
            for key_id in ours:
                moment = from_unix_us(due[key_id])
                older = Q(last_used_at__isnull=True) | Q(last_used_at__lt=moment)
                APIKey.objects.filter(older, id=key_id).update(last_used_at=moment)
        if len(self._written) + len(due) > _MAX_KEYS:
            self._written.clear()
        self._written |= {key_id: due[key_id] for key_id in ours}
        self._due = {}

    def hear(self, items: Iterable[Item]) -> None:
        """Of calls that the tables have."""
        due = self._due
        for item in items:
            first = item if isinstance(item, Refusal) else item.intent
            key_id, used = first.caller.key_id, first.received_at
            written = self._written.get(key_id)
            if written is None or used - written >= _EVERY_US:
                due[key_id] = max(used, due.get(key_id, used))
