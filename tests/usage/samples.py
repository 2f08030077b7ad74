"""Records of made-up calls."""

import uuid

from providers.types import Usage
from usage.calls import Call
from usage.records import (
    AttemptOutcome,
    AttemptStarted,
    Caller,
    Dispatched,
    Intent,
    Refusal,
    Settlement,
)

MONTH = "2026-11"
T0 = 1_795_000_000_123_456
PROVIDER_ID = uuid.UUID(int=7)
USAGE = Usage(input=10, cached=2, output=5, reasoning=1)
CALLER = Caller(
    tenant_id=uuid.UUID(int=1),
    tenant="Acme",
    key_id=uuid.UUID(int=2),
    key_prefix="gwk_1a2b",
    team="red",
)


def call_id(number: int) -> uuid.UUID:
    return uuid.UUID(int=10**9 + number)


def intent(number: int = 1, *, caller: Caller = CALLER, model: str = "m", at: int = T0) -> Intent:
    return Intent(
        month=MONTH,
        request_id=call_id(number),
        correlation_id=f"req-{number:08d}",
        received_at=at + number,
        caller=caller,
        model=model,
        dialect_in="openai",
        stream=False,
        hold_tokens=100,
        hold_nano_usd=5_000,
        prompt_estimate=40,
    )


def attempt(number: int = 1, n: int = 1, *, price_id: uuid.UUID | None = None) -> AttemptStarted:
    return AttemptStarted(
        month=MONTH,
        request_id=call_id(number),
        n=n,
        started_at=T0 + number + 100 * n,
        provider_id=PROVIDER_ID,
        provider="upstream",
        target=f"target-{n}",
        dialect_out="openai",
        price_id=price_id,
    )


def settlement(
    number: int = 1,
    *,
    usage: Usage = USAGE,
    cost: int | None = 300,
    dispatched: Dispatched = "yes",
    content: bytes | None = None,
    attempts: int = 1,
) -> Settlement:
    return Settlement(
        month=MONTH,
        request_id=call_id(number),
        settled_at=T0 + number + 5_000,
        status=200,
        error_code=None,
        dispatched=dispatched,
        usage=usage,
        usage_source="provider",
        cost_nano_usd=cost,
        price_id=None,
        duration_us=4_000,
        ttfb_us=1_500,
        overhead_us=90,
        attempts=[AttemptOutcome(n, "ok", 3_000, 200, 1_000) for n in range(1, attempts + 1)],
        content=content,
    )


def refusal(number: int = 1, *, model: str = "m") -> Refusal:
    return Refusal(
        month=MONTH,
        request_id=call_id(number),
        correlation_id=f"req-{number:08d}",
        received_at=T0 + number,
        caller=CALLER,
        model=model,
        dialect_in="openai",
        stream=True,
        status=429,
        error_code="rate_limit_exceeded",
        duration_us=70,
    )


def settled(number: int = 1, **details: object) -> Call:
    return Call(intent(number), (attempt(number),), settlement(number, **details))  # type: ignore[arg-type]
