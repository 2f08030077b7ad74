"""The record of a call's end, and what it cost. Pure."""

from collections.abc import Sequence

import msgspec

from providers.types import PriceTag, Usage
from usage import pricing
from usage.records import AttemptOutcome, Intent, Settlement, UsageSource


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How a call ended (usage/records.py explains the fields)."""

    settled_at: int
    status: int
    error_code: str | None
    usage: Usage
    source: UsageSource
    duration_us: int
    ttfb_us: int | None
    overhead_us: int | None
    attempts: Sequence[AttemptOutcome]
    content: bytes | None
    overrun: bool = False
    replay: bytes | None = None


def cost_of(usage: Usage, source: UsageSource, price: PriceTag | None) -> int | None:
    """Nano-USD. Nothing used costs nothing, whatever the price; something used without a price costs an unknown amount."""
    if source == "none":
        return 0
    if price is None:
        return 0 if usage == Usage() else None
    return pricing.cost(usage, price)


def settlement(intent: Intent, ending: Ending, price: PriceTag | None) -> Settlement:
    """The journal's last word on a call. It was dispatched if any attempt was begun."""
    return Settlement(
        month=intent.month,
        request_id=intent.request_id,
        settled_at=ending.settled_at,
        status=ending.status,
        error_code=ending.error_code,
        dispatched="yes" if ending.attempts else "no",
        usage=pricing.credible(ending.usage),
        usage_source=ending.source,
        cost_nano_usd=cost_of(ending.usage, ending.source, price),
        price_id=price.id if price else None,
        duration_us=ending.duration_us,
        ttfb_us=ending.ttfb_us,
        overhead_us=ending.overhead_us,
        attempts=list(ending.attempts),
        content=ending.content,
        overrun=ending.overrun,
        replay=ending.replay,
    )
