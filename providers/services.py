"""What can be done to providers. One transaction, the audit row and the epoch inside it; credentials go in and never out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from providers import credentials, dialects, grants, presets
from providers.dialects.base import Dialect
from providers.errors import ProviderInUse
from providers.models import MAX_TIMEOUT, Provider
from tenants import validation
from tenants.actor import Actor
from tenants.audit import Target
from tenants.changes import Change, change
from tenants.errors import Conflict, Invalid, NotFound
from tenants.limit_rules import LIMIT_RULES
from tenants.models import Tenant
from tenants.outbound import AddressFilter, OutboundError, ParsedUrl
from tenants.sealing import Secret
from tenants.services import locked_tenant
from tenants.validation import Rule

KIND = "provider"
CONFIG_KIND = "provider_config"
KEY_CHARACTERS: Final = 4096
URL_CHARACTERS: Final = 512
#: What only some kinds have: their dialect says which (`Dialect.FIELDS`). Texts that can stand in an address as they are.
ACCOUNT_FIELDS: Final[dict[str, re.Pattern[str]]] = {
    "deployment": re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?"),
    "api_version": re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,30}[A-Za-z0-9])?"),
}


def _kind(field: str, value: object) -> str:
    if not isinstance(value, str) or value not in presets.PRESETS:
        raise Invalid.field(field, f"must be one of {', '.join(sorted(presets.PRESETS))}.")
    return value


def api_key_rule(field: str, value: object) -> Secret | None:
    """Null clears; a text of visible ASCII is what a header can carry."""
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= KEY_CHARACTERS:
        raise Invalid.field(field, f"must be a text of 1 to {KEY_CHARACTERS} characters.")
    if not all("!" <= character <= "~" for character in value):
        raise Invalid.field(field, "must be visible ASCII characters without spaces.")
    return Secret(value.encode())


def _account_field(field: str, value: object) -> str:
    """Null and the empty text are none; which kinds may have one is `_refuse_foreign`'s."""
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or ACCOUNT_FIELDS[field].fullmatch(value) is None:
        raise Invalid.field(
            field, "must be letters, digits and - . in between (or _ in a deployment)."
        )
    return value


def _base_url(field: str, value: object) -> str:
    return validation.optional_text(field, value, URL_CHARACTERS)


RULES: Final[dict[str, Rule]] = {
    "name": validation.name,
    "base_url": _base_url,
    "api_key": api_key_rule,
    "is_active": validation.flag,
    "disconnect_policy": validation.one_of(set(Provider.DisconnectPolicy.values)),
    "timeout_seconds": lambda field, value: validation.limit(field, value, MAX_TIMEOUT),
    grants.FIELD: grants.rule,
    **dict.fromkeys(ACCOUNT_FIELDS, _account_field),
    **LIMIT_RULES,
}
CREATE_RULES: Final[dict[str, Rule]] = {"kind": _kind, **RULES}
CONFIG_RULES: Final[dict[str, Rule]] = {
    "provider": _kind,
    "base_url": _base_url,
    "api_key": api_key_rule,
    **dict.fromkeys(ACCOUNT_FIELDS, _account_field),
}


def address_filter() -> AddressFilter:
    return AddressFilter(settings.ALLOWED_UPSTREAMS)


def destination(provider: Provider) -> ParsedUrl:
    """Where calls to this provider go. Raises `Invalid` when it has no usable address."""
    preset = presets.preset(provider.kind)
    try:
        where = address_filter().check_url(provider.base_url or preset.base_url)
    except OutboundError as fault:
        raise Invalid.field("base_url", str(fault)) from None
    return replace(where, path=preset.completed(where.path))


def _refuse_foreign(kind: str, values: dict[str, Any]) -> None:
    """A field that this kind has no use for would look as if it did something."""
    for name in ACCOUNT_FIELDS:
        if values.get(name) and name not in dialect_of(kind).FIELDS:
            having = [it for it in presets.PRESETS if name in dialect_of(it).FIELDS]
            raise Invalid.field(
                name, f"is for providers of kind {', '.join(having)} only; {kind} has none."
            )


def dialect_of(kind: str) -> Dialect:
    """What a provider of that kind speaks."""
    return dialects.dialect(presets.preset(kind).dialect)


#: Whether addresses have been looked up already.
_looked_up: ContextVar[bool] = ContextVar("looked_up", default=False)


@contextmanager
def looked_up() -> Iterator[None]:
    """Inside a transaction of the caller's, who has looked addresses up before it began."""
    token = _looked_up.set(True)
    try:
        yield
    finally:
        _looked_up.reset(token)


def look_up(base_url: object) -> Invalid | None:
    """The fault of an address by what its name resolves to now. Called before the transaction: it can take seconds."""
    if not isinstance(base_url, str) or not base_url or _looked_up.get():
        return None
    try:
        address_filter().check_destination(base_url)
    except OutboundError as fault:
        return Invalid.field("base_url", str(fault))
    return None


def _origin(provider: Provider) -> str:
    if presets.preset(provider.kind).in_process:
        return "in-process"
    where = destination(provider)
    return f"{where.scheme}://{where.host}:{where.port}"


def _stored_origin(provider: Provider) -> str:
    """Where its credential belongs. Empty, so unlike any other, when the stored address is not allowed any more."""
    try:
        return _origin(provider)
    except Invalid:
        return ""


def target_of(provider: Provider) -> Target:
    return Target(KIND, str(provider.id), provider.name)


def find_provider(reference: str | UUID, tenant: Tenant | None = None) -> Provider:
    """By id, or by name among the shared ones (or, given a tenant, among its own)."""
    text = str(reference)
    try:
        found = Provider.objects.filter(id=UUID(text)).first()
    except ValueError:
        named = Provider.objects.filter(name=text, tenant=tenant)
        found = named.first() if validation.storable(text) else None
    if found is None:
        raise NotFound(f"There is no provider {str(reference)[:64]!r}.")
    return found


def create_provider(*, actor: Actor, tenant_id: UUID | None = None, **fields: Any) -> Provider:
    """Add an upstream account. Raises `Invalid` (also for a forbidden address), `Conflict` for a taken name."""
    fault = look_up(fields.get("base_url"))
    label = str(fields.get("name"))[:64]
    with change(actor, "provider.created", Target(KIND, "new", label), tenant_id) as it:
        for required in ("name", "kind"):
            fields.setdefault(required, None)
        values = validation.checked(fields, CREATE_RULES)
        if fault is not None:
            raise fault
        _refuse_foreign(values["kind"], values)
        grants.refuse_of_a_tenants_own(tenant_id, values)
        tenant = locked_tenant(tenant_id) if tenant_id else None
        api_key = values.pop("api_key", None)
        plain = {name: value for name, value in values.items() if name != grants.FIELD}
        provider = Provider(tenant=tenant, **plain)
        _origin(provider)
        _save(provider, it)
        grants.write(provider, values, it)
        _store_credential(provider, {"api_key": api_key})
        it.aim(target_of(provider))
        it.detail(**plain, has_api_key=api_key is not None)
    return provider


def update_provider(*, actor: Actor, provider_id: UUID, **fields: Any) -> Provider:
    """Change fields; an omitted credential is kept, null clears it. A new host needs the credential entered again."""
    fault = look_up(fields.get("base_url"))
    with change(actor, "provider.updated", Target(KIND, str(provider_id))) as it:
        provider = _locked(provider_id, it)
        if not fields:
            raise Invalid("Nothing to change was given.")
        values = validation.checked(fields, RULES)
        if fault is not None:
            raise fault
        _refuse_foreign(provider.kind, values)
        grants.refuse_of_a_tenants_own(provider.tenant_id, values)
        was = _stored_origin(provider)
        for name, value in values.items():
            if name not in {"api_key", grants.FIELD}:
                it.detail(**{name: {"from": getattr(provider, name), "to": value}})
                setattr(provider, name, value)
        # Whatever became of its address, a provider can be turned off.
        if values.get("is_active") is not False or "base_url" in values:
            _refuse_moved_credential(provider, was, values)
        _save(provider, it)
        grants.write(provider, values, it)
        if _store_credential(provider, values):
            it.detail(credential="replaced" if values["api_key"] else "cleared")
    return provider


def rotate_credential(*, actor: Actor, provider_id: UUID, api_key: object) -> Provider:
    """Seal a new credential in place of the current one."""
    with change(actor, "provider.credential_rotated", Target(KIND, str(provider_id))) as it:
        provider = _locked(provider_id, it)
        secret = api_key_rule("api_key", api_key)
        if secret is None:
            raise Invalid.field("api_key", "must be given.")
        _store_credential(provider, {"api_key": secret})
        it.touch(KIND, provider.id, provider.tenant_id)
    return provider


def delete_provider(*, actor: Actor, provider_id: UUID, unlink: bool = False) -> None:
    """Remove an account. While models route to it: `ProviderInUse`, unless `unlink` leaves them without it."""
    with change(actor, "provider.deleted", Target(KIND, str(provider_id))) as it:
        provider = _locked(provider_id, it)
        models = sorted(
            {target.model.name for target in provider.targets.select_related("model")[:200]}
        )
        if models and not unlink:
            raise ProviderInUse(
                f"{len(models)} models route to this provider; unlink them, or ask for it with unlink=true.",
                facts={"models": models[:20]},
            )
        it.detail(unlinked=models)
        it.touch(KIND, provider.id, provider.tenant_id)
        provider.delete()


def _locked(provider_id: UUID, it: Change) -> Provider:
    provider = Provider.objects.select_for_update().filter(pk=provider_id).first()
    if provider is None:
        raise NotFound
    it.aim(target_of(provider), provider.tenant_id)
    return provider


def _refuse_moved_credential(provider: Provider, was: str, values: dict[str, Any]) -> None:
    moved = _origin(provider) != was
    if moved and "api_key" not in values and credentials.current(provider) is not None:
        raise Invalid.field(
            "api_key",
            "must be entered again (or cleared with null): the stored one belongs to the old host.",
        )


def _save(provider: Provider, it: Change) -> None:
    try:
        with transaction.atomic():
            provider.save()
    except IntegrityError:
        raise Conflict(
            f"The name {provider.name!r} is taken.", fields={"name": "is taken."}
        ) from None
    it.touch(KIND, provider.id, provider.tenant_id)


def _store_credential(provider: Provider, values: dict[str, Any]) -> bool:
    """Replace or clear the credential as `values` say; false when they do not mention it."""
    if "api_key" not in values:
        return False
    secret: Secret | None = values["api_key"]
    if secret is None:
        credentials.retire(provider)
    else:
        credentials.replace(provider, _origin(provider), secret)
    return True


# --- a tenant's own default provider ----------------------------------------------------------------------------------


def provider_config(tenant: Tenant) -> Provider | None:
    return Provider.objects.filter(tenant=tenant, is_tenant_default=True).first()


def set_provider_config(*, actor: Actor, tenant_id: UUID, **fields: Any) -> Provider:
    """Set or replace the tenant's own provider. An omitted `api_key` keeps the stored one if kind and host stay."""
    fault = look_up(fields.get("base_url"))
    target = Target(CONFIG_KIND, str(tenant_id))
    with change(actor, "provider_config.set", target, tenant_id) as it:
        tenant = locked_tenant(tenant_id)
        fields.setdefault("provider", None)
        values = validation.checked(fields, CONFIG_RULES)
        if fault is not None:
            raise fault
        kind = values["provider"]
        _refuse_foreign(kind, values)
        provider = provider_config(tenant) or Provider(tenant=tenant, is_tenant_default=True)
        was = (provider.kind, _stored_origin(provider)) if provider.kind else None
        provider.kind, provider.name = kind, f"own {kind}"
        provider.base_url, provider.is_active = values.get("base_url", ""), True
        for name in ACCOUNT_FIELDS:
            setattr(provider, name, values.get(name, ""))
        if was != (kind, _origin(provider)) and "api_key" not in values:
            values["api_key"] = None
        _save(provider, it)
        _store_credential(provider, values)
        it.detail(
            provider=kind,
            base_url=provider.base_url,
            **{name: getattr(provider, name) for name in ACCOUNT_FIELDS if getattr(provider, name)},
            has_api_key=credentials.current(provider) is not None,
        )
    return provider


def remove_provider_config(*, actor: Actor, tenant_id: UUID) -> None:
    """After this the tenant is back on shared models."""
    target = Target(CONFIG_KIND, str(tenant_id))
    with change(actor, "provider_config.removed", target, tenant_id) as it:
        provider = provider_config(locked_tenant(tenant_id))
        if provider is None:
            raise NotFound("This tenant has no provider of its own.")
        it.touch(KIND, provider.id, provider.tenant_id)
        provider.delete()
