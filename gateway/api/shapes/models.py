"""Models: the public names, with their targets and their dated prices."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.api.shapes.fields import GRANTED, GRANTED_TOLD, TENANT
from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    ID,
    MAYBE_COUNT,
    MAYBE_ID,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    NOTHING,
    TEXT,
    Schema,
    answer,
    array,
    changes,
    constant,
    integer,
    maybe,
    one_of,
    request,
    shown,
    told,
)
from gateway.shapes.calls import REASONS
from gateway.shapes.fields import MAYBE_USD, amount, limit, named
from gateway.shapes.limits import LIMITS_TAKEN, LIMITS_TOLD
from providers import grants
from providers import model_services as services
from providers.models import Model
from tenants.models import MAX_REQUESTS
from usage.money import MAX_USD_PER_MTOK

_PRICE_AMOUNT: Final[Schema] = {
    name: what
    for name, what in amount(MAX_USD_PER_MTOK, is_positive=False, example="2.5").items()
    if name not in ("minimum", "maximum")
} | {"type": "string", "description": "US dollars as a decimal text."}
_NEEDED: Final = ("input_usd_per_mtok", "output_usd_per_mtok")
_PRICE: Final[dict[str, Schema]] = {
    "effective_from": told(MAYBE_MOMENT, "With its zone, and not in the past; null: from now on."),
    "tenant": told(maybe(TENANT), "The only tenant that pays it; null: all of them."),
    services.LONG_CONTEXT: limit(
        services.MAX_TOKENS,
        "With more input tokens than this a call costs the long context's prices.",
        200_000,
    ),
    **{
        name: _PRICE_AMOUNT if name in _NEEDED else maybe(_PRICE_AMOUNT)
        for name in services.PRICE_COLUMNS
    },
}
_LONG: Final = [name for name in services.PRICE_COLUMNS if name in services.LONG_PRICES]
_NEEDS_BOTH: Final[Schema] = {
    "anyOf": [
        {"properties": dict.fromkeys((services.LONG_CONTEXT, *_LONG), NOTHING)},
        {
            "required": [services.LONG_CONTEXT],
            "properties": {services.LONG_CONTEXT: {"type": "integer"}},
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "string"}}} for name in _LONG
            ],
        },
    ]
}
_NEW_PRICE: Final = {
    **_NEEDS_BOTH,
    **request(_NEEDED, **{name: _PRICE[name] for name in services.PRICE_RULES}),
    "examples": [{"input_usd_per_mtok": "2.5", "output_usd_per_mtok": "10"}],
}
_TARGET: Final[dict[str, Schema]] = {
    "provider": {
        **told(TEXT, "The id or the name of a provider."),
        "format": "provider",
    },
    "upstream_model": told(named(256), "What the provider calls it."),
    "weight": {"type": "integer", "const": 1},
    "priority": told(maybe(integer(0, MAX_REQUESTS)), "Lower ones are tried first; null is 0."),
}
_NEW_TARGET: Final = {
    **request(
        ("provider", "upstream_model"), **{name: _TARGET[name] for name in services.TARGET_RULES}
    ),
    "examples": [{"provider": "OpenAI", "upstream_model": "gpt-5-mini"}],
}
#: Not acted on yet.
_PENDING: Final[dict[str, Schema]] = {
    "strategy": constant("priority"),
    "fallbacks": {"type": ["array", "null"], "maxItems": 0},
}
_CAPABILITY: Final = one_of(Model.Capability.values)
_MODEL: Final[dict[str, Schema]] = {
    "id": {**named(), "format": "model", "examples": ["openai/gpt-5-mini"]},
    "capability": _CAPABILITY,
    "context_window": limit(services.MAX_TOKENS, "Tokens that it takes.", 400_000),
    "max_output_tokens": limit(services.MAX_TOKENS, "Tokens that it answers at most.", 128_000),
    "is_active": FLAG,
    "targets": told(
        array(_NEW_TARGET, most=services.MAX_TARGETS), "Who serves it. A change replaces the list."
    ),
    "prices": told(
        array(_NEW_PRICE, most=services.MAX_PRICES),
        "What it costs and from when on. A change adds to them.",
    ),
    grants.FIELD: GRANTED,
    **LIMITS_TAKEN,
    **_PENDING,
}
NEW_MODEL: Final = SHAPES.add(
    "NewModel",
    request(
        ("id",),
        tenant=told(maybe(TENANT), "The id or the slug of a tenant; null: shared by all."),
        **{name: _MODEL[name] for name in services.CREATE_RULES},
    ),
    id="openai/gpt-5-mini",
    targets=[{"provider": "OpenAI", "upstream_model": "gpt-5-mini"}],
    prices=[{"input_usd_per_mtok": "0.25", "output_usd_per_mtok": "2"}],
)
MODEL_CHANGES: Final = SHAPES.add(
    "ModelChanges",
    changes(**{name: _MODEL[name] for name in services.RULES}),
    prices=[
        {
            "effective_from": "2027-01-01T00:00:00Z",
            "input_usd_per_mtok": "0.2",
            "output_usd_per_mtok": "1.6",
        }
    ],
)
_PRICE_TOLD: Final = answer(
    effective_from=MOMENT,
    tenant=MAYBE_ID,
    **dict.fromkeys(services.PRICE_COLUMNS, MAYBE_USD),
    **{services.LONG_CONTEXT: MAYBE_COUNT},
)
MODEL: Final = SHAPES.add(
    "Model",
    answer(
        id=shown(told(TEXT, "Its public name."), "openai/gpt-5-mini"),
        object=constant("model"),
        capability=_CAPABILITY,
        tenant=told(MAYBE_ID, "The id of the tenant that it belongs to; null: shared by all."),
        context_window=shown(MAYBE_COUNT, 400_000),
        max_output_tokens=shown(MAYBE_COUNT, 128_000),
        is_active=FLAG,
        **LIMITS_TOLD,
        strategy=constant("priority"),
        fallbacks={"type": "array", "maxItems": 0},
        tenants=GRANTED_TOLD,
        targets=array(
            answer(
                provider=shown(
                    told(MAYBE_ID, "The id of a provider; null: it is gone."), ID["examples"][0]
                ),
                upstream_model=shown(TEXT, "gpt-5-mini"),
                weight={"type": "integer", "const": 1},
                priority=shown(integer(0, MAX_REQUESTS), 0),
            )
        ),
        prices=array(_PRICE_TOLD),
        created_at=MOMENT,
    ),
)
MODELS: Final = listed(MODEL)

SIMULATION_ASKED: Final = SHAPES.add(
    "SimulationAsked",
    request(
        tenant=told(maybe(TENANT), "As some key of this tenant; its id or slug."),
        key=told({**MAYBE_ID, "format": "key"}, "As this key; its id."),
    ),
    tenant="acme",
)
SIMULATION: Final = SHAPES.add(
    "Simulation",
    answer(
        object=constant("simulation"),
        dry_run={"type": "boolean", "const": True},
        request_id=NOTHING,
        tenant=shown(MAYBE_TEXT, "acme"),
        project=MAYBE_TEXT,
        account=MAYBE_TEXT,
        key_id=MAYBE_ID,
        key_prefix=TEXT,
        team=MAYBE_TEXT,
        model=shown(MAYBE_TEXT, "openai/gpt-5-mini"),
        dialect_in=shown(TEXT, "openai"),
        stream={"type": ["boolean", "null"], "examples": [False]},
        status=told(MAYBE_COUNT, "What it would be refused with; null: it would be sent."),
        error_code=MAYBE_TEXT,
        message=MAYBE_TEXT,
        **REASONS,
        bound=told(
            maybe(answer(tokens_in=COUNT, tokens_out=COUNT, cost_usd=MAYBE_USD)),
            "What it could use at most, and cost; 0 tokens: nothing bounds them.",
        ),
        price_id=MAYBE_ID,
        price=maybe(_PRICE_TOLD),
        attempts={"type": "array", "maxItems": 0},
        ledger={"type": "array", "maxItems": 0},
        route=told(
            maybe(answer(id=MAYBE_TEXT, tenant=MAYBE_ID)), "The model that answers to the name."
        ),
        targets=told(
            array(
                answer(
                    provider=ID,
                    name=shown(TEXT, "OpenAI"),
                    upstream_model=shown(TEXT, "gpt-5-mini"),
                    own_credential=shown(FLAG, False),
                )
            ),
            "In the order in which they would be tried.",
        ),
        rates=told(
            array(
                answer(
                    level=shown(TEXT, "key"),
                    what=one_of(("requests", "requests_day", "tokens", "slots")),
                    seconds=shown(MAYBE_COUNT, 60),
                    limit=shown(COUNT, 120),
                )
            ),
            "Limits that are counted by workers, so that nobody looked at them.",
        ),
    ),
)
