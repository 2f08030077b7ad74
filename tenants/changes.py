"""The one way to change anything: one transaction with the change, its audit row and the new epoch.

    with change(actor, "key.revoked", Target("api_key", str(key.id), key.name), tenant_id) as it:
        ...                                   # the change itself
        it.touch("api_key", key.id, tenant_id)    # what workers must read anew

If the audit row or the epoch cannot be written, nothing happened. If the body refuses, that is written down as well.

Many changes that are one decision stand in `together`: one transaction and one row for all of them.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.db.models import Max

from tenants import audit, bus
from tenants.actor import Actor
from tenants.audit import Entry, Target
from tenants.clock import SYSTEM
from tenants.errors import ServiceError
from tenants.models import AuditEvent, ConfigChange

logger = logging.getLogger(__name__)

#: Changes that the row of several names one by one; of more it has the number.
_NAMED_PARTS: Final = 64


@dataclass(slots=True)
class Change:
    """What is being changed; the body of `change` fills it in."""

    entry: Entry
    touched: list[tuple[str, UUID, UUID | None]] = field(default_factory=list)
    #: What was changed inside of `together`.
    parts: list[tuple[str, Target]] = field(default_factory=list)
    is_void: bool = False

    def touch(self, kind: str, object_id: UUID, tenant_id: UUID | None) -> None:
        """Workers drop what they know of this; `tenant_id` null concerns everybody."""
        self.touched.append((kind, object_id, tenant_id))

    def detail(self, **details: Any) -> None:
        self.entry.details.update(details)

    def aim(self, target: Target, tenant_id: UUID | None = None) -> None:
        """Name the target once it is known; with a tenant, the row goes into that tenant's chain."""
        self.entry.target = target
        if tenant_id is not None:
            self.entry.scope = audit.scope_of(tenant_id)

    def void(self) -> None:
        """There was nothing to change after all: no row, no epoch."""
        self.is_void = True

    def absorb(self, part: "Change") -> None:
        """Another change becomes a part of this one."""
        self.parts += part.parts or [(part.entry.action, part.entry.target)]
        self.touched += part.touched


#: The change that others are part of just now.
_whole: ContextVar[Change | None] = ContextVar("whole", default=None)


@contextmanager
def change(
    actor: Actor, action: str, target: Target, tenant_id: UUID | None = None
) -> Iterator[Change]:
    """See the module. Refusals (`ServiceError`) roll back, leave a `refused` row of their own, and are raised on."""
    it = Change(Entry(actor, action, target, audit.scope_of(tenant_id)))
    whole = _whole.get()
    if whole is not None:
        with transaction.atomic():
            yield it
        whole.absorb(it)
        return
    began = SYSTEM.monotonic()
    try:
        with in_turn():
            yield it
            if it.is_void:
                return
            it.entry.duration_ms = _since(began)
            audit.write(it.entry)
            newest = _advance_epoch(it.touched)
            if newest:
                transaction.on_commit(lambda: bus.announce(newest), robust=True)
    except ServiceError as refusal:
        it.entry.duration_ms = _since(began)
        _note_refusal(it.entry, refusal)
        raise


@contextmanager
def together(actor: Actor, action: str, target: Target) -> Iterator[Change]:
    """One change made of many: what services change inside has no rows of its own, but is named in this one's, and the epoch
    advances once for all. A refusal that leaves the block undoes everything and is one `refused` row.
    """
    with change(actor, action, target) as it:
        with _parts_of(it):
            yield it
        named = it.parts[:_NAMED_PARTS]
        it.detail(
            parts=[{"action": of, "kind": at.kind, "label": at.label or at.id} for of, at in named],
            parts_in_all=len(it.parts),
        )


@contextmanager
def rehearsal(actor: Actor) -> Iterator[None]:
    """What is changed inside is undone at the end and leaves no row; what would be refused is refused."""
    with in_turn(), _parts_of(Change(Entry(actor, "rehearsal", Target("rehearsal", "none")))):
        yield
        transaction.set_rollback(True)


@contextmanager
def _parts_of(whole: Change) -> Iterator[None]:
    token = _whole.set(whole)
    try:
        yield
    finally:
        _whole.reset(token)


@contextmanager
def in_turn() -> Iterator[None]:
    """One transaction that no other change overlaps: what is read in it holds until its end. Changes may stand inside it."""
    with transaction.atomic():
        _queue_up()
        yield


def note(entry: Entry) -> None:
    """One audit row about something that is no change of configuration: a sign-in, a credential that does not open."""
    with transaction.atomic():
        audit.write(entry)


def epoch() -> int:
    """The newest `seq`; 0 before the first change."""
    return ConfigChange.objects.aggregate(newest=Max("seq"))["newest"] or 0


def _since(began: float) -> int:
    return round((SYSTEM.monotonic() - began) * 1000)


def _queue_up() -> None:
    """Changes are rare, so they wait for one another: `seq` then rises in the order of commits, and no two locks cross.

    On SQLite the transaction took the write lock when it began.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE tenants_configchange IN SHARE ROW EXCLUSIVE MODE")


def _advance_epoch(touched: list[tuple[str, UUID, UUID | None]]) -> int:
    first = epoch() + 1 if touched else 0
    ConfigChange.objects.bulk_create(
        ConfigChange(seq=first + index, kind=kind, object_id=object_id, tenant_id=tenant_id)
        for index, (kind, object_id, tenant_id) in enumerate(touched)
    )
    return first + len(touched) - 1 if touched else 0


def _note_refusal(entry: Entry, refusal: ServiceError) -> None:
    entry.outcome, entry.error_code = AuditEvent.Outcome.REFUSED, refusal.code
    try:
        note(entry)
    except DatabaseError:
        # Nothing changed, so nothing is hidden; the refusal itself must still reach the caller.
        logger.exception("A refusal could not be written to the audit log.")
