"""What money lines come to, by whom they belong to. The monthly sums and the balances grow by this, and by nothing else."""

from collections.abc import Iterable
from operator import add
from typing import Any, Final, NamedTuple
from uuid import UUID

from usage.models import Rollup
from usage.tables import MAX_SUM, Block, Table
from usage.windows import kind_of


class Whose(NamedTuple):
    """Whom and what money lines have in common: the levels they are charged to, their names then, and when the calls came."""

    month: str
    day: str
    tenant_id: UUID
    tenant: str
    project_id: UUID
    project: str
    account_id: UUID
    account: str
    key_id: UUID
    key_prefix: str
    team: str
    model: str
    model_id: UUID
    provider_id: UUID

    @property
    def levels(self) -> list[UUID]:
        """All that they are charged to."""
        levels = (self.key_id, self.project_id, self.account_id, self.tenant_id)
        return [each for each in (*levels, self.model_id, self.provider_id) if each.int]

    def is_in(self, window: str) -> bool:
        """Whether what these lines cost counts in a window of their levels."""
        when = {"month": self.month, "day": self.day}.get(kind_of(window))
        return when is None or window.endswith(f":{when}")


class Totals(NamedTuple):
    """As the monthly sums call them."""

    requests: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    cost_nano_usd: int = 0
    unpriced_requests: int = 0
    estimated_requests: int = 0


#: What some lines come to.
Portion = tuple[Whose, Totals]

_NAMES: Final = ("tenant", "project", "account", "key_prefix", "team")
#: Days are not kept apart.
_WHOSE: Final = tuple(name for name in Whose._fields if name != "day")
ROLLUPS: Final = Table(
    Rollup,
    own=(*_WHOSE, *Totals._fields),
    key=tuple(name for name in _WHOSE if name not in _NAMES),
    sums=Totals._fields,
    renewed=_NAMES,
)


def add_up(portions: Iterable[Portion]) -> None:
    """Into the monthly sums, in the order in which all write them: they are rows that workers share."""
    sums: dict[tuple[Any, ...], Portion] = {}
    for whose, totals in portions:
        place = _place(whose)
        first, before = sums.get(place, (whose, Totals()))
        sums[place] = first, Totals(*map(add, before, totals))
    rows = [_row(*sums[place]) for place in sorted(sums)]
    if rows:
        ROLLUPS.add([Block((), list(zip(*rows, strict=True)))])


def _place(whose: Whose) -> tuple[Any, ...]:
    """By plain numbers: a UUID hashes and compares in Python."""
    return (
        whose.month,
        whose.tenant_id.int,
        whose.project_id.int,
        whose.account_id.int,
        whose.key_id.int,
        whose.model,
        whose.model_id.int,
        whose.provider_id.int,
    )


def _row(whose: Whose, totals: Totals) -> tuple[Any, ...]:
    named = whose._asdict()
    return (*(named[name] for name in _WHOSE), *(min(each, MAX_SUM) for each in totals))
