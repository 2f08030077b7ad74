"""The judge of the budgets: every balance says what the ledger says, nothing is held, nothing was overdrawn."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tests.chaos.verdict_line import Line, none
from tests.support.server import Server

#: What a level's id is called in a ledger line, and where its limits stand.
_LEVELS: Final = {
    "key": ("key_id", "keys_apikey"),
    "project": ("project_id", "tenants_project"),
    "account": ("account_id", "tenants_account"),
    "tenant": ("tenant_id", "tenants_tenant"),
    "model": ("model_id", "providers_model"),
    "provider": ("provider_id", "providers_provider"),
}
_LIMITS: Final = {
    ("nano_usd", "month"): "cost_budget_nano",
    ("nano_usd", "day"): "cost_budget_day_nano",
    ("nano_usd", "total"): "cost_budget_total_nano",
    ("tokens", "month"): "tokens_budget",
    ("tokens", "day"): "tokens_budget_day",
    ("tokens", "total"): "tokens_budget_total",
}
_WINDOWS: Final = {"month": "month = %s", "day": "day = %s"}
_AMOUNTS: Final = {
    "nano_usd": "COALESCE(SUM(COALESCE(cost_nano_usd, 0)), 0)",
    "tokens": "COALESCE(SUM(tokens_in + tokens_out), 0)",
}


@dataclass(frozen=True)
class Balance:
    """A row of usage_balance. `level_id` as the database has it."""

    kind: str
    level_id: Any
    unit: str
    window: str
    spent: int
    held: int
    ceiling: int
    credited: int

    def __str__(self) -> str:
        return (
            f"{self.kind} {UUID(str(self.level_id))} {self.window}: spent {self.spent:,} {self.unit},"
            f" held {self.held:,}, ceiling {self.ceiling:,}, credited {self.credited:,}"
        )


def judge_balances(server: Server) -> list[Line]:
    """The server must have been stopped."""
    balances = [
        Balance(*row)
        for row in server.query(
            'SELECT level_kind, level_id, unit, "window", spent, held, ceiling, credited FROM usage_balance'
        )
    ]
    overruns = _count(server, "SELECT COUNT(*) FROM usage_ledgerentry WHERE overrun")
    slices = _count(server, "SELECT COALESCE(SUM(amount), 0) FROM usage_holdslice")
    return [
        Line("balances", len(balances)),
        *(Line(f"  of {kind}s", n) for kind, n in Counter(b.kind for b in balances).items()),
        Line("money lines whose provider passed the bound (overrun)", overruns),
        none("balances whose spent is not the sum of the entries", _wrong(server, balances)),
        none("balances that still hold something", (b for b in balances if b.held)),
        Line("borrowed by workers that are gone", slices, 0),
        none("negative: balances overdrawn", _overdrawn(server, balances) if not overruns else ()),
        none("negative: balances below nothing", (b for b in balances if min(b.spent, b.held) < 0)),
        none("balances above their ceiling", (b for b in balances if b.spent + b.held > b.ceiling)),
    ]


def _wrong(server: Server, balances: list[Balance]) -> Iterator[str]:
    for balance in balances:
        kind, _, when = balance.window.partition(":")
        condition = f"{_LEVELS[balance.kind][0]} = %s"
        given = [balance.level_id]
        if kind in _WINDOWS:
            condition += f" AND {_WINDOWS[kind]}"
            given.append(when)
        total = _count(
            server,
            f"SELECT {_AMOUNTS[balance.unit]} FROM usage_ledgerentry WHERE {condition}",
            given,
        )
        if total != balance.spent:
            yield f"{balance}; the entries say {total:,}"


def _overdrawn(server: Server, balances: list[Balance]) -> Iterator[str]:
    for balance in balances:
        kind = balance.window.partition(":")[0]
        limit = balance.credited
        if kind != "prepaid":
            table, column = _LEVELS[balance.kind][1], _LIMITS[balance.unit, kind]
            row = server.query(f"SELECT {column} FROM {table} WHERE id = %s", [balance.level_id])
            if not row or row[0][0] is None:
                continue
            limit = row[0][0]
        if balance.spent > limit:
            yield f"{balance}; the limit is {limit:,}"


def _count(server: Server, statement: str, given: list[Any] | None = None) -> int:
    return int(server.query(statement, given or [])[0][0])
