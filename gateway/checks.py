"""Is everything there that the house needs? One list of looks, for readiness, for `/health` and for `doctor`.

Every look runs in a thread of its own and has `LOOK_SECONDS`; one that hangs is not started again until it has come back, so
a dead database costs threads neither by time nor by visitors. Sentences are for the operator: public answers name checks only.
"""

import os
import shutil
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from gateway import first_run
from gateway.housekeeping import DAILY
from tenants import audit_triggers, duties, keyring, patience
from tenants.clock import SYSTEM, Clock
from tenants.models import RootSecret

LOOK_SECONDS: Final = 2.0
#: A public address is behind these looks: they are made at most once in so long.
FRESH_SECONDS: Final = 1.0
JOURNAL_FOLDER: Final = "journal"
_REDIS_SECONDS: Final = 0.5
_CLOCK_WARNING: Final = 2.0
_CLOCK_FAILURE: Final = 30.0
_DISK_WARNING: Final = 0.05
_HOUSEKEEPING_WARNING: Final = timedelta(days=2)
_SHARED_MODE: Final = stat.S_IRWXG | stat.S_IRWXO


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look found. `sentence` and `details` are for operators."""

    name: str
    state: State
    sentence: str
    details: dict[str, Any] = field(default_factory=dict)


Outcome = tuple[State, str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Look:
    """`reads_database`: pointless, and slow, while the database does not answer."""

    name: str
    run: Callable[[], Outcome]
    reads_database: bool = True


def _ok(sentence: str, **details: Any) -> Outcome:
    return State.OK, sentence, details


def _warning(sentence: str, **details: Any) -> Outcome:
    return State.WARNING, sentence, details


def _failed(sentence: str, **details: Any) -> Outcome:
    return State.FAILED, sentence, details


# --- the looks --------------------------------------------------------------------------------------------------------


def look_at_database() -> Outcome:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    return _ok(f"{connection.display_name} answers.", vendor=connection.vendor)


def pending_migrations() -> list[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def look_at_migrations() -> Outcome:
    pending = pending_migrations()
    if pending:
        return _failed(
            f"{len(pending)} migrations are not applied; run `manage.py migrate`.",
            pending=pending[:50],
        )
    return _ok("All migrations are applied.")


def look_at_triggers() -> Outcome:
    missing = audit_triggers.missing(connection)
    if missing:
        return _failed(
            "The audit log is not protected; `manage.py migrate` puts the triggers back.",
            missing=missing,
        )
    return _ok("The audit log only grows.")


def look_at_keyring() -> Outcome:
    fault = keyring.fault()
    return _failed(fault) if fault else _ok("The KEK opens the platform's secrets.")


def look_at_keks() -> Outcome:
    """Every wrapped secret must name a KEK that is here; more than one KEK means a rotation that has not ended."""
    known = set(keyring.keks())
    strange = total = 0
    for wrapped in RootSecret.objects.values_list("wrapped", flat=True).iterator(chunk_size=1_000):
        total += 1
        strange += bytes(wrapped)[1:9] not in known
    told = {"keks": len(known), "secrets": total, "unopenable": strange}
    if strange:
        return _failed(
            f"{strange} of {total} secrets were wrapped by a KEK that is not here.", **told
        )
    if len(known) > 1:
        return _warning(
            f"{len(known)} KEKs are configured; drop the older ones once unused.", **told
        )
    return _ok("One KEK is configured.", **told)


def look_at_redis() -> Outcome:
    if not settings.REDIS_URL:
        return _ok("No Redis is configured.")
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=_REDIS_SECONDS,
            socket_connect_timeout=_REDIS_SECONDS,
        ) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as fault:
        return _failed(f"Redis does not answer ({type(fault).__name__}).")
    return _ok("Redis answers.")


def look_at_journal() -> Outcome:
    """Calls are written down under this folder before they go upstream: no room there, no calls."""
    journal = settings.VAR / JOURNAL_FOLDER
    folder = journal if journal.is_dir() else settings.VAR
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".look-") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        usage = shutil.disk_usage(folder)
    except OSError as fault:
        return _failed(f"The journal folder cannot be written: {fault.strerror}.")
    if usage.free < usage.total * _DISK_WARNING:
        return _warning("The disk of the journal is nearly full.", free_bytes=usage.free)
    return _ok("The journal folder can be written.", free_bytes=usage.free)


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether this SQLite can corrupt a WAL database that several processes checkpoint.

    In 3.7.0 to 3.51.2; put right in 3.51.3, and in 3.50.7 and 3.44.6 of those lines (https://sqlite.org/wal.html).
    """
    if version[:2] == (3, 50):
        return version < (3, 50, 7)
    if version[:2] == (3, 44):
        return version < (3, 44, 6)
    return (3, 7, 0) <= version < (3, 51, 3)


def look_at_sqlite() -> Outcome:
    if connection.vendor != "sqlite":
        return _ok("The database is not SQLite.")
    version, workers = sqlite3.sqlite_version, settings.WEB_CONCURRENCY
    told = {"version": version, "workers": workers}
    if workers > 1 and has_wal_reset_bug(sqlite3.sqlite_version_info):
        return _warning(
            f"SQLite {version} has the WAL-reset bug, which {workers} workers could meet;"
            " use 3.51.3 or newer, PostgreSQL, or one worker.",
            **told,
        )
    return _ok(f"SQLite {version} with {workers} worker(s).", **told)


def look_at_permissions() -> Outcome:
    """What must be read by its owner only: the secrets, and a database file that holds everybody's data."""
    private = [settings.VAR / first_run.FILE_NAME]
    if connection.vendor == "sqlite":
        private.append(Path(str(connection.settings_dict["NAME"])))
    open_ones = [
        path.name for path in private if path.is_file() and path.stat().st_mode & _SHARED_MODE
    ]
    folder_is_shared = settings.VAR.is_dir() and settings.VAR.stat().st_mode & _SHARED_MODE
    secrets_are_open = first_run.FILE_NAME in open_ones
    if secrets_are_open or (open_ones and folder_is_shared):
        named = " and ".join(open_ones)
        return _warning(f"Others on this machine may read {named}; chmod 600 it.", files=open_ones)
    return _ok("Secrets and data are readable by their owner only.")


def look_at_clock(clock: Clock = SYSTEM) -> Outcome:
    """Periods, expiries and prices go by the clock, and several machines share one database."""
    if connection.vendor != "postgresql":
        return _ok("The database has this machine's clock.")
    with connection.cursor() as cursor:
        before = clock.now()
        cursor.execute("SELECT clock_timestamp()")
        theirs = cursor.fetchone()[0]
    # The database read its clock between our two readings.
    off = max((before - theirs).total_seconds(), (theirs - clock.now()).total_seconds(), 0.0)
    sentence = f"This machine's clock and the database's differ by {off:.1f} s."
    judge = _failed if off > _CLOCK_FAILURE else _warning if off > _CLOCK_WARNING else _ok
    return judge(sentence, seconds=round(off, 3))


def look_at_housekeeping(clock: Clock = SYSTEM) -> Outcome:
    """Whether somebody does it. A database in which it was never done may be a new one."""
    last = duties.done_at(DAILY)
    by = "workers do it" if settings.HOUSEKEEPING else "cron must do it"
    if last is None:
        return _ok(f"It was not done yet; {by}.", done_at=None)
    told = {"done_at": last.isoformat().replace("+00:00", "Z")}
    if clock.now() - last > _HOUSEKEEPING_WARNING:
        return _warning(f"It was done last at {told['done_at']}; {by}.", **told)
    return _ok(f"It was done at {told['done_at']}.", **told)


DATABASE: Final = Look("database", look_at_database)
#: What a worker cannot serve without.
FOR_READINESS: Final = (
    DATABASE,
    Look("migrations", look_at_migrations),
    Look("triggers", look_at_triggers),
    Look("keyring", look_at_keyring),
)
#: What is worth an alarm although calls are still served.
FOR_HEALTH: Final = (
    *FOR_READINESS,
    Look("journal", look_at_journal, reads_database=False),
    Look("redis", look_at_redis, reads_database=False),
)
FOR_DOCTOR: Final = (
    *FOR_HEALTH,
    Look("keks", look_at_keks),
    Look("sqlite", look_at_sqlite, reads_database=False),
    Look("permissions", look_at_permissions, reads_database=False),
    Look("clock", look_at_clock),
    Look("housekeeping", look_at_housekeeping),
)


# --- making them ------------------------------------------------------------------------------------------------------


class Watch:
    """Makes looks within their time, keeps what it saw for `fresh` seconds, and never makes one twice at once."""

    def __init__(self, seconds: float = LOOK_SECONDS, fresh: float = 0.0) -> None:
        self._seconds = seconds
        self._fresh = fresh
        self._lock = threading.Lock()
        self._running: dict[str, Future[Finding]] = {}
        self._seen: dict[str, tuple[float, Finding]] = {}

    def findings(self, looks: Sequence[Look]) -> list[Finding]:
        """One for each look, in order."""
        found: list[Finding] = []
        database_answers = True
        for look in looks:
            if look.reads_database and not database_answers:
                found.append(Finding(look.name, State.FAILED, "The database does not answer."))
                continue
            found.append(self._finding(look))
            if look is DATABASE:
                database_answers = found[-1].state is not State.FAILED
        return found

    def forget(self) -> None:
        """Look anew next time."""
        with self._lock:
            self._seen.clear()

    def _finding(self, look: Look) -> Finding:
        with self._lock:
            seen = self._seen.get(look.name)
            if seen is not None and SYSTEM.monotonic() - seen[0] < self._fresh:
                return seen[1]
            future = self._running.get(look.name)
            if future is None:
                future = self._running[look.name] = Future()
                threading.Thread(
                    target=self._run, args=(look, future), name=f"look-{look.name}", daemon=True
                ).start()
        try:
            return future.result(self._seconds)
        except TimeoutError:
            sentence = f"There was no answer within {self._seconds:g} seconds."
            return Finding(look.name, State.FAILED, sentence)

    def _run(self, look: Look, future: Future[Finding]) -> None:
        patience.bound_thread(self._seconds)
        try:
            finding = _made(look)
        except Exception as fault:  # noqa: BLE001 - not swallowed: whoever waits for the look gets it
            self._done(look, None)
            future.set_exception(fault)
            return
        self._done(look, finding)
        future.set_result(finding)

    def _done(self, look: Look, finding: Finding | None) -> None:
        with self._lock:
            self._running.pop(look.name, None)
            if finding is not None:
                self._seen[look.name] = (SYSTEM.monotonic(), finding)


def _made(look: Look) -> Finding:
    try:
        return Finding(look.name, *look.run())
    except (DatabaseError, OSError) as fault:
        return Finding(look.name, State.FAILED, f"The look failed: {type(fault).__name__}.")
    finally:
        # This thread's own connection: nobody else would ever close it.
        connection.close()


#: What the public addresses share.
WATCH: Final = Watch(fresh=FRESH_SECONDS)
