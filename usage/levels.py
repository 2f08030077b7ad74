"""The levels of a call: everything whose limits it takes from. Pure."""

from typing import Literal, NamedTuple
from uuid import UUID

from tenants.limits import LimitSet

Kind = Literal["key", "project", "account", "tenant", "model", "provider"]


class Level(NamedTuple):
    """One limit-bearing thing that a call belongs to. An account has a prepaid balance whatever its limits say."""

    kind: Kind
    id: UUID
    limits: LimitSet

    @property
    def is_prepaid(self) -> bool:
        return self.kind == "account"

    @property
    def limits_anything(self) -> bool:
        """Whether a call has to ask it at all."""
        limits = self.limits
        counts = limits.daily, limits.tokens_per_minute, limits.concurrency
        return self.is_prepaid or bool(limits.rates or limits.budgets or any(counts))
