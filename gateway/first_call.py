"""Which model somebody's first call should name."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from providers import grants
from providers.models import Model

DEMO_MODEL: Final = "demo/echo"
_SUGGESTABLE: Final = 5_000


def suggest_model(tenant_id: UUID, allowed: Sequence[str] | None) -> str | None:
    """A chat model for a first call: the demo's if it can be called, for it costs nothing, else the first by name."""
    usable = grants.open_providers(tenant_id).filter(is_active=True)
    models = grants.open_models(tenant_id).filter(
        is_active=True, capability=Model.Capability.CHAT, targets__provider__in=usable
    )
    names = [
        name
        for name in models.order_by("name").values_list("name", flat=True).distinct()[:_SUGGESTABLE]
        if not name.endswith("*") and _is_allowed(name, allowed)
    ]
    if DEMO_MODEL in names or not names:
        return DEMO_MODEL if names else None
    return names[0]


def _is_allowed(name: str, allowed: Sequence[str] | None) -> bool:
    return allowed is None or any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in allowed
    )
