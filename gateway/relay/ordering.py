"""What steps 1 to 6 made of a request: its intent in the journal, and what goes upstream. Pure."""

from typing import Final
from uuid import UUID

import msgspec

from gateway.relay import reasons
from gateway.relay.limiting import Bound
from gateway.relay.ports import Head
from gateway.snapshot import Known
from providers.dialects.base import CallBody, OutputCap
from providers.routing import Plan, Serving
from providers.types import PriceTag, Timeouts, UpstreamRequest
from tenants.clock import month_of
from tenants.sealing import Secret
from usage.hands import Lease
from usage.records import AttemptStarted, Intent

_FORWARDED: Final = frozenset((b"accept", b"openai-beta"))
#: Bytes of one such header. Longer ones say nothing, and are more than some providers read.
_MAX_FORWARDED: Final = 1024


class Order(msgspec.Struct, frozen=True, gc=False):
    """What steps 1 to 5 made of a request. `read_at` is when its body was complete, on the monotonic clock."""

    head: Head
    known: Known
    call: CallBody
    plan: Plan
    body: bytes
    read_at: float


def intent(order: Order, bound: Bound, lease: Lease | None, claim: UUID | None) -> Intent:
    """What the journal has of a call before anything is sent. Right after the take: what was left then is in it."""
    head, call = order.head, order.call
    return Intent(
        month=month_of(head.received_at),
        request_id=head.request_id,
        correlation_id=head.correlation_id,
        received_at=head.received_at,
        caller=order.known.caller,
        model=call.model,
        dialect_in=head.endpoint.dialect.NAME,
        stream=call.stream,
        hold_tokens=bound.tokens,
        hold_nano_usd=bound.nano_usd,
        prompt_estimate=call.prompt_estimate,
        model_id=order.plan.route.id,
        idempotency=claim,
        why=reasons.why(order.known, order.plan.targets, reasons.told_by(lease)),
    )


def attempt(
    intent: Intent, serving: Serving, n: int, started_at: int, price: PriceTag | None
) -> AttemptStarted:
    """What the journal has of try `n` before its first byte leaves. `started_at`: µs since 1970."""
    upstream = serving.upstream
    return AttemptStarted(
        month=intent.month,
        request_id=intent.request_id,
        n=n,
        started_at=started_at,
        provider_id=upstream.id,
        provider=upstream.name,
        target=serving.name,
        dialect_out=upstream.dialect.NAME,
        credential_id=upstream.credential.id if upstream.credential else None,
        price_id=price.id if price else None,
    )


def request(
    order: Order,
    serving: Serving,
    n: int,
    secret: Secret | None,
    cap: OutputCap | None,
    timeouts: Timeouts,
) -> UpstreamRequest:
    """The request for try `n`. Raises `UnusableCredential`."""
    upstream = serving.upstream
    dialect = upstream.dialect
    forwarded = [
        (name, value)
        for name, value in order.head.headers
        if name in _FORWARDED and len(value) <= _MAX_FORWARDED
    ]
    attempt_id = f"{order.head.request_id.hex}-{n}"
    return UpstreamRequest(
        origin=upstream.origin,
        method=b"POST",
        path=dialect.request_path(upstream, order.head.endpoint.operation or "", serving.name),
        headers=dialect.headers(secret, attempt_id, forwarded),
        body=dialect.write_request(order.call, serving.name, cap),
        pool_key=upstream.pool_key,
        timeouts=timeouts,
    )
