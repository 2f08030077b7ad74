"""Calls: what a row of the log says, and why each went as it did."""

from typing import Any, Final

from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    ID,
    MAYBE_COUNT,
    MAYBE_ID,
    MAYBE_MS,
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
    shown,
    told,
)
from gateway.shapes.fields import AMOUNT, MAYBE_USD
from usage.models import LedgerEntry

KINDS: Final = ("model", "tool")
_STATUS: Final = shown(integer(100, 599), 200)
_MODEL: Final = shown(MAYBE_TEXT, "openai/gpt-5-mini")
_COST: Final = told(MAYBE_USD, "US dollars as a decimal text; null where no price is known.")
_DISPATCHED: Final = told(one_of(("yes", "no", "unknown")), "Whether a provider was asked.")
_USAGE_SOURCE: Final = told(one_of(LedgerEntry.Source.values), "Whose figures these are.")
REQUEST_ID: Final = shown(
    told(TEXT, "What `x-request-id` said to the caller, who may have chosen it."),
    "01a9b0c1d2e34f5687a8b9c0d1e2f304",
)
_CALL: Final[dict[str, Schema]] = {
    "created_at": MOMENT,
    "kind": one_of(KINDS),
    "tenant": shown(told(TEXT, "By its name, as it was then."), "acme"),
    "project": MAYBE_TEXT,
    "account": MAYBE_TEXT,
    "key_id": ID,
    "key_prefix": shown(TEXT, "gwk_a1b2c3d4"),
    "team": MAYBE_TEXT,
    "model": _MODEL,
    "provider": shown(MAYBE_TEXT, "OpenAI"),
    "target": shown(told(MAYBE_TEXT, "The model there."), "gpt-5-mini"),
    "dialect_in": shown(TEXT, "openai"),
    "dialect_out": shown(MAYBE_TEXT, "openai"),
    "stream": shown(FLAG, False),
    "status": _STATUS,
    "error_code": MAYBE_TEXT,
    "dispatched": _DISPATCHED,
    "attempts": COUNT,
    "tokens_in": COUNT,
    "tokens_cached": shown(COUNT, 0),
    "tokens_out": COUNT,
    "tokens_reasoning": shown(COUNT, 0),
    "cost_usd": _COST,
    "cost_estimate_usd": told(
        {**MAYBE_USD, "examples": [None]},
        "Where `cost_usd` is null: at the default price. Not charged.",
    ),
    "usage_source": _USAGE_SOURCE,
    "duration_ms": MAYBE_MS,
    "ttfb_ms": MAYBE_MS,
    "overhead_ms": MAYBE_MS,
    "idempotent_replay": shown(FLAG, False),
    "trace_id": told(MAYBE_TEXT, "As in the caller's `traceparent`."),
}


def call_fields(kind: str) -> dict[str, Any]:
    """A row of the log; `kind` is what its reader calls it."""
    return {
        "id": told(ID, "Ours; it names one call."),
        "object": constant(kind),
        "request_id": REQUEST_ID,
        **_CALL,
    }


_CHECK: Final = answer(
    check=shown(told(TEXT, "What was asked."), "key"),
    outcome=one_of(("passed", "refused", "not asked")),
    sentence=shown(
        told(TEXT, "What a yes to it means."),
        "The key is known, and neither it nor its tenant has ended.",
    ),
)
_LIMIT: Final = answer(
    level=shown(TEXT, "key"),
    what=shown(TEXT, "requests per minute"),
    unit=one_of(("count", "usd")),
    limit=AMOUNT,
    before=AMOUNT,
    after=shown(AMOUNT, 59),
)
#: Of one try. Whose id the provider has is the house's to know.
ATTEMPT_FIELDS: Final[dict[str, Schema]] = {
    "n": COUNT,
    "started_at": MOMENT,
    "provider": shown(TEXT, "OpenAI"),
    "target": shown(TEXT, "gpt-5-mini"),
    "dialect_out": shown(TEXT, "openai"),
    "outcome": shown(TEXT, "ok"),
    "status": shown(MAYBE_COUNT, 200),
    "duration_ms": MAYBE_MS,
    "ttfb_ms": MAYBE_MS,
}
_WHOLE: Final[Schema] = {"type": "integer"}
_LINE: Final = answer(
    line=COUNT,
    month=shown(TEXT, "2026-01"),
    created_at=MOMENT,
    model=shown(TEXT, "openai/gpt-5-mini"),
    tokens_in=shown(told(_WHOLE, "Negative in a correction."), 1),
    tokens_cached=shown(_WHOLE, 0),
    tokens_out=shown(_WHOLE, 1),
    tokens_reasoning=shown(_WHOLE, 0),
    cost_usd=_COST,
    price_id=MAYBE_ID,
    usage_source=_USAGE_SOURCE,
    dispatched=_DISPATCHED,
    overrun=shown(told(FLAG, "The provider reported more than the call could use."), False),
    reason=told(MAYBE_TEXT, "Why a correction was made."),
)
#: What a card has beside its log row.
REASONS: Final[dict[str, Schema]] = {
    "checks": told(array(_CHECK), "The questions that it was asked on its way in, in their order."),
    "limits": told(
        {**maybe(array(_LIMIT)), "examples": [[]]},
        "Every limit that counted: left before the call, and after; null: not kept.",
    ),
    "candidates": told(
        shown(maybe(array(TEXT)), ["OpenAI"]),
        "The targets that were considered, in their order; null: not kept.",
    ),
}


def card_fields(attempt: Schema) -> dict[str, Any]:
    """What led to the call. `attempts` is the list here; their number is its length."""
    return {
        "project_id": MAYBE_ID,
        "account_id": MAYBE_ID,
        **REASONS,
        "attempts": told(array(attempt), "Who was asked, in their order."),
        "price": told(maybe(answer(id=ID, effective_from=MOMENT)), "The price that was in force."),
        "ledger": told(array(_LINE), "The lines of money."),
    }
