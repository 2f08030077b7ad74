"""Balances and slices, locked and written back: the one door to both tables for whoever changes what is spent or held.

Whoever changes them takes the locks in the same order: balances by id, then slices by id. Rows of balances are made under a lock
that excludes every flush (`making`), because a balance begins with what was spent before, and nothing may be spent in between.
"""

# ruff: noqa: S608 - the names put into statements stand here; values are parameters.

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import connection

from tenants.limits import Unit
from usage.models import Balance, HoldSlice
from usage.tables import as_uuid, id_list, postgres_cursor

#: Nothing in a balance grows above this, so that a sum of two still fits a BIGINT. The money lines tell the truth.
MOST: Final = 4 * 10**18
#: PostgreSQL's advisory lock that flushes share and that the making of a balance has for itself.
_LOCK: Final = 0x6761_7465_6C65_6467


_COLUMNS: Final = 'id, level_kind, level_id, unit, "window", spent, held, ceiling, credited'
_POSTGRES_LOCKED: Final = (
    f"SELECT {_COLUMNS} FROM usage_balance WHERE level_id = ANY(%s::uuid[])"
    ' AND "window" = ANY(%s) ORDER BY id FOR UPDATE'
)
_SQLITE_LOCKED: Final = (
    f"SELECT {_COLUMNS} FROM usage_balance WHERE level_id IN (SELECT value FROM json_each(%s))"
    ' AND "window" IN (SELECT value FROM json_each(%s)) ORDER BY id'
)
_SLICE: Final = "SELECT id, balance_id, amount, lent, written_off_at FROM usage_holdslice"
_POSTGRES_SLICES_OF: Final = (
    f"{_SLICE} WHERE boot = %s::uuid AND balance_id = ANY(%s) ORDER BY id FOR UPDATE"
)
_SQLITE_SLICES_OF: Final = (
    f"{_SLICE} WHERE boot = %s AND balance_id IN (SELECT value FROM json_each(%s)) ORDER BY id"
)
#: Balances and slices in one statement: each further answer that is waited for is time in which nobody else has the locks.
_POSTGRES_WRITE: Final = (
    "WITH balances AS (UPDATE usage_balance b SET spent = r.spent, held = r.held, ceiling = r.ceiling"
    " FROM json_to_recordset(%s::json) AS r(spent bigint, held bigint, ceiling bigint, id bigint)"
    " WHERE b.id = r.id)"
    " UPDATE usage_holdslice s SET amount = r.amount, lent = r.lent,"
    " deadline = COALESCE(r.deadline, s.deadline),"
    " written_off_at = CASE WHEN r.alive THEN NULL ELSE s.written_off_at END"
    " FROM json_to_recordset(%s::json)"
    " AS r(amount bigint, lent bigint, deadline timestamptz, alive boolean, id bigint)"
    " WHERE s.id = r.id"
)
_SQLITE_BALANCES: Final = (
    "UPDATE usage_balance SET spent = %s, held = %s, ceiling = %s WHERE id = %s"
)
_SQLITE_SLICES: Final = (
    "UPDATE usage_holdslice SET amount = %s, lent = %s, deadline = COALESCE(%s, deadline),"
    " written_off_at = CASE WHEN %s THEN NULL ELSE written_off_at END WHERE id = %s"
)


class Key(NamedTuple):
    """What names a balance."""

    level_id: UUID
    window: str
    unit: Unit


class Line:
    """A locked balance, and the slice that `boot` has of it. Change `balance` and `slice` only through the methods."""

    __slots__ = ("balance", "slice", "touched")

    def __init__(self, balance: Balance, its_slice: HoldSlice | None) -> None:
        self.balance = balance
        self.slice = its_slice
        self.touched = False

    @property
    def used(self) -> int:
        return self.balance.spent + self.balance.held

    def charge(self, cost: int) -> None:
        """What was used becomes spent, out of the slice as far as that goes. A negative `cost` takes it back."""
        balance, its_slice, counted = self.balance, self.slice, 0
        self.touched = True
        if its_slice is not None and cost > 0:
            moved = min(its_slice.amount, cost)
            its_slice.amount -= moved
            if its_slice.written_off_at is None:
                balance.held -= moved
            else:
                counted = moved  # as spent, when it was written off
        balance.spent = min(max(balance.spent + cost - counted, 0), MOST)
        balance.ceiling = max(balance.ceiling, self.used)

    def revive(self) -> None:
        """A worker that was written off is heard of: what counted as spent is held again."""
        its_slice = self.slice
        if its_slice is not None and its_slice.written_off_at is not None:
            its_slice.written_off_at = None
            self.balance.spent = max(self.balance.spent - its_slice.amount, 0)
            self.balance.held += its_slice.amount
            self.balance.ceiling = max(self.balance.ceiling, self.used)
            self.touched = True

    def lend(self, amount: int) -> None:
        """Into the slice, which must be there and not be written off."""
        its_slice = self.slice
        assert its_slice is not None  # noqa: S101 - whoever lends has opened it
        its_slice.amount += amount
        its_slice.lent += amount
        self.balance.held += amount
        self.touched = True

    def extend(self, until: datetime) -> None:
        """What is in the slice, which must be there, is lent until then."""
        assert self.slice is not None  # noqa: S101 - as in `lend`
        self.slice.deadline = until
        self.touched = True

    def take_back(self, amount: int) -> None:
        """Out of the slice, as much of it as is there."""
        its_slice = self.slice
        if its_slice is None:
            return
        self.revive()
        taken = min(amount, its_slice.amount)
        its_slice.amount -= taken
        its_slice.lent -= amount
        self.balance.held -= taken
        self.touched = True

    def end_slice(self) -> None:
        """What is left of it is nobody's any more. The row itself is the caller's to delete."""
        if self.slice is not None:
            self.take_back(self.slice.amount)
            self.slice = None


class Books:
    """The balances that were asked for, as far as they exist, with one worker's slices. All locked until the transaction ends."""

    def __init__(self, balances: Iterable[Balance], slices: Iterable[HoldSlice]) -> None:
        of = {its_slice.balance_id: its_slice for its_slice in slices}
        self.lines = [Line(balance, of.get(balance.id)) for balance in balances]

    @classmethod
    def of_keys(cls, keys: Collection[Key], boot: str | None) -> "Books":
        """These balances, and any that share their levels and windows."""
        return cls.of_levels({key.level_id for key in keys}, {key.window for key in keys}, boot)

    @classmethod
    def of_levels(
        cls, levels: Collection[UUID], windows: Collection[str], boot: str | None
    ) -> "Books":
        found = _locked(levels, windows)
        return cls(found, _slices(boot, found))

    @classmethod
    def of_slices(cls, boot: str, ids: Collection[int] | None = None) -> "Books":
        """The balances of these slices of a worker; None: of all."""
        mine = HoldSlice.objects.filter(boot=boot)
        mine = mine if ids is None else mine.filter(id__in=ids)
        # Two steps: balances are locked before slices, and what was read before that may have changed.
        of_balances = list(mine.values_list("balance_id", flat=True))
        found = list(Balance.objects.select_for_update().filter(id__in=of_balances).order_by("id"))
        return cls(found, _slices(boot, found))

    def by_key(self) -> dict[Key, Line]:
        return {key_of(line.balance): line for line in self.lines}

    def write(self) -> None:
        """Brings what was changed into the tables, in the order of the locks."""
        touched = [line for line in self.lines if line.touched]
        write_rows(
            [line.balance for line in touched],
            [line.slice for line in touched if line.slice is not None],
        )


def _locked(levels: Collection[UUID], windows: Collection[str]) -> list[Balance]:
    """By hand: every flush asks this, and Django's own way to the same answer costs more than all its other statements."""
    if connection.vendor == "postgresql":
        with postgres_cursor() as cursor:
            cursor.execute(_POSTGRES_LOCKED, [id_list(levels), list(windows)])
            rows = cursor.fetchall()
    else:
        with connection.cursor() as cursor:
            cursor.execute(_SQLITE_LOCKED, [id_list(levels), json.dumps(list(windows))])
            rows = cursor.fetchall()
    return [Balance(row[0], row[1], as_uuid(row[2]), *row[3:]) for row in rows]


def key_of(balance: Balance) -> Key:
    return Key(
        balance.level_id, balance.window, "tokens" if balance.unit == "tokens" else "nano_usd"
    )


def sharing() -> None:
    """In this transaction money lines are written: no balance is made beside it. On SQLite nobody else writes anyway."""
    _advise("pg_advisory_xact_lock_shared")


def making() -> None:
    """In this transaction nobody else writes money lines. To be taken before any other lock."""
    _advise("pg_advisory_xact_lock")


def _advise(function: str) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}(%s)", [_LOCK])


def _slices(boot: str | None, balances: Collection[Balance]) -> list[HoldSlice]:
    """Without their deadlines, which nobody reads here."""
    if boot is None or not balances:
        return []
    ids = [balance.id for balance in balances]
    if connection.vendor == "postgresql":
        with postgres_cursor() as cursor:
            cursor.execute(_POSTGRES_SLICES_OF, [boot, ids])
            rows = cursor.fetchall()
    else:
        with connection.cursor() as cursor:
            cursor.execute(_SQLITE_SLICES_OF, [UUID(boot).hex, json.dumps(ids)])
            rows = [(*row[:4], _in_utc(row[4])) for row in cursor.fetchall()]
    return [
        HoldSlice(id=row[0], balance_id=row[1], amount=row[2], lent=row[3], written_off_at=row[4])
        for row in rows
    ]


def _in_utc(moment: datetime | None) -> datetime | None:
    """SQLite's driver gives times without their zone."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def write_rows(balances: Sequence[Balance], slices: Sequence[HoldSlice]) -> None:
    """Rows that are locked. A slice that is not written off, or not any more, is that in the table too; one without a deadline
    keeps what it has there.
    """
    if not balances and not slices:
        return
    columns = ("spent", "held", "ceiling", "id")
    of_balances = [tuple(getattr(each, name) for name in columns) for each in balances]
    of_slices = [
        (each.amount, each.lent, _text(each.deadline), each.written_off_at is None, each.id)
        for each in slices
    ]
    if connection.vendor == "postgresql":
        documents = [
            _document(columns, of_balances),
            _document(("amount", "lent", "deadline", "alive", "id"), of_slices),
        ]
        with postgres_cursor() as cursor:
            cursor.execute(_POSTGRES_WRITE, documents)
        return
    with connection.cursor() as cursor:
        cursor.executemany(_SQLITE_BALANCES, of_balances)
        cursor.executemany(_SQLITE_SLICES, of_slices)


def _text(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return str(connection.ops.adapt_datetimefield_value(moment))


def _document(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    return json.dumps([dict(zip(columns, row, strict=True)) for row in rows])
