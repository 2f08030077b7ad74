"""A look for secrets that finds nothing must mean that there is nothing."""

import base64
import sqlite3
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests.support import dump, services

SECRET = b"sk-Pl4nted/Secret+7"


@pytest.mark.parametrize(
    "disguised",
    [
        SECRET,
        SECRET[::-1],
        SECRET.hex().encode(),
        SECRET.hex().upper().encode(),
        quote(SECRET, safe="").encode(),
        SECRET.decode().encode("utf-16-le"),
        base64.b64encode(SECRET),
        base64.b64encode(b"x" + SECRET + b"yz"),
        base64.b64encode(b"xx" + SECRET + b"y"),
        base64.urlsafe_b64encode(b"x" + SECRET),
    ],
)
def test_a_secret_is_found_in_every_disguise(disguised: bytes):
    assert dump.occurrences([b"not in there", SECRET], b"before" + disguised + b"after")


def test_nothing_is_found_where_nothing_is():
    assert dump.occurrences([SECRET], SECRET[:-1] + b"\0" + base64.b64encode(SECRET[:-2])) == []


def test_rows_still_in_the_write_ahead_log_are_seen(tmp_path: Path):
    path = tmp_path / "x.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (v)")
    connection.execute("INSERT INTO t VALUES (?)", [SECRET.decode()])
    connection.commit()
    found = dump.occurrences([SECRET], dump.of_database(f"sqlite:///{path}"))
    connection.close()
    assert [occurrence.disguise for occurrence in found][:1] == ["raw"]


@pytest.mark.postgres
def test_text_and_bytes_in_any_table_are_seen():
    services.need_postgres()
    with services.postgres_database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE t (a text, b bytea)")
            connection.execute("INSERT INTO t VALUES (%s, %s)", ["nothing", SECRET])
        assert [found.disguise for found in dump.occurrences([SECRET], dump.of_database(url))] == [
            "hex"
        ]
