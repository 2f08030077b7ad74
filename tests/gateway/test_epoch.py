"""The watch on a SQLite file: a change is seen by the very next look, and a file that is gone or another one is noticed."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from pytest_django.fixtures import Settings

from gateway import epoch
from gateway.epoch import Changed, LocalWatch, RemoteWatch
from gateway.snapshot import Snapshot
from tenants.models import ConfigChange
from tests.gateway.held import HeldClock, HeldExecutor


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


class Told:
    """A listener that keeps what it heard."""

    epoch = 0

    def __init__(self) -> None:
        self.lines: list[Changed] = []
        self.looks = 0

    def changed(self, lines: list[Changed]) -> None:
        self.lines += lines
        self.epoch = max(0, lines[-1].seq)

    def looked(self) -> None:
        self.looks += 1


def database(path: Path, changes: int) -> sqlite3.Connection:
    made = sqlite3.connect(path, isolation_level=None)
    made.execute("PRAGMA journal_mode=WAL")
    made.execute("CREATE TABLE tenants_configchange (seq INTEGER, kind, object_id, tenant_id)")
    for seq in range(1, changes + 1):
        touch(made, seq)
    return made


def touch(made: sqlite3.Connection, seq: int) -> None:
    row = (seq, "api_key", uuid4().hex, None)
    made.execute("INSERT INTO tenants_configchange VALUES (?, ?, ?, ?)", row)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "gatehouse.sqlite3"
    made = database(path, 2)
    yield path
    made.close()


async def test_a_change_is_seen_by_the_next_look(file: Path):
    told = Told()
    watch = LocalWatch(told, str(file))
    watch.look()
    with sqlite3.connect(file, isolation_level=None) as other:
        touch(other, 3)
    watch.look()
    assert told.epoch == 2, "once per turn of the loop is enough"
    await turns()
    watch.look()
    assert told.epoch == 3
    await watch.stop()


def move_aside(file: Path) -> Callable[[], None]:
    """Put a folder where the file was, so that nobody makes a new one there; what is given undoes it."""
    aside = file.rename(file.with_name("aside"))
    file.mkdir()

    def back() -> None:
        file.rmdir()
        aside.rename(file)

    return back


async def test_a_file_that_is_gone_is_no_look_and_is_found_again(
    file: Path, caplog: pytest.LogCaptureFixture
):
    told = Told()
    watch = LocalWatch(told, str(file))
    watch.start()
    looks = told.looks
    back = move_aside(file)
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(epoch.IDLE_POLL_SECONDS * 1.5)
        for _ in range(20):
            watch.look()
            await turns()
    assert told.looks == looks
    assert len(caplog.records) == 1, "said once, not with every request"
    back()
    watch.look()
    assert told.looks == looks + 1
    assert epoch.ANOTHER_DATABASE not in told.lines
    await watch.stop()


async def test_a_file_put_in_the_place_of_ours_is_another_database(file: Path, tmp_path: Path):
    told = Told()
    watch = LocalWatch(told, str(file))
    watch.start()
    database(tmp_path / "backup", 2).close()
    (tmp_path / "backup").replace(file)
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    await asyncio.sleep(epoch.IDLE_POLL_SECONDS * 1.5)
    assert epoch.ANOTHER_DATABASE in told.lines
    assert told.epoch == 2, "what it holds was read anew"
    await watch.stop()


async def test_more_changes_than_are_picked_apart_are_one_look(file: Path):
    snapshot = Snapshot(HeldClock(), HeldExecutor())
    resets: list[int] = []
    snapshot.on_reset = lambda: resets.append(snapshot.epoch)
    with sqlite3.connect(file) as other:
        for seq in range(3, 5_001):
            touch(other, seq)
    watch = LocalWatch(snapshot, str(file))
    watch.look()
    assert (snapshot.epoch, resets) == (5_000, [5_000])
    await watch.stop()


@pytest.mark.django_db(transaction=True)
def test_read_changes_gives_lines_or_one_that_stands_for_all():
    ConfigChange.objects.all().delete()
    ConfigChange.objects.bulk_create(
        ConfigChange(seq=seq, kind="x", object_id=uuid4()) for seq in range(1, 1_502)
    )
    assert [line.seq for line in epoch.read_changes(501)] == list(range(502, 1_502))
    assert epoch.read_changes(500) == [epoch.everything_up_to(1_501)]
    assert epoch.read_changes(1_501) == []
    assert epoch.read_changes(1_502) == [epoch.ANOTHER_DATABASE, epoch.everything_up_to(1_501)]


# --- a watch does not die of a fault ----------------------------------------------------------------------------------


class Faulty(Told):
    """Fails the first time it is told of anything."""

    def changed(self, lines: list[Changed]) -> None:
        if self.looks == 0:
            self.looks = 1
            raise RuntimeError("a fault of ours")
        super().changed(lines)


async def test_the_watch_on_a_file_outlives_a_fault(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(epoch, "IDLE_POLL_SECONDS", 0.01)
    told = Faulty()
    watch = LocalWatch(told, str(file))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        watch.start()
    await asyncio.sleep(0.05)
    assert told.epoch == 2
    await watch.stop()


async def test_the_poll_and_the_channel_outlive_a_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, settings: Settings
):
    settings.REDIS_URL = "no address at all"
    monkeypatch.setattr(epoch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(epoch, "_RECONNECT_SECONDS", 0.01)
    lines = [Changed(1, "x", uuid4(), None)]
    monkeypatch.setattr(epoch, "read_changes", lambda since: lines[since:])
    told = Faulty()
    with ThreadPoolExecutor(1) as executor:
        watch = RemoteWatch(told, executor)
        watch.start()
        await asyncio.sleep(0.1)
        assert told.epoch == 1
        assert told.looks > 2
        await watch.stop()
    assert "a fault of ours" in caplog.text
    assert caplog.text.count("The epoch channel is away: ValueError") > 1
