"""Stores of tenants. Of a credential only whether there is one."""

from typing import Any

from gateway.api.bodies.common import moment
from providers.models import Store


def store_body(store: Store) -> dict[str, Any]:
    return {
        "id": str(store.id),
        "object": "store",
        "tenant": str(store.tenant_id),
        "store_id": store.store_id,
        "name": store.name,
        "label": store.label or None,
        "base_url": store.base_url or None,
        "has_api_key": store.sealed is not None,
        "is_active": store.is_active,
        "created_at": moment(store.created_at),
    }
