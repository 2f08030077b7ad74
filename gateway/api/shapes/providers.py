"""Providers: upstream accounts. Credentials go in and never out."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.api.shapes.fields import GRANTED, GRANTED_TOLD, TENANT, optional_text
from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    ID,
    MAYBE_COUNT,
    MAYBE_ID,
    MAYBE_MOMENT,
    MAYBE_MS,
    MAYBE_TEXT,
    MOMENT,
    TEXT,
    Schema,
    answer,
    array,
    changes,
    constant,
    fitting,
    maybe,
    one_of,
    request,
    shown,
    text,
    told,
)
from gateway.shapes.fields import limit, named
from gateway.shapes.limits import LIMITS_TAKEN, LIMITS_TOLD
from providers import grants, presets, services
from providers.discovery import MATCH_CHARACTERS
from providers.models import MAX_TIMEOUT, Provider

_KIND: Final = shown(one_of(sorted(presets.PRESETS)), "openai")
_BASE_URL: Final = {
    **told(
        optional_text(services.URL_CHARACTERS),
        "Where it is, if that is not where its kind always is.",
    ),
    "format": "upstream",
}
_CREDENTIAL: Final[Schema] = {**text(1, services.KEY_CHARACTERS), "pattern": "^[!-~]*$"}
_API_KEY: Final = told(maybe(_CREDENTIAL), "Omitted: the stored one is kept. Null clears it.")
_ACCOUNT: Final[dict[str, Schema]] = {
    name: told(maybe(fitting(f"(?:{pattern.pattern})?")), "Only some kinds have it.")
    for name, pattern in services.ACCOUNT_FIELDS.items()
}
_TIMEOUT: Final = limit(
    MAX_TIMEOUT, "Seconds that a whole call to it may take; null: as the house has it.", 300
)
_PROVIDER: Final[dict[str, Schema]] = {
    "name": shown(named(), "OpenAI"),
    "kind": _KIND,
    "base_url": _BASE_URL,
    "api_key": _API_KEY,
    "is_active": FLAG,
    "disconnect_policy": told(
        one_of(Provider.DisconnectPolicy.values),
        "What becomes of a call whose caller leaves: ended, or read on to its usage.",
    ),
    **_ACCOUNT,
    "timeout_seconds": _TIMEOUT,
    grants.FIELD: GRANTED,
    **LIMITS_TAKEN,
}
_CONFIG: Final[dict[str, Schema]] = {**_PROVIDER, "provider": _KIND}

NEW_PROVIDER: Final = SHAPES.add(
    "NewProvider",
    request(
        ("name", "kind"),
        tenant=told(maybe(TENANT), "The id or the slug of a tenant; null: shared by all."),
        **{name: _PROVIDER[name] for name in services.CREATE_RULES},
    ),
    name="OpenAI",
    kind="openai",
    api_key="sk-proj-0123456789",
)
PROVIDER_CHANGES: Final = SHAPES.add(
    "ProviderChanges",
    changes(**{name: _PROVIDER[name] for name in services.RULES}),
    is_active=False,
)
CREDENTIAL: Final = SHAPES.add(
    "Credential", request(("api_key",), api_key=_CREDENTIAL), api_key="sk-proj-9876543210"
)
CONFIG: Final = SHAPES.add(
    "ProviderConfigChange",
    request(("provider",), **{name: _CONFIG[name] for name in services.CONFIG_RULES}),
    provider="openai",
    api_key="sk-proj-0123456789",
)
PROVIDER: Final = SHAPES.add(
    "Provider",
    answer(
        id=ID,
        object=constant("provider"),
        name=shown(TEXT, "OpenAI"),
        kind=_KIND,
        base_url=MAYBE_TEXT,
        has_api_key=told(FLAG, "The credential itself never comes out."),
        tenant=told(MAYBE_ID, "The id of the tenant that it belongs to; null: shared by all."),
        is_tenant_default=shown(FLAG, False),
        is_active=FLAG,
        disconnect_policy=one_of(Provider.DisconnectPolicy.values),
        **dict.fromkeys(services.ACCOUNT_FIELDS, MAYBE_TEXT),
        **LIMITS_TOLD,
        tenants=GRANTED_TOLD,
        timeout_seconds=_TIMEOUT,
        health=answer(
            state=told(
                one_of(("up", "degraded", "down", "unknown", "off")),
                "`degraded`: it answers, though not with a list of its models.",
            ),
            checked_at=MAYBE_MOMENT,
            latency_ms=MAYBE_MS,
            last_error=MAYBE_TEXT,
            in_flight=shown(told(COUNT, "Calls that are running there now."), 3),
            max_slots=told(MAYBE_COUNT, "Calls that may run there at once; null: no limit."),
        ),
        created_at=MOMENT,
    ),
)
PROVIDERS: Final = listed(PROVIDER)
_NAMES: Final = array(shown(TEXT, "gpt-5-mini"))
TEST: Final = SHAPES.add(
    "ProviderTest",
    answer(
        ok=FLAG,
        status=shown(told(MAYBE_COUNT, "The upstream's; null: there was no answer."), 200),
        latency_ms=shown(COUNT, 120),
        sentence=shown(TEXT, "It answered, and it has 1 model."),
        models=told(_NAMES, "What it says it has, at most 2000."),
    ),
)
IMPORT: Final = SHAPES.add(
    "ModelImport",
    request(
        match=told(text(1, MATCH_CHARACTERS), "Only ids that fit, with `*` and `?`; all if absent.")
    ),
    match="gpt-*",
)
IMPORTED: Final = SHAPES.add(
    "ImportedModels",
    answer(
        added=told(array(shown(TEXT, "openai/gpt-5-mini")), "Names that are there now."),
        skipped=told(_NAMES, "Names that were taken, or are none."),
        offline=shown(
            told(FLAG, "The upstream did not answer; these are those that are known."), False
        ),
    ),
)
