"""A lane: what every call of one caller for one model has in common. It follows from the picture of the caller alone, so it is
worked out at the first call and stands for as long as the picture does.
"""

from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple
from uuid import UUID

from gateway.relay import errors, reasons
from gateway.relay.errors import Refusal
from gateway.snapshot import Known
from providers import routing
from providers.routing import Plan, Route, Serving, Upstream
from providers.types import PriceTag
from tenants.limits import LimitSet
from usage.levels import Level
from usage.pricing import Tariff

#: Lanes of one caller that are remembered: names behind a `*` are the callers' own.
_MOST: Final = 256
_MOST_SHARED: Final = 4096


class Lane:
    """`levels` are those of the caller, the model, and the first target's provider, if they limit anything. `is_budgeted`: some
    target's call may be counted against a budget. `checked` and `candidates` as the log has them (usage/records.py, `Why`).
    """

    __slots__ = (
        "_from",
        "_tariff",
        "_until",
        "candidates",
        "checked",
        "is_budgeted",
        "levels",
        "plan",
        "route",
        "targets",
    )

    def __init__(self, known: Known, plan: Plan) -> None:
        self.plan = plan
        self.route: Route = plan.route
        self.targets: tuple[Serving, ...] = plan.targets
        self.levels = levels_with(known, plan.route, plan.targets[0].upstream)
        every = [*self.levels, *_levels_of_rest(plan)]
        self.is_budgeted = any(has_budget(level) for level in every)
        self.checked = reasons.lists(known.identity) + reasons.READ
        self.candidates = reasons.names(plan.targets)
        self._tariff: Tariff | None = None
        self._from, self._until = inf, -inf

    def tariff_at(self, unix_us: int) -> Tariff | None:
        """The price in force at a moment, ready to be reckoned with; None if there was none yet."""
        if not self._from <= unix_us < self._until:
            self._find_tariff(unix_us)
        return self._tariff

    def _find_tariff(self, unix_us: int) -> None:
        tag: PriceTag | None = self.route.price_at(unix_us)
        self._tariff = None if tag is None else Tariff(tag)
        turns = [begins for begins, _ in (*self.route.own_prices, *self.route.prices)]
        self._from = max((turn for turn in turns if turn <= unix_us), default=-inf)
        self._until = min((turn for turn in turns if turn > unix_us), default=inf)


def lane(known: Known, capability: str, model: str) -> Lane:
    """Raises `Refusal` if this caller may not call that model, or nobody serves it."""
    key = (capability, model)
    found: Lane | None = known.worked_out.get(key)
    if found is None:
        found = Lane(known, _plan(known, capability, model))
        if len(known.worked_out) >= _MOST:
            known.worked_out.clear()
        known.worked_out[key] = found
    return found


def _plan(known: Known, capability: str, model: str) -> Plan:
    if not known.identity.may_use_model(model) or not known.identity.may_use_capability(capability):
        raise Refusal(errors.model_not_allowed(model))
    plan = routing.plan(model, known.shared, known.own)
    if plan is None:
        raise Refusal(errors.model_not_found(model))
    if plan.route.capability not in {"", capability}:
        raise Refusal(errors.wrong_capability(model, plan.route.capability, capability))
    if not plan.targets:
        raise Refusal(errors.NOT_SERVED)
    return plan


def levels_with(known: Known, route: Route, upstream: Upstream) -> tuple[Level, ...]:
    """Of a call that this provider is to serve."""
    return (*known.levels, *levels_of(route, upstream))


class _Levels(NamedTuple):
    own: LimitSet
    its: LimitSet
    ids: tuple[UUID | None, UUID]
    levels: tuple[Level, ...]


#: All callers of a model have the same levels of it, or each would find another's in the worker's hands.
_shared: dict[tuple[int, int], _Levels] = {}


def levels_of(route: Route, upstream: Upstream) -> tuple[Level, ...]:
    """The model's and the provider's level, if they limit anything. A model's own requests, and its own daily limit, stand in
    place of its provider's.
    """
    own, its, ids = route.limits, upstream.limits, (route.id, upstream.id)
    found = _shared.get((id(own), id(its)))
    if found is None or found.own is not own or found.its is not its or found.ids != ids:
        if len(_shared) >= _MOST_SHARED:
            _shared.clear()
        found = _Levels(own, its, ids, _levels_of(route, upstream))
        _shared[id(own), id(its)] = found
    return found.levels


def _levels_of(route: Route, upstream: Upstream) -> tuple[Level, ...]:
    own, its = route.limits, upstream.limits
    if own.rates:
        its = its._replace(rates=(), burst=None)
    if own.daily is not None:
        its = its._replace(daily=None)
    levels = [Level("provider", upstream.id, its)]
    if route.id is not None:
        levels.insert(0, Level("model", route.id, own))
    return tuple(level for level in levels if level.limits_anything)


def _levels_of_rest(plan: Plan) -> list[Level]:
    return [
        level for target in plan.targets[1:] for level in levels_of(plan.route, target.upstream)
    ]


def has_budget(level: Level) -> bool:
    return level.is_prepaid or bool(level.limits.budgets)


def limits_money(levels: Sequence[Level]) -> bool:
    return any(
        level.is_prepaid or any(budget.unit == "nano_usd" for budget in level.limits.budgets)
        for level in levels
    )
