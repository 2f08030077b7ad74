"""An installation of Gatehouse of its own, in a folder that is thrown away: secrets, database, one tenant, one key, one model.

Everything that costs is on: a key that is checked, limits that are counted, a price, holds, the journal, the ledger, the log.
It is set up once; each server that is measured gets a copy of the database and begins with empty books.
"""

import contextlib
import http.client
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psycopg
from psycopg import sql

from bench.processes import ROOT, BenchFailed, Process, cores_for, free_port, running

START_SECONDS: Final = 60.0
BOOKS_SECONDS: Final = 120.0
#: The largest that there is: it is counted for every call and never reached.
_RATE_LIMIT: Final = 1_000_000
_PRICE: Final = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
_OPERATOR: Final = "bench"
#: What a developer's shell may hold and a measured server must not see.
_OURS: Final = ("GATEHOUSE_", "SECRET_KEY", "DATABASE_URL", "REDIS_URL", "DEBUG", "LOG_LEVEL")


@dataclass
class House:
    """A server that is ready. `key` opens its data plane."""

    port: int
    key: str
    process: Process
    started_in: float
    database_url: str

    def wait_for_books(self, calls: int) -> None:
        """Until the log holds every call that was made, and not one more. Raises BenchFailed."""
        deadline = time.monotonic() + BOOKS_SECONDS
        while (rows := _count_rows(self.database_url)) != calls:
            self.process.check_alive()
            if rows > calls or time.monotonic() > deadline:
                raise BenchFailed(f"{calls} calls were made, and the log holds {rows}")
            time.sleep(0.02)


class Houses:
    """Gives servers, one at a time. `database` is `sqlite`, or the address of a PostgreSQL that lets us make databases."""

    def __init__(self, folder: Path, database: str, upstream_port: int) -> None:
        self._folder = folder
        self._database = database
        self._upstream_port = upstream_port
        self._name = f"gatehouse_bench_{os.getpid()}"
        self._key = ""
        self._secrets = {
            "SECRET_KEY": secrets.token_urlsafe(48),
            "GATEHOUSE_KEK": secrets.token_hex(32),
        }

    @contextmanager
    def prepared(self) -> Iterator["Houses"]:
        """Migrate and furnish the database that all others are copies of."""
        template = self._fresh("template", None)
        try:
            self._migrate(template)
            with self._serving(template, 1, {}) as house:
                self._key = _furnish(house, self._password_file(), self._upstream_port)
            yield self
        finally:
            self._drop("template")

    @contextmanager
    def serving(self, workers: int, env: dict[str, str]) -> Iterator[House]:
        """A server with empty books. Raises BenchFailed."""
        copy = self._fresh("house", "template")
        try:
            with self._serving(copy, workers, env) as house:
                yield house
        finally:
            self._drop("house")

    # --- databases

    def _fresh(self, name: str, template: str | None) -> str:
        """The address of a new database, empty or a copy."""
        self._drop(name)
        (self._folder / name).mkdir()
        if self._database == "sqlite":
            path = self._folder / name / "gatehouse.sqlite3"
            if template:
                shutil.copyfile(self._folder / template / path.name, path)
            return f"sqlite:///{path}"
        create = sql.SQL("CREATE DATABASE {}").format(self._identifier(name))
        if template:
            create += sql.SQL(" TEMPLATE {}").format(self._identifier(template))
        self._administer(create)
        return urlsplit(self._database)._replace(path=f"/{self._name}_{name}").geturl()

    def _drop(self, name: str) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)
        if self._database != "sqlite":
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            self._administer(drop.format(self._identifier(name)))

    def _identifier(self, name: str) -> sql.Identifier:
        return sql.Identifier(f"{self._name}_{name}")

    def _administer(self, statement: sql.Composed) -> None:
        try:
            with psycopg.connect(self._database, autocommit=True, connect_timeout=5) as server:
                server.execute(statement)
        except psycopg.Error as error:
            raise BenchFailed(f"PostgreSQL: {error}") from error

    # --- processes

    def _env(self, database_url: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return kept | {
            "DJANGO_SETTINGS_MODULE": "gateway.settings",
            "DATABASE_URL": database_url,
            "GATEHOUSE_VAR": str(self._folder_of(database_url) / "var"),
            "GATEHOUSE_ALLOWED_UPSTREAMS": "127.0.0.0/8",
            "GATEHOUSE_TIMEOUT_PRE_DRAIN": "0",
            **self._secrets,
        }

    def _folder_of(self, database_url: str) -> Path:
        return self._folder / ("template" if "template" in database_url else "house")

    def _password_file(self) -> Path:
        return self._folder / "template" / "password"

    def _migrate(self, database_url: str) -> None:
        (self._folder_of(database_url) / "var").mkdir()
        self._password_file().write_text(secrets.token_urlsafe(24))
        operator = ("--username", _OPERATOR, "--password-file", str(self._password_file()))
        for arguments in (("migrate", "--no-input"), ("operator", "create", *operator)):
            done = subprocess.run(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=self._env(database_url),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise BenchFailed(f"manage.py {arguments[0]}:\n{done.stdout}{done.stderr}")

    @contextmanager
    def _serving(self, database_url: str, workers: int, env: dict[str, str]) -> Iterator[House]:
        folder, port = self._folder_of(database_url), free_port()
        (folder / "var").mkdir(exist_ok=True)
        command = [sys.executable, "manage.py", "serve", "--workers", str(workers)]
        started = time.monotonic()
        with running(
            [*command, "--bind", f"127.0.0.1:{port}"],
            cores_for(workers).server,
            folder / "server.log",
            self._env(database_url) | env,
        ) as process:
            _wait_ready(process, port)
            yield House(port, self._key, process, time.monotonic() - started, database_url)
        if database_url.startswith("sqlite"):
            _fold_wal(database_url)


def _wait_ready(process: Process, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        process.check_alive()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        connection.close()
        time.sleep(0.01)
    raise BenchFailed(f"Gatehouse was not ready within {START_SECONDS:.0f} s")


def _furnish(house: House, password_file: Path, upstream_port: int) -> str:
    """A tenant with a provider, a model and a key, made by the admin API; the key."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{house.port}/v1/admin/", trust_env=False, timeout=30
    ) as client:

        def post(path: str, **body: Any) -> Any:
            answer = client.post(path, json=body)
            if not answer.is_success:
                raise BenchFailed(f"{path}: {answer.status_code} {answer.text}")
            return answer.json()

        login = post("auth/login", username=_OPERATOR, password=password_file.read_text())
        client.headers["authorization"] = f"Bearer {login['token']}"
        tenant = post("tenants", name="Bench", slug="bench", rate_limit_rpm=_RATE_LIMIT)
        provider = post(
            "providers",
            name="bench",
            kind="openai-compatible",
            base_url=f"http://127.0.0.1:{upstream_port}/v1",
            api_key=f"sk-{secrets.token_hex(16)}",
        )
        target = {"provider": provider["id"], "upstream_model": "bench-upstream"}
        post("models", id="bench", targets=[target], prices=[_PRICE])
        return str(post(f"tenants/{tenant['id']}/api-keys", name="bench")["key"])


def _count_rows(database_url: str) -> int:
    statement = "SELECT COUNT(*) FROM usage_requestlog"
    if not database_url.startswith("sqlite"):
        with psycopg.connect(database_url) as server:
            [(rows,)] = server.execute(statement).fetchall()
            return int(rows)
    path = urlsplit(database_url).path[1:]
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as file:
        return int(file.execute(statement).fetchone()[0])


def _fold_wal(database_url: str) -> None:
    """Bring everything into the one file, so that copying that file copies everything."""
    with contextlib.closing(sqlite3.connect(urlsplit(database_url).path[1:])) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
