"""What can be done to models: the public names, their targets and their dated prices."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from providers import grants
from providers.models import Model, Price, Provider, Target
from tenants import validation
from tenants.actor import Actor
from tenants.audit import Target as AuditTarget
from tenants.changes import Change, change
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound
from tenants.limit_rules import LIMIT_RULES
from tenants.models import Tenant
from tenants.services import find_tenant, locked_tenant
from tenants.validation import Rule
from usage import money

KIND = "model"
_TAKEN_ENDING: Final = "/simulate"
MAX_TARGETS: Final = 32
MAX_PRICES: Final = 64
MAX_TOKENS: Final = 10**12

#: Fields of the contract that this release does not act on yet, with the one value that says what it does anyway.
PENDING: Final[dict[str, object]] = {
    "strategy": "priority",
    "fallbacks": [],
}
#: Price field of the contract → column.
PRICE_COLUMNS: Final = {
    "input_usd_per_mtok": "input_nano_per_mtok",
    "output_usd_per_mtok": "output_nano_per_mtok",
    "cached_input_usd_per_mtok": "cached_input_nano_per_mtok",
    "cache_write_usd_per_mtok": "cache_write_nano_per_mtok",
    "reasoning_usd_per_mtok": "reasoning_nano_per_mtok",
    "long_context_input_usd_per_mtok": "long_context_input_nano_per_mtok",
    "long_context_output_usd_per_mtok": "long_context_output_nano_per_mtok",
    "long_context_cached_input_usd_per_mtok": "long_context_cached_input_nano_per_mtok",
    "long_context_cache_write_usd_per_mtok": "long_context_cache_write_nano_per_mtok",
    "per_request_usd": "per_request_nano",
    "per_image_usd": "per_image_nano",
    "per_minute_usd": "per_minute_nano",
}
#: A call with more input tokens than this costs the long context's prices.
LONG_CONTEXT: Final = "long_context_from_tokens"
LONG_PRICES: Final = frozenset(n for n in PRICE_COLUMNS if n.startswith("long_context_"))
#: Columns in which nothing is 0, not null.
_ZERO_COLUMNS: Final = ("per_request_nano", "per_image_nano", "per_minute_nano")


def pending_rule(only: object) -> Rule:
    """Accepts the one value that is true now, a list of nothing also as null; anything else would be a promise nobody keeps."""

    def rule(field: str, value: object) -> object:
        is_none = value is None and only == []
        if not is_none and (value != only or isinstance(value, bool) != isinstance(only, bool)):
            raise Invalid.field(field, f"can only be {only!r} in this release.")
        return only

    return rule


def _model_name(field: str, value: object) -> str:
    name = validation.name(field, value)
    if " " in name or "*" in name[:-1]:
        raise Invalid.field(field, "must have no spaces, and `*` only at its end.")
    if name.endswith(_TAKEN_ENDING):
        raise Invalid.field(field, f"must not end in {_TAKEN_ENDING}, which is a door of the API.")
    return name


def _tokens(field: str, value: object) -> int | None:
    return validation.limit(field, value, MAX_TOKENS)


def nano(field: str, value: object) -> int:
    """A price in USD per million tokens as integer nano-USD, exactly; finer than a nano-USD is refused, not rounded."""
    if not isinstance(value, str):
        raise Invalid.field(field, 'must be a decimal text of USD like "2.50".')
    try:
        return money.parse_usd_per_mtok(value)
    except money.NotMoney as fault:
        raise Invalid.field(field, str(fault)) from None


def price_row(field: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid.field(field, "each price must be an object.")
    clean = validation.checked(value, PRICE_RULES)
    for required in ("input_usd_per_mtok", "output_usd_per_mtok"):
        if clean.get(required) is None:
            raise Invalid.field(field, f"{required} must be given.")
    threshold = clean.get(LONG_CONTEXT)
    if (threshold is None) != all(clean.get(name) is None for name in LONG_PRICES):
        raise Invalid.field(field, f"{LONG_CONTEXT} and long-context prices need each other.")
    row = {PRICE_COLUMNS[name]: amount for name, amount in clean.items() if name in PRICE_COLUMNS}
    row |= {column: row.get(column) or 0 for column in _ZERO_COLUMNS}
    others = ("effective_from", "tenant")
    return {**row, LONG_CONTEXT: threshold, **{name: clean.get(name) for name in others}}


def _reference(field: str, value: object) -> str:
    """An id or a name; whether there is such a thing is seen later. A number is no name, even if something is called "7"."""
    if not isinstance(value, str | UUID):
        raise Invalid.field(field, "must be a text: an id or a name.")
    return str(value)


PRICE_RULES: Final[dict[str, Rule]] = {
    "effective_from": validation.moment,
    "tenant": lambda field, value: None if value is None else _reference(field, value),
    LONG_CONTEXT: _tokens,
    **{name: lambda f, v: None if v is None else nano(f, v) for name in PRICE_COLUMNS},
}


def _prices(field: str, value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > MAX_PRICES:
        raise Invalid.field(field, f"must be a list of at most {MAX_PRICES} prices.")
    return [price_row(field, item) for item in value]


def _priority(field: str, value: object) -> int | None:
    """As a limit, but nought is one, too; null is nought."""
    # To Python false and 0.0 are nought as well.
    return 0 if value == 0 and type(value) is int else validation.limit(field, value)


TARGET_RULES: Final[dict[str, Rule]] = {
    "provider": _reference,
    "upstream_model": lambda field, value: validation.name(field, value, 256),
    "weight": pending_rule(1),
    "priority": _priority,
}


def _targets(field: str, value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > MAX_TARGETS:
        raise Invalid.field(field, f"must be a list of at most {MAX_TARGETS} targets.")
    clean = []
    for item in value:
        if not isinstance(item, dict) or not {"provider", "upstream_model"} <= item.keys():
            raise Invalid.field(field, "each must be an object with provider and upstream_model.")
        clean.append(validation.checked(item, TARGET_RULES))
    return clean


RULES: Final[dict[str, Rule]] = {
    "capability": validation.one_of(set(Model.Capability.values)),
    "context_window": _tokens,
    "max_output_tokens": _tokens,
    "is_active": validation.flag,
    "targets": _targets,
    "prices": _prices,
    grants.FIELD: grants.rule,
    **LIMIT_RULES,
    **{name: pending_rule(only) for name, only in PENDING.items()},
}
CREATE_RULES: Final[dict[str, Rule]] = {"id": _model_name, **RULES}


def target_of(model: Model) -> AuditTarget:
    return AuditTarget(KIND, str(model.id), model.name)


def find_model(name: str, tenant: Tenant | None = None) -> Model:
    """By public name: a shared one, or with a tenant that tenant's own."""
    named = Model.objects.filter(name=name, tenant=tenant)
    found = named.first() if validation.storable(name) else None
    if found is None:
        raise NotFound(f"There is no model {name[:64]!r}.")
    return found


def create_model(*, actor: Actor, tenant_id: UUID | None = None, **fields: Any) -> Model:
    """Add a public name. Raises `Invalid`, `Conflict` for a taken name."""
    label = str(fields.get("id"))[:64]
    with change(actor, "model.created", AuditTarget(KIND, "new", label), tenant_id) as it:
        fields.setdefault("id", None)
        values = validation.checked(fields, CREATE_RULES)
        grants.refuse_of_a_tenants_own(tenant_id, values)
        tenant = locked_tenant(tenant_id) if tenant_id else None
        targets, prices, plain = _split(values)
        model = Model(name=plain.pop("id"), tenant=tenant, **plain)
        _save(model, it)
        grants.write(model, values, it)
        _write_targets(model, targets or [])
        _write_prices(model, prices or [], it)
        it.aim(target_of(model))
        told = values.keys() - {"prices", grants.FIELD}
        it.detail(**{name: value for name, value in values.items() if name in told})
    return model


def update_model(*, actor: Actor, model_id: UUID, **fields: Any) -> Model:
    """Change fields; `targets` replaces the list, `prices` adds dated ones. A price of the past is never rewritten."""
    with change(actor, "model.updated", AuditTarget(KIND, str(model_id))) as it:
        model = _locked(model_id, it)
        if not fields:
            raise Invalid("Nothing to change was given.")
        values = validation.checked(fields, RULES)
        grants.refuse_of_a_tenants_own(model.tenant_id, values)
        targets, prices, plain = _split(values)
        for name, value in plain.items():
            it.detail(**{name: {"from": getattr(model, name), "to": value}})
            setattr(model, name, value)
        _save(model, it)
        grants.write(model, values, it)
        if targets is not None:
            model.targets.all().delete()
            _write_targets(model, targets)
            it.detail(targets=targets)
        if prices is not None:
            _write_prices(model, prices, it)
            it.detail(prices=prices)
    return model


def delete_model(*, actor: Actor, model_id: UUID) -> None:
    with change(actor, "model.deleted", AuditTarget(KIND, str(model_id))) as it:
        model = _locked(model_id, it)
        it.touch(KIND, model.id, model.tenant_id)
        model.delete()


def _split(
    values: dict[str, Any],
) -> tuple[list[Any] | None, list[Any] | None, dict[str, Any]]:
    others = {*PENDING, grants.FIELD}
    plain = {name: value for name, value in values.items() if name not in others}
    return plain.pop("targets", None), plain.pop("prices", None), plain


def _locked(model_id: UUID, it: Change) -> Model:
    model = Model.objects.select_for_update().filter(pk=model_id).first()
    if model is None:
        raise NotFound
    it.aim(target_of(model), model.tenant_id)
    return model


def _save(model: Model, it: Change) -> None:
    try:
        with transaction.atomic():
            model.save()
    except IntegrityError:
        raise Conflict(f"The model {model.name!r} exists.", fields={"id": "is taken."}) from None
    it.touch(KIND, model.id, model.tenant_id)


def _provider_for(model: Model, reference: object) -> Provider:
    """A provider that this model may use: a shared one, or for a tenant's own model one of that tenant's."""
    candidates = Provider.objects.filter(tenant=None)
    if model.tenant_id is not None:
        candidates = grants.open_providers(model.tenant_id)
    text = str(reference)
    try:
        found = candidates.filter(id=UUID(text)).first()
    except ValueError:
        # Of two of that name the tenant's own.
        named = candidates.filter(name=text).order_by(F("tenant").asc(nulls_last=True))
        found = named.first() if validation.storable(text) else None
    if found is None:
        raise Invalid.field(
            "targets", f"there is no provider {str(reference)[:64]!r} for this model."
        )
    return found


def _write_targets(model: Model, targets: Sequence[dict[str, Any]]) -> None:
    rows = [
        Target(
            model=model,
            provider=_provider_for(model, item["provider"]),
            upstream_model=item["upstream_model"],
            priority=item.get("priority") or 0,
        )
        for item in targets
    ]
    if len({(row.provider_id, row.upstream_model) for row in rows}) < len(rows):
        raise Invalid.field("targets", "the same provider and upstream model stand there twice.")
    Target.objects.bulk_create(rows)


def _write_prices(model: Model, prices: Sequence[dict[str, Any]], it: Change) -> None:
    """Each price counts from its date on, from now if it names none. Once in force it stays what it was."""
    now = SYSTEM.now()
    has_history = model.prices.exists()
    for item in prices:
        tenant = _payer(model, item["tenant"])
        begins = item["effective_from"] or now
        if begins < now and has_history:
            raise Invalid.field("prices", "effective_from must not lie in the past.")
        if model.prices.filter(tenant=tenant, effective_from=begins).exists():
            raise Invalid.field("prices", "there is a price from that moment on already.")
        Price.objects.create(model=model, **{**item, "tenant": tenant, "effective_from": begins})
        if tenant is not None:
            it.touch(KIND, model.id, tenant.id)


def _payer(model: Model, reference: object) -> Tenant | None:
    """The one tenant that a price is for; None for everybody's."""
    if reference is None:
        return None
    if model.tenant_id is not None:
        raise Invalid.field("prices", "tenant: a tenant's own model has no other payers.")
    try:
        return find_tenant(str(reference))
    except NotFound:
        raise Invalid.field("prices", "tenant: is no tenant; give its slug or id.") from None
