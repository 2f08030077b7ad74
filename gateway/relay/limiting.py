"""Step 6: what a call asks of its limits, and what can still be done when they say no.

A provider that allows nothing more is passed over for the next target's; a budget that does not buy the whole call may buy a
shorter one, if its owner asked for that. Pure, but for a small cache.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from gateway.relay import errors
from gateway.relay.errors import Problem, Refusal
from gateway.relay.ports import Head
from gateway.snapshot import Known
from providers.dialects.base import CallBody, OutputCap
from providers.routing import Plan, Route, Serving, Upstream
from providers.types import PriceTag
from tenants.limits import LimitSet
from usage import pricing
from usage.levels import Level
from usage.wants import Refused, Want

#: Output of a call under a budget when neither its caller nor its model says how much it may be.
DEFAULT_CAP: Final = 4096
#: Input of a call with more than text in it, when nobody knows the model's window.
_UNKNOWN_WINDOW: Final = 131_072
#: Tokens of one call that nothing else bounds: far beyond any model, and a price of thousands of USD still fits the books.
_MOST_TOKENS: Final = 10**9
#: Times that a cap is lowered for one call: somebody else may take what was left meanwhile.
_CLAMPS: Final = 3
_MAX_CACHED: Final = 4096


class Bound(NamedTuple):
    """What a call can use at most. Tokens 0: nothing bounds them. `cap`: to be set upstream; None: the caller's is as it is."""

    tokens_in: int
    tokens_out: int
    nano_usd: int
    cap: int | None

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


class Limiting:
    """Of one call. `targets` in the order in which they are to be tried: the first one's provider allows it."""

    __slots__ = (
        "_call",
        "_cap",
        "_clamps",
        "_head",
        "_is_budgeted",
        "_known",
        "_plan",
        "_refusing",
        "_want",
        "bound",
        "is_clamped",
        "price",
        "targets",
    )

    def __init__(
        self, head: Head, known: Known, call: CallBody, plan: Plan, targets: tuple[Serving, ...]
    ) -> None:
        self._head = head
        self._known = known
        self._call = call
        self._plan = plan
        self.targets = targets
        self.price: PriceTag | None = plan.route.price_at(head.received_at)
        self._clamps = 0
        #: Providers that have said no.
        self._refusing: set[object] = set()
        self.is_clamped = False
        levels = [*known.levels, *_levels(plan.route, targets[0].upstream)]
        others = [level for target in targets[1:] for level in _levels(plan.route, target.upstream)]
        self._is_budgeted = any(_has_budget(level) for level in (*levels, *others))
        self._cap: int | None = None
        if self._is_budgeted and not call.output_cap and call.capability != "embedding":
            self._cap = plan.route.max_output_tokens or DEFAULT_CAP
        self.bound = self._bound()
        self._want = self._wanted(tuple(levels))

    @property
    def output_cap(self) -> int | None:
        """What has to be set in the request upstream; None: nothing."""
        return self._cap

    def want(self) -> Want:
        """Raises `Refusal` when money is limited and nobody knows what the call costs."""
        self._check_priced(self._want.levels)
        return self._want

    def want_of(self, serving: Serving) -> Want | None:
        """What the provider of a later target limits; None for nothing. Raises `Refusal`."""
        first = self.targets[0].upstream
        levels = tuple(
            level
            for level in _levels(self._plan.route, serving.upstream)
            if level.kind == "provider" and serving.upstream.id != first.id
        )
        self._check_priced(levels)
        return self._wanted(levels) if levels else None

    def again(self, refused: Refused) -> Want | Problem:
        """After a refusal: what to ask for instead, or what the caller is told."""
        if refused.level == "provider":
            wanted = self._without_provider()
            if wanted is not None:
                return wanted
        fitting = self._fitting(refused)
        if fitting and self._may_clamp(refused) and self._clamps < _CLAMPS:
            self._clamps += 1
            self.is_clamped = True
            self._cap = fitting
            self.bound = self._bound()
            self._want = self._wanted(self._want.levels)
            return self._want
        return errors.of_limit(refused, fitting)

    def _without_provider(self) -> Want | None:
        """The next target whose provider has not said no comes first; the others follow in their order."""
        self._refusing.add(self.targets[0].upstream.id)
        for place, target in enumerate(self.targets):
            own = _levels(self._plan.route, target.upstream)
            if target.upstream.id not in self._refusing and self._is_payable(own):
                rest = self.targets[:place] + self.targets[place + 1 :]
                self.targets = (target, *rest)
                self._want = self._wanted((*self._known.levels, *own))
                return self._want
        return None

    # --- bounds ---

    def _wanted(self, levels: tuple[Level, ...]) -> Want:
        call = self._call
        return Want(
            levels,
            self._head.received_at,
            call.prompt_estimate + call.n * (call.output_cap or 0),
            self.bound.tokens,
            self.bound.nano_usd,
        )

    def _bound(self) -> Bound:
        call, route = self._call, self._plan.route
        window = route.context_window
        if not call.text_only and (window is not None or self._is_budgeted):
            tokens_in = window or max(call.size, _UNKNOWN_WINDOW)
        elif window is not None and call.capability == "chat":
            tokens_in = min(call.size, window)
        else:
            tokens_in = call.size  # may be many prompts or texts, each with the window for itself
        cap = self._cap or call.output_cap or route.max_output_tokens or 0
        tokens_out = 0 if call.capability == "embedding" else call.n * cap
        tokens_in, tokens_out = min(tokens_in, _MOST_TOKENS), min(tokens_out, _MOST_TOKENS)
        nano_usd = pricing.bound(tokens_in, tokens_out, self.price) if self.price else 0
        return Bound(tokens_in, tokens_out, nano_usd, self._cap)

    def _is_payable(self, levels: Sequence[Level]) -> bool:
        """Whether money is not limited, or it is known what the call costs."""
        return self.price is not None or not any(_has_money(level) for level in levels)

    def _check_priced(self, levels: Sequence[Level]) -> None:
        if not self._is_payable(levels):
            raise Refusal(errors.model_not_priced(self._call.model))

    def _may_clamp(self, refused: Refused) -> bool:
        return any(
            level.limits.clamps for level in self._want.levels if level.kind == refused.level
        )

    def _fitting(self, refused: Refused) -> int:
        """The output cap with which the call would fit what is left of the budget; 0: none."""
        call = self._call
        if refused.reason not in {"budget_exhausted", "balance_exhausted"}:
            return 0
        highest = self.bound.tokens_out // max(1, call.n)
        if refused.unit == "tokens":
            return max(0, min(highest, (refused.remaining - self.bound.tokens_in) // call.n))
        if self.price is None:
            return 0
        lowest = 0
        while lowest < highest:
            middle = (lowest + highest + 1) // 2
            cost = pricing.bound(self.bound.tokens_in, call.n * middle, self.price)
            lowest, highest = (
                (middle, highest) if cost <= refused.remaining else (lowest, middle - 1)
            )
        return lowest


def cap_for(limiting: Limiting, upstream: Upstream) -> OutputCap | None:
    """The output cap as a provider has to be told."""
    cap = limiting.output_cap
    return None if cap is None else OutputCap(upstream.cap_member, cap)


def _has_budget(level: Level) -> bool:
    return level.is_prepaid or bool(level.limits.budgets)


def _has_money(level: Level) -> bool:
    return level.is_prepaid or any(budget.unit == "nano_usd" for budget in level.limits.budgets)


class _Found(NamedTuple):
    own: LimitSet
    its: LimitSet
    ids: tuple[UUID | None, UUID]
    levels: tuple[Level, ...]


_found: dict[tuple[int, int], _Found] = {}


def _levels(route: Route, upstream: Upstream) -> tuple[Level, ...]:
    """The model's and the provider's level, if they limit anything. A model's own requests, and its own daily limit, stand in
    place of its provider's.
    """
    own, its = route.limits, upstream.limits
    ids = (route.id, upstream.id)
    key = (id(own), id(its))
    found = _found.get(key)
    if found is not None and found.own is own and found.its is its and found.ids == ids:
        return found.levels
    if own.rates:
        its = its._replace(rates=(), burst=None)
    if own.daily is not None:
        its = its._replace(daily=None)
    levels = [Level("provider", upstream.id, its)]
    if route.id is not None:
        levels.insert(0, Level("model", route.id, own))
    kept = tuple(level for level in levels if level.limits_anything)
    if len(_found) >= _MAX_CACHED:
        _found.clear()
    _found[key] = _Found(own, upstream.limits, ids, kept)
    return kept
