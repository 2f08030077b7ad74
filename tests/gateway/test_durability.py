"""`LEDGER_DURABILITY=commit`: nothing is sent before the database has the call's row."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.gateway import door as doors
from tests.gateway.door import Door, eventually, nothing_sent, refused
from tests.support.server import Yard


@pytest.fixture(scope="module")
def careful(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("careful")
    with doors.opened(yard, folder, {"LEDGER_DURABILITY": "commit"}) as door:
        yield door


@contextmanager
def nobody_can_write(door: Door) -> Iterator[None]:
    url = door.server.database_url
    if door.on_sqlite:
        file = Path(urlsplit(url).path[1:])
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
        return
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE usage_hold IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def test_the_row_is_there_when_the_upstream_sees_the_call(careful: Door) -> None:
    for _ in range(5):
        before = len(careful.oracle.calls)
        caller = threading.Thread(target=careful.chat, args=("oracle/slow:0.3",))
        caller.start()
        eventually(lambda before=before: len(careful.oracle.calls) > before)  # type: ignore[misc]
        holds = careful.server.query("SELECT request_id FROM usage_hold")
        caller.join(20)
        attempt_id = careful.oracle.calls[-1].attempt_id or ""
        assert [str(held[0]).replace("-", "") for held in holds] == [attempt_id[:32]]
    careful.assert_nothing_left()


def test_a_database_that_takes_nothing_is_a_503_and_nothing_is_sent(careful: Door) -> None:
    with nothing_sent(careful):
        with nobody_can_write(careful):
            answers = [careful.chat("oracle/ok")]
        refused(careful, answers[0], 503, "ledger_unavailable")
        assert answers[0].headers["retry-after"]
    assert careful.chat("oracle/ok").status_code == 200
