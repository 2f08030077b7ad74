"""Keys, as their rules in keys/services.py and gateway/api/bodies/keys.py have them for both doors."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.openapi.schemas import (
    FLAG,
    ID,
    MAYBE_ID,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    Schema,
    answer,
    array,
    constant,
    integer,
    maybe,
    one_of,
    request,
    shown,
    told,
)
from gateway.shapes.fields import MODEL_PATTERNS, NETWORKS, TEAM, named, some_of
from gateway.shapes.limits import LIMITS_TAKEN, LIMITS_TOLD
from keys.models import APIKey
from keys.services import CAPABILITIES, EDIT_RULES, ISSUE_RULES, MAX_GRACE_SECONDS, SCOPES, STATUSES

_KEY: Final[dict[str, Schema]] = {
    "name": shown(named(), "Search in production"),
    "team": told(TEAM, "Copied into every line of the books; cannot be changed."),
    "project": told({**MAYBE_ID, "format": "project"}, "The id of one of the tenant's."),
    "account": told({**MAYBE_ID, "format": "account"}, "The id of the tenant's user that pays."),
    "is_active": told(FLAG, "False pauses it."),
    "scopes": shown(some_of(SCOPES), ["inference", "usage"]),
    "allowed_models": MODEL_PATTERNS,
    "allowed_capabilities": shown(told(maybe(some_of(CAPABILITIES)), "Null: all."), ["chat"]),
    "allowed_addresses": NETWORKS,
    "log_content": told(FLAG, "Whether what is said may be logged, where its tenant allows it."),
    "expires_at": told(MAYBE_MOMENT, "With its zone; null: never."),
    **LIMITS_TAKEN,
}
#: What may be said of one that is made, and of one that is there.
ISSUED_WITH: Final = {name: _KEY[name] for name in ISSUE_RULES}
CHANGED: Final = {name: _KEY[name] for name in EDIT_RULES}
ROTATION: Final = request(
    grace_period_seconds=shown(
        told({**integer(0, MAX_GRACE_SECONDS), "default": 0}, "How long the old secret works on."),
        86_400,
    )
)
#: Of a key in an answer.
TOLD: Final[dict[str, Any]] = {
    "id": ID,
    "object": constant("key"),
    "tenant": told(ID, "The id of its tenant."),
    "project": MAYBE_ID,
    "account": MAYBE_ID,
    "name": shown(TEXT, "Search in production"),
    "team": shown(MAYBE_TEXT, "research"),
    "key_prefix": shown(told(TEXT, "What may be seen of its secret."), "gwk_a1b2c3d4"),
    "status": one_of(STATUSES),
    "is_active": FLAG,
    "source": one_of(APIKey.Source.values),
    "scopes": shown(array(one_of(SCOPES)), ["inference", "usage"]),
    "allowed_models": MODEL_PATTERNS,
    "allowed_capabilities": told(maybe(some_of(CAPABILITIES)), "Null: all."),
    "allowed_addresses": NETWORKS,
    **LIMITS_TOLD,
    "log_content": shown(FLAG, False),
    "expires_at": MAYBE_MOMENT,
    "created_at": MOMENT,
    "revoked_at": MAYBE_MOMENT,
    "revoked_reason": MAYBE_TEXT,
    "last_used_at": told(MAYBE_MOMENT, "To the minute."),
    "previous_secret_expires_at": told(
        MAYBE_MOMENT, "When the last of the old secrets ends; null: none works."
    ),
}


def key_fields(who: Schema) -> dict[str, Any]:
    """With those who made and ended it; `who` is how its reader sees them."""
    return {**TOLD, "created_by": who, "revoked_by": maybe(who)}


def issued(fields: Mapping[str, Schema]) -> Schema:
    """The one answer with the secret in it."""
    secret = shown(told(TEXT, "The secret. It is shown this once."), "gwk_a1b2c3d4…")
    return answer(**fields, key=secret)
