"""From rows to the immutable values that the snapshot holds. Runs in its threads; a few queries each."""

from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter
from typing import Final
from uuid import UUID

from django.db.models import Q, QuerySet

from keys.chain import Identity
from providers import credentials, grants, presets
from providers.credentials import PURPOSE
from providers.models import Granted, Model, Price, Provider
from providers.prices import price_tag
from providers.routing import Catalogue, OwnRoutes, Prices, Route, Serving, Upstream
from providers.services import destination, dialect_of
from providers.types import Origin
from tenants import keyring, setting_services
from tenants.clock import to_unix_us
from tenants.errors import Invalid
from tenants.limits import LimitSet
from tenants.sealing import SealingError, Secret
from usage import contents
from usage.levels import Kind, Level
from usage.records import Caller

#: A name, because every request is written to one, although this one is never dialed.
_IN_PROCESS: Final = Origin("in-process", "in-process", 0)


def caller_of(identity: Identity) -> Caller:
    return Caller(
        tenant_id=identity.tenant_id,
        tenant=identity.tenant,
        key_id=identity.key_id,
        key_prefix=identity.key_prefix,
        team=identity.team,
        project_id=identity.project_id,
        project=identity.project,
        account_id=identity.account_id,
        account=identity.account,
    )


def levels_of(identity: Identity) -> tuple[Level, ...]:
    """Everything whose limits a call of this caller takes from, if there are any."""
    levels: list[tuple[Kind, UUID | None, LimitSet]] = [
        ("key", identity.key_id, identity.key_limits),
        ("project", identity.project_id, identity.project_limits),
        ("account", identity.account_id, identity.account_limits),
        ("tenant", identity.tenant_id, identity.tenant_limits),
    ]
    found = [Level(kind, id, limits) for kind, id, limits in levels if id is not None]
    return tuple(level for level in found if level.limits_anything)


def content_key(identity: Identity) -> tuple[int, Secret] | None:
    """What seals this caller's bodies, if they are to be kept."""
    if not identity.log_content or not setting_services.value_of("content_logging"):
        return None
    return keyring.tenant_key(identity.tenant_id, contents.PURPOSE)


def shared_catalogue() -> Catalogue:
    return Catalogue(_routes(None, _upstreams(Provider.objects.filter(tenant=None))))


def own_routes(tenant_id: UUID) -> OwnRoutes:
    own = Provider.objects.filter(tenant_id=tenant_id)
    row = own.filter(is_tenant_default=True).first()
    default = next(iter(_upstreams(own.filter(is_tenant_default=True)).values()), None)
    unusable = row.kind if row is not None and default is None else ""
    catalogue = Catalogue()
    if Model.objects.filter(tenant_id=tenant_id).exists():
        usable = _upstreams(grants.open_providers(tenant_id))
        catalogue = Catalogue(_routes(tenant_id, usable))
    return OwnRoutes(catalogue, default, unusable, _own_prices(tenant_id), tenant_id)


def _routes(tenant_id: UUID | None, upstreams: dict[UUID, Upstream]) -> list[Route]:
    models = Model.objects.filter(Q(tenant=tenant_id)).prefetch_related(
        "targets", "prices", grants.READ
    )
    return [_route(model, upstreams) for model in models]


def _route(model: Model, upstreams: dict[UUID, Upstream]) -> Route:
    targets = sorted(model.targets.all(), key=lambda target: (target.priority, target.created_at))
    return Route(
        name=model.name,
        capability=model.capability,
        is_active=model.is_active,
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        targets=tuple(
            Serving(upstreams[target.provider_id], target.upstream_model)
            for target in targets
            if target.provider_id in upstreams
        ),
        prices=_prices(row for row in model.prices.all() if row.tenant_id is None),
        created_at=int(model.created_at.timestamp()),
        id=model.id,
        limits=model.limit_set,
        granted=_granted(model),
    )


def _granted(thing: Granted) -> frozenset[UUID] | None:
    ids = grants.granted_ids(thing)
    return None if ids is None else frozenset(ids)


def _prices(rows: Iterable[Price]) -> Prices:
    dated = ((to_unix_us(row.effective_from), price_tag(row)) for row in rows)
    return tuple(sorted(dated, key=itemgetter(0)))


def _own_prices(tenant_id: UUID) -> dict[UUID, Prices]:
    """What this tenant pays for shared models, where that is not what everybody pays."""
    found: dict[UUID, list[Price]] = defaultdict(list)
    for row in Price.objects.filter(tenant_id=tenant_id):
        found[row.model_id].append(row)
    return {model_id: _prices(rows) for model_id, rows in found.items()}


def _upstreams(rows: "QuerySet[Provider]") -> dict[UUID, Upstream]:
    """Active providers that can be called, by id. One with an address that is no longer allowed is not among them."""
    found = {}
    for row in rows.filter(is_active=True).prefetch_related("credentials", grants.READ):
        upstream = _upstream(row)
        if upstream is not None:
            found[row.id] = upstream
    return found


def _upstream(row: Provider) -> Upstream | None:
    preset = presets.preset(row.kind)
    origin, path = _IN_PROCESS, ""
    if not preset.in_process:
        try:
            where = destination(row)
        except Invalid:
            return None
        origin, path = Origin(where.scheme, where.host, where.port), where.path
    credential = next((c for c in row.credentials.all() if c.retired_at is None), None)
    return Upstream(
        id=row.id,
        name=row.name,
        kind=row.kind,
        dialect=dialect_of(row.kind),
        origin=origin,
        path=path,
        in_process=preset.in_process,
        tenant_id=row.tenant_id,
        credential=credentials.sealed(credential, row) if credential else None,
        key=_opening_key(row.tenant_id) if credential else None,
        deployment=row.deployment,
        api_version=row.api_version,
        limits=row.limit_set,
        cap_member=preset.cap_member,
        granted=_granted(row),
        timeout_seconds=row.timeout_seconds,
        drains=row.disconnect_policy == Provider.DisconnectPolicy.DRAIN,
    )


def _opening_key(tenant_id: UUID | None) -> tuple[int, Secret] | None:
    """None when the tenant's root does not open: its providers answer 503, everybody else's go on."""
    try:
        return keyring.tenant_key(tenant_id, PURPOSE)
    except SealingError:
        return None
