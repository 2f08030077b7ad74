"""What can be done to tenants. Keyword arguments, one transaction, the audit row and the epoch inside it."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction

from tenants import keyring, validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.errors import Conflict, Invalid, NotFound
from tenants.limit_rules import LIMIT_RULES
from tenants.models import Tenant
from tenants.validation import Rule

KIND = "tenant"
DEFAULT_SLUG = "default"

MAX_RETENTION_DAYS: Final = 3650
#: Fields of a tenant that wait for the tenants' own sign-in.
PENDING_FIELDS: Final = ("oidc_issuer", "oidc_audience", "oidc_default_scopes")


def _not_enforced_yet(field: str, value: object) -> None:
    if value is not None:
        raise Invalid.field(
            field,
            "is not enforced by this release, so it cannot be set; leave it null.",
        )


def _retention(field: str, value: object) -> int:
    days = validation.limit(field, value, MAX_RETENTION_DAYS)
    if days is None:
        raise Invalid.field(field, "must be a number of days.")
    return days


TENANT_RULES: Final[dict[str, Rule]] = {
    "name": validation.name,
    "slug": validation.slug,
    "status": validation.one_of({"active", "inactive"}),
    "allowed_models": validation.model_patterns,
    "allowed_addresses": validation.networks,
    "content_logging": validation.flag,
    "content_retention_days": _retention,
    **dict.fromkeys(PENDING_FIELDS, _not_enforced_yet),
    **LIMIT_RULES,
}


def _without_pending(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only what has a column."""
    return {name: value for name, value in values.items() if name not in PENDING_FIELDS}


def target_of(tenant: Tenant) -> Target:
    return Target(KIND, str(tenant.id), f"{tenant.name} ({tenant.slug})")


def find_tenant(reference: str | UUID) -> Tenant:
    """By id or slug."""
    text = str(reference)
    try:
        found = Tenant.objects.filter(id=UUID(text)).first()
    except ValueError:
        named = Tenant.objects.filter(slug=text)
        found = named.first() if validation.storable(text) else None
    if found is None:
        raise NotFound(f"There is no tenant {str(reference)[:64]!r}.")
    return found


def locked_tenant(tenant_id: UUID) -> Tenant:
    """The row, locked for the rest of the transaction."""
    tenant = Tenant.objects.select_for_update().filter(pk=tenant_id).first()
    if tenant is None:
        raise NotFound
    return tenant


def create_tenant(*, actor: Actor, name: object, **fields: Any) -> Tenant:
    """Make a tenant; without a slug it gets one from its name. Raises `Invalid`, `Conflict` for a taken slug."""
    label = str(name)[:64]
    with change(actor, "tenant.created", Target(KIND, "new", label)) as it:
        values = _without_pending(validation.checked({"name": name, **fields}, TENANT_RULES))
        values.setdefault("slug", validation.slug_from(values["name"]))
        if not values["slug"]:
            raise Invalid.field("slug", "cannot be made from this name; give one.")
        tenant = Tenant(**values)
        _save(tenant, it)
        keyring.KEYRING.root(keyring.TENANT, tenant.id)
        it.aim(target_of(tenant), tenant.id)
        it.detail(**values)
    return tenant


def update_tenant(*, actor: Actor, tenant_id: UUID, reason: object = "", **fields: Any) -> Tenant:
    """Change fields of a tenant; absent ones stay. `status: inactive` stops all its keys at once.

    `reason` is for the audit log alone.
    """
    action = {"inactive": "tenant.suspended", "active": "tenant.activated"}.get(
        str(fields.get("status")), "tenant.updated"
    )
    with change(actor, action, Target(KIND, str(tenant_id)), tenant_id) as it:
        tenant = locked_tenant(tenant_id)
        it.aim(target_of(tenant))
        if not fields:
            raise Invalid("Nothing to change was given.")
        for name, value in _without_pending(validation.checked(fields, TENANT_RULES)).items():
            it.detail(**{name: {"from": getattr(tenant, name), "to": value}})
            setattr(tenant, name, value)
        if reason:
            it.detail(reason=validation.optional_text("reason", reason))
        _save(tenant, it)
    return tenant


def delete_tenant(*, actor: Actor, tenant_id: UUID) -> None:
    """End a tenant: its keys, providers and wrapped secret go, so nothing sealed for it opens again. Logs and audit stay."""
    with change(actor, "tenant.deleted", Target(KIND, str(tenant_id)), tenant_id) as it:
        tenant = locked_tenant(tenant_id)
        it.aim(target_of(tenant))
        it.touch(KIND, tenant.id, tenant.id)
        tenant.accounts.update(is_active=False)
        _, counts = tenant.delete()
        it.detail(removed=counts)
    keyring.KEYRING.forget()


def ensure_tenant(*, actor: Actor, name: str, slug: str) -> tuple[Tenant, bool]:
    """The tenant of that slug and whether it was made just now."""
    found = Tenant.objects.filter(slug=slug).first()
    if found is not None:
        return found, False
    return create_tenant(actor=actor, name=name, slug=slug), True


def _save(tenant: Tenant, it: Change) -> None:
    try:
        with transaction.atomic():
            tenant.save()
    except IntegrityError:
        raise Conflict(
            f"The slug {tenant.slug!r} is taken.", fields={"slug": "is taken."}
        ) from None
    it.touch(KIND, tenant.id, tenant.id)
