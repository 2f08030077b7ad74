"""How each provider is, by what came of asking it last: by the prober's looks and by an operator's tests, in one row.

No change of configuration: nothing here moves the epoch, and no call is kept from a provider that is down.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Literal
from uuid import UUID

from providers import listing
from providers.errors import CredentialUnreadable
from providers.listing import Reply
from providers.models import Provider, ProviderHealth
from tenants.clock import SYSTEM
from tenants.errors import Invalid

State = Literal["up", "degraded", "down", "unknown", "off"]

#: What an upstream says that does not take us, or is not well.
_REFUSING: Final = frozenset((401, 402, 403, 407))
_FAILING: Final = 500
MOST_ERROR: Final = 300


@dataclass(frozen=True, slots=True)
class Health:
    """`degraded`: it answers, though not with a list of its models. `off` and `unknown`: nobody asks, or has asked."""

    state: State
    checked_at: datetime | None = None
    latency_ms: int | None = None
    status: int | None = None
    last_error: str | None = None


UNKNOWN: Final = Health("unknown")


def health_of(providers: Collection[Provider]) -> dict[UUID, Health]:
    """Of each of them, in one query."""
    rows = ProviderHealth.objects.in_bulk([provider.id for provider in providers])
    return {provider.id: _read(provider, rows.get(provider.id)) for provider in providers}


def _read(provider: Provider, row: ProviderHealth | None) -> Health:
    if row is None:
        return UNKNOWN if provider.is_active else Health("off")
    found = Health(
        row.state,  # type: ignore[arg-type]  # one of its choices
        row.checked_at,
        row.latency_ms,
        row.status,
        row.last_error or None,
    )
    if provider.is_active:
        return found
    return Health("off", found.checked_at, found.latency_ms, found.status, found.last_error)


def asking(provider: Provider) -> Callable[[], Reply]:
    """A harmless question to it, to be asked without the database. What keeps us from asking is an answer too."""
    try:
        return listing.asking(provider)
    except (CredentialUnreadable, Invalid) as fault:
        return partial(Reply, None, 0, fault.message)


def record(provider_id: UUID, reply: Reply) -> None:
    """What came of asking. A provider that was deleted meanwhile has none."""
    state = _state_of(reply)
    values = {
        "state": state,
        "checked_at": SYSTEM.now(),
        "latency_ms": reply.latency_ms,
        "status": reply.status,
        "last_error": "" if state == "up" else reply.sentence[:MOST_ERROR],
    }
    if not ProviderHealth.objects.filter(pk=provider_id).update(**values):
        present = Provider.objects.filter(pk=provider_id).exists()
        row = ProviderHealth(provider_id=provider_id, **values)
        ProviderHealth.objects.bulk_create([row] if present else [], ignore_conflicts=True)


def _state_of(reply: Reply) -> State:
    if reply.models is not None:
        return "up"
    if reply.status is None or reply.status >= _FAILING or reply.status in _REFUSING:
        return "down"
    return "degraded"
