"""Rows of the audit log."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    ID,
    MAYBE_COUNT,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    Schema,
    answer,
    array,
    constant,
    fitting,
    one_of,
    shown,
    told,
)
from tenants.models import AuditEvent

SOURCES: Final = ("api", "console", "command", "mcp", "system")
OUTCOME: Final = one_of(AuditEvent.Outcome.values)
_HASH: Final = shown(fitting("[0-9a-f]{64}"), "9f86d081884c7d659a2feaa0c55ad015" * 2)
_SOMETHING: Final[Schema] = {"type": "object", "additionalProperties": True, "examples": [{}]}

EVENT: Final = SHAPES.add(
    "AuditEvent",
    answer(
        id=ID,
        object=constant("audit_event"),
        scope=shown(told(TEXT, "Whose chain: `platform`, or a tenant's."), "platform"),
        seq=told(COUNT, "Its place there, without gaps."),
        created_at=MOMENT,
        actor=answer(
            type=shown(TEXT, "operator"),
            id=shown(TEXT, ID["examples"][0]),
            label=shown(TEXT, "ada"),
        ),
        method=shown(told(TEXT, "How they showed who they are."), "session"),
        action=shown(TEXT, "key.rotated"),
        target=answer(
            kind=shown(TEXT, "api_key"),
            id=shown(TEXT, ID["examples"][0]),
            label=shown(TEXT, "Search in production"),
        ),
        outcome=OUTCOME,
        error_code=MAYBE_TEXT,
        duration_ms=MAYBE_COUNT,
        details=told(_SOMETHING, "What was changed, without what looks like a credential."),
        request_id=shown(TEXT, "01a9b0c1d2e34f5687a8b9c0d1e2f304"),
        source=one_of(SOURCES),
        address=shown(MAYBE_TEXT, "192.0.2.7"),
        user_agent=shown(MAYBE_TEXT, "curl/8.9"),
        prev_hash=_HASH,
        row_hash=_HASH,
    ),
)
EVENTS: Final = listed(EVENT)
VERDICT: Final = SHAPES.add(
    "AuditVerdict",
    answer(
        object=constant("audit_verdict"),
        ok=FLAG,
        rows=told(COUNT, "Rows that were read."),
        scopes=COUNT,
        pruned=told(COUNT, "Rows before them that went into files, by marks that are ours."),
        findings=told(
            shown(array(answer(kind=TEXT, scope=TEXT, seq=COUNT, message=TEXT)), []),
            "What does not hold.",
        ),
    ),
)
