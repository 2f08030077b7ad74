"""What can be done to the stores of tenants: shops that tools will work on. A credential goes in and never out. It is sealed
under its tenant's secret, for its row and its origin: so it ends with the tenant, and opens nowhere else.
"""

from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from providers.errors import CredentialUnreadable
from providers.models import Store
from providers.services import api_key_rule
from tenants import keyring, validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.errors import Conflict, Invalid, NotFound
from tenants.outbound import AddressFilter, OutboundError
from tenants.sealing import Place, SealingError, Secret
from tenants.services import locked_tenant
from tenants.validation import Rule

KIND: Final = "store"
PURPOSE: Final = "store-credential"
URL_CHARACTERS: Final = 512


def _store_id(field: str, value: object) -> str:
    text = validation.name(field, value)
    if " " in text:
        raise Invalid.field(field, "must have no spaces.")
    return text


RULES: Final[dict[str, Rule]] = {
    "name": validation.name,
    "label": lambda field, value: validation.optional_text(field, value, 128),
    "base_url": lambda field, value: validation.optional_text(field, value, URL_CHARACTERS),
    "api_key": api_key_rule,
    "is_active": validation.flag,
}
CREATE_RULES: Final[dict[str, Rule]] = {"store_id": _store_id, **RULES}


def target_of(store: Store) -> Target:
    return Target(KIND, str(store.id), store.name)


def register_store(*, actor: Actor, tenant_id: UUID, **fields: Any) -> Store:
    """Add a store of this tenant; without a name it is called by its id. Raises `Invalid`, `Conflict` for what is taken."""
    fault = _fault_of(fields.get("base_url"))
    label = str(fields.get("store_id"))[:64]
    with change(actor, "store.created", Target(KIND, "new", label), tenant_id) as it:
        fields.setdefault("store_id", None)
        values = validation.checked(fields, CREATE_RULES)
        if fault is not None:
            raise fault
        values.setdefault("name", values["store_id"])
        api_key = values.pop("api_key", None)
        store = Store(tenant=locked_tenant(tenant_id), **values)
        _seal(store, api_key)
        _save(store, it)
        it.aim(target_of(store))
        it.detail(**values, has_api_key=api_key is not None)
    return store


def update_store(*, actor: Actor, store_id: UUID, **fields: Any) -> Store:
    """Change fields; an omitted credential is kept, null clears it. A new host needs the credential entered again."""
    fault = _fault_of(fields.get("base_url"))
    with change(actor, "store.updated", Target(KIND, str(store_id))) as it:
        store = _locked(store_id, it)
        if not fields:
            raise Invalid("Nothing to change was given.")
        values = validation.checked(fields, RULES)
        if fault is not None:
            raise fault
        was = _origin(store)
        for name, value in values.items():
            if name != "api_key":
                it.detail(**{name: {"from": getattr(store, name), "to": value}})
                setattr(store, name, value)
        if "api_key" in values:
            _seal(store, values["api_key"])
            it.detail(credential="replaced" if values["api_key"] else "cleared")
        elif store.sealed is not None and _origin(store) != was:
            raise Invalid.field(
                "api_key",
                "must be entered again (or cleared with null): the stored one belongs to the old host.",
            )
        _save(store, it)
    return store


def delete_store(*, actor: Actor, store_id: UUID) -> None:
    """Its credential goes with it."""
    with change(actor, "store.deleted", Target(KIND, str(store_id))) as it:
        store = _locked(store_id, it)
        it.touch(KIND, store.id, store.tenant_id)
        store.delete()


def credential_of(store: Store) -> Secret | None:
    """In clear; None if it has none. Raises `CredentialUnreadable`, and nothing stands in for it."""
    if store.sealed is None:
        return None
    try:
        return keyring.unseal_for(store.tenant_id, PURPOSE, place(store), bytes(store.sealed))
    except SealingError:
        raise CredentialUnreadable from None


def place(store: Store) -> Place:
    return Place(
        table="providers_store",
        field="sealed",
        tenant=store.tenant_id,
        row=store.id,
        version=store.sealed_version,
        binding=_origin(store),
    )


def _seal(store: Store, api_key: Secret | None) -> None:
    store.sealed_version += 1
    store.sealed = None
    if api_key is not None:
        store.sealed = keyring.seal_for(store.tenant_id, PURPOSE, place(store), api_key.reveal())


def _addresses() -> AddressFilter:
    return AddressFilter(settings.ALLOWED_UPSTREAMS)


def _origin(store: Store) -> str:
    """Where its credential belongs. Empty without an address, and where the stored one is not allowed any more."""
    if not store.base_url:
        return ""
    try:
        where = _addresses().check_url(store.base_url)
    except OutboundError:
        return ""
    return f"{where.scheme}://{where.host}:{where.port}"


def _fault_of(base_url: object) -> Invalid | None:
    """The fault of an address, by what its name resolves to now. Asked before the transaction: it can take seconds."""
    if not isinstance(base_url, str) or not base_url:
        return None
    try:
        _addresses().check_destination(base_url)
    except OutboundError as fault:
        return Invalid.field("base_url", str(fault))
    return None


def _locked(store_id: UUID, it: Change) -> Store:
    store = Store.objects.select_for_update().filter(pk=store_id).first()
    if store is None:
        raise NotFound
    it.aim(target_of(store), store.tenant_id)
    return store


def _save(store: Store, it: Change) -> None:
    try:
        with transaction.atomic():
            store.save()
    except IntegrityError:
        rows = Store.objects.filter(tenant_id=store.tenant_id).exclude(pk=store.pk)
        field = "store_id" if rows.filter(store_id=store.store_id).exists() else "name"
        raise Conflict(
            f"This tenant has a store with that {field}.", fields={field: "is taken."}
        ) from None
    it.touch(KIND, store.id, store.tenant_id)
