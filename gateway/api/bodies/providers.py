"""Providers and models. Of a credential only whether there is one."""

from collections.abc import Sequence
from typing import Any

from gateway.api.bodies.common import identity, limits, moment, usd
from providers import grants, model_services, services
from providers.health import Health, health_of
from providers.models import Granted, Model, Price, Provider
from usage.flights import in_flight


def provider_bodies(providers: Sequence[Provider]) -> list[dict[str, Any]]:
    """Of all of them, with how they are and what they carry looked up at once."""
    states = health_of(providers)
    flying = in_flight([provider.id for provider in providers])
    return [_provider_body(each, states[each.id], flying[each.id]) for each in providers]


def health_body(provider: Provider, health: Health, calls: int) -> dict[str, Any]:
    """`in_flight` of `max_slots` calls at once; null: as many as there are."""
    return {
        "state": health.state,
        "checked_at": moment(health.checked_at),
        "latency_ms": health.latency_ms,
        "last_error": health.last_error,
        "in_flight": calls,
        "max_slots": provider.max_concurrency,
    }


def _provider_body(provider: Provider, health: Health, calls: int) -> dict[str, Any]:
    """Needs `has_api_key` on the row (`gateway.api.providers.rows`), and reads `provider.granted`."""
    return {
        "id": str(provider.id),
        "object": "provider",
        "name": provider.name,
        "kind": provider.kind,
        "base_url": provider.base_url or None,
        "has_api_key": getattr(provider, "has_api_key"),  # noqa: B009 - annotated, so the class does not have it
        "tenant": identity(provider.tenant_id),
        "is_tenant_default": provider.is_tenant_default,
        "is_active": provider.is_active,
        "disconnect_policy": provider.disconnect_policy,
        **_account(provider),
        **limits(provider),
        "tenants": _granted(provider),
        "timeout_seconds": provider.timeout_seconds,
        "health": health_body(provider, health, calls),
        "created_at": moment(provider.created_at),
    }


def _granted(thing: Granted) -> list[str] | None:
    ids = grants.granted_ids(thing)
    return None if ids is None else [str(each) for each in ids]


def _account(provider: Provider) -> dict[str, str | None]:
    return {name: getattr(provider, name) or None for name in services.ACCOUNT_FIELDS}


def provider_config_body(provider: Provider) -> dict[str, Any]:
    """The summary of a tenant's own provider; needs `has_api_key` on the row."""
    return {
        "provider": provider.kind,
        "base_url": provider.base_url or None,
        **_account(provider),
        "has_api_key": getattr(provider, "has_api_key"),  # noqa: B009 - annotated, so the class does not have it
    }


def model_body(model: Model) -> dict[str, Any]:
    """Reads `model.targets`, `model.prices` and `model.granted`: fetch them with the rows of a list."""
    return {
        "id": model.name,
        "object": "model",
        "capability": model.capability,
        "tenant": identity(model.tenant_id),
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "is_active": model.is_active,
        **limits(model),
        **model_services.PENDING,
        "tenants": _granted(model),
        "targets": [
            {
                "provider": identity(target.provider_id),
                "upstream_model": target.upstream_model,
                "weight": 1,
                "priority": target.priority,
            }
            for target in sorted(model.targets.all(), key=lambda t: (t.priority, str(t.id)))
        ],
        "prices": [
            price_body(price)
            for price in sorted(model.prices.all(), key=lambda p: p.effective_from)
        ],
        "created_at": moment(model.created_at),
    }


def price_body(price: Price) -> dict[str, Any]:
    return {
        "effective_from": moment(price.effective_from),
        "tenant": identity(price.tenant_id),
        **{
            name: usd(getattr(price, column))
            for name, column in model_services.PRICE_COLUMNS.items()
        },
        model_services.LONG_CONTEXT: price.long_context_from_tokens,
    }
