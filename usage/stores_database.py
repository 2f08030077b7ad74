"""Shared limits in the database: one row per level, its counts as one value under the row's lock."""

from collections.abc import Sequence
from typing import Final

import msgspec
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from tenants.clock import SYSTEM, Clock
from usage.buckets import State, work
from usage.models import SharedLimit
from usage.rate_terms import SECOND, Answer, Batch
from usage.stores import monotonic_us

#: Seconds between looks for idle rows, and how many one look deletes.
_SWEEP_SECONDS: Final = 10.0
_SWEEP_ROWS: Final = 500

_TABLE: Final = SharedLimit._meta.db_table
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[State] = msgspec.msgpack.Decoder(State)


class DatabaseStore:
    """Its clock is the one that all its users share: PostgreSQL's own, or on SQLite the machine's monotonic one.

    Raises `django.db.Error`.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._swept_at = clock.monotonic()

    def work(self, batch: Batch) -> list[Answer]:
        levels = batch.levels()
        with transaction.atomic(), connection.cursor() as cursor:
            states = self._load(cursor, levels)
            now, wall = self._now(cursor)
            answers = work(states, batch, now, wall)
            self._save(cursor, states, wall)
        if self._clock.monotonic() - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = self._clock.monotonic()
            self.sweep()
        return answers

    def sweep(self) -> None:
        """Deletes rows in which nothing counts any more."""
        idle = SharedLimit.objects.filter(idle_at__lt=self._clock.unix_us())
        names = list(idle.values_list("name", flat=True)[:_SWEEP_ROWS])
        # Asked once more while deleting: it may have been used since.
        idle.filter(name__in=names).delete()

    def _load(self, cursor: CursorWrapper, levels: Sequence[str]) -> dict[str, State]:
        """The rows, locked in the order of their names. One that is not there yet is made first: two makers must meet."""
        found = self._locked(cursor, levels)
        missing = [level for level in levels if level not in found]
        if missing and connection.features.has_select_for_update:
            rows = [SharedLimit(name=level, state=_encoder.encode(State())) for level in missing]
            SharedLimit.objects.bulk_create(rows, ignore_conflicts=True)
            found |= self._locked(cursor, missing)
        return {level: found.get(level) or State() for level in levels}

    def _locked(self, cursor: CursorWrapper, levels: Sequence[str]) -> dict[str, State]:
        if not levels:
            return {}
        places = ", ".join(["%s"] * len(levels))
        lock = " FOR UPDATE" if connection.features.has_select_for_update else ""
        cursor.execute(
            f"SELECT name, state FROM {_TABLE} WHERE name IN ({places}) ORDER BY name{lock}",  # noqa: S608 - our own names
            list(levels),
        )
        return {name: _decoder.decode(state) for name, state in cursor.fetchall()}

    def _now(self, cursor: CursorWrapper) -> tuple[int, int]:
        if connection.vendor != "postgresql":
            return monotonic_us(), self._clock.unix_us()
        cursor.execute("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint")
        now = int(cursor.fetchone()[0])
        return now, now

    def _save(self, cursor: CursorWrapper, states: dict[str, State], wall: int) -> None:
        if not states:
            return
        # The sweep goes by this machine's clock, the counts by the store's: so rows stay a while longer than they must.
        values: list[str | bytes | int] = []
        for level, state in states.items():
            values += [
                level,
                _encoder.encode(state),
                self._clock.unix_us() + state.idle_after(wall),
            ]
        places = ", ".join(["(%s, %s, %s)"] * len(states))
        cursor.execute(
            f"INSERT INTO {_TABLE} (name, state, idle_at) VALUES {places}"  # noqa: S608 - our own names
            " ON CONFLICT (name) DO UPDATE SET state = excluded.state, idle_at = excluded.idle_at",
            values,
        )


class RedisUse:
    """Whether Redis may hold counts that count still: a row beside those that count themselves, and swept like them.

    Raises `django.db.Error`.
    """

    _NAME: Final = "redis"

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock

    def is_recent(self) -> bool:
        return SharedLimit.objects.filter(
            name=self._NAME, idle_at__gt=self._clock.unix_us()
        ).exists()

    def note(self, seconds: float) -> None:
        """That it may, for so long from now."""
        idle_at = self._clock.unix_us() + round(seconds * SECOND)
        SharedLimit.objects.update_or_create(
            name=self._NAME, defaults={"state": b"", "idle_at": idle_at}
        )


def ping() -> None:
    """Raises `django.db.Error` while the database is away."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
