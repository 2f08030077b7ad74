"""Bodies of calls that were kept: how they stand in their column, and how somebody reads them, which is written down first."""

from typing import Final
from uuid import UUID

import msgspec
from django.db.models import Exists, OuterRef

from tenants import audit, keyring
from tenants.actor import Actor
from tenants.audit import Entry, Target
from tenants.changes import note
from tenants.errors import Gone, NotFound, Unavailable
from tenants.models import AuditEvent, RootSecret
from tenants.sealing import Place, SealingError
from usage.models import RequestContent, RequestLog

PURPOSE: Final = "content-log"
ACTION: Final = "content.read"


class ContentUnreadable(Unavailable):
    code = "content_unreadable"


class ContentShredded(Gone):
    code = "content_shredded"


class Bodies(msgspec.Struct, frozen=True):
    """What is sealed, as MessagePack. `truncated` names the sides that were longer than what is kept."""

    request: bytes
    response: bytes
    truncated: list[str]


def place(tenant_id: UUID, request_id: UUID) -> Place:
    return Place("usage_requestcontent", "sealed", tenant_id, request_id, 1)


#: Of log rows: whether anything was kept of the call's bodies and is still there.
IS_KEPT: Final = Exists(
    RequestContent.objects.filter(month=OuterRef("month"), request_id=OuterRef("request_id"))
)


def content_of(call: RequestLog) -> RequestContent | None:
    """Sealed, if anything was kept of this call's bodies and is still there."""
    return RequestContent.objects.filter(month=call.month, request_id=call.request_id).first()


def read(*, actor: Actor, call: RequestLog) -> Bodies:
    """The bodies in clear. Before they leave there is an audit row in the tenant's chain, of a failure as well: if it cannot be
    written, nothing is read.

    Raises `NotFound` (none were kept), `ContentShredded` (the tenant's secret is gone, and with it every way to read them),
    `ContentUnreadable`, and what the database raises.
    """
    row = content_of(call)
    if row is None:
        raise NotFound
    entry = Entry(
        actor,
        ACTION,
        Target("request", str(call.request_id), call.correlation_id),
        scope=audit.scope_of(row.tenant_id),
    )
    try:
        bodies = _opened(row)
    except (ContentShredded, ContentUnreadable) as failure:
        entry.outcome, entry.error_code = AuditEvent.Outcome.FAILED, failure.code
        note(entry)
        raise
    note(entry)
    return bodies


def _opened(row: RequestContent) -> Bodies:
    # Asked of the table: a process may remember for a while what was shredded by another.
    if not RootSecret.objects.filter(tenant_id=row.tenant_id, purpose=keyring.TENANT).exists():
        raise ContentShredded("The tenant's secret is gone, so nobody can read this any more.")
    try:
        clear = keyring.unseal_for(
            row.tenant_id, PURPOSE, place(row.tenant_id, row.request_id), bytes(row.sealed)
        )
        return msgspec.msgpack.decode(clear.reveal(), type=Bodies)
    except (SealingError, msgspec.DecodeError):
        raise ContentUnreadable("What was kept of this call cannot be opened.") from None
