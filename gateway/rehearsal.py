"""A dry run without its caller: what would become of a call of this model, by this key or by some key of this tenant.

The exchange itself is driven, as by an edge, and gets its answers from the tables. Nothing is sent, taken or written. Of limits
the budgets are looked at; rates and slots are the workers' to count, and a look would take from them, so they are only named.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, cast

from django.conf import settings

from gateway import pictures
from gateway.api.bodies.common import identity as id_text
from gateway.api.bodies.providers import price_body
from gateway.metrics.meters import Meters
from gateway.relay import errors, explain, lanes, reasons
from gateway.relay.endpoints import find
from gateway.relay.errors import Refusal
from gateway.relay.exchange import Exchange
from gateway.relay.explain import Run
from gateway.relay.facts import Asked, Head
from gateway.relay.ids import new_id
from gateway.relay.lanes import Lane
from gateway.relay.letters import Letters
from gateway.relay.ports import Actions, House, Slots
from gateway.snapshot import Known
from keys.chain import Chain, Identity, identity_of
from keys.models import APIKey
from providers.models import Model, Price
from providers.routing import Catalogue, OwnRoutes
from providers.types import Headers, Timeouts
from tenants.clock import SYSTEM, from_unix_us
from tenants.models import Tenant
from usage.rate_terms import SECOND, rules_of
from usage.spending import Budget, budgets_of
from usage.wants import Refused, Told, Want
from usage.windows import PREPAID, ends_at, window_at

_ADDRESSES: Final = "There is a list; where a caller is, only their call can tell."
#: What is asked of a model that can do this: the path, and the body beside the model's name.
_ASKED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    Model.Capability.CHAT: (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "?"}]},
    ),
    Model.Capability.EMBEDDING: ("/v1/embeddings", {"input": "?"}),
}


class _Uncounted:
    """In the place of the meters: no caller was answered."""

    def answered(self, plane: str, dialect: str, status: int) -> None: ...


class Stage:
    """In the place of an edge. `card`: the why-card, once it was told."""

    def __init__(self, known: Known, body: bytes) -> None:
        self.card: dict[str, Any] | None = None
        self.want: Want | None = None
        self.exchange = Exchange(cast("Actions", self), _house())
        self._known = known
        self._body = body

    def lookup(self, fingerprint: bytes) -> None:
        self.exchange.identified(self._known)

    def read_body(self, limit: int) -> None:
        self.exchange.received(self._body)

    def peek(self, want: Want) -> None:
        self.want = want
        self.exchange.peeked(_looked_at(want))

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.card = json.loads(body)

    def play(self, asked: Asked) -> tuple[dict[str, Any], Want | None]:
        """The card, and what was asked of the limits, if it came to that."""
        exchange = self.exchange
        exchange.begin(asked, "")
        exchange.leave()
        exchange.let_go()
        assert self.card is not None  # noqa: S101 - every way of a dry run ends with one
        return self.card, self.want


def _house() -> House:
    return House(
        chain=Chain(()),
        clock=SYSTEM,
        max_body=settings.MAX_BODY,
        slots=Slots(1),
        letters=Letters(Timeouts()),
        meters=cast("Meters", _Uncounted()),
    )


def rehearse(model: Model, *, key: APIKey | None, tenant: Tenant | None) -> dict[str, Any]:
    """The why-card of a call of that name. With a key, as that; with a tenant, as a key of it that limits nothing itself; with
    neither, as of a tenant that has nothing of its own.
    """
    identity, is_live = _caller(key, tenant)
    known = _known(replace(identity, allowed_networks=(), log_content=False))
    path, body = _ASKED[model.capability]
    found = find("POST", path)
    assert found is not None  # noqa: S101 - both paths stand in the table
    asked = Asked(found[0], "", b"", None, None, True, (), (), None)
    if not is_live:
        card, want, lane = _nobody(known, asked), None, None
    else:
        stage = Stage(known, json.dumps({"model": model.name, **body}).encode())
        card, want = stage.play(asked)
        lane = _lane(known, found[0].capability, model.name)
    _mark_addresses(card, identity)
    return {
        **card,
        "object": "simulation",
        "request_id": None,
        "tenant": card["tenant"] or None,
        "key_id": None if key is None else str(key.id),
        "route": None if lane is None else _route_body(lane),
        "targets": [] if lane is None else _targets(lane, card["candidates"]),
        "price": _price(card["price_id"]),
        "rates": [] if want is None else _rates(want),
    }


def _caller(key: APIKey | None, tenant: Tenant | None) -> tuple[Identity, bool]:
    if key is None:
        # Never stored; one of nobody's has a tenant that was not either.
        key = APIKey(tenant=tenant or Tenant(name="", slug="", rate_limit_rpm=None))
    return identity_of(key)


def _known(identity: Identity) -> Known:
    is_stored = Tenant.objects.filter(pk=identity.tenant_id).exists()
    own = pictures.own_routes(identity.tenant_id) if is_stored else OwnRoutes(Catalogue(), None)
    return Known(
        identity,
        pictures.caller_of(identity),
        pictures.shared_catalogue(),
        own,
        pictures.levels_of(identity),
        None,
    )


def _nobody(known: Known, asked: Asked) -> dict[str, Any]:
    """Of a key that opens no door just now, or of a tenant that is not served."""
    now = SYSTEM.unix_us()
    head = Head(asked, "", new_id(now), "", now, SYSTEM.monotonic())
    return explain.card(Run(head, known, None, None, None, None, errors.INVALID_KEY))


def _lane(known: Known, capability: str, name: str) -> Lane | None:
    """That which the exchange went by; None if there was none."""
    try:
        return lanes.lane(known, capability, name)
    except Refusal:
        return None


def _looked_at(want: Want) -> Sequence[Told] | Refused:
    """How the budgets of a call stand, before it and after; or the first of them that is too small for it."""
    told: list[Told] = []
    for budget in budgets_of(want.levels, from_unix_us(want.received_at)):
        bound = want.bound_tokens if budget.unit == "tokens" else want.bound_nano_usd
        window = window_at(budget.window, want.received_at)
        if bound > budget.remaining:
            return _short(budget, bound, window)
        limit = 0 if budget.window == PREPAID else budget.limit
        left = budget.remaining
        told.append((budget.kind, f"{budget.unit} {window}", limit, left, left - bound))
    return told


def _short(budget: Budget, bound: int, window: str) -> Refused:
    is_held = bound <= budget.limit - budget.spent
    is_balance = budget.window == PREPAID
    return Refused(
        budget.kind,
        "budget_held" if is_held else "balance_exhausted" if is_balance else "budget_exhausted",
        1.0 if is_held else None,
        budget.limit,
        budget.remaining,
        budget.unit,
        window,
        ends_at(window),
    )


def _mark_addresses(card: dict[str, Any], identity: Identity) -> None:
    """The list was left out: nobody calls from anywhere here."""
    for check in card["checks"]:
        if check["check"] == "addresses" and identity.allowed_networks:
            check |= {"outcome": "not asked", "sentence": _ADDRESSES}


def _route_body(lane: Lane) -> dict[str, Any]:
    """The model that answers to the name; null ids: none does, the tenant's own provider is asked."""
    number = lane.route.id
    model = None if number is None else Model.objects.filter(pk=number).first()
    return {
        "id": None if model is None else model.name,
        "tenant": None if model is None else id_text(model.tenant_id),
    }


def _targets(lane: Lane, candidates: Sequence[str]) -> list[dict[str, Any]]:
    """In the order in which they would be tried."""
    by_name = dict(zip(reasons.names(lane.targets), lane.targets, strict=False))
    return [
        {
            "provider": str(serving.upstream.id),
            "name": serving.upstream.name,
            "upstream_model": serving.name,
            "own_credential": serving.upstream.tenant_id is not None,
        }
        for serving in (by_name[name] for name in candidates)
    ]


def _price(price_id: str | None) -> dict[str, Any] | None:
    price = None if price_id is None else Price.objects.filter(pk=price_id).first()
    return None if price is None else price_body(price)


def _rates(want: Want) -> list[dict[str, Any]]:
    """What of each level is counted by workers."""
    found = []
    for level in want.levels:
        rules = rules_of(level.limits)
        counts: list[tuple[str, int | None, int]] = [
            ("requests", it.period // SECOND, it.most) for it in rules.windows
        ]
        counts += [
            ("requests_day", None, rules.daily),
            ("tokens", 60, rules.tokens),
            ("slots", None, rules.slots),
        ]
        found += [
            {"level": level.kind, "what": what, "seconds": seconds, "limit": most}
            for what, seconds, most in counts
            if most
        ]
    return found
