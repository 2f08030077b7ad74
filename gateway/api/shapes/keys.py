"""Keys: what they may, and the two answers that show a credential."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.api.shapes.fields import optional_text
from gateway.openapi.schemas import (
    COUNT,
    ID,
    MAYBE_COUNT,
    MOMENT,
    TEXT,
    answer,
    array,
    changes,
    request,
    shown,
    told,
)
from gateway.shapes import keys
from gateway.shapes.fields import MAYBE_USD, USD, WHO
from gateway.shapes.figures import SENT_CALLS, UNPRICED

NEW_KEY: Final = SHAPES.add(
    "NewKey",
    request(("name",), **keys.ISSUED_WITH),
    name="Search in production",
    team="research",
    allowed_models=["openai/*"],
    cost_budget_usd="250",
    rate_limits=["60/m", "5000/d"],
)
KEY_CHANGES: Final = SHAPES.add(
    "KeyChanges",
    changes(**keys.CHANGED),
    cost_budget_usd="400",
    expires_at=None,
)
ROTATION: Final = SHAPES.add("Rotation", keys.ROTATION, grace_period_seconds=86_400)
REVOCATION: Final = SHAPES.add(
    "Revocation",
    request(reason=told(optional_text(), "For the audit log.")),
    reason="It was in a public repository.",
)
_KEY: Final = keys.key_fields(WHO)
KEY: Final = SHAPES.add("Key", answer(**_KEY))
KEYS: Final = listed(KEY)
ISSUED: Final = SHAPES.add("IssuedKey", keys.issued(_KEY))
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
        requests_this_month=SENT_CALLS,
        unpriced_requests=UNPRICED,
        rate_limit_rpm=MAYBE_COUNT,
        history=told(
            array(
                answer(
                    period=_PERIOD,
                    tokens_in=COUNT,
                    tokens_out=COUNT,
                    requests=SENT_CALLS,
                    unpriced_requests=COUNT,
                    cost_usd=USD,
                )
            ),
            "Up to twelve months before it.",
        ),
    ),
)
