"""Which target? A model name, and who asks, to the ordered targets that serve it. In memory, over immutable pictures.

Order (docs/architecture.md): the tenant's own model of that name; the shared one; else the tenant's own default provider with
the name unchanged; else nothing. A shared target of the same kind as the tenant's own provider uses the tenant's own
credential, never both, never another's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from providers.credentials import SealedCredential
from providers.dialects.base import Dialect
from providers.errors import CredentialUnreadable
from providers.types import Origin, PriceTag
from tenants import sealing
from tenants.sealing import SealingError, Secret


@dataclass(frozen=True, slots=True)
class Upstream:
    """A provider as the relay uses it. The credential stays sealed; `key` (purpose key, version) opens it."""

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

    @property
    def pool_key(self) -> str:
        """Connections are not shared across credentials, nor across generations of one."""
        return f"{self.id}/{self.credential.id if self.credential else 'none'}"

    def open_credential(self) -> Secret | None:
        """The clear credential, or None if it has none. Raises `CredentialUnreadable`; nothing stands in for it."""
        if self.credential is None:
            return None
        try:
            if self.key is None or sealing.key_version_of(self.credential.sealed) != self.key[0]:
                raise CredentialUnreadable
            return sealing.unseal(self.key[1], self.credential.place(), self.credential.sealed)
        except SealingError:
            raise CredentialUnreadable from None


@dataclass(frozen=True, slots=True)
class Serving:
    """One target: this upstream, under that name."""

    upstream: Upstream
    model: str

    @property
    def name(self) -> str:
        """What the upstream is called with. An account that is one deployment has one name, whatever the model's."""
        return self.upstream.deployment or self.model


@dataclass(frozen=True, slots=True)
class Route:
    """A public model. `prices` are (in force from, tag), newest last; moments in microseconds since 1970."""

    name: str
    capability: str
    is_active: bool
    context_window: int | None
    max_output_tokens: int | None
    targets: tuple[Serving, ...]
    prices: tuple[tuple[int, PriceTag], ...]
    created_at: int = 0

    def price_at(self, unix_us: int) -> PriceTag | None:
        """The price in force at a moment, None if there was none yet."""
        for begins, tag in reversed(self.prices):
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
    (turned off, or its address is no longer allowed).
    """

    catalogue: Catalogue
    default: Upstream | None
    unusable_kind: str = ""


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
    route = shared.find(name)
    if route is not None and route.is_active:
        targets = tuple(
            _own_credential(target, own.default)
            for target in route.targets
            # The shared credential never stands in for the tenant's own because that one failed.
            if target.upstream.kind != own.unusable_kind
        )
        return Plan(route, _named(targets, route, name))
    if own.default is not None:
        return Plan(_unlisted(name), (Serving(own.default, name),))
    return Plan(_unlisted(name), ()) if own.unusable_kind else None


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
    routes = {route.name: route for route in shared if route.is_active and route.targets}
    for route in own.catalogue:
        routes.pop(route.name, None)
        if route.is_active and route.targets:
            routes[route.name] = route
    return [routes[name] for name in sorted(routes)]
