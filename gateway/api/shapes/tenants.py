"""Tenants, and what each groups by: projects, and the accounts that are called users."""

from typing import Final

from gateway.api.shapes.base import SHAPES, listed
from gateway.api.shapes.fields import EMAIL, SLUG, TENANT, optional_text
from gateway.openapi.schemas import (
    COUNT,
    FLAG,
    ID,
    MAYBE_MOMENT,
    MAYBE_TEXT,
    MOMENT,
    NOTHING,
    TEXT,
    Schema,
    answer,
    changes,
    constant,
    integer,
    maybe,
    one_of,
    request,
    shown,
    told,
)
from gateway.shapes import projects
from gateway.shapes.fields import MODEL_PATTERNS, NETWORKS, USD, amount, named
from gateway.shapes.limits import LIMITS_TAKEN, LIMITS_TOLD
from tenants import account_services
from tenants.models import Tenant
from tenants.services import MAX_RETENTION_DAYS, PENDING_FIELDS, TENANT_RULES
from usage import money

STATUS: Final = one_of(Tenant.Status.values)
_PENDING: Final = dict.fromkeys(PENDING_FIELDS, told(NOTHING, "Not acted on yet."))
_TENANT: Final[dict[str, Schema]] = {
    "name": shown(named(), "Acme"),
    "slug": told(SLUG, "Its name in addresses; made of the name unless given."),
    "status": told(STATUS, "`inactive`: all its keys answer 401."),
    "allowed_models": MODEL_PATTERNS,
    "allowed_addresses": NETWORKS,
    "content_logging": told(FLAG, "Whether keys of it may log what was said."),
    "content_retention_days": shown(integer(1, MAX_RETENTION_DAYS), 30),
    **_PENDING,
    **LIMITS_TAKEN,
}
_TENANT_TAKEN: Final = {name: _TENANT[name] for name in TENANT_RULES}

NEW_TENANT: Final = SHAPES.add(
    "NewTenant",
    request(("name",), **_TENANT_TAKEN),
    name="Acme",
    slug="acme",
    rate_limit_rpm=600,
    cost_budget_usd="250",
)
TENANT_CHANGES: Final = SHAPES.add(
    "TenantChanges", changes(**_TENANT_TAKEN), allowed_models=["openai/*"], rate_limit_rpm=None
)
_TENANT_TOLD: Final[dict[str, Schema]] = {
    "id": ID,
    "object": constant("tenant"),
    "name": shown(TEXT, "Acme"),
    "slug": shown(TEXT, "acme"),
    "status": STATUS,
    **LIMITS_TOLD,
    "allowed_models": MODEL_PATTERNS,
    "allowed_addresses": NETWORKS,
    "content_logging": shown(FLAG, False),
    "content_retention_days": shown(COUNT, 30),
    **_PENDING,
    "created_at": MOMENT,
}
TENANT_ANSWER: Final = SHAPES.add("Tenant", answer(**_TENANT_TOLD))
TENANTS: Final = listed(TENANT_ANSWER)
PROVIDER_CONFIG: Final = SHAPES.add(
    "ProviderConfig",
    answer(
        provider=shown(told(TEXT, "Its kind."), "openai"),
        base_url=MAYBE_TEXT,
        deployment=MAYBE_TEXT,
        api_version=MAYBE_TEXT,
        has_api_key=told(FLAG, "The credential itself never comes out."),
    ),
)
ONE_TENANT: Final = SHAPES.add(
    "TenantWithSummary",
    answer(
        **_TENANT_TOLD,
        api_key_count=told(COUNT, "Keys that are not revoked."),
        provider_config=maybe(PROVIDER_CONFIG.ref),
    ),
)

NEW_PROJECT: Final = SHAPES.add(
    "NewProject",
    request(("tenant", "name"), tenant=TENANT, **projects.TAKEN),
    tenant="acme",
    name="Search",
    max_concurrency=8,
)
PROJECT_CHANGES: Final = SHAPES.add(
    "ProjectChanges", changes(**projects.TAKEN), name="Search and browse"
)
PROJECT: Final = SHAPES.add("Project", projects.PROJECT)
PROJECTS: Final = listed(PROJECT)

_USER: Final[dict[str, Schema]] = {
    "username": shown(named(), "ada"),
    "email": EMAIL,
    "organization": optional_text(128),
    "is_active": told(FLAG, "False: its keys answer 401, until it is true again."),
    **LIMITS_TAKEN,
}
_USER_TAKEN: Final = {name: _USER[name] for name in account_services.RULES}
NEW_USER: Final = SHAPES.add(
    "NewUser",
    request(("tenant", "username"), tenant=TENANT, **_USER_TAKEN),
    tenant="acme",
    username="ada",
    email="ada@acme.example",
)
USER_CHANGES: Final = SHAPES.add("UserChanges", changes(**_USER_TAKEN), is_active=False)
TOP_UP: Final = SHAPES.add(
    "TopUp",
    request(
        ("amount_usd",),
        amount_usd=amount(money.MAX_USD, is_positive=True, example="25"),
        note=told(optional_text(), "For whoever reads the books."),
    ),
    amount_usd="25",
    note="Invoice 1042",
)
USER: Final = SHAPES.add(
    "User",
    answer(
        id=ID,
        object=constant("user"),
        tenant=told(ID, "The id of its tenant."),
        username=shown(TEXT, "ada"),
        email=shown(maybe(TEXT), "ada@acme.example"),
        organization=MAYBE_TEXT,
        balance_usd=told(USD, "What was paid in and is not used."),
        held_usd=told(
            shown(USD, "0"),
            "Of that, set aside for calls in flight, and by workers for those to come.",
        ),
        **LIMITS_TOLD,
        is_active=FLAG,
        deleted_at=MAYBE_MOMENT,
        created_at=MOMENT,
    ),
)
USERS: Final = listed(USER)
