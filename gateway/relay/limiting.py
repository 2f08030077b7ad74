"""Step 6: what a call asks of its limits, and what can still be done when they say no.

A provider that allows nothing more is passed over for the next target's; a budget that does not buy the whole call may buy a
shorter one, if its owner asked for that. Pure.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from gateway.relay import errors, lanes
from gateway.relay.errors import Problem, Refusal
from gateway.relay.facts import Bound, Head
from gateway.relay.lanes import Lane
from gateway.snapshot import Known
from providers.dialects.base import CallBody, OutputCap
from providers.routing import Serving, Upstream
from providers.types import PriceTag
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


class Limiting:
    """Of one call. `targets` in the order in which they are to be tried: the first one's provider allows it."""

    __slots__ = (
        "_cap",
        "_clamps",
        "_head",
        "_known",
        "_lane",
        "_levels",
        "_refusing",
        "bound",
        "call",
        "is_clamped",
        "targets",
        "tariff",
    )

    def __init__(
        self, head: Head, known: Known, call: CallBody, lane: Lane, targets: tuple[Serving, ...]
    ) -> None:
        self._head = head
        self._known = known
        self.call = call
        self._lane = lane
        self.targets = targets
        self.tariff = lane.tariff_at(head.received_at)
        self._clamps = 0
        #: Providers that have said no.
        self._refusing: tuple[UUID, ...] = ()
        self.is_clamped = False
        self._levels = (
            lane.levels
            if targets is lane.targets
            else lanes.levels_with(known, lane.route, targets[0].upstream)
        )
        self._cap: int | None = None
        if lane.is_budgeted and not call.output_cap and call.capability != "embedding":
            self._cap = lane.route.max_output_tokens or DEFAULT_CAP
        self.bound = self._bound()

    @property
    def output_cap(self) -> int | None:
        """What has to be set in the request upstream; None: nothing."""
        return self._cap

    @property
    def price(self) -> PriceTag | None:
        return None if self.tariff is None else self.tariff.tag

    def want(self) -> Want:
        """Raises `Refusal` when money is limited and nobody knows what the call costs."""
        if self.tariff is None:
            self._check_priced(self._levels)
        return self._wanted(self._levels)

    def want_of(self, serving: Serving) -> Want | None:
        """What the provider of a later target limits; None for nothing. Raises `Refusal`."""
        first = self.targets[0].upstream
        levels = tuple(
            level
            for level in lanes.levels_of(self._lane.route, serving.upstream)
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
            return self._wanted(self._levels)
        return errors.of_limit(refused, fitting)

    def _without_provider(self) -> Want | None:
        """The next target whose provider has not said no comes first; the others follow in their order."""
        self._refusing += (self.targets[0].upstream.id,)
        route = self._lane.route
        for place, target in enumerate(self.targets):
            upstream = target.upstream
            if upstream.id not in self._refusing and self._is_payable(
                lanes.levels_of(route, upstream)
            ):
                rest = self.targets[:place] + self.targets[place + 1 :]
                self.targets = (target, *rest)
                self._levels = lanes.levels_with(self._known, route, upstream)
                return self._wanted(self._levels)
        return None

    # --- bounds ---

    def _wanted(self, levels: tuple[Level, ...]) -> Want:
        call, bound = self.call, self.bound
        return Want(
            levels,
            self._head.received_at,
            call.prompt_estimate + call.n * (call.output_cap or 0),
            bound.tokens_in + bound.tokens_out,
            bound.nano_usd,
            self._has_others,
        )

    @property
    def _has_others(self) -> bool:
        """Whether there is a provider to go on to when this one says no."""
        first, refusing = self.targets[0].upstream.id, self._refusing
        others = [it.upstream.id for it in self.targets[1:]]
        return any(it != first and it not in refusing for it in others)

    def _bound(self) -> Bound:
        call, route = self.call, self._lane.route
        size, window = call.size, route.context_window
        if window is None:
            # Text may be many prompts, each with the window for itself.
            is_known = call.text_only or not self._lane.is_budgeted
            tokens_in = size if is_known else max(size, _UNKNOWN_WINDOW)
        elif not call.text_only:
            tokens_in = window
        else:
            tokens_in = min(size, window) if call.capability == "chat" else size
        cap = self._cap or call.output_cap or route.max_output_tokens or 0
        tokens_out = 0 if call.capability == "embedding" else call.n * cap
        tokens_in, tokens_out = min(tokens_in, _MOST_TOKENS), min(tokens_out, _MOST_TOKENS)
        nano_usd = self.tariff.bound(tokens_in, tokens_out) if self.tariff else 0
        return Bound(tokens_in, tokens_out, nano_usd, self._cap)

    def _is_payable(self, levels: Sequence[Level]) -> bool:
        """Whether money is not limited, or it is known what the call costs."""
        return self.tariff is not None or not lanes.limits_money(levels)

    def _check_priced(self, levels: Sequence[Level]) -> None:
        if not self._is_payable(levels):
            raise Refusal(errors.model_not_priced(self.call.model))

    def _may_clamp(self, refused: Refused) -> bool:
        return any(level.limits.clamps for level in self._levels if level.kind == refused.level)

    def _fitting(self, refused: Refused) -> int:
        """The output cap with which the call would fit what is left of the budget; 0: none."""
        call = self.call
        if refused.reason not in {"budget_exhausted", "balance_exhausted"}:
            return 0
        highest = self.bound.tokens_out // max(1, call.n)
        if refused.unit == "tokens":
            return max(0, min(highest, (refused.remaining - self.bound.tokens_in) // call.n))
        if self.tariff is None:
            return 0
        lowest = 0
        while lowest < highest:
            middle = (lowest + highest + 1) // 2
            cost = self.tariff.bound(self.bound.tokens_in, call.n * middle)
            lowest, highest = (
                (middle, highest) if cost <= refused.remaining else (lowest, middle - 1)
            )
        return lowest


def cap_for(limiting: Limiting, upstream: Upstream) -> OutputCap | None:
    """The output cap as a provider has to be told."""
    cap = limiting.output_cap
    return None if cap is None else OutputCap(upstream.cap_member, cap)
