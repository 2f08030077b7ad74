"""Providers, a tenant's own provider, and models with their targets and prices, as a configuration file sees them."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from gateway.config_file import shape
from gateway.config_file.handlers import Handler
from gateway.config_file.shape import Entry
from providers import credentials, grants, model_services
from providers import services as providers
from providers.errors import CredentialUnreadable
from providers.models import Model, Price, Provider
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.models import Tenant
from tenants.sealing import Secret
from usage import money

_WHOLE_PRICE: Final = (*model_services.PRICE_COLUMNS.values(), model_services.LONG_CONTEXT)


class ProviderHandler(Handler):
    sort = shape.PROVIDER
    model = Provider
    touches = providers.KIND
    fixed = frozenset({"kind"})

    def rows(self, tenant: Tenant | None, names: Collection[str] | None = None) -> Sequence[Any]:
        return list(Provider.objects.filter(tenant=tenant, is_tenant_default=False))

    def parts(self, row: Any) -> list[Any]:
        return [*row.credentials.all(), *_grants(row)]

    def _value(self, row: Any, field: str) -> Any:
        return _granted(row) if field == grants.FIELD else getattr(row, field)

    def is_same(self, field: str, was: Any, now: Any) -> bool:
        return _same_grants(was, now) if field == grants.FIELD else super().is_same(field, was, now)

    def create(self, actor: Actor, tenant: Tenant | None, entry: Entry) -> Any:
        return providers.create_provider(
            actor=actor,
            tenant_id=tenant.id if tenant else None,
            **entry.given,
            **_credential(entry),
        )

    def update(self, actor: Actor, row: Any, fields: dict[str, Any], entry: Entry) -> None:
        # An account that moves takes the credential that the file has for it along, be it the same.
        secret = _credential(entry) if "base_url" in fields or self.sort.hides in fields else {}
        providers.update_provider(actor=actor, provider_id=row.id, **{**fields, **secret})

    def remove(self, actor: Actor, row: Any) -> None:
        providers.delete_provider(actor=actor, provider_id=row.id)

    def has_secret(self, row: Any, secret: Secret | None) -> bool:
        return _holds(row, secret)


class OwnProviderHandler(Handler):
    """The one that a tenant has set for itself. It has no name; the file says all of it or null."""

    sort = shape.PROVIDER_CONFIG
    model = Provider
    touches = providers.KIND

    def parts(self, row: Any) -> list[Any]:
        return list(row.credentials.all())

    def rows(self, tenant: Tenant | None, names: Collection[str] | None = None) -> Sequence[Any]:
        return list(Provider.objects.filter(tenant=tenant, is_tenant_default=True))

    def find(self, rows: Sequence[Any], entry: Entry) -> Any | None:
        return next(iter(rows), None)

    def name_of(self, row: Any) -> str:
        return "own"

    def _value(self, row: Any, field: str) -> Any:
        return row.kind if field == "provider" else getattr(row, field)

    def create(self, actor: Actor, tenant: Tenant | None, entry: Entry) -> Any:
        assert tenant is not None  # noqa: S101 - it stands inside a tenant
        return providers.set_provider_config(
            actor=actor, tenant_id=tenant.id, **entry.given, **_credential(entry)
        )

    def update(self, actor: Actor, row: Any, fields: dict[str, Any], entry: Entry) -> None:
        providers.set_provider_config(
            actor=actor,
            tenant_id=row.tenant_id,
            **{**self.state(row), **fields, **_credential(entry)},
        )

    def remove(self, actor: Actor, row: Any) -> None:
        providers.remove_provider_config(actor=actor, tenant_id=row.tenant_id)

    def has_secret(self, row: Any, secret: Secret | None) -> bool:
        return _holds(row, secret)


def _credential(entry: Entry) -> dict[str, str | None]:
    if not entry.has_secret:
        return {}
    return {entry.sort.hides: entry.secret.reveal().decode() if entry.secret else None}


def _holds(provider: Provider, secret: Secret | None) -> bool:
    """One that cannot be opened is none that anybody could mean."""
    stored = credentials.current(provider)
    if stored is None or secret is None:
        return stored is None and secret is None
    try:
        return credentials.open_sealed(credentials.sealed(stored, provider)) == secret
    except CredentialUnreadable:
        return False


class ModelHandler(Handler):
    sort = shape.MODEL
    model = Model
    touches = model_services.KIND

    def parts(self, row: Any) -> list[Any]:
        return [*row.targets.all(), *row.prices.all(), *_grants(row)]

    def rows(self, tenant: Tenant | None, names: Collection[str] | None = None) -> Sequence[Any]:
        models = Model.objects.filter(tenant=tenant)
        return list(models.prefetch_related("targets__provider", "prices__tenant"))

    def name_of(self, row: Any) -> str:
        return str(row.name)

    def _value(self, row: Any, field: str) -> Any:
        if field == "id":
            return row.name
        if field == "targets":
            return _targets_of(row)
        if field == "prices":
            return prices_of(row)
        if field == grants.FIELD:
            return _granted(row)
        return getattr(row, field, model_services.PENDING.get(field))

    def is_same(self, field: str, was: Any, now: Any) -> bool:
        """Targets of one priority have no order among them; what needs no price more has the prices that are said."""
        if field == "targets":
            return sorted(was, key=_order) == sorted(map(_whole_target, now), key=_order)
        if field == grants.FIELD:
            return _same_grants(was, now)
        return super().is_same(field, was, now)

    def create(self, actor: Actor, tenant: Tenant | None, entry: Entry) -> Any:
        return model_services.create_model(
            actor=actor, tenant_id=tenant.id if tenant else None, **entry.given
        )

    def update(self, actor: Actor, row: Any, fields: dict[str, Any], entry: Entry) -> None:
        model_services.update_model(actor=actor, model_id=row.id, **fields)

    def remove(self, actor: Actor, row: Any) -> None:
        model_services.delete_model(actor=actor, model_id=row.id)


def _grants(row: Any) -> list[Any]:
    """Which tenants it is granted to, as rows."""
    column = "provider" if isinstance(row, Provider) else "model"
    return list(type(row).granted.through.objects.filter(**{column: row}))


def _granted(row: Any) -> list[str] | None:
    """The same as slugs; None: to all."""
    if row._state.adding or not row.is_restricted:
        return None
    return sorted(row.granted.values_list("slug", flat=True))


def _same_grants(was: list[str] | None, now: list[str] | None) -> bool:
    return (None if was is None else set(was)) == (None if now is None else set(now))


def _order(target: dict[str, Any]) -> tuple[Any, ...]:
    return target["priority"], str(target["provider"]), target["upstream_model"]


def _whole_target(target: dict[str, Any]) -> dict[str, Any]:
    """With what it means when it is not said; a provider by its name, also where it was named by its id."""
    provider = str(target["provider"])
    try:
        found = Provider.objects.filter(id=UUID(provider)).first()
    except ValueError:
        found = None
    return {
        **target,
        "provider": found.name if found else provider,
        "weight": target.get("weight") or 1,
        "priority": target.get("priority") or 0,
    }


def _targets_of(model: Model) -> list[dict[str, Any]]:
    """Those that lead somewhere: one whose provider was removed cannot be said in a file."""
    if model._state.adding:
        return []
    return [
        {
            "provider": target.provider.name,
            "upstream_model": target.upstream_model,
            "weight": getattr(target, "weight", 1),
            "priority": target.priority,
        }
        for target in sorted(model.targets.all(), key=lambda it: (it.priority, str(it.id)))
        if target.provider is not None
    ]


# --- prices -----------------------------------------------------------------------------------------------------------


def prices_of(model: Model) -> list[dict[str, Any]]:
    """Every dated price as the contract writes it."""
    if model._state.adding:
        return []
    return [
        price_said(price) for price in sorted(model.prices.all(), key=lambda it: it.effective_from)
    ]


def price_said(price: Price) -> dict[str, Any]:
    """Without what it does not say."""
    said: dict[str, Any] = {"effective_from": price.effective_from}
    if price.tenant is not None:
        said["tenant"] = price.tenant.slug
    for name, column in model_services.PRICE_COLUMNS.items():
        nano = getattr(price, column)
        if nano is not None and (nano or name in ("input_usd_per_mtok", "output_usd_per_mtok")):
            said[name] = money.usd_text(nano)
    if price.long_context_from_tokens is not None:
        said[model_services.LONG_CONTEXT] = price.long_context_from_tokens
    return said


def missing_prices(model: Model | None, given: list[Any], clean: list[Any]) -> list[Any]:
    """Which of the prices in a file have to be added. Raises `Invalid` where one is there with other figures.

    A price without a date is in force from now on; if the one in force says the same, there is nothing to add.
    """
    stored = list(model.prices.all()) if model is not None else []
    now = SYSTEM.now()
    return [
        raw for raw, price in zip(given, clean, strict=True) if not _is_stored(stored, price, now)
    ]


def _is_stored(stored: list[Price], price: dict[str, Any], now: datetime) -> bool:
    """A stored price from the same moment, or for one without a date the one in force, with the same figures."""
    of_payer = [it for it in stored if _payer_is(it, price["tenant"])]
    begins = price["effective_from"]
    if begins is not None:
        same = next((it for it in of_payer if it.effective_from == begins), None)
    else:
        begun = [it for it in of_payer if it.effective_from <= now]
        same = max(begun, key=lambda it: it.effective_from, default=None)
    return same is not None and all(
        getattr(same, column) == price.get(column) for column in _WHOLE_PRICE
    )


def _payer_is(price: Price, reference: object) -> bool:
    if reference is None or price.tenant is None:
        return reference is None and price.tenant is None
    return str(reference) in (price.tenant.slug, str(price.tenant.id))
