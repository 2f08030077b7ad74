"""A key's own state: where it stands, its calls, and why each went as it did."""

from typing import Final, get_args

from gateway.openapi.schemas import (
    COUNT,
    MAYBE_COUNT,
    MAYBE_MOMENT,
    MOMENT,
    TEXT,
    answer,
    array,
    constant,
    one_of,
    shown,
    told,
)
from gateway.shapes import keys
from gateway.shapes.calls import ATTEMPT_FIELDS, call_fields, card_fields
from gateway.shapes.fields import AMOUNT, MAYBE_USD, USD
from gateway.shapes.figures import SENT_CALLS, UNPRICED
from gateway.shapes.limits import LIMITS_TOLD
from gateway.shapes.pages import page_of
from gateway.views.shapes.base import SHAPES
from tenants.limits import Window

_OF_KEY: Final = (
    *("id", "key_prefix", "name", "project", "account", "team", "scopes", "allowed_models"),
    *("allowed_capabilities", "expires_at"),
)
_LIMITS: Final = told(answer(**LIMITS_TOLD), "Each limit by its name; null where there is none.")
_BUDGET: Final = answer(
    level=told(one_of(("key", "project", "account", "tenant")), "Whose it is."),
    unit=one_of(("tokens", "usd")),
    window=told(
        one_of((*get_args(Window), "prepaid")),
        "`day` or `month` (UTC), `total`, or `prepaid` for an account's balance.",
    ),
    limit=AMOUNT,
    spent=told(AMOUNT, "Null for what the key shares with others."),
    held=told(
        shown(AMOUNT, 0),
        "Set aside for calls in flight, and by workers for those to come, which is free again within a second;"
        " null for what the key shares with others.",
    ),
    remaining=AMOUNT,
    resets_at=told(MAYBE_MOMENT, "Null: never."),
)
KEY_STATE: Final = SHAPES.add(
    "KeyState",
    answer(
        object=constant("key_state"),
        **{name: keys.TOLD[name] for name in _OF_KEY},
        tenant=shown(told(TEXT, "The slug of its tenant."), "acme"),
        limits=_LIMITS,
        tenant_limits=_LIMITS,
        period=shown(told(TEXT, "The running month, in UTC."), "2026-01"),
        spent=answer(
            requests=SENT_CALLS,
            tokens_in=COUNT,
            tokens_out=COUNT,
            tokens_total=shown(COUNT, 2),
            cost_usd=told(USD, "The sum of what had a price."),
            unpriced_requests=UNPRICED,
        ),
        held=told(
            answer(tokens=shown(COUNT, 0), cost_usd=shown(USD, "0")),
            "What calls in flight may still use.",
        ),
        remaining=told(
            answer(tokens=MAYBE_COUNT, cost_usd=MAYBE_USD),
            "Of the budget with the least left; null where there is none.",
        ),
        budgets=array(_BUDGET),
        reset_at=told(MOMENT, "When the period ends."),
    ),
)
TRACE: Final = SHAPES.add("Trace", answer(**call_fields("trace")))
TRACES: Final = SHAPES.add("Traces", page_of(TRACE.ref))
TRACE_CARD: Final = SHAPES.add(
    "TraceCard",
    answer(**{**call_fields("trace_card"), **card_fields(answer(**ATTEMPT_FIELDS))}),
)
