"""What steps 1 to 6 made of a request: its intent in the journal, and what goes upstream. Pure."""

from uuid import UUID

from gateway.relay import reasons
from gateway.relay.facts import Bound, Order
from gateway.relay.letters import Letter
from providers.dialects.base import OutputCap
from providers.routing import Serving
from providers.types import PriceTag, UpstreamRequest
from tenants.clock import month_of
from usage.hands import Lease
from usage.records import AttemptStarted, Intent


def intent(order: Order, bound: Bound, lease: Lease | None, claim: UUID | None) -> Intent:
    """What the journal has of a call before anything is sent. Right after the take: what was left then is in it."""
    head, call, lane = order.head, order.call, order.lane
    return Intent(
        month=month_of(head.received_at),
        request_id=head.request_id,
        correlation_id=head.correlation_id,
        received_at=head.received_at,
        caller=order.known.caller,
        model=call.model,
        dialect_in=head.asked.endpoint.dialect.NAME,
        stream=call.stream,
        hold_tokens=bound.tokens_in + bound.tokens_out,
        hold_nano_usd=bound.nano_usd,
        prompt_estimate=call.prompt_estimate,
        model_id=lane.route.id,
        idempotency=claim,
        why=reasons.why(lane.checked, lane.candidates, reasons.told_by(lease)),
        trace_id=head.asked.trace_id,
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
    order: Order, serving: Serving, n: int, letter: Letter, cap: OutputCap | None
) -> UpstreamRequest:
    """The request for try `n`."""
    body = serving.upstream.dialect.write_request(order.call, serving.name, cap)
    return UpstreamRequest(letter.head, f"{order.head.request_id.int:032x}-{n}", body)
