"""Money that moves into another house with what it belongs to. The books of there begin with it: what an account had left is one
entry, and what was used of a budget that still runs is what it opens with.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

from gateway.backup.tables import BY_LABEL, Row, Table
from keys.models import APIKey
from providers.models import Model, Provider
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.models import Account, Project, Tenant
from usage import windows
from usage.models import Balance, Credit, Opening, Rollup

NOTE: Final = "Carried over from a backup."
_ACCOUNTS: Final = Account._meta.label_lower
#: The table of each kind of level.
_LEVELS: Final = {
    "key": APIKey._meta.label_lower,
    "project": Project._meta.label_lower,
    "account": _ACCOUNTS,
    "tenant": Tenant._meta.label_lower,
    "model": Model._meta.label_lower,
    "provider": Provider._meta.label_lower,
}
#: Kind of level, its id, unit, window.
_Budget = tuple[str, UUID, str, str]


@dataclass(frozen=True, slots=True)
class Moved:
    """Ids of there by ids of the backup, by table; `kept` ones have books of their own there."""

    ids: Mapping[str, Mapping[UUID, UUID]]
    kept: Mapping[str, Collection[UUID]]

    def new(self, label: str) -> Iterator[tuple[UUID, UUID]]:
        kept = self.kept.get(label, ())
        for old, new in self.ids.get(label, {}).items():
            if old not in kept:
                yield old, new


@dataclass(slots=True)
class Money:
    """In nano-USD (tokens in budgets of tokens). An account without a balance yet has used what the monthly sums say."""

    _paid: Counter[UUID] = field(default_factory=Counter)
    _summed: Counter[UUID] = field(default_factory=Counter)
    _used: dict[_Budget, int] = field(default_factory=dict)
    _opened: dict[_Budget, int] = field(default_factory=dict)
    _tenants: dict[UUID, UUID] = field(default_factory=dict)

    def count(self, table: Table, row: Row) -> None:
        if table.model is Credit:
            self._paid[row["account_id"]] += row["nano_usd"]
            self._tenants[row["account_id"]] = row["tenant_id"]
        elif table.model is Rollup:
            self._summed[row["account_id"]] += row["cost_nano_usd"]
        elif table.model is Balance:
            self._used[_budget(row)] = row["spent"]
        elif table.model is Opening:
            self._opened[_budget(row)] = row["amount"]

    def rows(self, moved: Moved, actor: Actor) -> Iterator[tuple[Table, Row]]:
        """For each account and each budget of what is new there."""
        yield from self._entries(moved, actor)
        yield from self._openings(moved, actor)

    def _entries(self, moved: Moved, actor: Actor) -> Iterator[tuple[Table, Row]]:
        tenants = moved.ids.get(Tenant._meta.label_lower, {})
        for old, new in moved.new(_ACCOUNTS):
            prepaid = ("account", old, "nano_usd", windows.PREPAID)
            left = self._paid[old] - self._used.get(prepaid, self._summed[old])
            if left > 0:
                yield _credit(tenants[self._tenants[old]], new, left, actor)
                yield _balance(new, left)

    def _openings(self, moved: Moved, actor: Actor) -> Iterator[tuple[Table, Row]]:
        now = SYSTEM.unix_us()
        running = {windows.window_at(kind, now) for kind in ("day", "month", windows.TOTAL)}
        new_ids = {kind: dict(moved.new(label)) for kind, label in _LEVELS.items()}
        used = self._opened | self._used
        for (kind, level, unit, window), amount in used.items():
            new = new_ids.get(kind, {}).get(level)
            if new is not None and window in running and amount > 0:
                yield _opening((kind, new, unit, window), amount, actor)


def _budget(row: Row) -> _Budget:
    return row["level_kind"], row["level_id"], row["unit"], row["window"]


def _by(actor: Actor) -> dict[str, Any]:
    return {
        "created_at": SYSTEM.now(),
        "note": NOTE,
        "actor_type": actor.type[:16],
        "actor_id": actor.id[:64],
        "actor_label": actor.label[:128],
    }


def _credit(tenant_id: UUID, account_id: UUID, nano_usd: int, actor: Actor) -> tuple[Table, Row]:
    place = {"id": uuid4(), "tenant_id": tenant_id, "account_id": account_id}
    return BY_LABEL[Credit._meta.label_lower], {**place, "nano_usd": nano_usd, **_by(actor)}


def _balance(account_id: UUID, nano_usd: int) -> tuple[Table, Row]:
    row = {
        "level_kind": "account",
        "level_id": account_id,
        "unit": "nano_usd",
        "window": windows.PREPAID,
        "spent": 0,
        "ceiling": nano_usd,
        "credited": nano_usd,
    }
    return BY_LABEL[Balance._meta.label_lower], row


def _opening(budget: _Budget, amount: int, actor: Actor) -> tuple[Table, Row]:
    kind, level_id, unit, window = budget
    place = {"level_kind": kind, "level_id": level_id, "unit": unit, "window": window}
    row = {"id": uuid4(), **place, "amount": amount, **_by(actor)}
    return BY_LABEL[Opening._meta.label_lower], row
