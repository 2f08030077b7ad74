"""SQLite's write lock goes round: nobody starves while others write, and who waits too long is told."""

import fcntl
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django import DjangoDbBlocker

from tenants.fair_sqlite3.base import DatabaseWrapper

pytestmark = pytest.mark.sqlite


@pytest.fixture
def file(tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Path]:
    path = tmp_path / "shared.sqlite3"
    with django_db_blocker.unblock():
        with opened(path) as database, database.cursor() as cursor:
            cursor.execute("CREATE TABLE written (number)")
        yield path


@contextmanager
def opened(path: Path, patience_ms: int = 5_000) -> Iterator[DatabaseWrapper]:
    """A connection of this thread to another file than the tests', with the settings that the product has for it."""
    database = DatabaseWrapper(
        {**connections.settings[DEFAULT_DB_ALIAS], "NAME": str(path)}, alias="shared"
    )
    try:
        with database.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {patience_ms}")
        yield database
    finally:
        database.close()


def write(database: DatabaseWrapper, seconds: float) -> float:
    """One transaction that takes so long; how long it waited for the lock."""
    began = time.monotonic()
    database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    waited = time.monotonic() - began
    with database.cursor() as cursor:
        cursor.execute("INSERT INTO written VALUES (1)")
    time.sleep(seconds)
    database.commit()
    database.set_autocommit(True)
    return waited


def patience_of(database: DatabaseWrapper) -> int:
    with database.cursor() as cursor:
        return int(cursor.execute("PRAGMA busy_timeout").fetchone()[0])


def test_nobody_starves_while_others_write_without_a_pause(file: Path):
    """Seven who come back at once. In turn each would wait for six transactions, which is 0.12 s."""
    ends_at = time.monotonic() + 4
    waits: list[float] = []

    def keep_writing() -> None:
        with opened(file) as database:
            while time.monotonic() < ends_at:
                waits.append(write(database, 0.02))

    threads = [threading.Thread(target=keep_writing) for _ in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waits) > 50
    assert max(waits) < 1.2


def test_who_waits_too_long_is_told_and_may_try_again(file: Path):
    with opened(file, patience_ms=150) as database:
        holder = sqlite3.connect(file, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(OperationalError, match="database is locked"):
            write(database, 0)
        assert 0.15 <= time.monotonic() - began < 1
        holder.close()
        assert write(database, 0) < 0.1


def test_how_long_other_statements_wait_stays_as_it_was(file: Path):
    with opened(file, patience_ms=1_234) as database:
        write(database, 0)
        assert patience_of(database) == 1_234


def test_any_other_fault_is_told_at_once(file: Path):
    with opened(file) as database:
        write(database, 0)
        database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        began = time.monotonic()
        with pytest.raises(OperationalError, match="within a transaction"):
            database._start_transaction_under_autocommit()
        assert time.monotonic() - began < 1
        assert patience_of(database) == 5_000
        database.rollback()
        database.set_autocommit(True)


def test_where_no_line_can_be_formed_the_lock_itself_decides(file: Path):
    (file.parent / "shared.sqlite3-line").unlink(missing_ok=True)
    (file.parent / "shared.sqlite3-line").symlink_to(file.parent / "nowhere" / "line")
    with opened(file) as database:
        assert write(database, 0) < 1


def test_who_is_stuck_in_line_keeps_nobody_from_a_lock_that_is_free(file: Path):
    with opened(file, patience_ms=150) as database:
        write(database, 0)
        with (file.parent / "shared.sqlite3-line").open() as stuck:
            fcntl.flock(stuck, fcntl.LOCK_EX)
            assert 0.15 <= write(database, 0) < 1


def test_a_database_in_memory_has_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker
):
    monkeypatch.chdir(tmp_path)
    with django_db_blocker.unblock(), opened(Path(":memory:")) as database:
        database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        assert database.connection.in_transaction
        database.rollback()
        BaseDatabaseWrapper.close(database)  # Django keeps one in memory open
    assert list(tmp_path.iterdir()) == []
