"""Whom a shared provider or model is for: all tenants, or those that it is granted to. To the others it does not exist."""

from typing import Any, Final
from uuid import UUID

from django.db.models import Prefetch, Q, QuerySet

from providers.models import Granted, Model, Provider
from tenants.changes import Change
from tenants.errors import Invalid, NotFound
from tenants.models import Tenant
from tenants.services import find_tenant
from tenants.validation import MAX_LISTED

FIELD: Final = "tenants"
#: For rows whose grants are read: the ids of the tenants and no more of them.
READ: Final = Prefetch("granted", Tenant.objects.only("id"))


def rule(field: str, value: object) -> list[Tenant] | None:
    """Null is all tenants; a list of ids or slugs those alone, so an empty one nobody."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_LISTED:
        raise Invalid.field(field, f"must be null or a list of at most {MAX_LISTED} tenants.")
    found = {tenant.id: tenant for tenant in (_tenant(field, each) for each in value)}
    return list(found.values())


def _tenant(field: str, reference: object) -> Tenant:
    try:
        return find_tenant(reference if isinstance(reference, str) else "")
    except NotFound:
        raise Invalid.field(field, "each must be a tenant: its id or slug.") from None


def refuse_of_a_tenants_own(tenant_id: UUID | None, values: dict[str, Any]) -> None:
    if tenant_id is not None and values.get(FIELD) is not None:
        raise Invalid.field(FIELD, "must be null: what is a tenant's own is for no other.")


def write(thing: Granted, values: dict[str, Any], it: Change) -> None:
    """Grant as `values` say, if they mention it. The row is saved already."""
    if FIELD not in values:
        return
    granted: list[Tenant] | None = values[FIELD]
    thing.is_restricted = granted is not None
    thing.save(update_fields=["is_restricted"])
    thing.granted.set(granted or [])
    it.detail(tenants=None if granted is None else sorted(each.slug for each in granted))


def granted_ids(thing: Granted) -> list[UUID] | None:
    """None: to all."""
    return sorted(each.id for each in thing.granted.all()) if thing.is_restricted else None


def open_to(rows: "QuerySet[Any]", tenant_id: UUID) -> "QuerySet[Any]":
    """Those of the rows that exist for this tenant: its own, and the shared ones that it may use."""
    granted = rows.model.granted.through.objects.filter(tenant_id=tenant_id)
    mine = granted.values("provider_id" if rows.model is Provider else "model_id")
    shared = Q(tenant=None) & (Q(is_restricted=False) | Q(id__in=mine))
    return rows.filter(Q(tenant_id=tenant_id) | shared)


def open_models(tenant_id: UUID) -> "QuerySet[Model]":
    return open_to(Model.objects.all(), tenant_id)


def open_providers(tenant_id: UUID) -> "QuerySet[Provider]":
    return open_to(Provider.objects.all(), tenant_id)
