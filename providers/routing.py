"""Which target? A model name, and who asks, to the ordered targets that serve it. In memory, over immutable pictures.

Order (docs/architecture.md): the tenant's own model of that name; the shared one; else the tenant's own default provider with
the name unchanged; else nothing. A shared target of the same kind as the tenant's own provider uses the tenant's own
credential, never both, never another's. What is shared and not granted to a tenant does not exist for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from uuid import UUID

from providers.credentials import SealedCredential
from providers.dialects.base import Dialect
from providers.errors import CredentialUnreadable
from providers.types import Origin, PriceTag
from tenants import sealing
from tenants.limits import NO_LIMITS, LimitSet
from tenants.sealing import Sealed, SealingError, Secret

#: (in force from, tag), newest last; moments in microseconds since 1970.
Prices = tuple[tuple[int, PriceTag], ...]


@dataclass(frozen=True)
class Upstream:
    """A provider as the relay uses it. The credential stays sealed; `key` (purpose key, version) opens it.

    Without slots: what every call asks of it and never changes is worked out once.
    """

    id: UUID
    name: str
    kind: str
    dialect: Dialect
    origin: Origin
    path: str
    in_process: bool
    tenant_id: UUID | None
    credential: SealedCredential | None
    key: tuple[int, Secret] | None
    deployment: str = ""
    api_version: str = ""
    limits: LimitSet = NO_LIMITS
    #: What a chat's output cap is called there.
    cap_member: str = "max_tokens"
    #: The tenants that this shared account is granted to; None: all.
    granted: frozenset[UUID] | None = None
    #: How long one call of it may take, in place of the house's limits.
    timeout_seconds: int | None = None
    #: Whether a call whose caller left is read on to its usage, or closed at once.
    drains: bool = False

    @cached_property
    def pool_key(self) -> str:
        """Connections are not shared across credentials, nor across generations of one."""
        return f"{self.id}/{self.credential.id if self.credential else 'none'}"

    def open_credential(self) -> Secret | None:
        """The clear credential, or None if it has none. Raises `CredentialUnreadable`; nothing stands in for it."""
        if self.credential is None:
            return None
        try:
            return self._sealed.open()
        except SealingError:
            raise CredentialUnreadable from None

    @cached_property
    def _sealed(self) -> Sealed:
        """Raises `SealingError`, `CredentialUnreadable`."""
        if self.credential is None or self.key is None:
            raise CredentialUnreadable
        version, key = self.key
        if sealing.key_version_of(self.credential.sealed) != version:
            raise CredentialUnreadable
        return Sealed(key, self.credential.place(), self.credential.sealed)


@dataclass(frozen=True)
class Serving:
    """One target: this upstream, under that name. Without slots, as `Upstream`."""

    upstream: Upstream
    model: str

    @cached_property
    def name(self) -> str:
        """What the upstream is called with. An account that is one deployment has one name, whatever the model's."""
        return self.upstream.deployment or self.model


@dataclass(frozen=True, slots=True)
class Route:
    """A public model. `prices` are (in force from, tag), newest last; moments in microseconds since 1970. `own_prices` are this
    caller's tenant's, which win from the first of them on.

    `id` None: nobody registered it, only the tenant's own provider knows the name.
    """

    name: str
    capability: str
    is_active: bool
    context_window: int | None
    max_output_tokens: int | None
    targets: tuple[Serving, ...]
    prices: Prices
    created_at: int = 0
    id: UUID | None = None
    limits: LimitSet = NO_LIMITS
    own_prices: Prices = ()
    #: The tenants that this shared model is granted to; None: all.
    granted: frozenset[UUID] | None = None

    def price_at(self, unix_us: int) -> PriceTag | None:
        """The price in force at a moment, None if there was none yet."""
        return _in_force(self.own_prices, unix_us) or _in_force(self.prices, unix_us)


def _in_force(prices: Prices, unix_us: int) -> PriceTag | None:
    for begins, tag in reversed(prices):
        if begins <= unix_us:
            return tag
    return None


class Catalogue:
    """Routes by exact name, and those whose name ends in `*` by their prefix, the longest first."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._exact = {route.name: route for route in routes}
        self._prefixes = sorted(
            ((name[:-1], route) for name, route in self._exact.items() if name.endswith("*")),
            key=lambda pair: -len(pair[0]),
        )

    def find(self, name: str) -> Route | None:
        found = self._exact.get(name)
        if found is not None:
            return found
        return next((route for prefix, route in self._prefixes if name.startswith(prefix)), None)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._exact.values())


@dataclass(frozen=True, slots=True)
class OwnRoutes:
    """What a tenant has of its own. `unusable_kind`: it has a default provider of that kind, and it cannot be called just now
    (turned off, or its address is no longer allowed). `prices`: what it pays for shared models, by their id. `tenant_id`: whose
    this is, and so what of the shared is granted to it.
    """

    catalogue: Catalogue
    default: Upstream | None
    unusable_kind: str = ""
    prices: Mapping[UUID, Prices] = field(default_factory=dict)
    tenant_id: UUID | None = None

    def may_use(self, shared: Route | Upstream) -> bool:
        return shared.granted is None or self.tenant_id in shared.granted


@dataclass(frozen=True, slots=True)
class Plan:
    """What will serve a call: targets in the order they are tried, and what the model promises."""

    route: Route
    targets: tuple[Serving, ...]


def plan(name: str, shared: Catalogue, own: OwnRoutes) -> Plan | None:
    """None: nobody may call that name here. A plan without targets: the model exists and nothing serves it just now."""
    route = own.catalogue.find(name)
    if route is not None:
        return Plan(route, _named(route.targets, route, name)) if route.is_active else None
    route = _granted(shared.find(name), own)
    if route is not None and route.is_active:
        targets = tuple(
            _own_credential(target, own.default)
            for target in route.targets
            # The shared credential never stands in for the tenant's own because that one failed.
            if target.upstream.kind != own.unusable_kind
        )
        if own.prices and route.id is not None and route.id in own.prices:
            route = replace(route, own_prices=own.prices[route.id])
        return Plan(route, _named(targets, route, name))
    if own.default is not None:
        return Plan(_unlisted(name), (Serving(own.default, name),))
    return Plan(_unlisted(name), ()) if own.unusable_kind else None


def _granted(route: Route | None, own: OwnRoutes) -> Route | None:
    """A shared model as it is for this tenant: without the targets of accounts that it may not use. None: it does not exist for
    it.
    """
    if route is None or not own.may_use(route):
        return None
    if all(target.upstream.granted is None for target in route.targets):
        return route
    targets = tuple(target for target in route.targets if own.may_use(target.upstream))
    return replace(route, targets=targets) if targets else None


def _named(targets: tuple[Serving, ...], route: Route, name: str) -> tuple[Serving, ...]:
    """Under a prefix the caller's own name goes upstream: a target's `*` stands for what the prefix left open."""
    if not route.name.endswith("*"):
        return targets
    rest = name[len(route.name) - 1 :]
    return tuple(Serving(target.upstream, target.model.replace("*", rest, 1)) for target in targets)


def _own_credential(target: Serving, own: Upstream | None) -> Serving:
    if own is not None and own.kind == target.upstream.kind and own.credential is not None:
        return Serving(own, target.model)
    return target


def _unlisted(name: str) -> Route:
    """A model that only the tenant's own provider knows: nothing is promised, no price is known."""
    return Route(name, "", True, None, None, (), ())


def visible(shared: Catalogue, own: OwnRoutes) -> list[Route]:
    """The active routes a tenant can call, its own in place of shared ones of the same name, by name."""
    found = (_granted(route, own) for route in shared)
    routes = {it.name: it for it in found if it is not None and it.is_active and it.targets}
    for route in own.catalogue:
        routes.pop(route.name, None)
        if route.is_active and route.targets:
            routes[route.name] = route
    return [routes[name] for name in sorted(routes)]
