"""Stores of tenants. Credentials go in and never out."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.api.shapes.fields import TENANT, optional_text
from gateway.openapi.schemas import (
    FLAG,
    ID,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    Schema,
    answer,
    changes,
    constant,
    maybe,
    request,
    shown,
    text,
    told,
)
from gateway.shapes.fields import named
from providers import services as providers
from providers import store_services as services

_STORE_ID: Final = shown(
    told({**named(), "pattern": "^[^ ]*$"}, "What the shop's own system calls it."), "shop-1"
)
_STORE: Final[dict[str, Schema]] = {
    "store_id": _STORE_ID,
    "name": shown(told(named(), "As its id, if absent."), "Corner shop"),
    "label": optional_text(128),
    "base_url": {
        **told(optional_text(services.URL_CHARACTERS), "Where its API is."),
        "format": "upstream",
    },
    "api_key": told(
        maybe({**text(1, providers.KEY_CHARACTERS), "pattern": "^[!-~]*$"}),
        "Omitted: the stored one is kept. Null clears it.",
    ),
    "is_active": FLAG,
}

NEW_STORE: Final = SHAPES.add(
    "NewStore",
    request(("tenant", "store_id"), tenant=TENANT, **_STORE),
    tenant="acme",
    store_id="shop-1",
    api_key="shpat-0123456789",
)
STORE_CHANGES: Final = SHAPES.add(
    "StoreChanges",
    changes(**{name: _STORE[name] for name in services.RULES}),
    label="Berlin",
)
STORE: Final = SHAPES.add(
    "Store",
    answer(
        id=ID,
        object=constant("store"),
        tenant=told(ID, "The tenant that it belongs to."),
        store_id=shown(TEXT, "shop-1"),
        name=shown(TEXT, "Corner shop"),
        label=MAYBE_TEXT,
        base_url=MAYBE_TEXT,
        has_api_key=told(FLAG, "The credential itself never comes out."),
        is_active=FLAG,
        created_at=MOMENT,
    ),
)
STORES: Final = listed(STORE)
