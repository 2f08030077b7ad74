"""Keys: what they may, and the two answers that show a credential."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.api.shapes.fields import (
    MAYBE_USD,
    MODEL_PATTERNS,
    NETWORKS,
    TEAM,
    USD,
    WHO,
    named,
    optional_text,
    some_of,
)
from gateway.api.shapes.limits import LIMITS_TAKEN, LIMITS_TOLD
from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    ID,
    MAYBE_COUNT,
    MAYBE_ID,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    Schema,
    answer,
    array,
    changes,
    constant,
    integer,
    maybe,
    one_of,
    request,
    shown,
    told,
)
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
NEW_KEY: Final = SHAPES.add(
    "NewKey",
    request(("name",), **{name: _KEY[name] for name in ISSUE_RULES}),
    name="Search in production",
    team="research",
    allowed_models=["openai/*"],
    cost_budget_usd="250",
    rate_limits=["60/m", "5000/d"],
)
KEY_CHANGES: Final = SHAPES.add(
    "KeyChanges",
    changes(**{name: _KEY[name] for name in EDIT_RULES}),
    cost_budget_usd="400",
    expires_at=None,
)
ROTATION: Final = SHAPES.add(
    "Rotation",
    request(
        grace_period_seconds=shown(
            told(integer(0, MAX_GRACE_SECONDS), "How long the old secret works on."), 86_400
        )
    ),
    grace_period_seconds=86_400,
)
REVOCATION: Final = SHAPES.add(
    "Revocation",
    request(reason=told(optional_text(), "For the audit log.")),
    reason="It was in a public repository.",
)
_KEY_TOLD: Final[dict[str, Schema]] = {
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
    "created_by": WHO,
    "revoked_at": MAYBE_MOMENT,
    "revoked_by": maybe(WHO),
    "revoked_reason": MAYBE_TEXT,
    "last_used_at": MAYBE_MOMENT,
    "previous_secret_expires_at": told(
        MAYBE_MOMENT, "When the last of the old secrets ends; null: none works."
    ),
}
KEY: Final = SHAPES.add("Key", answer(**_KEY_TOLD))
KEYS: Final = listed(KEY)
ISSUED: Final = SHAPES.add(
    "IssuedKey",
    answer(
        **_KEY_TOLD,
        key=shown(told(TEXT, "The secret. It is shown this once."), "gwk_a1b2c3d4…"),
    ),
)
REVOKED: Final = SHAPES.add(
    "RevokedKey", answer(ok={"type": "boolean", "const": True}, revoked_at=MOMENT)
)
_PERIOD: Final = shown(told(TEXT, "A calendar month, UTC."), "2026-01")
KEY_USAGE: Final = SHAPES.add(
    "KeyUsage",
    answer(
        key_id=ID,
        current_period=_PERIOD,
        tokens_in=COUNT,
        tokens_out=COUNT,
        tokens_total=COUNT,
        tokens_budget=MAYBE_COUNT,
        remaining=told(
            MAYBE_COUNT, "Tokens of the month that are neither used nor set aside; null: no budget."
        ),
        cost_usd=told(USD, "The sum of what had a price."),
        cost_budget_usd=MAYBE_USD,
        held_usd=told(USD, "Set aside for calls in flight."),
        requests_this_month=COUNT,
        unpriced_requests=told(COUNT, "Calls that `cost_usd` leaves out, as they had no price."),
        rate_limit_rpm=MAYBE_COUNT,
        history=told(
            array(
                answer(
                    period=_PERIOD,
                    tokens_in=COUNT,
                    tokens_out=COUNT,
                    requests=COUNT,
                    unpriced_requests=COUNT,
                    cost_usd=USD,
                )
            ),
            "Up to twelve months before it.",
        ),
    ),
)
