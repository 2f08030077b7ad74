"""A PostgreSQL that does not answer is waited for only so long, and then its connections are not used again."""

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from tenants import patience
from tests.chaos.proxy import Proxy
from tests.support import environment

pytestmark = pytest.mark.postgres

LIMIT = 0.4


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    where = urlsplit(environment.postgres_url())
    with Proxy(where.hostname or "127.0.0.1", where.port or 5432) as proxy:
        yield proxy


@pytest.fixture
def pool(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator["ConnectionPool[patience.Connection]"]:
    monkeypatch.setattr(patience._process, "seconds", LIMIT)
    monkeypatch.setattr(patience._process, "drained_at", float("-inf"))
    where = urlsplit(environment.postgres_url())
    url = where._replace(netloc=f"{where.username}:{where.password or ''}@127.0.0.1:{proxy.port}")
    with ConnectionPool(
        url.geturl(),
        connection_class=patience.Connection,
        min_size=0,
        max_size=4,
        timeout=5,
        kwargs={"autocommit": True},
    ) as pool:
        yield pool


def answer(pool: "ConnectionPool[patience.Connection]") -> int:
    with pool.connection() as connection:
        row = connection.execute("SELECT 1").fetchone()
    assert row is not None
    return int(row[0])


def test_a_hung_connection_is_given_up_and_all_others_with_it(
    pool: "ConnectionPool[patience.Connection]", proxy: Proxy
):
    held = [pool.getconn() for _ in range(4)]
    for connection in held:
        pool.putconn(connection)
    proxy.freeze()
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError):
        answer(pool)
    assert LIMIT <= time.monotonic() - began < LIMIT + 1.0
    proxy.mend()
    assert answer(pool) == 1
    assert all(connection.closed for connection in held)


def test_a_thread_may_have_less_patience_than_its_process(
    pool: "ConnectionPool[patience.Connection]", monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(patience._process, "seconds", 30.0)
    took: list[float] = []

    def wait() -> None:
        patience.bound_thread(LIMIT)
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError), pool.connection() as connection:
            connection.execute("SELECT pg_sleep(3)")
        took.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()
    with pool.connection() as connection:
        connection.execute("SELECT pg_sleep(1)")
    thread.join()
    assert LIMIT <= took[0] < 2.0


def test_what_postgres_refuses_costs_no_connection(pool: "ConnectionPool[patience.Connection]"):
    with pool.connection() as connection:
        for fault, statement in (
            (psycopg.errors.QueryCanceled, "SET statement_timeout=50; SELECT pg_sleep(1)"),
            (psycopg.errors.SyntaxError, "no statement"),
        ):
            with pytest.raises(fault):
                connection.execute(statement)
        assert not connection.closed
