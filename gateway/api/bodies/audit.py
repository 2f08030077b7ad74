"""Rows of the audit log."""

from typing import Any

from gateway.api.bodies.common import moment
from tenants.audit import Verdict
from tenants.models import AuditEvent


def audit_body(event: AuditEvent) -> dict[str, Any]:
    return {
        "id": str(event.id),
        "object": "audit_event",
        "scope": event.scope,
        "seq": event.seq,
        "created_at": moment(event.created_at),
        "actor": {
            "type": event.actor_type,
            "id": event.actor_id,
            "label": event.actor_label,
        },
        "method": event.method,
        "action": event.action,
        "target": {
            "kind": event.target_kind,
            "id": event.target_id,
            "label": event.target_label,
        },
        "outcome": event.outcome,
        "error_code": event.error_code or None,
        "duration_ms": event.duration_ms,
        "details": event.details,
        "request_id": event.request_id,
        "source": event.source,
        "address": event.address or None,
        "user_agent": event.user_agent or None,
        "prev_hash": bytes(event.prev_hash).hex(),
        "row_hash": bytes(event.row_hash).hex(),
    }


def verdict_body(verdict: Verdict) -> dict[str, Any]:
    return {
        "object": "audit_verdict",
        "ok": not verdict.findings,
        "rows": verdict.rows,
        "scopes": verdict.scopes,
        "pruned": verdict.pruned,
        "findings": [
            {"kind": it.kind, "scope": it.scope, "seq": it.seq, "message": it.sentence}
            for it in verdict.findings
        ],
    }
