"""The audit log on its way out: rows as the contract shows them, lists of heads as anchors, and why it cannot be verified."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Q, QuerySet

from tenants import audit, keyring
from tenants.audit import Anchors
from tenants.clock import SYSTEM
from tenants.errors import Invalid
from tenants.models import AuditEvent, RootSecret
from tenants.sealing import SealingError

_PAGE: Final = 1_000
_MAX_SCOPES: Final = 100_000
_HASH_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows: of one scope, from `since` on, before `until`; null means any."""

    scope: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def rows(self) -> QuerySet[AuditEvent]:
        chosen = AuditEvent.objects.all()
        if self.scope is not None:
            chosen = chosen.filter(scope=self.scope)
        if self.since is not None:
            chosen = chosen.filter(created_at__gte=self.since)
        if self.until is not None:
            chosen = chosen.filter(created_at__lt=self.until)
        return chosen


def row_of(event: AuditEvent) -> dict[str, Any]:
    """An audit row in the contract's shape. With the digests one can recompute the chain from an export alone."""
    return {
        "id": str(event.id),
        "scope": event.scope,
        "seq": event.seq,
        "created_at": event.created_at.isoformat().replace("+00:00", "Z"),
        "actor": {"type": event.actor_type, "id": event.actor_id, "label": event.actor_label},
        "method": event.method,
        "action": event.action,
        "target": {"kind": event.target_kind, "id": event.target_id, "label": event.target_label},
        "outcome": event.outcome,
        "error_code": event.error_code,
        "duration_ms": event.duration_ms,
        "details": event.details,
        "details_salt": bytes(event.details_salt).hex(),
        "details_digest": bytes(event.details_digest).hex(),
        "request_id": event.request_id,
        "source": event.source,
        "address": event.address,
        "user_agent": event.user_agent,
        "prev_hash": bytes(event.prev_hash).hex(),
        "row_hash": bytes(event.row_hash).hex(),
    }


def events(chosen: QuerySet[AuditEvent]) -> Iterator[AuditEvent]:
    """Oldest first, a page in memory at a time. Rows written meanwhile may or may not be among them."""
    rows = chosen.order_by("created_at", "id")
    page = list(rows[:_PAGE])
    while page:
        yield from page
        last = page[-1]
        later = Q(created_at__gt=last.created_at) | Q(created_at=last.created_at, id__gt=last.id)
        page = list(rows.filter(later)[:_PAGE]) if len(page) == _PAGE else []


def lines(chosen: QuerySet[AuditEvent]) -> Iterator[str]:
    """Every row as one JSON line."""
    for event in events(chosen):
        yield line_of(event)


def line_of(event: AuditEvent) -> str:
    return json.dumps(row_of(event), ensure_ascii=True, separators=(",", ":")) + "\n"


def write_lines(
    selection: Selection, write: Callable[[str], object], progress: Callable[[int], object]
) -> int:
    """Every row as one JSON line; `progress` hears the count after each page. Returns how many."""
    count = 0
    for count, line in enumerate(lines(selection.rows()), start=1):
        write(line)
        if count % _PAGE == 0:
            progress(count)
    return count


def key_fault() -> str | None:
    """Why the chains cannot be checked, in a sentence, or None.

    Looks before `audit.verify` does: that one would make a missing key anew, and then call every row altered.
    """
    row = RootSecret.objects.filter(purpose=keyring.AUDIT, tenant=None).order_by("-version").first()
    if row is None:
        gone = "The key of the audit log is missing from the database."
        return gone if AuditEvent.objects.exists() else None
    try:
        keyring.unwrap(row)
    except SealingError:
        return "GATEHOUSE_KEK does not open the key of the audit log."
    return None


def is_empty() -> bool:
    return not AuditEvent.objects.exists() and not audit.heads()


def anchors_document() -> dict[str, Any]:
    """Every chain's head, to be kept off this machine; `read_anchors` takes it back."""
    return {
        "object": "audit_heads",
        "created_at": SYSTEM.now().isoformat().replace("+00:00", "Z"),
        "heads": {
            scope: {"seq": seq, "row_hash": row_hash}
            for scope, (seq, row_hash) in sorted(audit.heads().items())
        },
    }


def read_anchors(text: str) -> Anchors:
    """What `anchors_document` gave. Raises `Invalid` for anything else: a list that is not understood proves nothing."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid.field("anchors", "the file is not JSON.") from None
    heads = document.get("heads") if isinstance(document, dict) else None
    if not isinstance(heads, dict) or len(heads) > _MAX_SCOPES:
        raise Invalid.field("anchors", "the file is no list of heads from `audit heads`.")
    return {scope: _anchor(scope, head) for scope, head in heads.items()}


def _anchor(scope: str, head: Mapping[str, Any] | Any) -> tuple[int, str]:
    if isinstance(head, dict):
        seq, row_hash = head.get("seq"), head.get("row_hash")
        is_hash = isinstance(row_hash, str) and len(row_hash) == _HASH_CHARACTERS
        if is_hash and isinstance(seq, int) and not isinstance(seq, bool) and seq >= 0:
            return seq, str(row_hash)
    raise Invalid.field("anchors", f"the head of {scope[:64]!r} cannot be read.")
