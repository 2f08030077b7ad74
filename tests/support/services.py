"""Servers that a test needs and a machine may lack: a skip with a sentence, or with REQUIRE_SERVICES=1 a failure."""

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from psycopg import sql

from tests.support import environment

_LEFT_BEHIND = re.compile(r"gatehouse_test_(\d+)_\w+")


def absent(sentence: str) -> None:
    """Skip the running test, or fail it where services are required."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{sentence} (REQUIRE_SERVICES=1)", pytrace=False)
    pytest.skip(sentence)


@cache
def postgres_answers() -> bool:
    try:
        psycopg.connect(environment.postgres_url(), connect_timeout=3).close()
    except psycopg.OperationalError:
        return False
    return True


@cache
def redis_answers() -> bool:
    try:
        with redis.Redis.from_url(environment.redis_url(), socket_timeout=3) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def need_postgres() -> None:
    if not postgres_answers():
        absent("PostgreSQL does not answer at TEST_POSTGRES_URL")


def need_redis() -> None:
    if not redis_answers():
        absent("Redis does not answer at TEST_REDIS_URL")


@contextmanager
def postgres_database(*, template: str | None = None) -> Iterator[str]:
    """The address of a new database, dropped at the end whoever is still connected."""
    address = create_database(os.getpid(), template)
    try:
        yield address
    finally:
        with psycopg.connect(environment.postgres_url(), autocommit=True) as server:
            _drop(server, urlsplit(address).path[1:])


def create_database(owner: int, template: str | None = None) -> str:
    """Its address. It is dropped with what else that process leaves behind (`drop_of`, `drop_left_behind`)."""
    name = f"gatehouse_test_{owner}_{secrets.token_hex(6)}"
    create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template:
        create += sql.SQL(" TEMPLATE {}").format(sql.Identifier(urlsplit(template).path[1:]))
    with psycopg.connect(environment.postgres_url(), autocommit=True) as server:
        server.execute(create)
    return urlsplit(environment.postgres_url())._replace(path=f"/{name}").geturl()


def drop_left_behind() -> None:
    """Drop the databases of test processes that no longer run."""
    _drop_all(lambda owner: not _runs(owner))


def drop_of(process: int) -> None:
    """Drop the databases of one."""
    _drop_all(lambda owner: owner == process)


def _drop_all(is_meant: Callable[[int], bool]) -> None:
    with psycopg.connect(environment.postgres_url(), autocommit=True) as server:
        for (name,) in server.execute("SELECT datname FROM pg_database").fetchall():
            found = _LEFT_BEHIND.fullmatch(name)
            if found and is_meant(int(found[1])):
                _drop(server, name)


def _drop(server: "psycopg.Connection[tuple[object, ...]]", name: str) -> None:
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class RedisSpace:
    """A corner of a Redis: `prefix` goes before every key and every channel (pub/sub knows no database number)."""

    url: str
    prefix: str

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=5)


@contextmanager
def redis_space() -> Iterator[RedisSpace]:
    """A space of its own, emptied at the end."""
    space = RedisSpace(environment.redis_url(), f"gatehouse-test-{secrets.token_hex(6)}:")
    try:
        yield space
    finally:
        with suppress(redis.ConnectionError), space.client() as client:
            for key in client.scan_iter(match=f"{space.prefix}*", count=1000):
                client.delete(key)
